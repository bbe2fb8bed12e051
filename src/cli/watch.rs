//! Reads what nobody pushes: the budgets, and whether store and queue are still there.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::JoinSet;

use crate::error::{Code, Error, Result};
use crate::ingress::Egress;
use crate::pipeline::Pipeline;
use crate::side::health::{QueueStatus, StorageStatus};
use crate::side::state::SideState;
use crate::store::Store;
use crate::telemetry::metrics::BudgetReading;

/// How often the budgets are read.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// How often an end that answers is asked: each question is a billed operation.
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// How soon an end that did not answer is asked again, so that recovery is seen early.
const PROBE_AGAIN: Duration = Duration::from_secs(5);

/// How long one question may take. The clients try for up to 90 s, which is right for a job and
/// too long for /health: with this, an outage is told within 30 s.
const PROBE_TIMEOUT: Duration = Duration::from_secs(12);

/// Watches until the answer is dropped.
pub(super) fn start(
    pipeline: &Pipeline,
    side: &Arc<SideState>,
    store: Arc<dyn Store>,
    queue: Arc<dyn Egress>,
    buckets: Vec<String>,
) -> JoinSet<()> {
    let mut watching = JoinSet::new();
    let (downloads, pixels) = (pipeline.downloads.clone(), pipeline.cutter.memory.clone());
    let metrics = pipeline.metrics.clone();
    watching.spawn(async move {
        let mut gauges = tokio::time::interval(GAUGES_EVERY);
        loop {
            gauges.tick().await;
            metrics.set_budget(BudgetReading {
                used: downloads.used() + pixels.used(),
                total: downloads.total() + pixels.total(),
                waiting: downloads.waiting() + pixels.waiting(),
            });
        }
    });
    let state = Arc::clone(side);
    watching.spawn(ask(
        "the store",
        Code::StorageUnavailable,
        move || {
            let (store, buckets) = (Arc::clone(&store), buckets.clone());
            Box::pin(async move { all_there(store.as_ref(), &buckets).await })
        },
        move |answer| {
            state.health.set_storage(match answer {
                Ok(()) => StorageStatus::Connected,
                Err(error) => StorageStatus::Unreachable(error.message().to_owned()),
            });
        },
    ));
    let state = Arc::clone(side);
    watching.spawn(ask(
        "the queue",
        Code::QueueUnavailable,
        move || {
            let queue = Arc::clone(&queue);
            Box::pin(async move { queue.probe().await })
        },
        move |answer| {
            state.health.set_queue(match answer {
                Ok(()) => QueueStatus::Connected,
                Err(error) if error.code() == Code::QueueLost => {
                    QueueStatus::Lost(error.message().to_owned())
                }
                Err(error) => QueueStatus::Unreachable(error.message().to_owned()),
            });
        },
    ));
    watching
}

async fn all_there(store: &dyn Store, buckets: &[String]) -> Result<()> {
    if buckets.is_empty() {
        return store.probe(None).await;
    }
    let probes = buckets.iter().map(|bucket| store.probe(Some(bucket)));
    futures::future::try_join_all(probes).await.map(drop)
}

/// Asks for ever, tells each answer, and logs when it changes. Silence counts as `silence`.
async fn ask(
    whom: &'static str,
    silence: Code,
    question: impl Fn() -> BoxFuture<'static, Result<()>>,
    tell: impl Fn(&Result<()>),
) {
    let mut answered = true;
    loop {
        let answer = tokio::time::timeout(PROBE_TIMEOUT, question())
            .await
            .unwrap_or_else(|elapsed| {
                let what = format!("{whom} gave no answer within {PROBE_TIMEOUT:?}");
                Err(Error::new(silence, what).caused_by(elapsed))
            });
        match &answer {
            Ok(()) if !answered => tracing::info!("{whom} answers again"),
            Err(error) if answered => {
                tracing::warn!(code = %error.code(), error = error.chain(), "{whom} does not answer");
            }
            _ => {}
        }
        answered = answer.is_ok();
        tell(&answer);
        tokio::time::sleep(if answered { PROBE_EVERY } else { PROBE_AGAIN }).await;
    }
}
