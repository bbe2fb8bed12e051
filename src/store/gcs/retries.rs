//! Tells of what the clients of Cloud Storage try again by themselves.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_gax::retry_policy::RetryPolicy;
use google_cloud_gax::retry_result::RetryResult;
use google_cloud_gax::retry_state::RetryState;
use google_cloud_gax::throttle_result::ThrottleResult;
use google_cloud_storage::Error as ClientError;
use google_cloud_storage::read_resume_policy::{ReadResumePolicy, ResumeQuery, ResumeResult};

use super::failure;
use crate::error::Code;
use crate::telemetry::labels::RetryOp;

/// Hears of every attempt that failed and is made again.
#[derive(Clone)]
pub struct RetryHook(Arc<dyn Fn(RetryOp, Code) + Send + Sync>);

impl RetryHook {
    /// Calls `told` with what was tried, and what it met.
    pub fn new(told: impl Fn(RetryOp, Code) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    pub(super) fn tell(&self, op: RetryOp, code: Code) {
        (self.0)(op, code);
    }

    /// `policy`, with what it lets be tried again told as `op`.
    pub(super) fn on<P>(&self, op: RetryOp, policy: P) -> Told<P> {
        Told {
            policy,
            op,
            hook: self.clone(),
        }
    }
}

impl Default for RetryHook {
    /// Tells nobody.
    fn default() -> Self {
        Self::new(|_, _| ())
    }
}

impl fmt::Debug for RetryHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetryHook")
    }
}

/// A policy of the official client that tells of its decisions.
#[derive(Clone, Debug)]
pub(super) struct Told<P> {
    policy: P,
    op: RetryOp,
    hook: RetryHook,
}

impl<P: RetryPolicy> RetryPolicy for Told<P> {
    fn on_error(&self, state: &RetryState, error: ClientError) -> RetryResult {
        let decided = self.policy.on_error(state, error);
        if let RetryResult::Continue(error) = &decided {
            self.hook.tell(self.op, failure::code(error));
        }
        decided
    }

    fn on_throttle(&self, state: &RetryState, error: ClientError) -> ThrottleResult {
        self.policy.on_throttle(state, error)
    }

    fn remaining_time(&self, state: &RetryState) -> Option<Duration> {
        self.policy.remaining_time(state)
    }
}

impl<P: ReadResumePolicy> ReadResumePolicy for Told<P> {
    fn on_error(&self, query: &ResumeQuery, error: ClientError) -> ResumeResult {
        let decided = self.policy.on_error(query, error);
        if let ResumeResult::Continue(error) = &decided {
            self.hook.tell(self.op, failure::code(error));
        }
        decided
    }
}
