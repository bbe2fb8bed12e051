//! The threads that run batches: one for each lane, in turn.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::desk::{Desk, Turn};
use super::lane::Lane;
use super::request::{Begun, Request};
use super::session::{After, Answer, Session, failed};
use super::tensor::{Matte, Tensor};
use super::{Inference, Pulse};
use crate::crash::{crash_point, fault_point};
use crate::error::{Code, Error, Result};

/// What all lanes share.
#[derive(Clone)]
pub(super) struct Runner {
    /// Locked by the lane whose turn it is, so never waited for.
    session: Arc<Mutex<Session>>,
    desk: Arc<Desk>,
    pulse: Arc<Pulse>,
}

/// Nothing runs any more when a lane's thread has ended, however it did.
struct DeathKnell<'a>(&'a Runner);

impl Drop for DeathKnell<'_> {
    fn drop(&mut self) {
        self.0.pulse.end();
        self.0.pulse.die();
        self.0.desk.close();
    }
}

impl Runner {
    pub(super) fn new(session: Session, desk: Arc<Desk>, pulse: Arc<Pulse>) -> Self {
        Self {
            session: Arc::new(Mutex::new(session)),
            desk,
            pulse,
        }
    }

    /// Serves until the desk is closed, each lane by a thread of its own, the last by this one.
    pub(super) fn serve(self, mut lanes: Vec<Lane>) {
        let _knell = DeathKnell(&self);
        let Some(own) = lanes.pop() else { return };
        for (number, lane) in lanes.into_iter().enumerate() {
            let runner = self.clone();
            let spawned = std::thread::Builder::new()
                .name(format!("engine-{}", number + 2))
                .spawn(move || {
                    let _knell = DeathKnell(&runner);
                    runner.work(lane);
                });
            if let Err(error) = spawned {
                // One lane does the same, with pauses.
                tracing::warn!(%error, "no thread for another lane of the engine");
            }
        }
        self.work(own);
    }

    fn work(&self, mut lane: Lane) {
        while let Some(batch) = self.desk.next() {
            if let Some(error) = self.serve_batch(&mut lane, batch) {
                tracing::error!(error = error.chain(), "the engine can run nothing any more");
                return;
            }
        }
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills the lane, waits for its turn, runs, answers. An error is one that every later run
    /// would have too.
    fn serve_batch(&self, lane: &mut Lane, batch: Vec<Request>) -> Option<Error> {
        let staged = batch
            .into_iter()
            .filter_map(|request| Some((request.take_tensor()?, request)));
        let (mut photos, batch): (Vec<Tensor>, Vec<Request>) = staged.unzip();
        if batch.is_empty() {
            self.desk.unclaim();
            return None;
        }
        let filled = lane.stage(&mut photos).map_err(failed);
        let turn = self.desk.turn()?;
        let batch: Vec<Option<Begun>> = batch.into_iter().map(Request::begin).collect();
        if batch.iter().all(Option::is_none) {
            lane.clear();
            return None;
        }
        self.pulse.begin();
        crash_point!("network_running");
        let begun = Instant::now();
        let answer = filled.and_then(|()| self.run(lane, batch.len()));
        let ran = begun.elapsed();
        let mattes = match answer {
            Ok(answer) => {
                // The other lane's turn: the answer is this lane's own.
                self.pulse.end();
                drop(turn);
                answer.mattes(batch.len())
            }
            Err(error) => {
                let alone = self.one_by_one(lane, photos, &batch, error, &turn);
                self.pulse.end();
                drop(turn);
                return reply(batch, alone, ran);
            }
        };
        let count = batch.len();
        let mattes = match mattes {
            Ok(mattes) => mattes.into_iter().map(Ok).collect(),
            Err(error) => (0..count).map(|_| Err(error.for_another())).collect(),
        };
        reply(batch, mattes, ran)
    }

    fn run(&self, lane: &mut Lane, count: usize) -> Result<Answer> {
        fault_point!(
            "batch_refused",
            count > 1,
            Error::new(
                Code::InferenceFailed,
                format!("{count} at once are too many")
            )
        );
        self.session().run(lane, self.after())
    }

    /// After a batch has failed, each of its photos alone: the fault of one is not its
    /// neighbours'.
    fn one_by_one(
        &self,
        lane: &mut Lane,
        photos: Vec<Tensor>,
        batch: &[Option<Begun>],
        error: Error,
        _turn: &Turn<'_>,
    ) -> Vec<Result<Matte>> {
        // A photo alone has had its run.
        if batch.len() == 1 || error.code() == Code::EngineDead {
            return batch.iter().map(|_| Err(error.for_another())).collect();
        }
        tracing::warn!(
            error = error.chain(),
            photos = photos.len(),
            "a batch failed; its photos are run alone"
        );
        let alone = photos.into_iter().zip(batch).map(|(photo, wanted)| {
            if wanted.is_none() {
                return Err(error.for_another());
            }
            lane.stage(&mut vec![photo]).map_err(failed)?;
            let answer = self.session().run(lane, After::Keep)?;
            answer.mattes(1)?.pop().ok_or_else(|| error.for_another())
        });
        alone.collect()
    }

    fn after(&self) -> After {
        if self.desk.is_quiet() {
            After::Shrink
        } else {
            After::Keep
        }
    }
}

/// Answers each, and gives back what its run was paid with.
fn reply(
    batch: Vec<Option<Begun>>,
    mattes: Vec<Result<Matte>>,
    ran: std::time::Duration,
) -> Option<Error> {
    let mut run_of = Some(batch.len());
    let mut fatal = None;
    for (begun, matte) in batch.into_iter().zip(mattes) {
        if let Err(error) = &matte
            && error.code() == Code::EngineDead
        {
            fatal = Some(error.for_another());
        }
        let Some(Begun {
            waited,
            paid,
            reply,
        }) = begun
        else {
            continue;
        };
        drop(paid);
        let run_of = run_of.take();
        // The job may have been given up meanwhile; then nobody wants the matte.
        drop(reply.send(matte.map(|matte| Inference {
            matte,
            waited,
            ran,
            run_of,
        })));
    }
    fatal
}
