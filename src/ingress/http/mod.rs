//! The HTTP API of the Python service that this one replaces, on the side port's listener: the same
//! pipeline and failures as the queue's jobs; what clients decide the time of has budgets of its own.
//!
//! A request's way: [`rate`] and places, [`upload`], the [`cache`] or the pipeline
//! ([`process`]), the answer.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use axum_client_ip::ClientIpSource;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::pipeline::budget::Budget;
use crate::pipeline::cutout::Cutter;
use crate::pipeline::millis;
use crate::side::routes::More;
use crate::side::state::{Phase, SideState};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Traces;
use cache::{Cache, CacheKey};
use client::{AddressSource, Client};
use cors::Origin;
use flights::Flights;
use process::Kept;
use progress::Sessions;
use rate::RateLimit;
use refusal::{RETRY_AFTER, Refusal};

pub mod cache;
pub mod client;
pub mod cors;
pub mod fields;
pub mod flights;
pub mod openapi;
pub mod rate;
pub mod refusal;
pub mod upload;

mod about;
mod context;
mod json;
mod look;
mod page;
mod process;
mod progress;
mod sending;

/// The metric label of photos that come this way.
pub const NAME: &str = "http";

/// The routes that take a photo, as the metric label `route` has them.
pub const PHOTO_ROUTES: [&str; 3] = [
    "/remove-background",
    "/api/v2/process",
    "/api/v2/process-with-effects",
];

/// Listeners to progress at once; each costs a connection and little else.
const LISTENERS: usize = 256;

/// Cut-outs on their way to the cache at once. While the store is away each stays in memory for as long
/// as the store's client tries; more are not kept.
const KEEPERS: usize = 8;

/// Answers that are not pictures are compressed from this size, in bytes.
const COMPRESS_ABOVE: u16 = 1000;

/// What the operator chooses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Photos a client may send a minute; 0 for no limit.
    pub rate_limit: u32,
    /// Where a client's address stands.
    pub client_ip: AddressSource,
    /// Pages that may call from a browser.
    pub origins: Vec<Origin>,
    /// Requests in work or waiting for it.
    pub max_requests: usize,
    /// Longest pause inside an upload.
    pub upload_pause: Duration,
}

/// What works on photos, there once the model is loaded.
pub struct Service {
    /// What turns photos into cut-outs.
    pub cutter: Cutter,
    /// Memory for files as they come.
    pub uploads: Budget,
    /// Memory for finished pictures on their way to clients.
    pub answers: Budget,
    /// Cut-outs that were made before; `None` where none are kept.
    pub cache: Option<Cache>,
    /// Largest photo file, bytes.
    pub max_file_bytes: u64,
    /// Time one photo may take, its upload included.
    pub timeout: Duration,
}

/// The API's state.
pub struct Api {
    settings: Settings,
    side: Arc<SideState>,
    metrics: Metrics,
    traces: Traces,
    service: OnceLock<Arc<Service>>,
    rate: Option<RateLimit>,
    places: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
    sessions: Sessions,
    flights: Flights<CacheKey, Kept>,
    /// Cut-outs on their way to the cache.
    keepers: Arc<Semaphore>,
    /// Requests under way, which a drain waits for.
    requests: TaskTracker,
    /// Cancelled when a drain waits no longer.
    give_up: CancellationToken,
    counts: Counts,
}

/// What `/api/v2/stats` tells; the metrics tell the same by route and code.
#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    refused: AtomicU64,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
    /// Milliseconds that the last photos took, smoothed; how long a full house takes to empty.
    pace_ms: AtomicU64,
}

impl Counts {
    /// Smooths over some eight photos.
    fn took(&self, elapsed: Duration) {
        let now = millis(elapsed);
        let _ = self
            .pace_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
                Some(if before == 0 {
                    now
                } else {
                    (before * 7 + now) / 8
                })
            });
    }
}

/// One request's right to be worked on.
struct Admission {
    _place: OwnedSemaphorePermit,
    _under_way: TaskTrackerToken,
}

impl Api {
    /// An API that answers 503 until it is [opened](Self::open). `requests` counts what is under way
    /// and `give_up` ends it, as the drain has it.
    pub fn new(
        settings: Settings,
        side: Arc<SideState>,
        metrics: Metrics,
        traces: Traces,
        requests: TaskTracker,
        give_up: CancellationToken,
    ) -> Arc<Self> {
        metrics.declare_ingress(NAME);
        for route in PHOTO_ROUTES {
            metrics.declare_photo_route(route);
        }
        Arc::new(Self {
            rate: RateLimit::new(settings.rate_limit),
            places: Arc::new(Semaphore::new(settings.max_requests)),
            listeners: Arc::new(Semaphore::new(LISTENERS)),
            settings,
            side,
            metrics,
            traces,
            service: OnceLock::new(),
            sessions: Sessions::default(),
            flights: Flights::default(),
            keepers: Arc::new(Semaphore::new(KEEPERS)),
            requests,
            give_up,
            counts: Counts::default(),
        })
    }

    /// From now on photos are worked on while the worker is ready.
    pub fn open(&self, service: Service) {
        let _ = self.service.set(Arc::new(service));
    }

    /// The API's routes for the side port.
    pub fn routes(self: &Arc<Self>) -> More {
        let (router, api) = router(Arc::clone(self));
        let cors = cors::layer(self.settings.origins.clone());
        let traces = self.traces.clone();
        More {
            endpoints: openapi::endpoints(&api),
            routes: router,
            front: Some(front),
            // Outermost, so that a page can read errors too, and its preflight meets no 405.
            around: Some(Box::new(|router| {
                router
                    .layer(middleware::from_fn_with_state(traces, context::identify))
                    .layer(cors)
            })),
        }
    }

    /// The service, if this request may be worked on now.
    fn admit(&self, client: IpAddr) -> Result<(Arc<Service>, Admission), Refusal> {
        let unavailable = |code, detail: &str| {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(RETRY_AFTER)
        };
        let service = match (self.side.phase(), self.service.get()) {
            (Phase::Ready, Some(service)) => Arc::clone(service),
            (Phase::Draining, _) => {
                return Err(unavailable(
                    "draining",
                    "this worker shuts down; send it again",
                ));
            }
            (Phase::Failed(_), _) => {
                return Err(unavailable("start_failed", "this worker could not start"));
            }
            _ => return Err(unavailable("not_ready", "the model is not loaded yet")),
        };
        // Who finds no place has used none of its minute.
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| self.full())?;
        if let Some(rate) = &self.rate {
            rate.check(client)?;
        }
        let admission = Admission {
            _place: place,
            _under_way: self.requests.token(),
        };
        Ok((service, admission))
    }

    /// Requests in work or waiting for it.
    fn under_way(&self) -> usize {
        self.settings.max_requests - self.places.available_permits()
    }

    fn full(&self) -> Refusal {
        let pace = Duration::from_millis(self.counts.pace_ms.load(Ordering::Relaxed));
        Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "queue_full",
            format!(
                "{} photos are in work or wait for it; send it again later",
                self.settings.max_requests
            ),
        )
        .retry_after(pace.clamp(RETRY_AFTER, Duration::from_secs(120)))
    }
}

/// The page, where a browser asks for it.
fn front(headers: &HeaderMap) -> Option<Response> {
    page::wants_page(headers).then(page::index)
}

fn router(api: Arc<Api>) -> (Router, OpenApi) {
    let settings = api.settings.clone();
    let (router, document) = OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(process::remove_background))
        .routes(routes!(process::process))
        .routes(routes!(process::process_with_effects))
        .routes(routes!(about::index))
        // FastAPI sent its clients there.
        .route("/api/v2", get(about::index))
        .routes(routes!(about::effects))
        .routes(routes!(about::effect))
        .routes(routes!(about::stats))
        .routes(routes!(about::detailed_health))
        .routes(routes!(progress::api_progress))
        .routes(routes!(progress::enhanced_progress))
        .routes(routes!(progress::first_progress))
        .routes(routes!(openapi::document))
        .split_for_parts();
    let images = NotForContentType::const_new("image/");
    let compression = CompressionLayer::new()
        .gzip(true)
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESS_ABOVE).and(images));
    let text = document
        .to_pretty_json()
        .expect("the document is made of strings and numbers");
    let router = router
        .with_state(api)
        .merge(page::routes())
        .layer(Extension(openapi::Document(text.into())))
        .layer(compression)
        .layer(Extension(settings.client_ip));
    (router, document)
}

/// The document of all routes, for `schemas/openapi.json`.
pub fn openapi_document() -> String {
    let side = SideState::new(Duration::from_secs(1));
    let settings = Settings {
        rate_limit: 0,
        client_ip: AddressSource::Usual(ClientIpSource::ConnectInfo),
        origins: Vec::new(),
        max_requests: 1,
        upload_pause: Duration::from_secs(1),
    };
    let api = Api::new(
        settings,
        side,
        Metrics::new(),
        Traces::default(),
        TaskTracker::new(),
        CancellationToken::new(),
    );
    let (_, document) = router(api);
    document
        .to_pretty_json()
        .expect("the document is made of strings and numbers")
}
