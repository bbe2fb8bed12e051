//! The routes that tell: what there is, how it goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::refusal::Refusal;
use crate::effect::Effect;
use crate::pipeline::budget::Budget;
use crate::side::answers::HealthAnswer;
use crate::side::memory::MemoryReading;
use crate::version::VERSION;

/// What the API is.
#[derive(Debug, Serialize, ToSchema)]
pub struct IndexAnswer {
    service: &'static str,
    version: &'static str,
    effects: Vec<&'static str>,
    default_effect: &'static str,
    /// The machine-readable description.
    openapi: &'static str,
}

/// What the API is
#[utoipa::path(get, path = "/api/v2/", tag = "about", responses((status = 200, body = IndexAnswer)))]
pub async fn index() -> Json<IndexAnswer> {
    Json(IndexAnswer {
        service: env!("CARGO_PKG_NAME"),
        version: VERSION,
        effects: Effect::ALL.map(Effect::as_str).to_vec(),
        default_effect: Effect::EnhancedBlackWhite.as_str(),
        openapi: "/openapi.json",
    })
}

/// An effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct EffectAnswer {
    name: &'static str,
    description: &'static str,
    /// Other names that do as well.
    aliases: Vec<&'static str>,
    /// Names that `effect_params` may have.
    parameters: Vec<&'static str>,
}

impl EffectAnswer {
    fn of(effect: Effect) -> Self {
        Self {
            name: effect.as_str(),
            description: effect.description(),
            aliases: effect.aliases().collect(),
            parameters: effect.parameters().to_vec(),
        }
    }
}

/// The effects.
#[derive(Debug, Serialize, ToSchema)]
pub struct EffectsList {
    effects: Vec<EffectAnswer>,
    default: &'static str,
    total: usize,
}

/// The effects there are
#[utoipa::path(get, path = "/api/v2/effects", tag = "about", responses((status = 200, body = EffectsList)))]
pub async fn effects() -> Json<EffectsList> {
    Json(EffectsList {
        effects: Effect::ALL.map(EffectAnswer::of).into(),
        default: Effect::EnhancedBlackWhite.as_str(),
        total: Effect::ALL.len(),
    })
}

/// One effect
#[utoipa::path(
    get,
    path = "/api/v2/effect/{name}",
    tag = "about",
    params(("name" = String, Path, description = "One of its names")),
    responses((status = 200, body = EffectAnswer), (status = 404, description = "There is none", body = Refusal))
)]
pub async fn effect(
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<EffectAnswer>, Refusal> {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    super::fields::effect(&name)
        .map(|effect| Json(EffectAnswer::of(effect)))
        .map_err(|refusal| Refusal::new(StatusCode::NOT_FOUND, refusal.code(), refusal.detail()))
}

/// What has been done since the start.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatsAnswer {
    uptime_seconds: f64,
    /// Photos answered with pictures.
    photos_answered: u64,
    /// Requests answered with an error.
    requests_refused: u64,
    /// Requests in work or waiting for it.
    requests_under_way: usize,
    cache: CacheStats,
    /// Seconds that the last photos took, smoothed.
    seconds_a_photo: f64,
}

/// What the cache has spared since the start.
#[derive(Debug, Serialize, ToSchema)]
pub struct CacheStats {
    enabled: bool,
    hits: u64,
    misses: u64,
}

impl CacheStats {
    fn of(api: &Api) -> Self {
        let service = api.service.get();
        Self {
            enabled: service.is_some_and(|service| service.cache.is_some()),
            hits: api.counts.cache_hits.load(Ordering::Relaxed),
            misses: api.counts.cache_misses.load(Ordering::Relaxed),
        }
    }
}

/// What has been done since the start
#[utoipa::path(get, path = "/api/v2/stats", tag = "about", responses((status = 200, body = StatsAnswer)))]
pub async fn stats(State(api): State<Arc<Api>>) -> Json<StatsAnswer> {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    Json(StatsAnswer {
        uptime_seconds: api.side.uptime().as_secs_f64(),
        photos_answered: count(&api.counts.answered),
        requests_refused: count(&api.counts.refused),
        requests_under_way: api.under_way(),
        cache: CacheStats::of(&api),
        seconds_a_photo: count(&api.counts.pace_ms) as f64 / 1000.0,
    })
}

/// `/health`, and what the API has to add.
#[derive(Serialize)]
struct DetailedHealth {
    #[serde(flatten)]
    health: HealthAnswer,
    api: ApiHealth,
}

/// The API's own state.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiHealth {
    requests_under_way: usize,
    max_requests: usize,
    /// Memory for uploads; null until the model is loaded.
    uploads: Option<BudgetAnswer>,
    /// Memory for answers; null until the model is loaded.
    answers: Option<BudgetAnswer>,
    /// Memory for pixels; null until the model is loaded.
    pixels: Option<BudgetAnswer>,
    cache: CacheStats,
}

/// A budget, bytes.
#[derive(Debug, Serialize, ToSchema)]
pub struct BudgetAnswer {
    used: u64,
    total: u64,
    waiting: u64,
}

impl From<&Budget> for BudgetAnswer {
    fn from(budget: &Budget) -> Self {
        Self {
            used: budget.used(),
            total: budget.total(),
            waiting: budget.waiting(),
        }
    }
}

/// `/health` with the API's budgets
#[utoipa::path(
    get,
    path = "/api/v2/health/detailed",
    tag = "about",
    responses((status = 200, description = "The fields of `/health`, and `api`"), (status = 503, description = "The same, with a reason"))
)]
pub async fn detailed_health(State(api): State<Arc<Api>>) -> Response {
    let (status, health) = HealthAnswer::of(&api.side, MemoryReading::take());
    let service = api.service.get();
    let api = ApiHealth {
        requests_under_way: api.under_way(),
        max_requests: api.settings.max_requests,
        uploads: service.map(|service| BudgetAnswer::from(&service.uploads)),
        answers: service.map(|service| BudgetAnswer::from(&service.answers)),
        pixels: service.map(|service| BudgetAnswer::from(&service.cutter.memory)),
        cache: CacheStats::of(&api),
    };
    (status, Json(DetailedHealth { health, api })).into_response()
}
