//! The threads that run batches: one for each lane, in turn.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
        let (batch, mut photos, ahead) = if lane.copies() {
            let taken = batch
                .into_iter()
                .filter_map(|request| Some((request.take_tensor()?, request)));
            let (mut photos, batch): (Vec<Tensor>, Vec<Request>) = taken.unzip();
            if batch.is_empty() {
                self.desk.unclaim();
                return None;
            }
            let filled = lane.stage(&mut photos);
            (batch, photos, Some(filled))
        } else {
            (batch, Vec::new(), None)
        };
        let turn = self.desk.turn()?;
        let mut begun: Vec<Option<Begun>> = Vec::with_capacity(batch.len());
        for request in batch {
            if ahead.is_some() {
                // Its place in the batch is taken, whether anybody still waits or not.
                begun.push(request.begin());
            } else if let (Some(photo), Some(one)) = (request.take_tensor(), request.begin()) {
                photos.push(photo);
                begun.push(Some(one));
            }
        }
        if begun.iter().all(Option::is_none) {
            return None;
        }
        self.pulse.begin();
        crash_point!("network_running");
        let since = Instant::now();
        let filled = ahead.unwrap_or_else(|| lane.stage(&mut photos));
        let answer = filled
            .map_err(failed)
            .and_then(|()| self.run(lane, begun.len()));
        let ran = since.elapsed();
        let count = begun.len();
        let outcomes: Vec<Outcome> = match answer {
            Ok(answer) => {
                // The other lane's turn: the answer is this lane's own.
                self.pulse.end();
                drop(turn);
                let mattes: Vec<_> = match answer.mattes(count) {
                    Ok(mattes) => mattes.into_iter().map(Ok).collect(),
                    Err(error) => (0..count).map(|_| Err(error.for_another())).collect(),
                };
                let outcome = |matte| Outcome { matte, ran };
                return answer_all(begun, mattes.into_iter().map(outcome), Counted::Once(count));
            }
            // A photo alone has had its run, and a card that is lost has no other.
            Err(error) if count == 1 || error.code() == Code::EngineDead => (0..count)
                .map(|_| Outcome {
                    matte: Err(error.for_another()),
                    ran,
                })
                .collect(),
            Err(error) => self.one_by_one(lane, photos, &begun, &error, &turn),
        };
        self.pulse.end();
        drop(turn);
        answer_all(begun, outcomes, Counted::Each)
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
        error: &Error,
        _turn: &Turn<'_>,
    ) -> Vec<Outcome> {
        tracing::warn!(
            error = error.chain(),
            photos = photos.len(),
            "a batch failed; its photos are run alone"
        );
        let alone = photos.into_iter().zip(batch).map(|(photo, wanted)| {
            // Each is a run of its own to whoever watches for one that does not end.
            self.pulse.begin();
            let since = Instant::now();
            let matte = if wanted.is_none() {
                Err(error.for_another())
            } else {
                lane.stage(&mut vec![photo])
                    .map_err(failed)
                    .and_then(|()| self.session().run(lane, After::Keep)?.mattes(1))
                    .and_then(|mut mattes| mattes.pop().ok_or_else(|| error.for_another()))
            };
            Outcome {
                matte,
                ran: since.elapsed(),
            }
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

/// What came of one photo.
struct Outcome {
    matte: Result<Matte>,
    ran: Duration,
}

/// How the runs behind a batch's outcomes are counted.
#[derive(Clone, Copy)]
enum Counted {
    /// All came of one run, of so many photos.
    Once(usize),
    /// Each had a run of its own.
    Each,
}

/// Answers each, and gives back what its run was paid with.
fn answer_all(
    batch: Vec<Option<Begun>>,
    outcomes: impl IntoIterator<Item = Outcome>,
    counted: Counted,
) -> Option<Error> {
    let mut once = match counted {
        Counted::Once(count) => Some(count),
        Counted::Each => None,
    };
    let size = once.unwrap_or(1);
    let mut fatal = None;
    for (begun, outcome) in batch.into_iter().zip(outcomes) {
        if let Err(error) = &outcome.matte
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
        let run_of = match counted {
            Counted::Once(_) => once,
            Counted::Each => Some(1),
        };
        let answer = outcome.matte.map(|matte| Inference {
            matte,
            waited,
            ran: outcome.ran,
            batch: size,
            run_of,
        });
        let told = answer.is_ok();
        // The job may have been given up meanwhile; then nobody wants the matte.
        if reply.send(answer).is_ok() && told {
            once = None;
        }
    }
    fatal
}
