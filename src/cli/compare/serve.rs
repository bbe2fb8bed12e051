//! `cutout compare-arm`: one network in a process of its own, so that its memory is its own too.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use sha2::{Digest, Sha256};

use super::row::Failed;
use super::wire::{self, Answer, Asked, Loaded, NetworkInfo, Ready, Run, Start};
use crate::cli::plane::Reader;
use crate::config::{LimitArgs, ModelArgs};
use crate::engine::EngineInfo;
use crate::side::memory::MemoryReading;
use crate::telemetry::labels::Stage;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::process::peak_resident;

#[derive(Args)]
pub struct ServeCmd {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

impl ServeCmd {
    /// Answers until the other side closes the pipe.
    pub async fn run(&self) -> anyhow::Result<ExitCode> {
        // Nothing else runs on this thread, so it may block.
        let (mut photos, mut mattes) = (io::stdin().lock(), io::stdout().lock());
        let engine = match crate::cli::start_engine(&self.model, true).await {
            Ok(started) => started.engine,
            Err(error) => {
                // The comparison tells it.
                let failed = Loaded::Failed(Failed::new(&error));
                wire::send(&mut mattes, &failed, &[])?;
                return Ok(ExitCode::FAILURE);
            }
        };
        let ready = ready(engine.info(), self.model.threads())?;
        wire::send(&mut mattes, &Loaded::Ready(ready), &[])?;

        let memory = crate::cli::photo_bytes(&self.limits);
        let cutter = crate::cli::cutter(engine, &self.limits, memory, Metrics::new());
        let reader = Reader::new(cutter.cpu.clone(), &self.limits);
        while let Some(Asked { bytes }) = wire::receive(&mut photos)? {
            let photo = wire::bytes(&mut photos, bytes)?;
            let begun = Instant::now();
            match reader.run(&cutter, photo.into()).await {
                Ok((plane, spent)) => {
                    let answer = Answer::Matte {
                        width: plane.width,
                        height: plane.height,
                        run: Run {
                            infer_ms: milliseconds(spent.of(Stage::Infer)),
                            total_ms: milliseconds(begun.elapsed()),
                            peak: peak_resident(None),
                        },
                    };
                    wire::send(&mut mattes, &answer, &plane.levels)?;
                }
                Err(error) => {
                    wire::send(&mut mattes, &Answer::Failed(Failed::new(&error)), &[])?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn ready(info: &EngineInfo, threads: usize) -> anyhow::Result<Ready> {
    let manifest = serde_json::to_vec(&info.manifest)?;
    Ok(Ready {
        network: NetworkInfo {
            name: info.manifest.name.clone(),
            sha256: info.manifest.sha256.clone(),
            manifest: hex::encode(Sha256::digest(manifest)),
            provider: info.provider.as_str().to_owned(),
            precision: info.precision.as_str().to_owned(),
            runtime: info.runtime.clone(),
            threads,
        },
        start: Start {
            load_ms: milliseconds(info.load),
            warm_up_ms: milliseconds(info.warm_up),
            resident: MemoryReading::take().map(|memory| memory.resident),
        },
    })
}

/// To the microsecond: less is noise.
fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
