//! The bodies of the side port's answers. Their fields are public interface.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::health::{Degraded, QueueStatus, StorageStatus};
use super::memory::MemoryReading;
use super::state::{ModelInfo, Phase, SideState};

use crate::version::VERSION;

const MIB: u64 = 1024 * 1024;

/// When to try again after what passes by itself.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// An error as every route tells it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refusal)]
pub struct Problem {
    #[serde(skip)]
    status: StatusCode,
    /// What happened, and what to do.
    detail: String,
    /// A stable word.
    #[schema(value_type = String, example = "image_corrupt")]
    code: &'static str,
    #[serde(skip)]
    retry_after: Option<Duration>,
}

impl Problem {
    /// An answer with `status`, a sentence and a stable word.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            code,
            retry_after: None,
        }
    }

    /// Says when to try again, in whole seconds from one up.
    #[must_use]
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The stable word.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, after) = (self.status, self.retry_after);
        let mut response = (status, Json(self)).into_response();
        if let Some(after) = after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// `/startup`.
#[derive(Debug, Serialize)]
pub struct StartupAnswer {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_loaded: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl StartupAnswer {
    /// The worker works.
    pub const READY: Self = Self {
        status: "ready",
        model_loaded: Some(true),
        reason: None,
    };

    /// It does not, and the stable word why.
    pub const fn not_ready(reason: &'static str) -> Self {
        Self {
            status: "not_ready",
            model_loaded: None,
            reason: Some(reason),
        }
    }
}

/// `/health`.
#[derive(Debug, Serialize)]
pub struct HealthAnswer {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    timestamp: jiff::Timestamp,
    model: ModelHealth,
    storage_connected: bool,
    queue_connected: bool,
    memory: MemoryHealth,
    endpoints: Endpoints,
    uptime_seconds: f64,
}

#[derive(Debug, Serialize)]
struct ModelHealth {
    status: &'static str,
    ready: bool,
    loading: bool,
    device: Option<String>,
}

#[derive(Debug, Serialize)]
struct MemoryHealth {
    healthy: bool,
    cpu_mb: Option<u64>,
    available_mb: Option<u64>,
    gpu_mb: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Endpoints {
    warmup_available: bool,
    processing_available: bool,
}

impl HealthAnswer {
    /// The state of things, and the HTTP status that goes with it: 503 only where a restart
    /// (or the end of the drain) is the remedy.
    pub fn of(state: &SideState, memory: Option<MemoryReading>) -> (StatusCode, Self) {
        let phase = state.phase();
        let unhealthy = state.unhealthy(std::time::Instant::now());
        let ready = phase == Phase::Ready;
        let storage_connected = state.health.storage() == StorageStatus::Connected;
        let queue_connected = state.health.queue() == QueueStatus::Connected;
        let memory = MemoryHealth {
            healthy: memory.is_none_or(|memory| memory.is_healthy()),
            cpu_mb: memory.map(|memory| memory.resident / MIB),
            available_mb: memory.map(|memory| memory.available / MIB),
            gpu_mb: state.gpu_used().map(|bytes| bytes / MIB),
        };
        // Before readiness nothing is expected of either end.
        let degraded = match (ready, memory.healthy) {
            (false, _) => None,
            (true, true) => state.health.shortcoming(),
            (true, false) => state.health.shortcoming().or(Some(Degraded::MemoryLow)),
        };
        let status = match (&unhealthy, &degraded) {
            (Some(_), _) | (None, Some(_)) => "degraded",
            (None, None) if ready => "healthy",
            (None, None) => "warming",
        };
        let told = unhealthy.as_ref().map(|why| (why.reason(), why.detail()));
        let told = told.or_else(|| degraded.map(|why| (why.reason(), why.detail())));
        let (reason, detail) = told.unzip();
        let answer = Self {
            status,
            reason,
            detail,
            timestamp: jiff::Timestamp::now(),
            model: ModelHealth {
                status: phase.as_str(),
                ready,
                loading: matches!(phase, Phase::Loading | Phase::Warming),
                device: state.model().map(|model| model.provider),
            },
            storage_connected,
            queue_connected,
            endpoints: Endpoints {
                warmup_available: ready && state.warm_up().is_some(),
                processing_available: ready && unhealthy.is_none(),
            },
            memory,
            uptime_seconds: state.uptime().as_secs_f64(),
        };
        let code = match unhealthy {
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
            None => StatusCode::OK,
        };
        (code, answer)
    }
}

/// `/model-info`, and what `/` says of the model.
#[derive(Debug, Serialize)]
pub struct ModelAnswer {
    state: &'static str,
    model: Option<String>,
    sha256: Option<String>,
    provider: Option<String>,
    precision: Option<String>,
    input_size: Option<String>,
    load_seconds: Option<f64>,
    warm_up_seconds: Option<f64>,
}

impl ModelAnswer {
    /// What is known by now; nulls while the model is being loaded.
    pub fn of(state: &SideState) -> Self {
        let model = state.model();
        let seconds = |time: fn(&ModelInfo) -> f64| model.as_ref().map(time);
        Self {
            state: state.phase().as_str(),
            load_seconds: seconds(|model| model.load.as_secs_f64()),
            warm_up_seconds: seconds(|model| model.warm_up.as_secs_f64()),
            model: model.as_ref().map(|model| model.name.clone()),
            sha256: model.as_ref().map(|model| model.sha256.clone()),
            provider: model.as_ref().map(|model| model.provider.clone()),
            precision: model.as_ref().map(|model| model.precision.clone()),
            input_size: model.map(|model| model.input_size),
        }
    }
}

/// `/`.
#[derive(Debug, Serialize)]
pub struct ServiceAnswer<'a> {
    service: &'static str,
    version: &'static str,
    #[serde(flatten)]
    model: ModelAnswer,
    uptime_seconds: f64,
    endpoints: &'a [String],
}

impl<'a> ServiceAnswer<'a> {
    /// What this service is, and where to ask further.
    pub fn of(state: &SideState, endpoints: &'a [String]) -> Self {
        Self {
            service: env!("CARGO_PKG_NAME"),
            version: VERSION,
            model: ModelAnswer::of(state),
            uptime_seconds: state.uptime().as_secs_f64(),
            endpoints,
        }
    }
}

/// `/warmup` and `/load-model`.
#[derive(Debug, Serialize)]
pub struct WarmUpAnswer {
    /// `ready`, or `warming` while the start or another request's warm-up is under way.
    pub status: &'static str,
    /// Whether jobs can be worked on.
    pub model_loaded: bool,
    /// How long this warm-up took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_up_seconds: Option<f64>,
}
