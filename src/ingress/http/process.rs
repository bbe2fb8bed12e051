//! The routes that take a photo and answer with pictures.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::FutureExt;
use serde_json::json;
use tracing::Instrument;
use utoipa::ToSchema;

use super::cache::CacheKey;
use super::context::new_id;
use super::fields::Fields;
use super::json::PictureJson;
use super::look::{self, Look, PictureLook};
use super::progress::{Session, session_id};
use super::refusal::Refusal;
use super::sending;
use super::upload::{self, Upload, UploadLimits};
use super::{Admission, Api, Client, NAME, Service};
use crate::effect::{Effect, EffectParams};
use crate::error::{Code, Error};
use crate::job::{ColourProfile, Depth, Format, Output, Quality, Reason, Verdict};
use crate::pipeline::budget::Share;
use crate::pipeline::compose;
use crate::pipeline::cutout::{self, Charged, Cut, Order};
use crate::pipeline::decode;
use crate::pipeline::encode::Encoded;
use crate::telemetry::attribute::{self, text};
use crate::telemetry::labels::{CacheOutcome, Outcome, Stage};
use crate::telemetry::spent::Spent;
use crate::telemetry::traces::Spans;

/// The form of the photo routes. A raw picture as the body does as well.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is read, for the document")]
pub struct PhotoForm {
    /// The photo: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// `png` (default) or `webp`; both lossless.
    output_format: Option<String>,
    /// 1 to 100; without effect, as both formats are lossless.
    quality: Option<u8>,
    /// Whether a cut-out that was made before may be used; true by default.
    use_cache: Option<bool>,
    /// Whether the old background's colour is taken out of the subject's edge; true by default.
    decontaminate: Option<bool>,
    /// Whether alpha follows the photo's own edges where the network's matte is unsure and much smaller.
    refine: Option<bool>,
    /// Longest side in pixels, or `WxH` as a box to fit into.
    size: Option<String>,
    /// Whether `size` may enlarge too.
    upscale: Option<bool>,
    /// Crop to the subject.
    crop: Option<bool>,
    /// Room around a cropped subject: pixels, or percent of its longer side.
    padding: Option<String>,
    /// Dots per inch, written into the file; 300 by default.
    dpi: Option<u32>,
    /// Makes the mask hard: above this it is the subject, 0 to 1.
    threshold: Option<f32>,
    /// Keep the background and remove the subject.
    reverse: Option<bool>,
    /// What of the photo's EXIF to keep: `none` (default), `copyright`, `exif`, `exif_with_location`.
    keep_metadata: Option<String>,
    /// `remove-background`: `rgba` (default), `mask`, `white`, `green`, `color:#rrggbb`, `blur`, `overlay`.
    kind: Option<String>,
    /// `remove-background`: shorthand for `kind`, `#rrggbb`.
    background: Option<String>,
    /// `remove-background`: a picture to put behind the subject.
    #[schema(value_type = Option<String>, format = Binary)]
    background_file: Option<Vec<u8>>,
    /// `remove-background`: how that is brought to the photo's size, `stretch` (default) or `cover`.
    background_fit: Option<String>,
    /// `remove-background`: `srgb` (default), or `source` for the photo's own RGB profile.
    profile: Option<String>,
    /// `remove-background`: `8` (default), or `source` for 16 bits where the photo has more than 8.
    depth: Option<String>,
    /// `remove-background`: a shadow, `soft` or `x=1%,y=2%,blur=4%,opacity=0.4,color=#000000`.
    shadow: Option<String>,
    /// `process-with-effects`: effects, comma-separated.
    form_effects: Option<String>,
}

/// What `process-with-effects` answers with more than one effect.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is read, for the document")]
pub struct EffectsAnswer {
    /// Whether there is at least one effect.
    success: bool,
    /// The pictures as base64, by effect.
    effects: std::collections::BTreeMap<String, String>,
    /// Seconds.
    processing_time: ProcessingTime,
    cache_info: CacheInfo,
    session_id: String,
    total_effects: usize,
    /// Effects that failed; null when none did.
    failed_effects: Option<Vec<String>>,
    /// Whether one effect was asked for alone.
    progressive_mode: bool,
    /// What the matte is like; null for a cut-out that was kept by an older version.
    quality: Option<QualityAnswer>,
}

/// How sure the network was, and whether somebody should look at the picture. Shares are of the whole
/// picture, 0 to 1.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is read, for the document")]
pub struct QualityAnswer {
    coverage: f64,
    uncertain: f64,
    components: u32,
    border: f64,
    edge_width: f64,
    /// `ok` or `review`; absent where the worker does not judge.
    #[schema(value_type = Option<String>)]
    verdict: Option<Verdict>,
    #[schema(value_type = Vec<String>)]
    reasons: Vec<Reason>,
}

/// Seconds.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is read, for the document")]
pub struct ProcessingTime {
    total: f64,
    background_removal: f64,
    effects_processing: f64,
}

/// What the cache has spared.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is read, for the document")]
pub struct CacheInfo {
    total_cache_hits: u32,
    total_operations: u32,
    hit_rate: f64,
}

/// Remove the background of a photo
///
/// The photo is the part `file` of a form, or the whole body.
#[utoipa::path(
    post,
    path = "/remove-background",
    tag = "photos",
    params(
        Look,
        PictureLook,
        ("session_id" = Option<String>, Query, description = "Tells progress under this id"),
    ),
    request_body(content = PhotoForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The cut-out", content_type = "image/png", body = Vec<u8>,
         headers(("X-Processing-Time" = f64, description = "Seconds"),
                 ("X-Cache-Hits" = u32, description = "1 when the cut-out was there already"),
                 ("X-Cutout-Quality" = String, description = "`ok`, or `review:` and why somebody should look"))),
        (status = 400, description = "Not a photo", body = Refusal),
        (status = 408, description = "The upload came too slowly", body = Refusal),
        (status = 413, description = "Too many bytes or pixels", body = Refusal),
        (status = 415, description = "Neither a form nor a picture", body = Refusal),
        (status = 422, description = "No `file`, or a field that cannot be understood", body = Refusal),
        (status = 429, description = "Too many photos; see Retry-After", body = Refusal),
        (status = 500, description = "A defect", body = Refusal),
        (status = 503, description = "Not ready, or no room; see Retry-After", body = Refusal),
        (status = 504, description = "It took too long", body = Refusal),
    )
)]
pub async fn remove_background(
    State(api): State<Arc<Api>>,
    Client(client): Client,
    request: Request,
) -> Response {
    answer(&api, client, request, Wish::RemoveBackground).await
}

/// Remove the background and apply one effect
#[utoipa::path(
    post,
    path = "/api/v2/process",
    tag = "photos",
    params(
        ("effect" = Option<String>, Query, description = "`enhancedblackwhite` (default), `popart`, `dithering`, `retro8bit`, `color`"),
        ("effect_params" = Option<String>, Query, description = "A JSON object: `contrast`, `grain`, `halation` of `enhancedblackwhite`, 0 to 4, 1 by default"),
        Look,
        ("session_id" = Option<String>, Query, description = "Tells progress under this id; made up when absent"),
    ),
    request_body(content = PhotoForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The picture", content_type = "image/png", body = Vec<u8>,
         headers(("X-Processing-Time" = f64, description = "Seconds"), ("X-Cache-Hits" = u32),
                 ("X-Session-ID" = String), ("X-Effect" = String), ("X-Available-Effects" = String),
                 ("X-Cutout-Quality" = String))),
        (status = 400, description = "Not a photo, an unknown effect, or parameters that are not JSON", body = Refusal),
        (status = 413, body = Refusal), (status = 415, body = Refusal), (status = 422, body = Refusal),
        (status = 429, body = Refusal), (status = 500, body = Refusal), (status = 503, body = Refusal),
        (status = 504, body = Refusal),
    )
)]
pub async fn process(
    State(api): State<Arc<Api>>,
    Client(client): Client,
    request: Request,
) -> Response {
    answer(&api, client, request, Wish::OneEffect).await
}

/// Remove the background and apply several effects
///
/// With `return_all_effects` or `load_single_effect` the answer is JSON with the pictures as base64;
/// without, it is one picture as of `/api/v2/process`. An effect that fails does not fail the others.
#[utoipa::path(
    post,
    path = "/api/v2/process-with-effects",
    tag = "photos",
    params(
        ("effects" = Option<String>, Query, description = "Comma-separated; all by default"),
        ("return_all_effects" = Option<bool>, Query, description = "All of `effects` as JSON"),
        ("load_single_effect" = Option<bool>, Query, description = "`effect` alone as JSON"),
        ("effect" = Option<String>, Query, description = "`enhancedblackwhite` by default"),
        ("effect_params" = Option<String>, Query, description = "A JSON object"),
        Look,
        ("session_id" = Option<String>, Query, description = "Tells progress under this id; made up when absent"),
    ),
    request_body(content = PhotoForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The pictures", body = EffectsAnswer,
         headers(("X-Effects-Count" = u32), ("X-Session-ID" = String), ("X-Cutout-Quality" = String))),
        (status = 400, body = Refusal), (status = 413, body = Refusal), (status = 415, body = Refusal),
        (status = 422, body = Refusal), (status = 429, body = Refusal), (status = 500, body = Refusal),
        (status = 503, body = Refusal), (status = 504, body = Refusal),
    )
)]
pub async fn process_with_effects(
    State(api): State<Arc<Api>>,
    Client(client): Client,
    request: Request,
) -> Response {
    answer(&api, client, request, Wish::Effects).await
}

/// Which route was asked.
#[derive(Clone, Copy)]
enum Wish {
    RemoveBackground,
    OneEffect,
    Effects,
}

/// Why there is no picture.
enum Failure {
    /// The request was not worked on.
    Refused(Refusal),
    /// The pipeline failed.
    Failed(Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

async fn answer(api: &Arc<Api>, client: IpAddr, request: Request, wish: Wish) -> Response {
    let begun = Instant::now();
    let spans = request.extensions().get::<Spans>().cloned();
    let spans = spans.unwrap_or_default();
    let mut spent = Spent::new(spans.clone());
    let ended = guarded(api, client, request, wish, begun, &mut spent).await;
    if let Err(Failure::Failed(error)) = &ended {
        spent.fail(error);
    }
    spent.book(&api.metrics);
    let outcome = |outcome: Outcome| vec![text(attribute::OUTCOME, outcome.as_str())];
    match ended {
        Ok(response) => {
            let took = begun.elapsed();
            spans.set(|| outcome(Outcome::Done));
            api.counts.took(took);
            api.counts.answered.fetch_add(1, Ordering::Relaxed);
            api.metrics.job_finished(Outcome::Done, None, NAME, took);
            tracing::info!(seconds = took.as_secs_f64(), "photo answered");
            response
        }
        Err(Failure::Refused(refusal)) => {
            api.counts.refused.fetch_add(1, Ordering::Relaxed);
            spans.set(|| vec![text(attribute::CODE, refusal.code())]);
            tracing::info!(
                status = refusal.status().as_u16(),
                code = refusal.code(),
                detail = refusal.detail(),
                "request refused"
            );
            refusal.into_response()
        }
        Err(Failure::Failed(error)) => {
            api.counts.refused.fetch_add(1, Ordering::Relaxed);
            let ended = Outcome::from(&error);
            api.metrics
                .job_finished(ended, Some(error.code()), NAME, begun.elapsed());
            spans.set(|| outcome(ended));
            let refusal = Refusal::from(&error);
            if refusal.status().is_server_error() {
                spans.fail(&error);
            } else {
                // By OpenTelemetry's conventions what the client did wrong is no error of the server's span.
                spans.set(|| vec![text(attribute::CODE, error.code().as_str())]);
            }
            tracing::warn!(code = %error.code(), class = %error.class(), error = error.chain(), "photo failed");
            refusal.into_response()
        }
    }
}

/// What is decided before anything of the photo is read: place, fields of the query, session.
fn entry(
    api: &Api,
    client: IpAddr,
    request: &Request,
) -> Result<(Arc<Service>, Admission, Fields, String), Refusal> {
    let fields = Fields::of_query(request.uri())?;
    let id = match fields.text("session_id") {
        Some(id) => session_id(id)?.to_owned(),
        None => new_id(),
    };
    let (service, admission) = api.admit(client)?;
    Ok((service, admission, fields, id))
}

/// Within its time, until the drain waits no longer, panics included.
async fn guarded(
    api: &Arc<Api>,
    client: IpAddr,
    request: Request,
    wish: Wish,
    begun: Instant,
    spent: &mut Spent,
) -> Result<Response, Failure> {
    let (service, admission, fields, id) = match entry(api, client, &request) {
        Ok(entry) => entry,
        Err(refusal) => {
            upload::discard(request).await;
            return Err(refusal.into());
        }
    };
    let session = api.sessions.join(&id);
    let mut told = Told {
        session: &session,
        ended: false,
    };
    let deadline = begun + service.timeout;
    let timeout = service.timeout;
    let work = Work {
        api,
        service,
        session: &session,
        id,
        begun,
        deadline,
        hits: 0,
        spent,
    };
    let work = AssertUnwindSafe(work.perform(request, fields, wish, admission)).catch_unwind();
    let ended = tokio::select! {
        biased;
        ended = tokio::time::timeout_at(deadline.into(), work) => match ended {
            Ok(ended) => ended.unwrap_or_else(|panic| Err(Error::of_panic(panic.as_ref()).into())),
            Err(_) => Err(Failure::Failed(Error::new(
                Code::DeadlineExceeded,
                format!("the photo took longer than {}; send it again", humantime::format_duration(timeout)),
            ))),
        },
        () = api.give_up.cancelled() => Err(Failure::Failed(Error::new(
            Code::Draining,
            "this worker shuts down; send it again",
        ))),
    };
    told.ended = true;
    match &ended {
        Ok(_) => session.done(),
        Err(Failure::Refused(refusal)) => session.failed(refusal.detail()),
        Err(Failure::Failed(error)) => session.failed(error.message()),
    }
    ended
}

/// Tells listeners of a request whose client went away.
struct Told<'a> {
    session: &'a Session,
    ended: bool,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.session.failed("the request was given up");
        }
    }
}

/// One photo on its way.
struct Work<'a> {
    api: &'a Arc<Api>,
    service: Arc<Service>,
    session: &'a Session,
    id: String,
    begun: Instant,
    deadline: Instant,
    /// Cut-outs that were there already.
    hits: u32,
    spent: &'a mut Spent,
}

/// A cut-out: as a PNG, as pixels, or both.
struct CutOut {
    png: Option<Encoded>,
    cut: Option<Cut>,
    quality: Option<Quality>,
}

/// A cut-out as it is kept for others.
#[derive(Clone)]
pub struct Kept {
    png: Encoded,
    /// Not judged yet: who kept it may have had other thresholds.
    quality: Option<Quality>,
}

/// What a request asks for in pictures.
struct Wanted {
    /// None for the picture itself.
    effects: Vec<Effect>,
    params: EffectParams,
    output: Output,
    use_cache: bool,
}

impl Wanted {
    /// Those of the effects that need the cut-out's pixels: all but the cut-out itself as PNG.
    fn worked(&self) -> Vec<Effect> {
        let plain = |effect: &Effect| *effect == Effect::Color && self.output.format == Format::Png;
        self.effects
            .iter()
            .filter(|effect| !plain(effect))
            .copied()
            .collect()
    }

    /// Whether the answer needs more than the kept PNG.
    fn needs_pixels(&self) -> bool {
        !self.worked().is_empty() || self.is_picture() && self.output.format != Format::Png
    }

    /// Whether the picture itself is asked for.
    fn is_picture(&self) -> bool {
        self.effects.is_empty()
    }

    /// Whether what is kept can be the answer, or the answer be made of it.
    fn can_be_kept(&self) -> bool {
        !self.needs_pixels() || cutout::survives_a_png(&self.output)
    }

    /// What is kept is a PNG, whatever is answered.
    fn kept_look(&self) -> Output {
        Output {
            format: Format::Png,
            ..self.output.clone()
        }
    }

    /// Memory in bytes for the pictures of a photo and for the PNG that they are made from. One that
    /// does not compress at all is a little larger than its pixels; none of an effect's is.
    fn answer_bytes(&self, width: u32, height: u32) -> u64 {
        let (width, height) = compose::largest_size(width, height, &self.output);
        let pixels = u64::from(width) * u64::from(height);
        let each = match self.output.depth {
            Depth::Eight => 4 * pixels,
            Depth::Source => 8 * pixels,
        };
        let beside = match self.output.profile {
            ColourProfile::Srgb => 128 << 10,
            ColourProfile::Source => 5 << 20,
        };
        (1 + self.effects.len().max(1) as u64) * (each + beside)
    }
}

/// What an answer holds on to while it is being sent.
struct Held {
    _paid: Share,
    _admission: Admission,
}

impl Work<'_> {
    async fn perform(
        mut self,
        request: Request,
        fields: Fields,
        wish: Wish,
        admission: Admission,
    ) -> Result<Response, Failure> {
        self.session.receiving();
        let limits = UploadLimits {
            file_bytes: self.service.max_file_bytes,
            memory: &self.service.uploads,
            deadline: self.deadline.into(),
            pause: self.api.settings.upload_pause,
        };
        let Upload {
            file,
            background,
            fields,
        } = Upload::read(request, fields, &limits).await?;
        let _in_flight = self.api.metrics.in_flight_guard(NAME);
        self.api.metrics.bytes_in(file.bytes.len() as u64);
        let several = matches!(wish, Wish::Effects);
        let all = several && fields.flag("return_all_effects", false)?;
        let single = fields.flag("load_single_effect", false)?;
        let json = several && (all || single);
        let wanted = Wanted {
            effects: match wish {
                Wish::RemoveBackground => Vec::new(),
                Wish::Effects if json && !single => fields.effects()?,
                Wish::OneEffect | Wish::Effects => vec![fields.effect()?],
            },
            params: fields.params()?,
            output: fields.output(background.is_some())?,
            // Of two files no key is made.
            use_cache: fields.flag("use_cache", true)? && background.is_none(),
        };
        if !wanted.is_picture() {
            look::check_of_effects(&wanted.output)?;
        }
        let paid = self.answer_memory(&file, &wanted).await?;
        let cut_out = self.cut_out(file, background, &wanted).await?;
        if json {
            return self.json(cut_out, &wanted, single, paid, admission).await;
        }
        let effect = wanted.effects.first().copied();
        let mut cut_out = cut_out;
        let picture = match effect {
            Some(effect) => self.effect(&mut cut_out, effect, &wanted).await?,
            None => self.picture(&mut cut_out, &wanted).await?,
        };
        let quality = cut_out.quality.take();
        drop(cut_out);
        let mut response = self.image(picture, paid, admission);
        self.finish(&mut response, quality.as_ref());
        if let Some(effect) = effect {
            set(&mut response, "x-session-id", &self.id);
            set(&mut response, "x-effect", effect.as_str());
            set(&mut response, "x-available-effects", &available());
        }
        Ok(response)
    }

    /// Takes memory for the answer before the work begins: a request that waited for it with pixels in
    /// its hands would wait for others that wait for pixels.
    async fn answer_memory(&self, file: &Charged, wanted: &Wanted) -> Result<Share, Failure> {
        let header = decode::sniff(&file.bytes, &self.service.cutter.limits)?;
        let (width, height) = header.upright_size();
        let answers = &self.service.answers;
        let bytes = wanted.answer_bytes(width, height).min(answers.total());
        let paid = tokio::time::timeout_at(self.deadline.into(), answers.take(bytes))
            .await
            .map_err(|_| {
                Error::new(
                    Code::OutOfBudget,
                    "no memory for the answer became free in time; send the photo again later",
                )
            })??;
        Ok(paid)
    }

    /// The photo's cut-out: from the cache, from another request that makes it just now, or made.
    async fn cut_out(
        &mut self,
        file: Charged,
        background: Option<Charged>,
        wanted: &Wanted,
    ) -> Result<CutOut, Failure> {
        let service = Arc::clone(&self.service);
        let worked = wanted.worked();
        let use_cache = wanted.use_cache && wanted.can_be_kept();
        let Some(cache) = service.cache.as_ref().filter(|_| use_cache) else {
            let cut = self.cut(file, background, wanted, &worked).await?;
            return Ok(CutOut {
                png: None,
                quality: cut.quality().cloned(),
                cut: Some(cut),
            });
        };

        let (of, network) = (file.bytes.clone(), service.cutter.engine.info().clone());
        let look = wanted.kept_look();
        // 50 MB take a tenth of a second.
        let key = tokio::task::spawn_blocking(move || CacheKey::of(&of, &look, &network))
            .await
            .map_err(|error| {
                Error::new(Code::Internal, "the photo cannot be hashed").caused_by(error)
            })?;
        let again = Charged {
            bytes: file.bytes.clone(),
            paid: file.paid.clone(),
        };
        let api = Arc::clone(self.api);
        let flight = api.flights.join(key.clone());
        // Stays `Shared` when another request fills the flight.
        let (mut found, mut cut) = (CacheOutcome::Shared, None);
        let kept = flight
            .get_or_try_init(|| async {
                match in_time(cache.get(&key)).await {
                    Ok(Some((bytes, quality))) => {
                        found = CacheOutcome::Hit;
                        let png = kept_png(bytes);
                        return Ok(Kept { png, quality });
                    }
                    Ok(None) => found = CacheOutcome::Miss,
                    // The photo can be cut out without.
                    Err(error) => {
                        found = CacheOutcome::Failed;
                        tracing::warn!(code = %error.code(), error = error.chain(), "the cache cannot be read");
                    }
                }
                let made = self.cut(file, None, wanted, &worked).await?;
                self.session.stage(Stage::Encode);
                let png = self.png(&made, wanted).await?;
                let quality = made.quality().cloned();
                cut = Some(made);
                let kept = Kept { png, quality };
                keep(&api, &service, key.clone(), kept.clone());
                Ok::<_, Failure>(kept)
            })
            .await?
            .clone();
        api.metrics.cache(found);
        if matches!(found, CacheOutcome::Hit | CacheOutcome::Shared) {
            self.hits += 1;
            api.counts.cache_hits.fetch_add(1, Ordering::Relaxed);
        } else {
            api.counts.cache_misses.fetch_add(1, Ordering::Relaxed);
        }
        if cut.is_none() && wanted.needs_pixels() {
            cut = Some(self.reopened(&kept.png, again, wanted, &worked).await?);
        }
        Ok(CutOut {
            png: Some(kept.png),
            cut,
            quality: kept.quality.map(|numbers| service.cutter.judge(numbers)),
        })
    }

    /// Runs the photo through the pipeline.
    async fn cut(
        &mut self,
        file: Charged,
        background: Option<Charged>,
        wanted: &Wanted,
        effects: &[Effect],
    ) -> Result<Cut, Failure> {
        let session = self.session;
        let watch = |stage| session.stage(stage);
        let order = Order {
            background,
            effects,
            watch: &watch,
            ..Order::new(file, &wanted.output, self.deadline)
        };
        Ok(self.service.cutter.cut(order, self.spent).await?)
    }

    /// The picture as it is kept, and as it is answered where nothing else is asked for.
    async fn png(&mut self, cut: &Cut, wanted: &Wanted) -> Result<Encoded, Failure> {
        let cutter = &self.service.cutter;
        Ok(cutter
            .encode(cut.clone(), &wanted.kept_look(), self.spent)
            .await?)
    }

    /// The picture itself in the format that was asked for.
    async fn picture(&mut self, cut_out: &mut CutOut, wanted: &Wanted) -> Result<Encoded, Failure> {
        if let (Some(png), Format::Png) = (&cut_out.png, wanted.output.format) {
            return Ok(png.clone());
        }
        let cut = cut_out
            .cut
            .take()
            .ok_or_else(|| Error::new(Code::Internal, "the cut-out was not kept"))?;
        self.session.stage(Stage::Encode);
        let cutter = &self.service.cutter;
        Ok(cutter.encode(cut, &wanted.output, self.spent).await?)
    }

    /// The pixels of a cut-out that was made before. They may take more memory than the photo did;
    /// where that is more than there is, the photo is cut out once more.
    async fn reopened(
        &mut self,
        png: &Encoded,
        photo: Charged,
        wanted: &Wanted,
        worked: &[Effect],
    ) -> Result<Cut, Failure> {
        let file = Charged {
            bytes: png.bytes.clone(),
            paid: None,
        };
        let cutter = self.service.cutter.clone();
        let opened = cutter
            .reopen(file, &wanted.output, worked, self.deadline, self.spent)
            .await;
        match opened {
            Err(error) if matches!(error.code(), Code::ImageTooLarge | Code::ImageCorrupt) => {
                tracing::warn!(code = %error.code(), error = error.chain(), "a kept cut-out cannot be used");
                self.cut(photo, None, wanted, worked).await
            }
            opened => Ok(opened?),
        }
    }

    /// The cut-out with an effect in the format that was asked for. A plain PNG costs nothing more
    /// where there is one.
    async fn effect(
        &mut self,
        cut_out: &mut CutOut,
        effect: Effect,
        wanted: &Wanted,
    ) -> Result<Encoded, Failure> {
        if effect == Effect::Color && wanted.output.format == Format::Png {
            if let Some(png) = &cut_out.png {
                return Ok(png.clone());
            }
            if let Some(cut) = &cut_out.cut {
                let png = self.png(cut, wanted).await?;
                return Ok(cut_out.png.insert(png).clone());
            }
        }
        let cut = cut_out
            .cut
            .as_mut()
            .ok_or_else(|| Error::new(Code::Internal, "the cut-out was not kept"))?;
        let cutter = &self.service.cutter;
        Ok(cutter
            .effect(cut, effect, &wanted.params, &wanted.output, self.spent)
            .await?)
    }

    async fn json(
        &mut self,
        mut cut_out: CutOut,
        wanted: &Wanted,
        progressive: bool,
        mut paid: Share,
        admission: Admission,
    ) -> Result<Response, Failure> {
        let removed = self.begun.elapsed();
        let count = wanted.effects.len();
        let (mut made, mut failed, mut first) = (Vec::new(), Vec::new(), None);
        for (i, &effect) in wanted.effects.iter().enumerate() {
            self.session.effect(effect.as_str(), i, count);
            match self.effect(&mut cut_out, effect, wanted).await {
                Ok(picture) => made.push((effect.as_str(), picture)),
                Err(Failure::Failed(error)) => {
                    tracing::warn!(%effect, code = %error.code(), error = error.chain(), "an effect failed");
                    self.api.metrics.effect_failed(effect);
                    failed.push(effect.as_str());
                    first.get_or_insert(error);
                }
                Err(refused) => return Err(refused),
            }
        }
        let quality = cut_out.quality.take();
        drop(cut_out);
        if let (true, Some(error)) = (made.is_empty(), first) {
            return Err(error.into());
        }
        let total = self.begun.elapsed();
        let seconds = |time: Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;

        let mut body = PictureJson::default();
        let mut bytes = 0;
        body.text("{\"success\":true,\"effects\":{");
        for (i, (name, picture)) in made.iter().enumerate() {
            body.text(format!("{}\"{name}\":", if i == 0 { "" } else { "," }));
            body.picture(picture.bytes.clone());
            bytes += picture.bytes.len() as u64;
        }
        self.api.metrics.bytes_out(bytes);
        paid.shrink(bytes);
        let rest = json!({
            "processing_time": {
                "total": seconds(total),
                "background_removal": seconds(removed),
                "effects_processing": seconds(total.saturating_sub(removed)),
            },
            "cache_info": {
                "total_cache_hits": self.hits,
                "total_operations": 1 + count,
                "hit_rate": f64::from(self.hits) / (1 + count) as f64,
            },
            "session_id": self.id,
            "total_effects": made.len(),
            "failed_effects": if failed.is_empty() { None } else { Some(failed) },
            "progressive_mode": progressive,
            "quality": quality,
        });
        // Its braces go: what is before is part of the same object.
        body.text(format!("}},{}", &rest.to_string()[1..]));
        let mut response = Response::new(self.sent(body.pieces(), paid, admission));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        self.finish(&mut response, quality.as_ref());
        set(&mut response, "x-session-id", &self.id);
        set(&mut response, "x-effects-count", &made.len().to_string());
        set(&mut response, "x-available-effects", &available());
        let no_cache = HeaderValue::from_static("no-cache");
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, no_cache);
        Ok(response)
    }

    fn image(&self, picture: Encoded, mut paid: Share, admission: Admission) -> Response {
        let bytes = picture.bytes.len() as u64;
        self.api.metrics.bytes_out(bytes);
        paid.shrink(bytes);
        let body = self.sent(sending::pieces(picture.bytes), paid, admission);
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(picture.content_type),
        );
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
        response
    }

    /// A client may take as long for its answer as the photo may take to be made.
    fn sent(
        &self,
        pieces: impl Iterator<Item = Bytes> + Send + 'static,
        paid: Share,
        admission: Admission,
    ) -> Body {
        let held = Held {
            _paid: paid,
            _admission: admission,
        };
        sending::body(pieces, held, Instant::now() + self.service.timeout)
    }

    /// Tells how much time it was, and what the matte is like.
    fn finish(&self, response: &mut Response, quality: Option<&Quality>) {
        let seconds = format!("{:.3}", self.begun.elapsed().as_secs_f64());
        set(response, "x-processing-time", &seconds);
        set(response, "x-cache-hits", &self.hits.to_string());
        if let Some(quality) = quality {
            set(response, "x-cutout-quality", &quality.to_string());
        }
    }
}

/// A look into the cache must not take longer than what it is to spare.
async fn in_time<T>(look: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    const PATIENCE: Duration = Duration::from_secs(5);
    tokio::time::timeout(PATIENCE, look)
        .await
        .unwrap_or_else(|_| {
            Err(Error::new(
                Code::StorageUnavailable,
                "the cache did not answer in 5 s",
            ))
        })
}

/// Longest time that a cut-out is held for the cache, beside every budget.
const KEEPING: Duration = Duration::from_secs(20);

/// Puts a cut-out into the cache while the answer is on its way.
fn keep(api: &Arc<Api>, service: &Arc<Service>, key: CacheKey, kept: Kept) {
    let (service, metrics) = (Arc::clone(service), api.metrics.clone());
    let Ok(keeper) = Arc::clone(&api.keepers).try_acquire_owned() else {
        metrics.cache(CacheOutcome::NotKept);
        tracing::debug!("a cut-out is not kept: the store is slow");
        return;
    };
    let (under_way, give_up) = (api.requests.token(), api.give_up.clone());
    let task = async move {
        let (_keeper, _under_way) = (keeper, under_way);
        let Some(cache) = &service.cache else { return };
        // Nothing waits for it for long, a drain least of all.
        let put = tokio::time::timeout(
            KEEPING,
            cache.put(&key, kept.png.bytes, kept.quality.as_ref()),
        );
        let put = tokio::select! {
            put = put => put,
            () = give_up.cancelled() => return,
        };
        let put = put.unwrap_or_else(|_| {
            let why = "the store did not take a cut-out in time";
            Err(Error::new(Code::StorageUnavailable, why))
        });
        if let Err(error) = put {
            metrics.cache(CacheOutcome::NotKept);
            tracing::warn!(code = %error.code(), error = error.chain(), "a cut-out could not be kept");
        }
    };
    tokio::spawn(task.in_current_span());
}

/// A PNG from the cache. Its size is not told to anybody.
fn kept_png(bytes: Bytes) -> Encoded {
    Encoded {
        bytes,
        content_type: Format::Png.content_type(),
        width: 0,
        height: 0,
    }
}

fn available() -> String {
    Effect::ALL.map(Effect::as_str).join(",")
}

fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}
