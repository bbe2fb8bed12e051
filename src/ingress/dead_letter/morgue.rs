//! Where dead letters lie, as an operator's command works on it.

use async_trait::async_trait;

use super::DeadLetter;
use crate::error::{Error, Result};

/// What became of letters that were to be replayed or dropped.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Letters that were.
    pub done: usize,
    /// The first failure. Letters that are neither done nor gone lie where they lay.
    pub failure: Option<Error>,
}

/// The dead letters of a queue. What `next` handed out and nobody replayed or dropped is there
/// as before once the morgue is closed.
#[async_trait]
pub trait Morgue: Send {
    /// The next letter, each once; `None` when there are no more. Cancel-safe.
    async fn next(&mut self) -> Result<Option<DeadLetter>>;

    /// Publishes each letter's original to the jobs and then removes the letter: a crash in
    /// between leaves a duplicate, never a loss. `done` is called for each.
    ///
    /// Letters of one ordering key are published in the order given. Letters that somebody else
    /// took meanwhile are passed over.
    async fn replay(
        &mut self,
        letters: Vec<DeadLetter>,
        done: &(dyn Fn() + Send + Sync),
    ) -> Outcome;

    /// Removes letters for good. `done` is called for each.
    async fn discard(
        &mut self,
        letters: Vec<DeadLetter>,
        done: &(dyn Fn() + Send + Sync),
    ) -> Outcome;

    /// Puts back what was looked at, and waits until every answer has reached the queue.
    async fn close(self: Box<Self>) -> Result<()>;
}
