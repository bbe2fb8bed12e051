//! From a photo's bytes to the finished file's bytes: everything but storage.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::budget::{Budget, Share};
use super::cpu::CpuPool;
use super::decode::{self, Limits, Photo};
use super::encode::{self, Encoded};
use super::{compose, matte, preprocess};
use crate::crash::crash_point;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::job::Output;
use crate::telemetry::labels::Stage;
use crate::telemetry::metrics::{Metrics, NetworkLabels};

/// What turns photos into cut-outs, shared by all jobs. Cheap to clone.
#[derive(Clone)]
pub struct Cutter {
    /// The network.
    pub engine: Engine,
    /// Memory for decoded pixels.
    pub memory: Budget,
    /// Cores for pixels.
    pub cpu: CpuPool,
    /// What a photo may be.
    pub limits: Limits,
    /// Who waits for what, and how long the network takes.
    pub metrics: Metrics,
}

/// A file in memory, with the share of a budget that pays for it.
pub struct Charged {
    /// The file's content.
    pub bytes: Bytes,
    /// Given back when the last file that it pays for is dropped; `None` where nobody counts.
    pub paid: Option<Arc<Share>>,
}

/// Where the time of one photo went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Waiting for memory, a core or the engine.
    pub wait: Duration,
    /// Decoding, and preparing the network's input.
    pub decode: Duration,
    /// The network.
    pub infer: Duration,
    /// Matte to full size, composition.
    pub compose: Duration,
    /// Encoding.
    pub encode: Duration,
}

impl Cutter {
    /// Cuts out one photo. `background` holds the file of an `image:` background.
    ///
    /// Memory is taken before the first pixel is decoded, by what the header says, and given
    /// back when the finished file is all that is left. Cancel-safe: a dropped future gives its
    /// memory back as soon as the pixels it was working on are gone.
    pub async fn cut_out(
        &self,
        file: Charged,
        background: Option<Charged>,
        output: &Output,
        deadline: Instant,
    ) -> Result<(Encoded, Spent)> {
        let mut spent = Spent::default();
        let limits = self.limits;
        let mut needed = self.engine.info().manifest.tensor_bytes();
        let header = decode::sniff(&file.bytes, &limits)?;
        let (width, height) = header.upright_size();
        needed += header.decode_bytes() + compose::extra_bytes(width, height, output);
        let background = match background {
            Some(file) => {
                let header = decode::sniff(&file.bytes, &limits).map_err(of_background)?;
                needed += header.decode_bytes();
                Some((file, header))
            }
            None => None,
        };

        let asked = Instant::now();
        let waiting = self.metrics.waiting_guard(Stage::Decode);
        let share = tokio::time::timeout_at(deadline.into(), self.memory.take(needed))
            .await
            .map_err(|_| {
                Error::new(
                    Code::OutOfBudget,
                    format!(
                        "no {} MiB of memory became free before the job's deadline; it is tried again",
                        needed >> 20
                    ),
                )
            })??;
        let share = Arc::new(share);
        spent.wait += asked.elapsed();

        let coming = self.engine.announce();
        let manifest = self.engine.info().manifest.clone();
        let held = Arc::clone(&share);
        let ((photo, tensor, took), waited) = self
            .cpu
            .run(waiting, move || {
                let _held = held;
                let begun = Instant::now();
                let photo = decode::decode(&file.bytes, &header, &limits)?;
                crash_point!("photo_decoded");
                drop(file);
                let tensor = preprocess::to_tensor(&photo, &manifest.input, &manifest.resize)?;
                Ok((photo, tensor, begun.elapsed()))
            })
            .await?;
        spent.wait += waited;
        spent.decode = took;

        let waiting = self.metrics.waiting_guard(Stage::Infer);
        let paid = Box::new(Arc::clone(&share));
        let inference = self.engine.infer(tensor, Box::new(waiting), paid);
        drop(coming);
        let inference = inference.await?;
        crash_point!("matte_inferred");
        spent.wait += inference.waited;
        spent.infer = inference.ran;
        let info = self.engine.info();
        if let Some(batch) = inference.run_of {
            let network = NetworkLabels {
                model: &info.manifest.name,
                provider: info.provider.as_str(),
                precision: info.precision.as_str(),
            };
            self.metrics.inference(network, batch, inference.ran);
        }

        let manifest = self.engine.info().manifest.clone();
        let output = output.clone();
        let held = Arc::clone(&share);
        let ((encoded, composed, took), waited) = self
            .cpu
            .run(self.metrics.waiting_guard(Stage::Compose), move || {
                let _held = held;
                let begun = Instant::now();
                let mut matte = inference.matte;
                matte::finish(&mut matte, &manifest.output)?;
                let (width, height) = (photo.width, photo.height);
                let resize = manifest.output.resize;
                let alpha = matte::to_full_size(&matte, width, height, resize, &output);
                let background = match background {
                    Some((file, header)) => {
                        Some(decode::decode(&file.bytes, &header, &limits).map_err(of_background)?)
                    }
                    None => None,
                };
                let picture = compose::compose(photo, alpha, &output, background.as_ref())?;
                drop::<Option<Photo>>(background);
                let composed = begun.elapsed();
                crash_point!("picture_composed");
                let begun = Instant::now();
                let encoded = encode::encode(&picture, &output)?;
                Ok((encoded, composed, begun.elapsed()))
            })
            .await?;
        spent.wait += waited;
        spent.compose = composed;
        spent.encode = took;
        Ok((encoded, spent))
    }
}

/// A background that cannot be used is the job's fault, but not the photo's.
fn of_background(error: Error) -> Error {
    match error.code() {
        Code::ImageCorrupt | Code::ImageTooLarge | Code::UnsupportedFormat => Error::new(
            error.code(),
            format!("the background image: {}", error.message()),
        ),
        _ => error,
    }
}
