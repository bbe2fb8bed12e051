//! What a job asks of the network, shared by the job, which may give it up, and the desk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::Inference;
use super::tensor::{Tensor, TensorData};
use crate::error::Result;

/// One photo that waits for the network, as the desk holds it.
pub(super) struct Request {
    load: Load,
    size: (u32, u32),
    floats: bool,
    sent: Instant,
    reply: oneshot::Sender<Result<Inference>>,
}

/// The job's end of a request. Dropping it before the run begins withdraws the request, and drops
/// all that it brought at once, however long the network may be busy with others.
pub(super) struct Waiter {
    withdraw: Withdraw,
    answer: oneshot::Receiver<Result<Inference>>,
}

/// A request whose run has begun.
pub(super) struct Begun {
    /// From sending the tensor to the start of the run.
    pub waited: std::time::Duration,
    /// Dropped when the run has ended: one that nobody waits for any more still takes its memory.
    pub paid: Box<dyn Send>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Inference>>,
}

#[derive(Clone)]
struct Load(Arc<Mutex<Option<Cargo>>>);

struct Cargo {
    /// Taken when a lane is filled with it.
    tensor: Option<Tensor>,
    waiting: Box<dyn Send>,
    paid: Box<dyn Send>,
}

/// A request for this tensor. `waiting` is dropped when the run begins, `paid` when it has ended.
pub(super) fn new(
    tensor: Tensor,
    waiting: Box<dyn Send>,
    paid: Box<dyn Send>,
) -> (Request, Waiter) {
    let (reply, answer) = oneshot::channel();
    let size = (tensor.width, tensor.height);
    let floats = matches!(tensor.data, TensorData::NchwF32(_));
    let load = Load(Arc::new(Mutex::new(Some(Cargo {
        tensor: Some(tensor),
        waiting,
        paid,
    }))));
    let withdraw = Withdraw(load.clone());
    let request = Request {
        load,
        size,
        floats,
        sent: Instant::now(),
        reply,
    };
    (request, Waiter { withdraw, answer })
}

impl Request {
    /// Width and height of the tensor.
    #[cfg(test)]
    pub(super) const fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Whether both can be in one batch.
    pub(super) fn fits(&self, other: &Self) -> bool {
        self.size == other.size && self.floats == other.floats
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.load.lock().is_none()
    }

    /// The tensor, to be staged; `None` if the request was withdrawn.
    pub(super) fn take_tensor(&self) -> Option<Tensor> {
        self.load.lock().as_mut()?.tensor.take()
    }

    /// The run begins; `None` if the request was withdrawn meanwhile.
    pub(super) fn begin(self) -> Option<Begun> {
        let Cargo { waiting, paid, .. } = self.load.take()?;
        drop(waiting);
        Some(Begun {
            waited: self.sent.elapsed(),
            paid,
            reply: self.reply,
        })
    }
}

impl Waiter {
    /// The answer; `Err` when nobody is left to give it.
    pub(super) async fn answer(
        &mut self,
    ) -> std::result::Result<Result<Inference>, oneshot::error::RecvError> {
        (&mut self.answer).await
    }

    /// Whether its run has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.withdraw.0.lock().is_none()
    }

    /// Whether it was dropped unanswered.
    #[cfg(test)]
    pub(super) fn is_lost(&mut self) -> bool {
        matches!(
            self.answer.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        )
    }
}

impl Load {
    fn take(&self) -> Option<Cargo> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Cargo>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Withdraws a request that has not begun when nobody waits for it any more.
struct Withdraw(Load);

impl Drop for Withdraw {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}
