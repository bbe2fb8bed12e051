//! Reads what nobody pushes: the budgets, and whether store and queue are still there.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::JoinSet;

use crate::error::{Code, Error, Result};
use crate::ingress::Egress;
use crate::pipeline::Pipeline;
use crate::pipeline::budget::Budget;
use crate::side::gpu::Card;
use crate::side::health::{QueueStatus, StorageStatus};
use crate::side::state::SideState;
use crate::store::Store;
use crate::telemetry::metrics::{BudgetReading, Metrics};

/// How often the budgets are read.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// How often an end that answers is asked: each question is a billed operation.
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// How soon an end that did not answer is asked again, so that recovery is seen early.
const PROBE_AGAIN: Duration = Duration::from_secs(5);

/// The shortest time between two questions, however many jobs suspect an end.
const PROBE_GAP: Duration = Duration::from_secs(1);

/// How long one question may take. The clients try for up to 90 s, which is right for a job and
/// too long for /health: with this, an outage is told within 30 s.
const PROBE_TIMEOUT: Duration = Duration::from_secs(12);

/// Watches until the answer is dropped.
pub(super) fn start(
    pipeline: &Pipeline,
    budgets: Vec<Budget>,
    side: &Arc<SideState>,
    store: Arc<dyn Store>,
    queue: Arc<dyn Egress>,
    buckets: Vec<String>,
) -> JoinSet<()> {
    let mut watching = JoinSet::new();
    let metrics = pipeline.metrics.clone();
    watching.spawn(async move {
        let mut gauges = tokio::time::interval(GAUGES_EVERY);
        loop {
            gauges.tick().await;
            metrics.set_budget(BudgetReading {
                used: budgets.iter().map(Budget::used).sum(),
                total: budgets.iter().map(Budget::total).sum(),
                waiting: budgets.iter().map(Budget::waiting).sum(),
            });
        }
    });
    let info = pipeline.cutter.engine.info();
    if info.provider.on_gpu() {
        watching.spawn(card(info.device_id, pipeline.metrics.clone(), side.clone()));
    }
    let (state, suspicious) = (Arc::clone(side), Arc::clone(side));
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
        move || {
            let side = Arc::clone(&suspicious);
            Box::pin(async move { side.health.storage_is_suspected().await })
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
        || Box::pin(std::future::pending()),
    ));
    watching
}

/// Tells the card's memory, if its driver does.
async fn card(device_id: i32, metrics: Metrics, side: Arc<SideState>) {
    let card = match Card::open(device_id) {
        Ok(card) => card,
        Err(error) => {
            tracing::warn!(error, "the card's memory is not watched");
            return;
        }
    };
    let mut gauges = tokio::time::interval(GAUGES_EVERY);
    loop {
        gauges.tick().await;
        if let Some(memory) = card.memory() {
            metrics.set_gpu_memory(memory.used, memory.total);
            side.set_gpu_used(memory.used);
        }
    }
}

async fn all_there(store: &dyn Store, buckets: &[String]) -> Result<()> {
    if buckets.is_empty() {
        return store.probe(None).await;
    }
    let probes = buckets.iter().map(|bucket| store.probe(Some(bucket)));
    futures::future::try_join_all(probes).await.map(drop)
}

/// Asks for ever, sooner when `suspected` says so, tells each answer, and logs when it changes.
/// Silence counts as `silence`.
async fn ask(
    whom: &'static str,
    silence: Code,
    question: impl Fn() -> BoxFuture<'static, Result<()>>,
    tell: impl Fn(&Result<()>),
    suspected: impl Fn() -> BoxFuture<'static, ()>,
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
        tokio::time::sleep(PROBE_GAP).await;
        let rest = if answered { PROBE_EVERY } else { PROBE_AGAIN } - PROBE_GAP;
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = suspected() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn a_suspicion_is_looked_into_long_before_the_next_question_is_due() {
        let side = SideState::new(Duration::from_secs(600));
        let (asked, mut questions) = mpsc::unbounded_channel();
        let suspicious = Arc::clone(&side);
        let asking = tokio::spawn(ask(
            "the store",
            Code::StorageUnavailable,
            move || {
                asked.send(()).unwrap();
                Box::pin(async { Ok(()) })
            },
            |_| {},
            move || {
                let side = Arc::clone(&suspicious);
                Box::pin(async move { side.health.storage_is_suspected().await })
            },
        ));
        questions.recv().await.expect("the question at the start");
        let doubtful = Arc::clone(&side);
        let doubting = tokio::spawn(async move { doubtful.health.storage_is_away().await });
        tokio::select! {
            () = tokio::time::sleep(PROBE_EVERY * 2 / 3) => panic!("nobody asked"),
            question = questions.recv() => question.expect("the question that was asked for"),
        }
        asking.abort();
        doubting.abort();
    }
}
