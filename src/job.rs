//! The public message types: a job, its options and its result (CONTRACT sections 1 and 3).
//!
//! The JSON Schemas in `schemas/` are generated from these types; a test keeps them equal.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::effect::Effect;
use crate::error::{Code, Error, Result};
use crate::object::{Generation, ObjectName, ObjectRef};

mod look;
mod options;
mod output;
mod quality;
mod result;

pub use look::{ColourProfile, Depth, KeepMetadata, Length, Shadow};
pub use options::{Fit, Format, Kind, Padding, Size, Threshold};
pub use output::Output;
pub use quality::{Quality, Reason, Verdict};
pub use result::{ErrorBody, JobResult, ModelUsed, OutputObject, Status, Timings};

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
