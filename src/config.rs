//! Configuration: flags beat environment beat file beat defaults. The only module that looks at
//! the environment, apart from the Google credentials that their own library reads.
//!
//! `cutout worker --help` is the reference. A configuration file is TOML whose keys are the long
//! flag names (`max-pixels = 20000000`); an unknown key is an error that names the accepted ones.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use crate::engine::precision::PrecisionChoice;
use crate::engine::provider::{self, ProviderChoice, ProviderOptions};
use crate::engine::session::SessionConfig;
use crate::error::{Code, Error, Result};
use crate::ingress::http::Settings;
use crate::ingress::http::client::AddressSource;
use crate::ingress::http::cors;
use crate::model::{self, manifest::Manifest};
use crate::telemetry::logs::LogFormat;

mod experiment;
mod file;
mod place;
mod push;
mod review;
mod shadow;
mod shown;
mod traces;

pub use experiment::ExperimentArgs;
pub use file::with_file;
pub use place::Place;
pub use push::PushArgs;
pub use review::{ReviewArgs, ReviewPlace};
pub use shadow::ShadowArgs;
pub use shown::{Origin, Setting, settings};
pub use traces::{CallerArgs, TraceArgs};

/// Options that every command has.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// Configuration file (TOML; keys are the long flag names)
    #[arg(long, env = "CUTOUT_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// What to log: error, warn, info, debug, trace, or a filter such as `cutout=debug,info`
    #[arg(
        long,
        env = "LOG_LEVEL",
        default_value = "info",
        value_name = "LEVEL",
        global = true
    )]
    pub log_level: String,

    /// How to log: auto (JSON for Cloud Logging unless standard error is a terminal), json, pretty
    #[arg(
        long,
        env = "CUTOUT_LOG_FORMAT",
        default_value = "auto",
        value_name = "FORMAT",
        global = true
    )]
    pub log_format: LogFormat,
}

/// Where the networks' files are.
#[derive(Args, Clone, Debug)]
pub struct HomeArgs {
    /// Directory that holds models/ and lib/; found beside the program or in .cache when not given
    #[arg(long, env = "CUTOUT_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
}

/// Which network, on which device.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// The network: a known name (`cutout model list`) or the path of a manifest [default: isnet-medium]
    #[arg(long, env = "CUTOUT_MODEL", value_name = "NAME")]
    pub model: Option<String>,

    /// Production's name for the choice among the InSPyReNet networks: base, fast, base-nightly
    #[arg(long, env = "INSPIRENET_MODE", value_name = "MODE")]
    pub inspyrenet_mode: Option<String>,

    /// Overrides the manifest's resize policy: static or dynamic
    #[arg(long, env = "INSPIRENET_RESIZE", value_name = "POLICY")]
    pub inspyrenet_resize: Option<String>,

    /// Side of the network's input in pixels, where the network has a choice
    #[arg(long, env = "TARGET_SIZE", value_name = "PIXELS")]
    pub target_size: Option<u32>,

    /// Execution provider: auto (cuda, openvino or cpu, whichever is there first; says which), cpu,
    /// openvino, cuda, tensorrt (each of these fails to start without)
    #[arg(
        long,
        env = "CUTOUT_PROVIDER",
        default_value = "auto",
        value_name = "PROVIDER"
    )]
    pub provider: ProviderChoice,

    /// What the network computes in: auto (bf16 where the CPU has it and the manifest's measured
    /// error is small), f32, bf16 (fails to start without); providers but openvino compute in the graph's own types
    #[arg(
        long,
        env = "CUTOUT_PRECISION",
        default_value = "auto",
        value_name = "PRECISION"
    )]
    pub precision: PrecisionChoice,

    /// Photos in one run of the network, where its graph takes several; 0 means 4 on a GPU, else 1
    #[arg(long, env = "CUTOUT_MAX_BATCH", default_value_t = 0, value_name = "N")]
    pub max_batch: usize,

    /// How long a batch that is not full waits for photos that are being prepared
    #[arg(long, env = "CUTOUT_MAX_WAIT", default_value = "5ms", value_name = "DURATION", value_parser = duration)]
    pub max_wait: Duration,

    /// Threads inside one operator on the CPU; 0 means as many as there are cores
    #[arg(long, env = "CUTOUT_THREADS", default_value_t = 0, value_name = "N")]
    pub threads: usize,

    /// cuda, tensorrt: which card
    #[arg(long, env = "CUTOUT_DEVICE_ID", default_value_t = 0, value_name = "N")]
    pub device_id: i32,

    /// cuda, tensorrt: most memory of the card that the network may take [default: all]
    #[arg(long, env = "CUTOUT_GPU_MEMORY_LIMIT", value_name = "SIZE", value_parser = size)]
    pub gpu_memory_limit: Option<ByteSize>,

    /// cuda, tensorrt: replay the run as a CUDA graph; for networks of one input size
    #[arg(long, env = "CUTOUT_CUDA_GRAPHS", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = clap::value_parser!(bool), value_name = "BOOL")]
    pub cuda_graphs: bool,

    /// tensorrt: where built engines are kept between starts
    #[arg(long, env = "CUTOUT_ENGINE_CACHE", value_name = "DIR")]
    pub engine_cache: Option<PathBuf>,

    #[command(flatten)]
    pub home: HomeArgs,

    /// The ONNX Runtime shared library [default: under --home, lib/libonnxruntime.so, or
    /// lib/openvino/libonnxruntime.so for that provider]
    #[arg(long, env = "CUTOUT_ORT_LIB", value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
}

/// Limits on one job and on all of them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Largest photo file
    #[arg(
        long,
        env = "CUTOUT_MAX_FILE_BYTES",
        default_value = "50MiB",
        value_name = "SIZE",
        value_parser = size
    )]
    pub max_file_bytes: ByteSize,

    /// Most pixels a photo may have (width × height, known from its header)
    #[arg(
        long,
        env = "CUTOUT_MAX_PIXELS",
        default_value_t = 50_000_000,
        value_name = "N"
    )]
    pub max_pixels: u64,

    /// Time one job may take, from the worker's hands on it to its durable output
    #[arg(long, env = "CUTOUT_JOB_TIMEOUT", default_value = "300s", value_name = "DURATION", value_parser = duration)]
    pub job_timeout: Duration,

    /// Memory for photos in work: a size, or auto (60 % of the memory limit less what the loaded network takes)
    #[arg(
        long,
        env = "CUTOUT_MEMORY_BUDGET",
        default_value = "auto",
        value_name = "SIZE"
    )]
    pub memory_budget: MemoryBudget,

    /// Jobs in work at once; 0 means twice the cores plus two
    #[arg(long, env = "CUTOUT_MAX_JOBS", default_value_t = 0, value_name = "N")]
    pub max_jobs: usize,
}

/// Where jobs come from.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Queue and store")]
pub struct QueueArgs {
    /// Where jobs come from: local (SQLite queue, directory store, watched inbox), pubsub (with
    /// Cloud Storage), or push (the same, but Pub/Sub pushes the jobs to the worker's port)
    #[arg(
        long,
        env = "CUTOUT_INGRESS",
        default_value = "local",
        value_name = "KIND"
    )]
    pub ingress: IngressKind,

    /// local: the store's directory; holds inbox/, outbox/ and the queue
    #[arg(long, env = "CUTOUT_ROOT", default_value = "data", value_name = "DIR")]
    pub root: PathBuf,

    /// pubsub, push: the Google Cloud project
    #[arg(long, env = "GOOGLE_CLOUD_PROJECT", value_name = "PROJECT")]
    pub project: Option<String>,

    /// pubsub, push: the topic for results
    #[arg(
        long,
        env = "CUTOUT_RESULTS_TOPIC",
        default_value = "cutout-results",
        value_name = "TOPIC"
    )]
    pub results_topic: String,

    /// Talk to a Pub/Sub emulator at host:port
    #[arg(long, env = "PUBSUB_EMULATOR_HOST", value_name = "HOST:PORT")]
    pub pubsub_emulator_host: Option<String>,

    /// Talk to a Cloud Storage emulator at host:port or http://host:port
    #[arg(long, env = "STORAGE_EMULATOR_HOST", value_name = "HOST:PORT")]
    pub storage_emulator_host: Option<String>,
}

/// What only the worker has.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Worker")]
pub struct WorkerArgs {
    /// pubsub, push: the subscription to pull from, or the only one that may push
    #[arg(
        long,
        env = "CUTOUT_SUBSCRIPTION",
        default_value = "cutout-jobs",
        value_name = "SUBSCRIPTION"
    )]
    pub subscription: String,

    /// pubsub, push: the topic for messages that can never succeed; none when empty
    #[arg(
        long,
        env = "CUTOUT_DEAD_LETTER_TOPIC",
        default_value = "cutout-dead-letters",
        value_name = "TOPIC"
    )]
    pub dead_letter_topic: String,

    /// pubsub, push: the bucket that outputs go to when a job names no destination
    #[arg(long, env = "STORAGE_BUCKET", value_name = "BUCKET")]
    pub storage_bucket: Option<String>,

    /// Where photos may be read from: buckets or bucket/prefix, comma-separated; STORAGE_BUCKET when not given
    #[arg(
        long,
        env = "CUTOUT_SOURCE_BUCKETS",
        value_delimiter = ',',
        value_name = "BUCKET[/PREFIX]"
    )]
    pub source_buckets: Vec<String>,

    /// Where outputs may be written: buckets or bucket/prefix, comma-separated; STORAGE_BUCKET when not given
    #[arg(
        long,
        env = "CUTOUT_DESTINATION_BUCKETS",
        value_delimiter = ',',
        value_name = "BUCKET[/PREFIX]"
    )]
    pub destination_buckets: Vec<String>,

    /// Name of the output when a job gives none: {dir}, {stem}, {ext} of source and format
    /// [default: {dir}/{stem}.cutout.{ext}; local: outbox/{stem}.cutout.{ext}]
    #[arg(long, env = "CUTOUT_DESTINATION_TEMPLATE", value_name = "TEMPLATE")]
    pub destination_template: Option<String>,

    /// Only uploads whose names start with this become jobs [default: all; local: inbox/]
    #[arg(long, env = "CUTOUT_UPLOAD_PREFIX", value_name = "PREFIX")]
    pub upload_prefix: Option<String>,

    /// Where copies of cut-outs that somebody should look at go: gs://bucket/prefix/; local: a folder of
    /// the store; nowhere when empty
    #[arg(long, env = "CUTOUT_REVIEW_PREFIX", value_name = "PLACE")]
    pub review_prefix: Option<String>,

    /// Whether jobs that do not say may replace what their destination holds
    #[arg(long, env = "CUTOUT_OVERWRITE", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = clap::value_parser!(bool), value_name = "BOOL")]
    pub overwrite: bool,

    /// pubsub: longest time a message's lease is extended for
    #[arg(long, env = "CUTOUT_MAX_LEASE", default_value = "15m", value_name = "DURATION", value_parser = duration)]
    pub max_lease: Duration,

    /// How long a message stays with a worker that gives no sign of life (10s to 10m); extended while it is worked on
    #[arg(long, env = "CUTOUT_LEASE_EXTENSION", default_value = "60s", value_name = "DURATION", value_parser = duration)]
    pub lease_extension: Duration,

    /// Deliveries of one message in local mode before it becomes a dead letter (Pub/Sub has its own policy)
    #[arg(
        long,
        env = "CUTOUT_MAX_ATTEMPTS",
        default_value_t = 5,
        value_name = "N"
    )]
    pub max_attempts: u32,

    /// Time that jobs in work have to finish after SIGTERM (Cloud Run kills after 10 s)
    #[arg(long, env = "CUTOUT_DRAIN_TIMEOUT", default_value = "8s", value_name = "DURATION", value_parser = duration)]
    pub drain_timeout: Duration,

    /// A run of the network that takes longer than this is stuck: /health answers 503
    #[arg(long, env = "CUTOUT_STUCK_AFTER", default_value = "120s", value_name = "DURATION", value_parser = duration)]
    pub stuck_after: Duration,

    /// A run of the network that takes longer than this ends the worker, for the platform to start
    /// another [default: twice --stuck-after]
    #[arg(long, env = "CUTOUT_GIVE_UP_AFTER", value_name = "DURATION", value_parser = duration)]
    pub give_up_after: Option<Duration>,

    /// Address of the side port
    #[arg(
        long,
        env = "CUTOUT_HOST",
        default_value = "0.0.0.0",
        value_name = "ADDRESS"
    )]
    pub host: std::net::IpAddr,

    /// Side port: /startup, /health, /metrics
    #[arg(long, env = "PORT", default_value_t = 8080, value_name = "PORT")]
    pub port: u16,
}

/// The HTTP API of the worker.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP API")]
pub struct HttpArgs {
    /// Answer photos sent over HTTP on the side port too: POST /remove-background, /api/v2/…, a web page
    #[arg(long, env = "CUTOUT_HTTP_API", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = clap::value_parser!(bool), value_name = "BOOL")]
    pub http_api: bool,

    /// Photos a client may send a minute; 0 for no limit
    #[arg(
        long,
        env = "CUTOUT_RATE_LIMIT",
        default_value_t = 10,
        value_name = "N"
    )]
    pub rate_limit: u32,

    /// Where a client's address stands: ConnectInfo (the connection), or what the last trusted proxy
    /// writes: RightmostXForwardedFor (Cloud Run), SecondXForwardedFor (Google's external load balancers,
    /// which add their own address), CfConnectingIp, CloudFrontViewerAddress, FlyClientIp, TrueClientIp,
    /// XEnvoyExternalAddress, XRealIp
    #[arg(
        long,
        env = "CUTOUT_CLIENT_IP",
        default_value = "ConnectInfo",
        value_name = "SOURCE"
    )]
    pub client_ip: AddressSource,

    /// Web pages that may call the API: origins, https://*.shop.example or *, comma-separated
    #[arg(
        long,
        env = "CUTOUT_CORS_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    pub cors_origins: Vec<cors::Origin>,

    /// Requests in work or waiting for it; more are answered 429
    #[arg(
        long,
        env = "CUTOUT_HTTP_MAX_REQUESTS",
        default_value_t = 64,
        value_name = "N"
    )]
    pub http_max_requests: usize,

    /// Longest pause inside an upload
    #[arg(long, env = "CUTOUT_UPLOAD_PAUSE", default_value = "20s", value_name = "DURATION", value_parser = duration)]
    pub upload_pause: Duration,

    /// How long a cut-out is kept in the store for the same photo sent again; 0s for not at all
    #[arg(long, env = "CUTOUT_CACHE_TTL", default_value = "24h", value_name = "DURATION", value_parser = duration)]
    pub cache_ttl: Duration,
}

impl HttpArgs {
    /// What the API is told of them.
    pub fn settings(&self) -> Settings {
        Settings {
            rate_limit: self.rate_limit,
            client_ip: self.client_ip.clone(),
            origins: self.cors_origins.clone(),
            max_requests: self.http_max_requests,
            upload_pause: self.upload_pause,
        }
    }
}

/// Where jobs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressKind {
    /// SQLite queue, directory store, watched inbox.
    Local,
    /// Google Pub/Sub, pulled from, with Cloud Storage.
    PubSub,
    /// Google Pub/Sub, which pushes, with Cloud Storage.
    Push,
}

impl IngressKind {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::PubSub => "pubsub",
            Self::Push => "push",
        }
    }
}

impl FromStr for IngressKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "local" => Ok(Self::Local),
            "pubsub" => Ok(Self::PubSub),
            "push" => Ok(Self::Push),
            _ => Err(format!(
                "{text:?} is not an ingress: use local, pubsub or push"
            )),
        }
    }
}

/// Memory for photos in work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryBudget {
    /// From the memory limit, when the network is loaded.
    Auto,
    /// As given.
    Bytes(u64),
}

impl FromStr for MemoryBudget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse::<ByteSize>()
            .map(|size| Self::Bytes(size.as_u64()))
            .map_err(|_| format!("{text:?} is not a size: write auto, 512MiB, 4GiB, …"))
    }
}

impl MemoryBudget {
    /// Share of the memory limit that photos and network may take together.
    const SHARE: f64 = 0.6;
    /// Below this no ordinary photo fits, so the worker would refuse everything.
    const LEAST: u64 = 256 << 20;

    /// Bytes for photos, given the machine's (or container's) limit and what the loaded network
    /// takes.
    pub fn resolve(self, limit: u64, taken: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            Self::Auto => (((limit as f64) * Self::SHARE) as u64)
                .saturating_sub(taken)
                .max(Self::LEAST),
        }
    }
}

/// A value with a unit: `300s`, `5m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}: write a number with a unit, such as 300s or 5m"))
}

/// A size with a unit: `50MiB`, `1GB`.
fn size(text: &str) -> Result<ByteSize, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a size: write 50MiB, 1GiB, …"))
}

/// Cores this process may use (cgroup quotas included).
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl WorkerArgs {
    /// Where copies for review go, if anywhere.
    pub fn review_place(&self) -> Result<Option<ReviewPlace>> {
        self.review_prefix
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::parse)
            .transpose()
    }

    /// Time that one run of the network may take before the worker ends.
    pub fn give_up_after(&self) -> Duration {
        self.give_up_after
            .unwrap_or_else(|| self.stuck_after.saturating_mul(2))
    }
}

impl LimitArgs {
    /// Jobs in work at once. Twice the cores, so that one half computes while the other waits
    /// for the network or the store; two more keep the engine fed on small machines.
    pub fn max_jobs(&self) -> usize {
        match self.max_jobs {
            0 => 2 * cores() + 2,
            n => n,
        }
    }
}

impl HomeArgs {
    /// The directory that holds models/ and lib/: as given, or the first that exists of
    /// `.cache` here, `.cache` above the program (a checkout), `share/cutout` beside the
    /// program's directory (an installation).
    ///
    /// Errors: `config_invalid` when there is none.
    pub fn find(&self) -> Result<PathBuf> {
        if let Some(home) = &self.home {
            return Ok(home.clone());
        }
        let mut places = vec![PathBuf::from(".cache")];
        if let Ok(program) = std::env::current_exe() {
            places.extend(
                program
                    .ancestors()
                    .skip(1)
                    .take(4)
                    .map(|dir| dir.join(".cache")),
            );
            places.extend(
                program
                    .ancestors()
                    .nth(2)
                    .map(|dir| dir.join("share/cutout")),
            );
        }
        places
            .iter()
            .find(|dir| dir.join("models").is_dir())
            .cloned()
            .ok_or_else(|| {
                invalid(format!(
                    "found no directory with models/ (looked in {}): run `make setup`, or set --home (CUTOUT_HOME)",
                    places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
                ))
            })
    }

    /// Directory of the networks' files.
    pub fn models_dir(&self) -> Result<PathBuf> {
        Ok(self.find()?.join("models"))
    }
}

impl ModelArgs {
    /// The manifest, with production's overrides applied.
    pub fn manifest(&self) -> Result<Manifest> {
        let name = match (&self.model, &self.inspyrenet_mode) {
            (Some(model), _) => model.clone(),
            (None, Some(mode)) => match mode.as_str() {
                "base" | "fast" | "base-nightly" => format!("inspyrenet-{mode}"),
                _ => {
                    return Err(invalid(format!(
                        "INSPIRENET_MODE {mode:?} is not known: use base, fast or base-nightly"
                    )));
                }
            },
            (None, None) => model::DEFAULT.to_owned(),
        };
        let models_dir = self.home.models_dir().ok();
        let mut manifest = model::find(&name, models_dir.as_deref())?;
        manifest.override_resize(self.inspyrenet_resize.as_deref(), self.target_size)?;
        Ok(manifest)
    }

    /// Threads inside one operator.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => cores(),
            n => n,
        }
    }

    /// Everything a session needs; `model_file` is yours to verify by [`model::verify`].
    pub fn session(&self, manifest: Manifest, model_file: PathBuf) -> Result<SessionConfig> {
        let ort_library = match &self.ort_lib {
            Some(file) => file.clone(),
            None => provider::library(self.provider, &self.home.find()?.join("lib")),
        };
        Ok(SessionConfig {
            ort_library,
            model_file,
            manifest,
            provider: self.provider,
            options: ProviderOptions {
                device_id: self.device_id,
                gpu_memory_limit: self.gpu_memory_limit,
                cuda_graphs: self.cuda_graphs,
                engine_cache: self.engine_cache.clone(),
                threads: self.threads(),
            },
            precision: self.precision,
            max_batch: self.max_batch,
            max_wait: self.max_wait,
            warm_up: true,
        })
    }
}

/// A place that objects may be read from or written to: a bucket, or a prefix of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedPlace {
    /// The bucket.
    pub bucket: String,
    /// What keys must start with; empty for the whole bucket.
    pub prefix: String,
}

impl FromStr for AllowedPlace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let text = text.strip_prefix("gs://").unwrap_or(text);
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        // The name's own parser knows what a bucket is called.
        crate::object::ObjectName::in_bucket(bucket, "x")
            .map_err(|error| invalid(error.message()))?;
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::ConfigInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_automatic_budget_leaves_room_for_the_network_and_never_vanishes() {
        assert_eq!(MemoryBudget::Auto.resolve(10 << 30, 2 << 30), 4 << 30);
        assert_eq!(
            MemoryBudget::Auto.resolve(1 << 30, 2 << 30),
            MemoryBudget::LEAST
        );
        assert_eq!("1GiB".parse(), Ok(MemoryBudget::Bytes(1 << 30)));
        assert!("much".parse::<MemoryBudget>().is_err());
    }

    #[test]
    fn an_allowed_place_is_a_bucket_or_a_prefix_of_one() {
        let place: AllowedPlace = "gs://perkie-uploads/2026/".parse().unwrap();
        assert_eq!(
            (place.bucket.as_str(), place.prefix.as_str()),
            ("perkie-uploads", "2026/")
        );
        assert!("".parse::<AllowedPlace>().is_err());
        assert!("Not A Bucket".parse::<AllowedPlace>().is_err());
    }
}
