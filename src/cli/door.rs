//! The door that Pub/Sub pushes jobs through, from the configuration.

use crate::config::{IngressKind, LimitArgs, PushArgs, QueueArgs, WorkerArgs};
use crate::error::Result;
use crate::ingress::pubsub::subscription_name;
use crate::ingress::push::{PATH, PushConfig, TokenRules};

/// What is wrong with the settings of a worker that is pushed to; nothing for any other.
pub fn problems(
    queue: &QueueArgs,
    worker: &WorkerArgs,
    push: &PushArgs,
    limits: &LimitArgs,
) -> Vec<String> {
    if queue.ingress != IngressKind::Push {
        return Vec::new();
    }
    let mut problems = push.problems(limits.job_timeout);
    if let Err(error) = subscription(queue, worker) {
        problems.push(error.message().to_owned());
    }
    problems
}

/// What is let in; `None` for a worker that is not pushed to. Settings that [`problems`] finds
/// fault with let nobody in.
pub fn config(
    queue: &QueueArgs,
    worker: &WorkerArgs,
    push: &PushArgs,
    limits: &LimitArgs,
) -> Result<Option<PushConfig>> {
    if queue.ingress != IngressKind::Push {
        return Ok(None);
    }
    let owned = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let config = PushConfig {
        subscription: subscription(queue, worker)?,
        token: TokenRules {
            audience: owned(push.audience()),
            service_account: owned(push.service_account()),
            keys_url: push.keys_url().map(str::to_owned),
            clock_skew: push.push_clock_skew,
        },
        max_jobs: limits.max_jobs(),
    };
    tracing::info!(
        subscription = config.subscription,
        audience = config.token.audience,
        service_account = config.token.service_account,
        path = PATH,
        "taking pushes from Pub/Sub"
    );
    Ok(Some(config))
}

fn subscription(queue: &QueueArgs, worker: &WorkerArgs) -> Result<String> {
    subscription_name(&worker.subscription, queue.project.as_deref())
}
