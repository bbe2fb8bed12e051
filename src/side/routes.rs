//! The side port's routes.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::answers::{
    HealthAnswer, ModelAnswer, Problem, ServiceAnswer, StartupAnswer, WarmUpAnswer,
};
use super::health::{QueueStatus, StorageStatus};
use super::memory::MemoryReading;
use super::state::{Phase, SideState};
use crate::telemetry::labels::Component;
use crate::telemetry::metrics::Metrics;

/// The routes of every worker.
const ENDPOINTS: &[&str] = &[
    "GET /",
    "GET /startup",
    "GET /health",
    "GET /metrics",
    "GET /model-info",
    "POST /warmup",
    "POST /load-model",
];

/// The route label of a request that no route matches: paths are the client's to invent.
const UNMATCHED: &str = "other";

/// What else answers on the same listener.
#[derive(Default)]
pub struct More {
    /// Its routes.
    pub routes: Router,
    /// They with their methods, as `GET /`, for the root's answer.
    pub endpoints: Vec<String>,
    /// The root's answer to a browser.
    pub front: Option<Front>,
    /// Put around all routes and what answers where there is none.
    pub around: Option<Around>,
}

/// Wraps a router in layers.
pub type Around = Box<dyn FnOnce(Router) -> Router + Send>;

/// Looks at a request's headers; `None` where the usual answer will do.
pub type Front = fn(&HeaderMap) -> Option<Response>;

#[derive(Clone)]
pub(crate) struct Shared {
    state: Arc<SideState>,
    metrics: Metrics,
    memory: ReadMemory,
    endpoints: Arc<[String]>,
    front: Option<Front>,
}

/// Reads the memory; another function in tests, whose outcome must not hang on the machine's.
type ReadMemory = fn() -> Option<MemoryReading>;

/// All routes and `more`, counted, with JSON for what is not found. No handler but those of `more`
/// reads a request's body.
pub fn router(state: Arc<SideState>, metrics: Metrics, more: More) -> Router {
    router_with(state, metrics, more, MemoryReading::take)
}

fn router_with(state: Arc<SideState>, metrics: Metrics, more: More, memory: ReadMemory) -> Router {
    let mut endpoints: Vec<_> = ENDPOINTS.iter().map(ToString::to_string).collect();
    for endpoint in more.endpoints {
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    let shared = Shared {
        state,
        metrics,
        memory,
        endpoints: endpoints.into(),
        front: more.front,
    };
    let router = Router::new()
        .route("/", get(service))
        .route("/startup", get(startup))
        .route("/health", get(health))
        .route("/metrics", get(metrics_text))
        .route("/model-info", get(model_info))
        .route("/warmup", post(warm_up))
        // The model is loaded at the start; what is left of "load" is to warm it.
        .route("/load-model", post(load_model))
        .with_state(shared.clone())
        .merge(more.routes)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found);
    let router = match more.around {
        Some(around) => around(router),
        None => router,
    };
    router.layer(middleware::from_fn_with_state(shared, count))
}

async fn count(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut counted = Counted {
        metrics: &shared.metrics,
        route: route.as_ref().map_or(UNMATCHED, MatchedPath::as_str),
        start: Instant::now(),
        status: CLIENT_GONE,
    };
    let response = next.run(request).await;
    counted.status = response.status().as_u16();
    response
}

/// The status label of a request whose client went away before its answer, as nginx has it.
const CLIENT_GONE: u16 = 499;

/// Counts a request when it is over, also when it is dropped unanswered.
struct Counted<'a> {
    metrics: &'a Metrics,
    route: &'a str,
    start: Instant,
    status: u16,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let took = self.start.elapsed();
        self.metrics.http_request(self.route, self.status, took);
    }
}

/// The service, or its page
#[utoipa::path(get, path = "/", tag = "side port", responses((status = 200, description = "Service, version, model, state and routes; a page where a browser asks")))]
pub(crate) async fn service(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let page = shared.front.and_then(|front| front(&headers));
    let mut response = page.unwrap_or_else(|| {
        Json(ServiceAnswer::of(&shared.state, &shared.endpoints)).into_response()
    });
    if shared.front.is_some() {
        let vary = HeaderValue::from_static("accept");
        response.headers_mut().insert(header::VARY, vary);
    }
    response
}

/// Readiness
#[utoipa::path(get, path = "/startup", tag = "side port", responses((status = 200, description = "The model is loaded and warmed up"), (status = 503, description = "Not yet, or no more; with a reason")))]
pub(crate) async fn startup(State(shared): State<Shared>) -> Response {
    let reason = match shared.state.phase() {
        Phase::Ready => return Json(StartupAnswer::READY).into_response(),
        Phase::Loading | Phase::Warming => "model_not_loaded",
        Phase::Draining => "draining",
        Phase::Failed(_) => "start_failed",
    };
    let answer = StartupAnswer::not_ready(reason);
    (StatusCode::SERVICE_UNAVAILABLE, Json(answer)).into_response()
}

/// Liveness
#[utoipa::path(get, path = "/health", tag = "side port", responses((status = 200, description = "The pipeline makes progress"), (status = 503, description = "It does not; with a reason")))]
pub(crate) async fn health(State(shared): State<Shared>) -> Response {
    let (status, answer) = HealthAnswer::of(&shared.state, (shared.memory)());
    (status, [(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "side port", responses((status = 200, description = "Prometheus text", content_type = "text/plain", body = String)))]
pub(crate) async fn metrics_text(State(shared): State<Shared>) -> Response {
    // Read when asked, like /health, so that the two cannot contradict each other.
    let (state, metrics) = (&shared.state, &shared.metrics);
    metrics.set_component(Component::Worker, state.phase() == Phase::Ready);
    metrics.set_component(Component::Engine, state.health.engine_works(Instant::now()));
    let queue = state.health.queue() == QueueStatus::Connected;
    metrics.set_component(Component::Queue, queue);
    let storage = state.health.storage() == StorageStatus::Connected;
    metrics.set_component(Component::Storage, storage);
    match shared.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(error = error.chain(), "the metrics cannot be rendered");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                error.code().as_str(),
                error.message(),
            )
            .into_response()
        }
    }
}

/// The network
#[utoipa::path(get, path = "/model-info", tag = "side port", responses((status = 200, description = "Name, digest, provider, precision, input size, times")))]
pub(crate) async fn model_info(State(shared): State<Shared>) -> Json<ModelAnswer> {
    Json(ModelAnswer::of(&shared.state))
}

/// Run the network once more
#[utoipa::path(post, path = "/warmup", tag = "side port", responses((status = 200, description = "It ran"), (status = 202, description = "It runs, or the model is being loaded"), (status = 503, description = "It cannot run; with a reason")))]
pub(crate) async fn warm_up(State(shared): State<Shared>) -> Response {
    let state = &shared.state;
    if let Some(why) = state.unhealthy(Instant::now()) {
        return unavailable(why.reason(), why.detail()).into_response();
    }
    if state.phase() != Phase::Ready {
        return under_way(false);
    }
    let Some(run) = state.warm_up() else {
        return unavailable("warm_up_unavailable", "this worker has nothing to warm up")
            .into_response();
    };
    let Ok(_one_at_a_time) = state.warming.try_lock() else {
        return under_way(true);
    };
    match run().await {
        Ok(elapsed) => Json(WarmUpAnswer {
            status: "ready",
            model_loaded: true,
            warm_up_seconds: Some(elapsed.as_secs_f64()),
        })
        .into_response(),
        Err(error) => {
            tracing::warn!(
                code = error.code().as_str(),
                error = error.chain(),
                "a warm-up failed"
            );
            unavailable(error.code().as_str(), error.message()).into_response()
        }
    }
}

/// Run the network once more, under its other name
#[utoipa::path(post, path = "/load-model", tag = "side port", responses((status = 200, description = "It ran"), (status = 202, description = "It runs, or the model is being loaded"), (status = 503, description = "It cannot run; with a reason")))]
pub(crate) async fn load_model(shared: State<Shared>) -> Response {
    warm_up(shared).await
}

fn under_way(model_loaded: bool) -> Response {
    let answer = WarmUpAnswer {
        status: "warming",
        model_loaded,
        warm_up_seconds: None,
    };
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}

fn unavailable(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
}

async fn not_found(request: Request) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!(
            "there is no {}; GET / lists what there is",
            request.uri().path()
        ),
    )
}

async fn method_not_allowed(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!(
            "{} does not answer {}; the Allow header says what it answers",
            request.uri().path(),
            request.method()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Error};
    use crate::side::health::Pulse;
    use crate::side::state::ModelInfo;
    use axum::body::{Body, to_bytes};
    use axum::http::Method;
    use futures::FutureExt;
    use serde_json::Value;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::sync::Notify;
    use tower::ServiceExt;

    const STUCK_AFTER: Duration = Duration::from_secs(600);

    /// A side port without a socket.
    struct Port {
        state: Arc<SideState>,
        metrics: Metrics,
        memory: ReadMemory,
    }

    impl Port {
        fn new() -> Self {
            Self {
                state: SideState::new(STUCK_AFTER),
                metrics: Metrics::new(),
                memory: || Some(memory_with(1 << 30)),
            }
        }

        /// With a model, a queue and a store, working.
        fn ready() -> Self {
            let port = Self::new();
            port.state.set_model(model());
            port.state.health.set_queue(QueueStatus::Connected);
            port.state.health.set_storage(StorageStatus::Connected);
            port.state.set_phase(Phase::Ready);
            port
        }

        async fn respond(&self, method: Method, path: &str) -> Response {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty())
                .unwrap();
            let (state, metrics) = (Arc::clone(&self.state), self.metrics.clone());
            router_with(state, metrics, More::default(), self.memory)
                .oneshot(request)
                .await
                .unwrap()
        }

        async fn ask(&self, method: Method, path: &str) -> (u16, Value) {
            let response = self.respond(method, path).await;
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            (status, serde_json::from_slice(&body).unwrap_or_default())
        }

        async fn get(&self, path: &str) -> (u16, Value) {
            self.ask(Method::GET, path).await
        }
    }

    /// 4 GiB, of which `available` bytes are left.
    fn memory_with(available: u64) -> MemoryReading {
        MemoryReading {
            limit: 4 << 30,
            available,
            resident: 700 << 20,
        }
    }

    fn model() -> ModelInfo {
        ModelInfo {
            name: "isnet".into(),
            sha256: "b6e8".into(),
            provider: "cpu".into(),
            precision: "graph".into(),
            input_size: "1024x1024".into(),
            load: Duration::from_millis(380),
            warm_up: Duration::from_millis(1100),
        }
    }

    #[tokio::test]
    async fn the_worker_is_ready_only_when_it_is_loaded_and_warmed_up() {
        let port = Port::new();
        let not_ready = serde_json::json!({"status": "not_ready", "reason": "model_not_loaded"});
        assert_eq!(port.get("/startup").await, (503, not_ready.clone()));
        port.state.set_model(model());
        port.state.set_phase(Phase::Warming);
        assert_eq!(port.get("/startup").await, (503, not_ready));
        port.state.set_phase(Phase::Ready);
        let ready = serde_json::json!({"status": "ready", "model_loaded": true});
        assert_eq!(port.get("/startup").await, (200, ready));
        port.state.set_phase(Phase::Draining);
        let (status, answer) = port.get("/startup").await;
        assert_eq!((status, &answer["reason"]), (503, &"draining".into()));
    }

    #[tokio::test]
    async fn health_keeps_the_fields_of_production_in_every_phase() {
        let port = Port::ready();
        let (status, answer) = port.get("/health").await;
        assert_eq!(status, 200);
        assert_eq!(answer["status"], "healthy", "{answer}");
        assert_eq!(answer["model"]["status"], "ready");
        assert_eq!(answer["model"]["ready"], true);
        assert_eq!(answer["model"]["loading"], false);
        assert_eq!(answer["model"]["device"], "cpu");
        assert_eq!(answer["storage_connected"], true);
        assert_eq!(answer["memory"]["healthy"], true);
        assert_eq!(answer["memory"]["cpu_mb"], 700);
        assert_eq!(answer["memory"]["available_mb"], 1024);
        assert_eq!(answer["memory"]["gpu_mb"], Value::Null);
        assert_eq!(answer["endpoints"]["processing_available"], true);
        assert_eq!(answer["endpoints"]["warmup_available"], false);
        answer["timestamp"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
        for phase in [Phase::Draining, Phase::Failed("no model".into())] {
            port.state.set_phase(phase);
            let (_, other) = port.get("/health").await;
            for field in answer.as_object().unwrap().keys() {
                assert!(other.get(field).is_some(), "{field} is gone: {other}");
            }
        }
    }

    #[tokio::test]
    async fn health_is_live_while_the_worker_starts_and_not_while_it_drains_or_has_failed() {
        let port = Port::new();
        for (phase, status, word, reason) in [
            (Phase::Loading, 200, "warming", Value::Null),
            (Phase::Warming, 200, "warming", Value::Null),
            (Phase::Ready, 200, "degraded", "queue_unavailable".into()),
            (Phase::Draining, 503, "degraded", "draining".into()),
            (
                Phase::Failed("no model".into()),
                503,
                "degraded",
                "start_failed".into(),
            ),
        ] {
            port.state.set_phase(phase.clone());
            let (got, answer) = port.get("/health").await;
            assert_eq!(got, status, "{phase:?}: {answer}");
            assert_eq!(answer["status"], word, "{phase:?}");
            assert_eq!(answer["reason"], reason, "{phase:?}");
            assert_eq!(
                answer["endpoints"]["processing_available"],
                phase == Phase::Ready,
                "{phase:?}"
            );
        }
        let (_, answer) = port.get("/health").await;
        assert!(answer["detail"].as_str().unwrap().contains("no model"));
    }

    #[tokio::test]
    async fn a_stuck_engine_turns_health_red_and_a_finished_run_turns_it_green_again() {
        let port = Port::ready();
        let busy_since = Arc::new(Mutex::new(Instant::now().checked_sub(2 * STUCK_AFTER)));
        let seen = Arc::clone(&busy_since);
        port.state.health.watch_engine(move || Pulse {
            alive: true,
            busy_since: *seen.lock().unwrap(),
        });
        let (status, answer) = port.get("/health").await;
        assert_eq!((status, &answer["reason"]), (503, &"engine_stuck".into()));
        assert_eq!(answer["status"], "degraded");
        assert_eq!(answer["endpoints"]["processing_available"], false);
        let head = port.respond(Method::HEAD, "/health").await;
        assert_eq!(head.status(), 503);

        *busy_since.lock().unwrap() = Some(Instant::now());
        let (status, answer) = port.get("/health").await;
        assert_eq!((status, &answer["status"]), (200, &"healthy".into()));
    }

    #[tokio::test]
    async fn a_dead_engine_and_a_lost_queue_turn_health_red() {
        let port = Port::ready();
        port.state
            .health
            .set_queue(QueueStatus::Lost("subscription deleted".into()));
        let (status, answer) = port.get("/health").await;
        assert_eq!((status, &answer["reason"]), (503, &"queue_lost".into()));
        assert_eq!(answer["queue_connected"], false);
        port.state.health.watch_engine(|| Pulse {
            alive: false,
            busy_since: None,
        });
        let (status, answer) = port.get("/health").await;
        assert_eq!((status, &answer["reason"]), (503, &"engine_dead".into()));
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_degrades_the_worker_but_does_not_restart_it() {
        let port = Port::ready();
        let outage = StorageStatus::Unreachable("no answer from gs://photos".into());
        port.state.health.set_storage(outage);
        let (status, answer) = port.get("/health").await;
        assert_eq!((status, &answer["status"]), (200, &"degraded".into()));
        assert_eq!(answer["storage_connected"], false);
        assert_eq!(answer["reason"], "storage_unavailable");
        assert!(answer["detail"].as_str().unwrap().contains("gs://photos"));
        assert_eq!(answer["endpoints"]["processing_available"], true);
        port.state.health.set_storage(StorageStatus::Connected);
        let (_, answer) = port.get("/health").await;
        assert_eq!(answer["status"], "healthy");
        assert_eq!(answer.get("reason"), None, "{answer}");
    }

    #[tokio::test]
    async fn the_metrics_say_of_each_component_what_health_says() {
        let components = |text: &str| -> Vec<String> {
            text.lines()
                .filter_map(|line| line.strip_prefix("cutout_component_up{component="))
                .map(str::to_owned)
                .collect()
        };
        let scrape = async |port: &Port| {
            let response = port.respond(Method::GET, "/metrics").await;
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            components(std::str::from_utf8(&body).unwrap())
        };
        let port = Port::new();
        let none = [
            r#""engine"} 0"#,
            r#""queue"} 0"#,
            r#""storage"} 0"#,
            r#""worker"} 0"#,
        ];
        assert_eq!(scrape(&port).await, none);
        let port = Port::ready();
        port.state.health.watch_engine(|| Pulse {
            alive: true,
            busy_since: None,
        });
        let all = [
            r#""engine"} 1"#,
            r#""queue"} 1"#,
            r#""storage"} 1"#,
            r#""worker"} 1"#,
        ];
        assert_eq!(scrape(&port).await, all);
        port.state.health.watch_engine(|| Pulse {
            alive: false,
            busy_since: None,
        });
        let gone = StorageStatus::Unreachable("gone".into());
        port.state.health.set_storage(gone);
        let two = [
            r#""engine"} 0"#,
            r#""queue"} 1"#,
            r#""storage"} 0"#,
            r#""worker"} 1"#,
        ];
        assert_eq!(scrape(&port).await, two);
    }

    #[tokio::test]
    async fn short_memory_degrades_the_worker_before_the_kernel_ends_it() {
        let mut port = Port::ready();
        port.memory = || Some(memory_with(1 << 20));
        let (status, answer) = port.get("/health").await;
        assert_eq!((status, &answer["status"]), (200, &"degraded".into()));
        assert_eq!(answer["memory"]["healthy"], false);
        assert_eq!(answer["reason"], "memory_low");
        port.memory = || None;
        let (_, answer) = port.get("/health").await;
        assert_eq!(answer["status"], "healthy", "unknown is not short");
    }

    #[tokio::test]
    async fn head_answers_as_get_does_without_a_body() {
        let response = Port::ready().respond(Method::HEAD, "/health").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["cache-control"], "no-store");
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert!(body.is_empty());
    }

    #[tokio::test]
    async fn the_model_is_described_as_far_as_it_is_known() {
        let port = Port::new();
        let (status, answer) = port.get("/model-info").await;
        assert_eq!((status, &answer["state"]), (200, &"loading".into()));
        assert_eq!(answer["model"], Value::Null);

        let port = Port::ready();
        for path in ["/model-info", "/"] {
            let (status, answer) = port.get(path).await;
            assert_eq!(status, 200, "{path}");
            assert_eq!(answer["state"], "ready", "{path}");
            assert_eq!(answer["model"], "isnet", "{path}");
            assert_eq!(answer["sha256"], "b6e8", "{path}");
            assert_eq!(answer["provider"], "cpu", "{path}");
            assert_eq!(answer["input_size"], "1024x1024", "{path}");
            assert_eq!(answer["load_seconds"], 0.38, "{path}");
            assert_eq!(answer["warm_up_seconds"], 1.1, "{path}");
        }
        let (_, answer) = port.get("/").await;
        assert_eq!(answer["service"], "cutout");
        assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
    }

    #[tokio::test]
    async fn every_route_that_the_root_lists_exists() {
        let port = Port::ready();
        let (_, answer) = port.get("/").await;
        for endpoint in answer["endpoints"].as_array().unwrap() {
            let (method, path) = endpoint.as_str().unwrap().split_once(' ').unwrap();
            let response = port.respond(method.parse().unwrap(), path).await;
            assert!(
                ![404, 405].contains(&response.status().as_u16()),
                "{endpoint}: {}",
                response.status()
            );
        }
    }

    #[tokio::test]
    async fn a_warm_up_on_request_runs_the_network_once_and_says_how_long_it_took() {
        let port = Port::ready();
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        port.state.set_warm_up(Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(Duration::from_millis(1500)) }.boxed()
        }));
        for path in ["/warmup", "/load-model"] {
            let (status, answer) = port.ask(Method::POST, path).await;
            let expected = serde_json::json!({
                "status": "ready", "model_loaded": true, "warm_up_seconds": 1.5
            });
            assert_eq!((status, answer), (200, expected), "{path}");
        }
        assert_eq!(runs.load(Ordering::Relaxed), 2);
        let (_, answer) = port.get("/health").await;
        assert_eq!(answer["endpoints"]["warmup_available"], true);
    }

    #[tokio::test]
    async fn a_second_warm_up_joins_the_first_instead_of_adding_load() {
        let port = Port::ready();
        let gate = Arc::new(Notify::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let (waits, counted) = (Arc::clone(&gate), Arc::clone(&runs));
        port.state.set_warm_up(Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let gate = Arc::clone(&waits);
            async move {
                gate.notified().await;
                Ok(Duration::ZERO)
            }
            .boxed()
        }));
        let first = port.ask(Method::POST, "/warmup");
        let second = async {
            let answer = port.ask(Method::POST, "/warmup").await;
            gate.notify_one();
            answer
        };
        let both = futures::future::join(first, second);
        let ((first, _), (second, answer)) = tokio::time::timeout(Duration::from_secs(5), both)
            .await
            .expect("the second waits for a run of its own");
        assert_eq!((first, second), (200, 202));
        assert_eq!(answer["status"], "warming");
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_warm_up_waits_for_the_start_and_is_refused_by_a_worker_that_goes() {
        let port = Port::new();
        let (status, answer) = port.ask(Method::POST, "/load-model").await;
        assert_eq!((status, &answer["model_loaded"]), (202, &false.into()));
        port.state.set_phase(Phase::Ready);
        let (status, answer) = port.ask(Method::POST, "/warmup").await;
        assert_eq!(
            (status, &answer["code"]),
            (503, &"warm_up_unavailable".into())
        );
        port.state.set_warm_up(Arc::new(|| {
            async { Err(Error::new(Code::InferenceFailed, "the run failed")) }.boxed()
        }));
        let (status, answer) = port.ask(Method::POST, "/warmup").await;
        let failed = serde_json::json!({"detail": "the run failed", "code": "inference_failed"});
        assert_eq!((status, answer), (503, failed));
        port.state.set_phase(Phase::Draining);
        let (status, answer) = port.ask(Method::POST, "/warmup").await;
        assert_eq!((status, &answer["code"]), (503, &"draining".into()));
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_in_json() {
        let port = Port::ready();
        let (status, answer) = port.get("/wp-login.php").await;
        assert_eq!((status, &answer["code"]), (404, &"not_found".into()));
        assert!(answer["detail"].as_str().unwrap().contains("/wp-login.php"));
        let response = port.respond(Method::DELETE, "/health").await;
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "GET,HEAD");
        let (_, answer) = port.ask(Method::GET, "/warmup").await;
        assert_eq!(answer["code"], "method_not_allowed");
    }

    #[tokio::test]
    async fn requests_are_counted_by_route_and_never_by_path() {
        let port = Port::ready();
        port.get("/health?probe=1").await;
        port.get("/wp-login.php").await;
        port.get("/.env").await;
        port.ask(Method::POST, "/health").await;
        let response = port.respond(Method::GET, "/metrics").await;
        assert_eq!(
            response.headers()["content-type"],
            "text/plain; version=0.0.4"
        );
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let text = str::from_utf8(&body).unwrap();
        for line in [
            r#"cutout_http_requests_total{route="/health",status="200"} 1"#,
            r#"cutout_http_requests_total{route="/health",status="405"} 1"#,
            r#"cutout_http_requests_total{route="other",status="404"} 2"#,
            r#"cutout_http_request_seconds_count{route="/health"} 2"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("wp-login"));
    }
}
