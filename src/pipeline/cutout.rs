//! From a photo's bytes to the finished file's bytes: everything but storage.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry::KeyValue;

use super::budget::{Budget, Share};
use super::compose::Picture;
use super::cpu::CpuPool;
use super::decode::{self, Carried, Header, Limits, Photo, SourceFormat, Wanted};
use super::encode::{self, Encoded};
use super::presence::{Presence, Present};
use super::quality::{self, Bounds};
use super::refine::{self, FullSize};
use super::{compose, effects, matte, preprocess};
use crate::crash::crash_point;
use crate::effect::{Effect, EffectParams};
use crate::engine::Engine;
use crate::engine::tensor::Matte;
use crate::error::{Code, Error, Result};
use crate::job::{ColourProfile, Depth, Format, KeepMetadata, Kind, Output, Quality};
use crate::telemetry::attribute::{self, number, text};
use crate::telemetry::labels::Stage;
use crate::telemetry::metrics::{Metrics, NetworkLabels};
use crate::telemetry::spent::Spent;

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
    /// From where on a matte is unusual; `None` for no verdict.
    pub review: Option<Bounds>,
    /// Which photos are in work, for what gives way to them.
    pub presence: Presence,
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

/// What is to be cut out, and how.
pub struct Order<'a> {
    /// The photo's file.
    pub file: Charged,
    /// The file of an `image:` background.
    pub background: Option<Charged>,
    /// What the picture looks like.
    pub output: &'a Output,
    /// Effects that will be applied to the cut-out: memory for one at a time is taken with the
    /// rest, as a job that held some while it waited for more could wait for ever.
    pub effects: &'a [Effect],
    /// Whether the network's matte is wanted beside the picture.
    pub keep_matte: bool,
    /// When to give up waiting for memory.
    pub deadline: Instant,
    /// Told of each stage as it begins.
    pub watch: &'a (dyn Fn(Stage) + Send + Sync),
}

impl<'a> Order<'a> {
    /// A photo on its own: no background picture, no effects, nobody watching.
    pub fn new(file: Charged, output: &'a Output, deadline: Instant) -> Self {
        Self {
            file,
            background: None,
            output,
            effects: &[],
            keep_matte: false,
            deadline,
            watch: &|_| {},
        }
    }
}

/// A finished picture, with the memory that pays for it and for what is made of it. Cheap to clone.
#[derive(Clone)]
pub struct Cut {
    /// What the job asked for.
    picture: Arc<Picture>,
    /// The cut-out that effects start from; the same as `picture` where that is one.
    cutout: Option<Arc<Picture>>,
    /// What the picture's file takes over from the photo's.
    carried: Carried,
    /// `None` for a cut-out that was made before.
    quality: Option<Quality>,
    /// Where it was wanted.
    matte: Option<Arc<Matte>>,
    paid: Arc<InWork>,
}

/// The memory of a photo in work. Given back when the last thing that is made of it is done.
struct InWork {
    _share: Share,
    _present: Present,
}

impl Cut {
    /// What was asked for.
    pub fn picture(&self) -> &Picture {
        &self.picture
    }

    /// What the matte is like; `None` for a cut-out that was made before.
    pub fn quality(&self) -> Option<&Quality> {
        self.quality.as_ref()
    }

    /// The network's matte at its own size, finished, if the order wanted it.
    pub fn take_matte(&mut self) -> Option<Arc<Matte>> {
        self.matte.take()
    }

    fn kept_cutout(&self) -> Result<Arc<Picture>> {
        self.cutout
            .clone()
            .ok_or_else(|| Error::new(Code::Internal, "the cut-out that effects need was not kept"))
    }
}

impl Cutter {
    /// Cuts out one photo and encodes it.
    pub async fn cut_out(&self, order: Order<'_>) -> Result<(Encoded, Spent)> {
        let (output, watch) = (order.output, order.watch);
        let mut spent = Spent::default();
        let cut = self.cut(order, &mut spent).await?;
        watch(Stage::Encode);
        let encoded = self.encode(cut, output, &mut spent).await?;
        Ok((encoded, spent))
    }

    /// Cuts out one photo. Where the time goes, goes to `spent`.
    ///
    /// Memory is taken before the first pixel is decoded, by what the header says, and given
    /// back when the finished file is all that is left. Cancel-safe: a dropped future gives its
    /// memory back as soon as the pixels it was working on are gone.
    pub async fn cut(&self, order: Order<'_>, spent: &mut Spent) -> Result<Cut> {
        let Order {
            file,
            background,
            output,
            effects,
            keep_matte,
            deadline,
            watch,
        } = order;
        let limits = self.limits;
        let header = self.sniff(&file.bytes, spent)?;
        let (format, pixels) = (header.format, header.pixels());
        let (width, height) = header.upright_size();
        let manifest = &self.engine.info().manifest;
        let mut needed = manifest.tensor_bytes()
            + refine::extra_bytes((width, height), &manifest.resize, output)
            + header.decode_bytes()
            + header.keeping_bytes(&Wanted::of(output))
            + compose::extra_bytes(width, height, output)
            + effects_bytes(width, height, output, effects);
        let background = match background {
            Some(file) => {
                let header = decode::sniff(&file.bytes, &limits).map_err(of_background)?;
                needed += header.decode_bytes();
                Some((file, header))
            }
            None => None,
        };

        let waiting = self.metrics.waiting_guard(Stage::Decode);
        let share = self.memory(needed, deadline, spent).await?;

        watch(Stage::Decode);
        let coming = self.engine.announce();
        let manifest = self.engine.info().manifest.clone();
        let held = Arc::clone(&share);
        let wanted = Wanted::of(output);
        let decoding = move || {
            let _held = held;
            let mut kept = decode::decode_keeping(&file.bytes, &header, &limits, &wanted)?;
            crash_point!("photo_decoded");
            drop(file);
            let tensor = kept
                .in_srgb(|photo| preprocess::to_tensor(photo, &manifest.input, &manifest.resize))?;
            Ok((kept, tensor))
        };
        let ((kept, tensor), ran) = self
            .on_pool(Stage::Decode, waiting, spent, decoding)
            .await?;
        spent.add(Stage::Decode, ran.begun, ran.took, || {
            of_photo(format, pixels)
        });

        watch(Stage::Infer);
        let waiting = self.metrics.waiting_guard(Stage::Infer);
        let paid = Box::new(Arc::clone(&share));
        let asked = Instant::now();
        let inference = self.engine.infer(tensor, Box::new(waiting), paid);
        drop(coming);
        let inference = inference
            .await
            .inspect_err(|error| spent.failed(Stage::Infer, asked, asked.elapsed(), error))?;
        crash_point!("matte_inferred");
        let info = self.engine.info();
        spent.add(Stage::Wait, asked, inference.waited, Vec::new);
        let began = asked + inference.waited;
        spent.add(Stage::Infer, began, inference.ran, || {
            vec![
                text(attribute::MODEL, &info.manifest.name),
                text(attribute::PROVIDER, info.provider.as_str()),
                text(attribute::PRECISION, info.precision.as_str()),
                number(attribute::BATCH_SIZE, inference.batch as u64),
            ]
        });
        if let Some(batch) = inference.run_of {
            let network = NetworkLabels {
                model: &info.manifest.name,
                provider: info.provider.as_str(),
                precision: info.precision.as_str(),
            };
            self.metrics.inference(network, batch, inference.ran);
        }

        watch(Stage::Compose);
        let manifest = self.engine.info().manifest.clone();
        let output = output.clone();
        let needs_cutout = !effects.is_empty();
        let held = Arc::clone(&share);
        let kind = output.effective_kind().clone();
        let composing = move || {
            let _held = held;
            let mut matte = inference.matte;
            matte::finish(&mut matte, &manifest.output)?;
            let numbers = quality::measure(&matte);
            let full = FullSize::new(&matte, &kept.photo, manifest.output.resize, &output);
            let alpha = full.bytes();
            let deep = kept.deep.is_some().then(|| full.deep());
            drop(full);
            let background = match background {
                Some((file, header)) => {
                    Some(decode::decode(&file.bytes, &header, &limits).map_err(of_background)?)
                }
                None => None,
            };
            let cutout = if needs_cutout && !serves_as_cutout(&output) {
                let output = as_cutout(&output);
                let photo = kept.clone_in_srgb();
                Some(compose::compose(photo, alpha.clone(), &output, None)?)
            } else {
                None
            };
            let carried = kept.carried.clone();
            let picture = compose::compose_kept(kept, alpha, deep, &output, background.as_ref())?;
            drop::<Option<Photo>>(background);
            crash_point!("picture_composed");
            let matte = keep_matte.then(|| Arc::new(matte));
            Ok((Arc::new(picture), cutout, carried, numbers, matte))
        };
        let waiting = self.metrics.waiting_guard(Stage::Compose);
        let ((picture, cutout, carried, numbers, matte), ran) = self
            .on_pool(Stage::Compose, waiting, spent, composing)
            .await?;
        spent.add(Stage::Compose, ran.begun, ran.took, || {
            vec![text(attribute::KIND, kind.to_string())]
        });
        let quality = self.judge(numbers);
        self.metrics.matte(&quality);
        let cutout = match cutout {
            Some(cutout) => Some(Arc::new(cutout)),
            None => needs_cutout.then(|| Arc::clone(&picture)),
        };
        Ok(Cut {
            picture,
            cutout,
            carried,
            quality: Some(quality),
            matte,
            paid: share,
        })
    }

    /// The picture that was asked for as a file. Memory is given back when it is done.
    pub async fn encode(&self, cut: Cut, output: &Output, spent: &mut Spent) -> Result<Encoded> {
        let output = output.clone();
        let waiting = self.metrics.waiting_guard(Stage::Encode);
        let encoding = move || encode::encode_with(&cut.picture, &output, &cut.carried);
        let (encoded, ran) = self
            .on_pool(Stage::Encode, waiting, spent, encoding)
            .await?;
        spent.add(Stage::Encode, ran.begun, ran.took, || of_file(&encoded));
        Ok(encoded)
    }

    /// The cut-out with an effect, as a file. One at a time: the order's memory pays for one.
    ///
    /// Errors: `internal` when the order named no effects.
    pub async fn effect(
        &self,
        cut: &mut Cut,
        effect: Effect,
        params: &EffectParams,
        output: &Output,
        spent: &mut Spent,
    ) -> Result<Encoded> {
        let cutout = cut.kept_cutout()?;
        let (params, output) = (*params, as_cutout(output));
        let held = Arc::clone(&cut.paid);
        let carried = Carried {
            profile: None,
            ..cut.carried.clone()
        };
        let applying = move || {
            let _held = held;
            let begun = Instant::now();
            let picture = match effect {
                Effect::Color => cutout,
                _ => Arc::new(effects::apply(effect, &params, &cutout)?),
            };
            let applied = begun.elapsed();
            let encoded = encode::encode_with(&picture, &output, &carried)?;
            crash_point!("effect_encoded");
            Ok((encoded, applied))
        };
        let waiting = self.metrics.waiting_guard(Stage::Effects);
        let ((encoded, applied), ran) = self
            .on_pool(Stage::Effects, waiting, spent, applying)
            .await?;
        spent.add(Stage::Effects, ran.begun, applied, || {
            vec![text(attribute::EFFECT, effect.as_str())]
        });
        let encoding = ran.begun + applied;
        spent.add(
            Stage::Encode,
            encoding,
            ran.took.saturating_sub(applied),
            || of_file(&encoded),
        );
        Ok(encoded)
    }

    /// All effects of the cut-out side by side, in tiles of at most `side` pixels, as a PNG.
    ///
    /// Errors: `internal` when the order named no effects.
    pub async fn contact_sheet(&self, cut: &Cut, side: u32) -> Result<Encoded> {
        let cutout = cut.kept_cutout()?;
        let held = Arc::clone(&cut.paid);
        let (encoded, _) = self
            .cpu
            .run(self.metrics.waiting_guard(Stage::Effects), move || {
                let _held = held;
                let params = EffectParams::default();
                let sheet = effects::contact_sheet(&cutout, &params, side)?;
                encode::encode(&sheet, &Output::default())
            })
            .await?;
        Ok(encoded)
    }

    /// Decodes a cut-out that was made before, for effects or another format.
    pub async fn reopen(
        &self,
        file: Charged,
        output: &Output,
        effects: &[Effect],
        deadline: Instant,
        spent: &mut Spent,
    ) -> Result<Cut> {
        let limits = self.limits;
        let header = self.sniff(&file.bytes, spent)?;
        let (format, pixels) = (header.format, header.pixels());
        let (width, height) = header.upright_size();
        let webp = match output.format {
            Format::Png => 0,
            // Its encoder transforms a copy.
            Format::Webp => 4 * pixels,
        };
        let needed = header.decode_bytes() + effects_bytes(width, height, output, effects) + webp;
        let waiting = self.metrics.waiting_guard(Stage::Decode);
        let paid = self.memory(needed, deadline, spent).await?;
        let held = Arc::clone(&paid);
        let decoding = move || {
            let _held = held;
            let photo = decode::decode(&file.bytes, &header, &limits)?;
            drop(file);
            let opaque = vec![u8::MAX; photo.pixels()];
            // Its colours are the subject's own already.
            let output = Output {
                decontaminate: false,
                ..Output::default()
            };
            let picture = compose::compose(photo, opaque, &output, None)?;
            Ok(Arc::new(picture))
        };
        let (picture, ran) = self
            .on_pool(Stage::Decode, waiting, spent, decoding)
            .await?;
        spent.add(Stage::Decode, ran.begun, ran.took, || {
            of_photo(format, pixels)
        });
        Ok(Cut {
            cutout: Some(Arc::clone(&picture)),
            picture,
            carried: Carried::default(),
            quality: None,
            matte: None,
            paid,
        })
    }

    /// What a file says of itself; a file that is refused failed at its decoding.
    fn sniff(&self, file: &Bytes, spent: &mut Spent) -> Result<Header> {
        let begun = Instant::now();
        decode::sniff(file, &self.limits)
            .inspect_err(|error| spent.failed(Stage::Decode, begun, begun.elapsed(), error))
    }

    /// Works on a stage in the pool. The wait for it goes to `spent`, and so does its failure; its
    /// time is the caller's to enter.
    async fn on_pool<T: Send + 'static>(
        &self,
        stage: Stage,
        waiting: impl Send,
        spent: &mut Spent,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<(T, Ran)> {
        let asked = Instant::now();
        let timed = move || {
            let begun = Instant::now();
            let outcome = work();
            let took = begun.elapsed();
            Ok((outcome, Ran { begun, took }))
        };
        let ((outcome, ran), waited) = self
            .cpu
            .run(waiting, timed)
            .await
            .inspect_err(|error| spent.failed(stage, asked, asked.elapsed(), error))?;
        spent.add(Stage::Wait, asked, waited, Vec::new);
        match outcome {
            Ok(outcome) => Ok((outcome, ran)),
            Err(error) => {
                spent.failed(stage, ran.begun, ran.took, &error);
                Err(error)
            }
        }
    }

    /// What the thresholds make of a matte's numbers; those of a cut-out that was made before may have
    /// been judged by others.
    pub fn judge(&self, numbers: Quality) -> Quality {
        match &self.review {
            Some(bounds) => bounds.judge(numbers),
            None => Quality {
                verdict: None,
                reasons: Vec::new(),
                ..numbers
            },
        }
    }

    async fn memory(
        &self,
        needed: u64,
        deadline: Instant,
        spent: &mut Spent,
    ) -> Result<Arc<InWork>> {
        let present = self.presence.enter();
        let asked = Instant::now();
        let share = tokio::time::timeout_at(deadline.into(), self.memory.take(needed))
            .await
            .unwrap_or_else(|_elapsed| {
                Err(Error::new(
                    Code::OutOfBudget,
                    format!(
                        "no {} MiB of memory became free before the job's deadline; it is tried again",
                        needed >> 20
                    ),
                ))
            })
            .inspect_err(|error| spent.failed(Stage::Wait, asked, asked.elapsed(), error))?;
        spent.add(Stage::Wait, asked, asked.elapsed(), Vec::new);
        Ok(Arc::new(InWork {
            _share: share,
            _present: present,
        }))
    }
}

/// When something ran in the pool.
#[derive(Clone, Copy)]
struct Ran {
    begun: Instant,
    took: Duration,
}

/// What a span says of a photo.
fn of_photo(format: SourceFormat, pixels: u64) -> Vec<KeyValue> {
    vec![
        text(attribute::FORMAT, format.as_str()),
        number(attribute::PIXELS, pixels),
    ]
}

/// What a span says of a finished file.
fn of_file(encoded: &Encoded) -> Vec<KeyValue> {
    vec![
        text(attribute::FORMAT, encoded.content_type),
        number(attribute::BYTES, encoded.bytes.len() as u64),
    ]
}

/// The same picture's cut-out: what effects start from, whatever else was asked for. In sRGB and 8 bits,
/// which is what they are defined in, and without a shadow, which they would take for the subject.
fn as_cutout(output: &Output) -> Output {
    Output {
        kind: Kind::Rgba,
        background: None,
        profile: ColourProfile::Srgb,
        depth: Depth::Eight,
        shadow: None,
        ..output.clone()
    }
}

/// Whether the picture itself is what effects start from.
fn serves_as_cutout(output: &Output) -> bool {
    *output.effective_kind() == Kind::Rgba
        && output.profile == ColourProfile::Srgb
        && output.depth == Depth::Eight
        && output.shadow.is_none()
}

/// Whether a PNG of the picture is all that the picture is: what is read of it again as a plain cut-out
/// loses nothing.
pub fn survives_a_png(output: &Output) -> bool {
    serves_as_cutout(output) && output.keep_metadata == KeepMetadata::None
}

/// Memory in bytes for the largest of `effects` and its file, and for a cut-out beside a picture of
/// another kind.
fn effects_bytes(width: u32, height: u32, output: &Output, effects: &[Effect]) -> u64 {
    let (width, height) = compose::largest_size(width, height, output);
    let pixels = u64::from(width) * u64::from(height);
    let working = effects
        .iter()
        .map(|effect| effects::working_bytes(*effect, width, height) + 4 * pixels)
        .max();
    let Some(working) = working else { return 0 };
    if serves_as_cutout(output) {
        working
    } else {
        // The photo and its matte again, and the cut-out made of them.
        working + 8 * pixels
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
