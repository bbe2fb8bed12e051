//! The public message types: a job, its options and its result (CONTRACT sections 1 and 3).
//!
//! The JSON Schemas in `schemas/` are generated from these types; a test keeps them equal.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::effect::Effect;
use crate::error::{Code, Error, Result};
use crate::object::{Generation, ObjectName, ObjectRef};

mod look;
mod quality;

pub use look::{ColourProfile, Depth, KeepMetadata, Length, Shadow};
pub use quality::{Quality, Reason, Verdict};

/// The version of the message format that this build speaks.
pub const VERSION: u32 = 1;

/// Metadata key of every object the worker writes: the key of the job that wrote it. Storage
/// notifications about objects that carry it are skipped, so no output becomes a job.
pub const MARKER: &str = "cutout-job";

/// Metadata keys that start with this are the worker's own.
const OWN_METADATA: &str = "cutout-";

/// Largest `metadata`, as the JSON bytes of the object: it is copied into object metadata,
/// which Cloud Storage limits to 8 KiB together with our own marker.
const MAX_METADATA_BYTES: usize = 4 * 1024;

/// Longest `job_id`: it is an ordering key, which Pub/Sub limits to 1 KiB.
const MAX_JOB_ID_BYTES: usize = 1024;

/// A job as the storefront publishes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Message format; 1.
    #[serde(default = "version")]
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The publisher's name for the job; derived from source, generation and options when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub job_id: Option<String>,
    /// The photo.
    pub source: ObjectRef,
    /// Where the cut-out goes; from the configured template when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<ObjectName>,
    /// Whether a destination that holds something else may be replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
    /// What the cut-out looks like.
    #[serde(default)]
    pub output: Output,
    /// Effects to write beside the cut-out, as `{stem}.{effect}.png` (or `.webp`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// The network; the worker's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Copied into the result and the object's metadata; at most 4 KiB.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

const fn version() -> u32 {
    VERSION
}

/// What the output looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Output {
    /// File format.
    pub format: Format,
    /// What is written: the cut-out, its mask, or the subject on a new background.
    pub kind: Kind,
    /// Shorthand for `kind`: `#rrggbb` or `image:gs://…`. Only one of the two may be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Kind>,
    /// Longest side in pixels, or `WxH` as a box to fit into; never enlarges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Whether `size` may also enlarge.
    pub upscale: bool,
    /// Crop to the subject's bounding box.
    pub crop: bool,
    /// Room left around the subject when cropping: pixels, or percent of the box's longer side.
    pub padding: Padding,
    /// Written into the file (PNG `pHYs`), in dots per inch.
    #[schemars(range(min = 1, max = 10000))]
    pub dpi: u32,
    // The following are left out of the JSON where they say nothing: the keys of jobs that do not
    // use them must stay what they were.
    /// Makes the mask hard: what is above this is the subject, the rest is not; 0 to 1. The mask
    /// is soft when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// Keep the background and remove the subject.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reverse: bool,
    /// How an `image:` background is brought to the photo's size.
    #[serde(skip_serializing_if = "Fit::is_default")]
    pub background_fit: Fit,
    /// Take the old background's colour out of the subject's edge, where the photo shows both
    /// mixed. Has no effect with a `threshold`, nor on `mask` and `overlay`.
    // On by default, unlike the above: see `identity`.
    #[serde(skip_serializing_if = "Clone::clone")]
    #[schemars(extend("default" = true))]
    pub decontaminate: bool,
    /// Let alpha follow the photo's own edges where the network's matte is unsure and much smaller than the photo.
    /// Photos with transparency of their own are left as they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refine: bool,
    /// `srgb`, or `source` for the photo's own RGB profile. The file says which.
    #[serde(skip_serializing_if = "ColourProfile::is_default")]
    pub profile: ColourProfile,
    /// 8, or `source` for 16 bits where the photo has 16: PNG with `rgba`, `mask` or a plain colour.
    #[serde(skip_serializing_if = "Depth::is_default")]
    pub depth: Depth,
    /// What of the photo's EXIF goes into the file; where it was taken only if asked for.
    #[serde(skip_serializing_if = "KeepMetadata::is_default")]
    pub keep_metadata: KeepMetadata,
    /// A shadow under the subject, in the picture's own size: `crop` with `padding` leaves room for it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "look::shadow"
    )]
    pub shadow: Option<Shadow>,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            format: Format::Png,
            kind: Kind::Rgba,
            background: None,
            size: None,
            upscale: false,
            crop: false,
            padding: Padding::Pixels(0),
            dpi: 300,
            threshold: None,
            reverse: false,
            background_fit: Fit::Stretch,
            decontaminate: true,
            refine: false,
            profile: ColourProfile::Srgb,
            depth: Depth::Eight,
            keep_metadata: KeepMetadata::None,
            shadow: None,
        }
    }
}

impl Output {
    /// Refuses what contradicts itself, or what no file can hold.
    ///
    /// Errors: `invalid_job`.
    pub fn check(&self) -> Result<()> {
        if self.background.is_some() && self.kind != Kind::Rgba {
            return Err(invalid(
                "output.kind and output.background both say what is behind the subject: give one"
                    .into(),
            ));
        }
        if !(1..=10_000).contains(&self.dpi) {
            return Err(invalid(format!(
                "output.dpi {} is outside 1 to 10000",
                self.dpi
            )));
        }
        let kind = self.effective_kind();
        if self.depth == Depth::Source {
            if self.format == Format::Webp {
                return Err(invalid(
                    "a WebP has 8 bits a sample: ask for output.format png, or leave output.depth out"
                        .into(),
                ));
            }
            if matches!(kind, Kind::Blur | Kind::Overlay | Kind::Image(_)) {
                return Err(invalid(format!(
                    "{kind} is not made with 16 bits: leave output.depth out, or ask for rgba, mask or a plain colour"
                )));
            }
        }
        if self.shadow.is_some() && matches!(kind, Kind::Mask | Kind::Overlay) {
            return Err(invalid(format!(
                "a shadow has no place on {kind}: leave output.shadow out, or ask for another kind"
            )));
        }
        Ok(())
    }

    /// The kind after `background` has been taken into account.
    pub fn effective_kind(&self) -> &Kind {
        self.background.as_ref().unwrap_or(&self.kind)
    }

    /// Whether a picture of this kind has the old background's colour taken out. A hard mask leaves
    /// nothing that is mixed; `mask` has no colour, and `overlay` shows the photo itself.
    pub const fn decontaminates(&self, kind: &Kind) -> bool {
        self.decontaminate
            && self.threshold.is_none()
            && !matches!(kind, Kind::Mask | Kind::Overlay)
    }

    /// What decides the pixels, for keys under which pictures are found again. `effects` says
    /// whether cut-outs with effects are among them.
    ///
    /// Pictures that were made before there was `decontaminate` are those without it, so here it is
    /// the `true` that is said and the `false` that is left out.
    pub fn identity(&self, effects: bool) -> serde_json::Value {
        let plain = Self {
            decontaminate: true,
            ..self.clone()
        };
        let mut identity = serde_json::json!(plain);
        if self.decontaminates(self.effective_kind())
            || (effects && self.decontaminates(&Kind::Rgba))
        {
            identity["decontaminate"] = true.into();
        }
        identity
    }
}

/// Output file format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// PNG with straight alpha.
    #[default]
    Png,
    /// WebP, lossless.
    Webp,
}

impl Format {
    /// File name extension, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    /// MIME type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }
}

/// What is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The subject with the matte as straight alpha.
    #[default]
    Rgba,
    /// The matte alone, as grey.
    Mask,
    /// The subject on white.
    White,
    /// The subject on the green of chroma keying, rgb(120, 255, 155).
    Green,
    /// The subject on a plain colour.
    Color([u8; 3]),
    /// The subject on its own background, blurred.
    Blur,
    /// The photo with the subject tinted green and its edge drawn.
    Overlay,
    /// The subject on another picture, brought to the photo's size by `background_fit`.
    Image(ObjectRef),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rgba => f.write_str("rgba"),
            Self::Mask => f.write_str("mask"),
            Self::White => f.write_str("white"),
            Self::Green => f.write_str("green"),
            Self::Color([r, g, b]) => write!(f, "color:#{r:02x}{g:02x}{b:02x}"),
            Self::Blur => f.write_str("blur"),
            Self::Overlay => f.write_str("overlay"),
            Self::Image(object) => write!(f, "image:{object}"),
        }
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "rgba" => Self::Rgba,
            "mask" => Self::Mask,
            "white" => Self::White,
            "green" => Self::Green,
            "blur" => Self::Blur,
            "overlay" => Self::Overlay,
            _ => {
                if let Some(object) = text.strip_prefix("image:") {
                    return Ok(Self::Image(object.parse()?));
                }
                if let Some(colour) = parse_colour(text.strip_prefix("color:").unwrap_or(text)) {
                    return Ok(Self::Color(colour));
                }
                return Err(invalid(format!(
                    "{text:?} is not an output kind: use rgba, mask, white, green, color:#rrggbb, blur, overlay or image:gs://bucket/object"
                )));
            }
        })
    }
}

fn parse_colour(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#')?;
    let mut colour = [0; 3];
    hex::decode_to_slice(digits, &mut colour).ok()?;
    Some(colour)
}

/// How large the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The longer side, in pixels.
    Longest(u32),
    /// A box to fit into, in pixels; the aspect is kept.
    Within(u32, u32),
}

impl Size {
    /// Larger outputs are refused: an enlarged picture is not bounded by the photo's header.
    const MAX_SIDE: u32 = 16_384;

    fn checked(self) -> Result<Self> {
        let (w, h) = match self {
            Self::Longest(side) => (side, side),
            Self::Within(w, h) => (w, h),
        };
        if (1..=Self::MAX_SIDE).contains(&w) && (1..=Self::MAX_SIDE).contains(&h) {
            return Ok(self);
        }
        Err(invalid(format!(
            "the output size {self} is outside 1 to {} pixels",
            Self::MAX_SIDE
        )))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Longest(side) => side.fmt(f),
            Self::Within(w, h) => write!(f, "{w}x{h}"),
        }
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |digits: &str| {
            digits.parse::<u32>().map_err(|_| {
                invalid(format!(
                    "{text:?} is not a size: write the longest side in pixels (1200), or WxH (1200x800)"
                ))
            })
        };
        match text.split_once('x') {
            Some((w, h)) => Self::Within(number(w)?, number(h)?),
            None => Self::Longest(number(text)?),
        }
        .checked()
    }
}

/// Room around a cropped subject.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Padding {
    /// Pixels of the photo.
    Pixels(u32),
    /// Percent of the longer side of the subject's box, 0 to 100.
    Percent(f32),
}

impl Default for Padding {
    fn default() -> Self {
        Self::Pixels(0)
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels(pixels) => pixels.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Padding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let error = || {
            invalid(format!(
                "{text:?} is not a padding: write pixels (40, at most {}) or percent (5%, at most 100%)",
                Size::MAX_SIDE
            ))
        };
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f32 = percent.trim().parse().map_err(|_| error())?;
                if !(0.0..=100.0).contains(&percent) {
                    return Err(error());
                }
                Ok(Self::Percent(percent))
            }
            None => {
                let pixels = text.parse().map_err(|_| error())?;
                if pixels > Size::MAX_SIDE {
                    return Err(error());
                }
                Ok(Self::Pixels(pixels))
            }
        }
    }
}

/// A mask's value above which a pixel is the subject: 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct Threshold(f32);

impl Threshold {
    /// Errors: `invalid_job` for a number outside 0 to 1, and for what is not a number.
    pub fn new(value: f32) -> Result<Self> {
        // `contains` is false for NaN too.
        if (0.0..=1.0).contains(&value) {
            return Ok(Self(value));
        }
        Err(invalid(format!(
            "the threshold {value} is outside 0 to 1: write 0.5 for the middle of the mask"
        )))
    }

    /// The number, 0 to 1.
    pub const fn get(self) -> f32 {
        self.0
    }
}

impl TryFrom<f32> for Threshold {
    type Error = Error;

    fn try_from(value: f32) -> Result<Self> {
        Self::new(value)
    }
}

impl From<Threshold> for f32 {
    fn from(threshold: Threshold) -> Self {
        threshold.0
    }
}

impl FromStr for Threshold {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let value = text.parse().map_err(|_| {
            invalid(format!(
                "{text:?} is not a threshold: write a number from 0 to 1"
            ))
        })?;
        Self::new(value)
    }
}

impl JsonSchema for Threshold {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// How a background picture is brought to the photo's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Each side scaled by itself, as transparent-background does.
    #[default]
    Stretch,
    /// Its aspect kept, what hangs over cut off evenly.
    Cover,
}

impl Fit {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for Fit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "stretch" => Ok(Self::Stretch),
            "cover" => Ok(Self::Cover),
            _ => Err(invalid(format!(
                "{text:?} is not a background fit: use stretch or cover"
            ))),
        }
    }
}

/// (De)serialises a value that is a number or a string in JSON through its text form.
macro_rules! number_or_text {
    ($($name:ident: $schema:tt),+ $(,)?) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = self.to_string();
                match text.parse::<i64>() {
                    Ok(number) => serializer.serialize_i64(number),
                    Err(_) => serializer.serialize_str(&text),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Raw { Number(i64), Text(String) }
                let text = match Raw::deserialize(deserializer)
                    .map_err(|_| serde::de::Error::custom(concat!(stringify!($name), " is neither a whole number nor text")))?
                {
                    Raw::Number(number) => number.to_string(),
                    Raw::Text(text) => text,
                };
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    )+};
}

number_or_text!(
    Kind: { "type": "string", "pattern": "^(rgba|mask|white|green|blur|overlay|(color:)?#[0-9a-fA-F]{6}|image:.+)$" },
    Size: {
        "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 16384 },
            { "type": "string", "pattern": "^[0-9]+(x[0-9]+)?$" }
        ]
    },
    Padding: {
        "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": 16384 },
            { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?%?$" }
        ]
    },
    Depth: { "enum": [8, "source"] },
    Length: {
        "anyOf": [
            { "type": "integer", "minimum": -16384, "maximum": 16384 },
            { "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?%?$" }
        ]
    },
);

impl Job {
    /// A job with default options.
    pub fn new(source: ObjectRef) -> Self {
        Self {
            version: VERSION,
            job_id: None,
            source,
            destination: None,
            overwrite: None,
            output: Output::default(),
            effects: Vec::new(),
            model: None,
            metadata: BTreeMap::new(),
        }
    }

    /// Parses and checks a job message. Unknown fields are logged and ignored, so that
    /// publishers may be newer than workers; unknown values of known fields are `invalid_job`.
    pub fn parse(json: &[u8]) -> Result<Self> {
        // Serde would take an array of the fields' values for the object.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(invalid("the message is not a JSON object".into()));
        }
        let mut unknown = Vec::new();
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let job: Self =
            serde_ignored::deserialize(&mut deserializer, |path| unknown.push(path.to_string()))
                .map_err(|error| invalid(format!("the message is not a valid job: {error}")))?;
        deserializer
            .end()
            .map_err(|error| invalid(format!("the message is not one JSON object: {error}")))?;
        if !unknown.is_empty() {
            tracing::debug!(fields = ?unknown, "job has fields this version does not know; ignored");
        }
        job.check()?;
        Ok(job)
    }

    fn check(&self) -> Result<()> {
        if self.version != VERSION {
            return Err(invalid(format!(
                "version {} is not supported: this worker speaks version {VERSION}",
                self.version
            )));
        }
        if let Some(id) = &self.job_id
            && (id.is_empty() || id.len() > MAX_JOB_ID_BYTES || id.chars().any(char::is_control))
        {
            return Err(invalid(format!(
                "job_id must be 1 to {MAX_JOB_ID_BYTES} bytes without control characters"
            )));
        }
        self.output.check()?;
        if let Some(key) = self
            .metadata
            .keys()
            .find(|key| key.starts_with(OWN_METADATA))
        {
            return Err(invalid(format!(
                "metadata key {key:?}: names that start with {OWN_METADATA:?} are the worker's own"
            )));
        }
        let metadata: usize = self.metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
        if metadata > MAX_METADATA_BYTES {
            return Err(invalid(format!(
                "metadata has {metadata} bytes, more than {MAX_METADATA_BYTES}"
            )));
        }
        Ok(())
    }

    /// The `job_id` of a message that is not a valid job, so that even its failure reaches
    /// whoever waits for it.
    pub fn claimed_id(json: &[u8]) -> Option<String> {
        let message: serde_json::Value = serde_json::from_slice(json).ok()?;
        let id = message.get("job_id")?.as_str()?;
        let usable =
            !id.is_empty() && id.len() <= MAX_JOB_ID_BYTES && !id.chars().any(char::is_control);
        usable.then(|| id.to_owned())
    }

    /// What makes two deliveries the same job: source and generation, options and network, as
    /// SHA-256 in hex. `job_id` and `metadata` are labels and do not count.
    pub fn key(&self, generation: Generation, model_sha256: &str) -> String {
        // In any order, with or without repetitions: the same objects are written.
        let mut effects = Effect::distinct(&self.effects);
        effects.sort_unstable();
        let identity = serde_json::json!({
            "source": self.source.name,
            "generation": generation,
            "output": self.output.identity(!effects.is_empty()),
            "effects": effects,
            "model": model_sha256,
        });
        hex::encode(Sha256::digest(identity.to_string()))
    }

    /// `job_id`, or one derived from what the message says, so that every delivery of it agrees
    /// before anything has been read.
    pub fn id(&self) -> String {
        self.job_id.clone().unwrap_or_else(|| {
            let identity = serde_json::json!({
                "source": self.source,
                "destination": self.destination,
                "output": self.output,
                "effects": self.effects,
                "model": self.model,
            });
            let digest = hex::encode(Sha256::digest(identity.to_string()));
            format!("auto-{}", &digest[..24])
        })
    }
}

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidJob, message)
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The outputs were written by this delivery.
    Done,
    /// A former delivery had already written the same outputs.
    Duplicate,
    /// The job can never succeed.
    Failed,
}

impl Status {
    /// The JSON word; also a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Duplicate => "duplicate",
            Self::Failed => "failed",
        }
    }
}

/// The answer to a job, published before the ack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobResult {
    /// Message format; 1.
    pub version: u32,
    /// The job's id, given or derived. For a message that could not be parsed: `message-` and
    /// the queue's id of it.
    pub job_id: String,
    /// How it ended.
    pub status: Status,
    /// The photo with its generation; absent when the message could not be parsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ObjectRef>,
    /// What was written.
    #[serde(default)]
    pub outputs: Vec<OutputObject>,
    /// The network that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUsed>,
    /// The experiment that the job is a part of; absent for one that is part of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    /// Its arm: `control` for the worker's own network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// How sure the network was, and whether somebody should look at the picture; absent when nothing
    /// was cut out, and for a duplicate whose object does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Where the time went.
    #[serde(default)]
    pub timings_ms: Timings,
    /// Which delivery this was, from 1.
    pub attempt: u32,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
    /// Copied from the job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl JobResult {
    /// The `job_id` of the answer to a message that does not say which job it is.
    pub fn id_without_job(message_id: &str) -> String {
        format!("message-{message_id}")
    }

    /// The answer to a message that can never succeed. `job` is `None` when it is not a valid
    /// job; then its `job_id`, where it has one, still tells whose it is.
    pub fn failed(
        message_id: &str,
        data: &[u8],
        job: Option<&Job>,
        error: &Error,
        attempt: u32,
        timings_ms: Timings,
    ) -> Self {
        Self {
            version: VERSION,
            job_id: job
                .map(Job::id)
                .or_else(|| Job::claimed_id(data))
                .unwrap_or_else(|| Self::id_without_job(message_id)),
            status: Status::Failed,
            source: job.map(|job| job.source.clone()),
            outputs: Vec::new(),
            model: None,
            experiment: None,
            arm: None,
            quality: None,
            timings_ms,
            attempt,
            error: Some(ErrorBody::from(error)),
            metadata: job.map(|job| job.metadata.clone()).unwrap_or_default(),
        }
    }
}

/// One written object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutputObject {
    /// The output's kind: `rgba`, `mask`, …
    pub kind: String,
    /// Where it is.
    pub uri: ObjectName,
    /// Its generation.
    pub generation: Generation,
    /// Its size in bytes.
    pub bytes: u64,
    /// Pixels; absent for a duplicate whose object does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels; absent for a duplicate whose object does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// CRC-32C of the content, base64 of the big-endian bytes, as Cloud Storage writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<String>,
}

/// The network that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelUsed {
    /// The manifest's name.
    pub name: String,
    /// SHA-256 of the weights file, hex.
    pub sha256: String,
    /// Execution provider: `cpu`, `openvino`, `cuda`, `tensorrt`.
    pub provider: String,
    /// What the network computed in: `graph` (the types it is written in), `f32`, `bf16`.
    #[serde(default = "as_the_graph")]
    pub precision: String,
}

/// What results from before the field said.
fn as_the_graph() -> String {
    "graph".to_owned()
}

/// Milliseconds spent in each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timings {
    /// From publication to the worker.
    pub queued: u64,
    /// Reading the photo from the store.
    pub download: u64,
    /// Decoding and preparing the network's input.
    pub decode: u64,
    /// Waiting: for memory, for the engine, for a CPU slot.
    pub wait: u64,
    /// The network.
    pub infer: u64,
    /// Matte to full size, composition.
    pub compose: u64,
    /// Effects.
    pub effects: u64,
    /// Encoding.
    pub encode: u64,
    /// Writing to the store.
    pub upload: u64,
    /// From the worker's hands on the message to the durable output.
    pub total: u64,
}

/// A failure as it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// Stable code.
    pub code: String,
    /// `permanent`, `retryable` or `fatal`.
    pub class: String,
    /// What happened, to which object, what to do.
    pub message: String,
}

impl From<&Error> for ErrorBody {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code().as_str().into(),
            class: error.class().as_str().into(),
            message: error.message().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = r#"{
        "version": 1, "job_id": "order-5512-front",
        "source": "gs://perkie-uploads/2026/11/rex.jpg#1732412345678901",
        "destination": "gs://perkie-results/2026/11/rex.png",
        "output": { "format": "png", "kind": "rgba", "background": null, "size": null,
                    "crop": false, "padding": 0, "dpi": 300 },
        "model": "inspyrenet-base", "metadata": { "order": "5512" }
    }"#;

    #[test]
    fn the_contracts_example_parses_and_survives_a_round_trip() {
        let job = Job::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(job.id(), "order-5512-front");
        assert_eq!(
            job.source.generation,
            Some(Generation(1_732_412_345_678_901))
        );
        assert_eq!(job.output, Output::default());
        let again = Job::parse(&serde_json::to_vec(&job).unwrap()).unwrap();
        assert_eq!(job, again);
    }

    #[test]
    fn an_unknown_field_is_ignored_and_an_unknown_value_is_not() {
        let ok = r#"{"source":"gs://perkie/x.jpg","colour_of_the_sky":"blue","output":{"glow":1}}"#;
        Job::parse(ok.as_bytes()).unwrap();
        for bad in [
            r#"{"source":"gs://perkie/x.jpg","version":2}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"kind":"hologram"}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"format":"jpeg"}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"size":0}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"padding":"200%"}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"padding":"NaN%"}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"dpi":0}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"threshold":1.001}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"threshold":-0.1}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"threshold":1e99}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"threshold":"NaN"}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"reverse":"yes"}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"background_fit":"tile"}}"#,
            r#"{"source":"gs://perkie/x.jpg","output":{"kind":"mask","background":"white"}}"#,
            r#"{"source":"gs://perkie/x.jpg","effects":["sepia"]}"#,
            r#"{"source":"../x.jpg"}"#,
            r#"{"output":{}}"#,
            r#"{"source":"gs://perkie/x.jpg"} trailing"#,
            "[]",
            r#"[1,"id","gs://perkie/x.jpg"]"#,
            "hello",
            "",
        ] {
            let error = Job::parse(bad.as_bytes()).expect_err(bad);
            assert_eq!(error.code(), Code::InvalidJob, "{bad}");
        }
    }

    #[test]
    fn an_invalid_job_still_says_whose_it_is() {
        let json = br#"{"job_id":"order-7","source":7}"#;
        assert!(Job::parse(json).is_err());
        assert_eq!(Job::claimed_id(json).as_deref(), Some("order-7"));
        assert_eq!(Job::claimed_id(br#"{"job_id":""}"#), None);
        assert_eq!(Job::claimed_id(b"not json"), None);
    }

    #[test]
    fn sizes_and_paddings_are_numbers_or_text() {
        let job = r#"{"source":"gs://perkie/x.jpg","output":{"size":"1200x800","padding":"5%","kind":"color:#FF0080"}}"#;
        let output = Job::parse(job.as_bytes()).unwrap().output;
        assert_eq!(output.size, Some(Size::Within(1200, 800)));
        assert_eq!(output.padding, Padding::Percent(5.0));
        assert_eq!(output.kind, Kind::Color([255, 0, 128]));
        let job = r#"{"source":"gs://perkie/x.jpg","output":{"size":1200,"padding":12}}"#;
        let output = Job::parse(job.as_bytes()).unwrap().output;
        assert_eq!(output.size, Some(Size::Longest(1200)));
        assert_eq!(output.padding, Padding::Pixels(12));
    }

    #[test]
    fn the_key_depends_on_what_decides_the_pixels_and_on_nothing_else() {
        let job = Job::parse(EXAMPLE.as_bytes()).unwrap();
        let key = job.key(Generation(1), "aa");
        let mut renamed = job.clone();
        renamed.job_id = Some("other".into());
        renamed.metadata.clear();
        assert_eq!(renamed.key(Generation(1), "aa"), key);
        let mut smaller = job.clone();
        smaller.output.size = Some(Size::Longest(10));
        assert_ne!(smaller.key(Generation(1), "aa"), key);
        assert_ne!(job.key(Generation(2), "aa"), key);
        assert_ne!(job.key(Generation(1), "bb"), key);
    }

    #[test]
    fn a_threshold_is_a_number_from_zero_to_one_and_its_ends_count() {
        for (text, expected) in [("0", 0.0), ("1", 1.0), ("0.5", 0.5), ("1e-3", 0.001)] {
            assert_eq!(text.parse::<Threshold>().unwrap().get(), expected);
            let job =
                format!(r#"{{"source":"gs://perkie/x.jpg","output":{{"threshold":{text}}}}}"#);
            let output = Job::parse(job.as_bytes()).unwrap().output;
            assert_eq!(output.threshold.map(Threshold::get), Some(expected));
        }
        for bad in ["NaN", "inf", "-0.001", "1.001", "half", ""] {
            let error = bad.parse::<Threshold>().expect_err(bad);
            assert_eq!(error.code(), Code::InvalidJob);
        }
        let message = Job::parse(br#"{"source":"gs://perkie/x.jpg","output":{"threshold":2}}"#);
        let message = message.unwrap_err();
        assert!(message.message().contains("outside 0 to 1"), "{message}");
    }

    /// The key of `EXAMPLE` as it was computed before there were any of the options that are left out
    /// where they say nothing: of the picture whose colours are the photo's own.
    const PLAIN_KEY: &str = "cea745f4b837005252dc71ac1491615f4b53b5e3c5b8888dee46d089097c284a";

    #[test]
    fn options_that_are_not_used_leave_the_job_key_as_it_was() {
        let output = serde_json::to_string(&Output::default()).unwrap();
        for name in [
            "threshold",
            "reverse",
            "background_fit",
            "decontaminate",
            "refine",
            "profile",
            "depth",
            "keep_metadata",
            "shadow",
        ] {
            assert!(!output.contains(name), "{output}");
        }
        let mut job = Job::parse(EXAMPLE.as_bytes()).unwrap();
        job.output.decontaminate = false;
        let key = job.key(Generation(1), "aa");
        assert_eq!(key, PLAIN_KEY);
        let with = |change: fn(&mut Output)| {
            let mut job = job.clone();
            change(&mut job.output);
            job.key(Generation(1), "aa")
        };
        assert_ne!(with(|o| o.reverse = true), key);
        assert_ne!(with(|o| o.background_fit = Fit::Cover), key);
        assert_ne!(with(|o| o.refine = true), key);
        assert_ne!(with(|o| o.profile = ColourProfile::Source), key);
        assert_ne!(with(|o| o.depth = Depth::Source), key);
        assert_ne!(with(|o| o.keep_metadata = KeepMetadata::Exif), key);
        let soft = with(|o| o.shadow = Some(Shadow::default()));
        let sharp = with(|o| o.shadow = "blur=0".parse().ok());
        assert!(soft != key && sharp != key && soft != sharp);
        let zero = with(|o| o.threshold = Some(Threshold::new(0.0).unwrap()));
        let one = with(|o| o.threshold = Some(Threshold::new(1.0).unwrap()));
        assert!(zero != key && one != key && zero != one);
    }

    #[test]
    fn pictures_with_estimated_colours_are_not_taken_for_those_with_the_photos() {
        let mut job = Job::parse(EXAMPLE.as_bytes()).unwrap();
        job.effects.clear();
        let keys = |job: &Job, kind: Kind| {
            [true, false].map(|decontaminate| {
                let mut job = job.clone();
                job.output.kind = kind.clone();
                job.output.decontaminate = decontaminate;
                job.key(Generation(1), "aa")
            })
        };
        for kind in [Kind::Rgba, Kind::White, Kind::Blur] {
            let [estimated, plain] = keys(&job, kind);
            assert_ne!(estimated, plain);
        }
        // What has no such colours stays what it was, whatever the option says.
        for kind in [Kind::Mask, Kind::Overlay] {
            let [estimated, plain] = keys(&job, kind);
            assert_eq!(estimated, plain);
        }
        let mut hard = job.clone();
        hard.output.threshold = Some(Threshold::new(0.5).unwrap());
        let [estimated, plain] = keys(&hard, Kind::Rgba);
        assert_eq!(estimated, plain);
        // Effects are made of the cut-out, beside a mask too.
        job.effects = vec![Effect::PopArt];
        let [estimated, plain] = keys(&job, Kind::Mask);
        assert_ne!(estimated, plain);
    }

    #[test]
    fn a_job_says_false_and_does_not_have_to_say_true() {
        let job = |output: &str| {
            let json = format!(r#"{{"source":"gs://perkie/x.jpg","output":{output}}}"#);
            Job::parse(json.as_bytes()).unwrap()
        };
        assert!(job("{}").output.decontaminate);
        let without = job(r#"{"decontaminate":false}"#);
        assert!(!without.output.decontaminate);
        let again = Job::parse(&serde_json::to_vec(&without).unwrap()).unwrap();
        assert_eq!(again, without);
        assert_ne!(without.id(), job("{}").id());
    }

    #[test]
    fn metadata_over_four_kibibytes_is_refused() {
        let mut job = Job::new("gs://perkie/x.jpg".parse().unwrap());
        job.metadata.insert("k".into(), "v".repeat(4096));
        let error = Job::parse(&serde_json::to_vec(&job).unwrap()).unwrap_err();
        assert!(error.message().contains("4097"), "{error}");
    }

    proptest! {
        #[test]
        fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Job::parse(&bytes);
        }

        #[test]
        fn kinds_sizes_and_paddings_print_back(text in "[a-z0-9#:x%.]{0,24}") {
            if let Ok(kind) = text.parse::<Kind>() {
                prop_assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
            }
            if let Ok(size) = text.parse::<Size>() {
                prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
            }
            if let Ok(padding) = text.parse::<Padding>() {
                prop_assert_eq!(padding.to_string().parse::<Padding>().unwrap(), padding);
            }
        }
    }
}
