//! The two that are compared: a network in a process of its own, or a folder of mattes.

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::wire::{self, Answer, Asked, Loaded, Ready, Run};
use crate::cli::eval::pairs::Index;
use crate::cli::plane::Plane;
use crate::error::{Code, Error, Result};

/// One of the two.
pub(super) enum Arm {
    Network(Box<Network>),
    Folder(Index),
}

impl Arm {
    /// Where the matte of a photo is that is there already; its name is without extension. `None` for networks.
    pub fn file(&self, name: &str) -> Option<Result<PathBuf>> {
        match self {
            Self::Network(_) => None,
            Self::Folder(mattes) => Some(find(mattes, name, "matte")),
        }
    }

    pub const fn network(&self) -> Option<&Network> {
        match self {
            Self::Network(network) => Some(network),
            Self::Folder(_) => None,
        }
    }
}

/// The picture of this name in a folder of mattes or masks.
pub(super) fn find(folder: &Index, name: &str, what: &str) -> Result<PathBuf> {
    folder.get(name).map(Path::to_owned).ok_or_else(|| {
        let folder = folder.folder().display();
        Error::new(
            Code::SourceNotFound,
            format!("there is no {what} {name} in {folder}"),
        )
    })
}

/// A network that answers from a process of its own. One that ends is started anew for the next photo.
pub(super) struct Network {
    /// What its first start told.
    pub ready: Ready,
    settings: Vec<(OsString, OsString)>,
    patience: Duration,
    process: Mutex<Option<Process>>,
}

/// Why a photo has no matte.
pub(super) enum Trouble {
    /// The photo's: the others go on.
    Photo(Error),
    /// The network cannot be started again: nothing goes on.
    All(Error),
}

struct Process {
    child: Ended,
    pipes: Pipes,
}

struct Pipes {
    photos: ChildStdin,
    mattes: BufReader<ChildStdout>,
}

/// A child that is killed when dropped, and waited for.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Ended {
    fn status(&mut self) -> io::Result<ExitStatus> {
        self.0.kill().ok();
        self.0.wait()
    }
}

impl Network {
    /// Starts the process and waits until the network is loaded and warmed up. `settings` are its environment;
    /// `patience` is how long one photo may take.
    pub async fn start(settings: Vec<(OsString, OsString)>, patience: Duration) -> Result<Self> {
        let (process, ready) = spawn(settings.clone()).await?;
        Ok(Self {
            ready,
            settings,
            patience,
            process: Mutex::new(Some(process)),
        })
    }

    /// The matte of a photo, given as its file's bytes.
    pub async fn matte(&self, photo: Bytes) -> Result<(Plane, Run), Trouble> {
        let mut slot = self.process.lock().await;
        let Process { mut child, pipes } = match slot.take() {
            Some(process) => process,
            None => self.again().await?,
        };
        let mut asking = tokio::task::spawn_blocking(move || {
            let mut pipes = pipes;
            let answer = pipes.ask(&photo);
            (pipes, answer)
        });
        let Ok(asked) = tokio::time::timeout(self.patience, &mut asking).await else {
            drop(child);
            return Err(Trouble::Photo(Error::new(
                Code::DeadlineExceeded,
                format!(
                    "it took longer than {} s (--job-timeout); the network is started anew",
                    self.patience.as_secs()
                ),
            )));
        };
        let told = asked.map_err(|error| {
            Error::new(Code::Internal, "the exchange with the network ended").caused_by(error)
        });
        let (pipes, answer) = told.map_err(Trouble::Photo)?;
        match answer {
            Ok(answer) => {
                *slot = Some(Process { child, pipes });
                answer.map_err(Trouble::Photo)
            }
            Err(error) => {
                let how = child
                    .status()
                    .map_or_else(|e| e.to_string(), |s| s.to_string());
                Err(Trouble::Photo(
                    Error::new(
                        Code::EngineDead,
                        format!("the network's process ended ({how}); it is started anew for the next photo"),
                    )
                    .caused_by(error),
                ))
            }
        }
    }

    async fn again(&self) -> Result<Process, Trouble> {
        let (process, ready) = spawn(self.settings.clone()).await.map_err(Trouble::All)?;
        if ready.network == self.ready.network {
            return Ok(process);
        }
        Err(Trouble::All(Error::new(
            Code::ModelInvalid,
            format!(
                "{} is not the same any more as when the comparison began",
                self.ready.network.name
            ),
        )))
    }
}

async fn spawn(settings: Vec<(OsString, OsString)>) -> Result<(Process, Ready)> {
    let starting = tokio::task::spawn_blocking(move || {
        let unable = |error: io::Error| {
            Error::new(Code::EngineDead, "cannot start the network's process").caused_by(error)
        };
        let mut child = Command::new(std::env::current_exe().map_err(unable)?)
            .arg("compare-arm")
            .envs(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(unable)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (photos, mattes) = pipes.expect("both were asked for");
        let mut process = Process {
            child: Ended(child),
            pipes: Pipes {
                photos,
                mattes: BufReader::new(mattes),
            },
        };
        match wire::receive(&mut process.pipes.mattes) {
            Ok(Some(Loaded::Ready(ready))) => Ok((process, ready)),
            Ok(Some(Loaded::Failed(failed))) => Err(failed.error()),
            Ok(None) => Err(unable(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(unable(error)),
        }
    });
    let ended = |error| Error::new(Code::Internal, "cannot start the network").caused_by(error);
    starting.await.map_err(ended)?
}

impl Pipes {
    /// The outer error is the process's end, the inner one the photo's.
    fn ask(&mut self, photo: &[u8]) -> io::Result<Result<(Plane, Run)>> {
        let asked = Asked { bytes: photo.len() };
        wire::send(&mut self.photos, &asked, photo)?;
        match wire::receive(&mut self.mattes)? {
            Some(Answer::Matte { width, height, run }) => {
                let levels = wire::bytes(&mut self.mattes, width as usize * height as usize)?;
                let plane = Plane {
                    width,
                    height,
                    levels,
                };
                Ok(Ok((plane, run)))
            }
            Some(Answer::Failed(failed)) => Ok(Err(failed.error())),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
