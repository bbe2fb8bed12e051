//! One ONNX Runtime session: loading, checking against the manifest, running a batch.

use std::path::PathBuf;

use ort::environment::Environment;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session as OrtSession};
use ort::value::{DynValue, Outlet, TensorElementType, ValueType};

use super::graph;
use super::lane::{Input, Lane, LaneSpec, Place};
use super::precision::{self, Precision, PrecisionChoice};
use super::provider::{self, Provider, ProviderChoice, ProviderOptions};
use super::tensor::{Matte, Tensor};
use crate::error::{Code, Error, Result};
use crate::model::manifest::{Layout, Manifest, Resize};

/// What a session is made from.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The ONNX Runtime shared library.
    pub ort_library: PathBuf,
    /// The network's file. Whoever uses the engine has it verified ([`crate::model::verify`]).
    pub model_file: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// The device asked for.
    pub provider: ProviderChoice,
    /// What else is asked of it.
    pub options: ProviderOptions,
    /// What it shall compute in.
    pub precision: PrecisionChoice,
    /// Photos in one run at most; 0 leaves it to the provider.
    pub max_batch: usize,
    /// How long a batch that is not full waits for photos that are being prepared. One that
    /// nobody else follows never waits.
    pub max_wait: std::time::Duration,
    /// Whether the network runs once before anybody may ask. Who has the photos at hand has them
    /// sooner without.
    pub warm_up: bool,
}

impl SessionConfig {
    /// The defaults on this many threads of the CPU, with ONNX Runtime's own kernels.
    pub fn new(
        ort_library: PathBuf,
        model_file: PathBuf,
        manifest: Manifest,
        threads: usize,
    ) -> Self {
        Self {
            ort_library,
            model_file,
            manifest,
            provider: ProviderChoice::Cpu,
            options: ProviderOptions {
                threads,
                ..ProviderOptions::default()
            },
            precision: PrecisionChoice::Auto,
            max_batch: 0,
            max_wait: std::time::Duration::ZERO,
            warm_up: true,
        }
    }
}

/// A loaded network.
pub struct Session {
    session: OrtSession,
    /// The graph's name for the input.
    input: String,
    /// The graph's name for the matte.
    output: String,
    provider: Provider,
    precision: Precision,
    place: Place,
    /// Whether the graph takes several photos at once.
    batches: bool,
    /// Only the matte: what else the graph offers would be kept and copied.
    wanted: RunOptions<HasSelectedOutputs>,
    wanted_then_shrink: RunOptions<HasSelectedOutputs>,
}

/// What becomes of the memory that a run took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next run takes it again, soon.
    Keep,
    /// It goes back to the system, as far as it is ONNX Runtime's own on the CPU: between bursts
    /// a worker with ISNet takes 0.6 instead of 1.4 GB, and the next run a tenth longer
    /// (docs/benchmarks.md).
    Shrink,
}

/// One input or output of a graph, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The graph's name for it.
    pub name: String,
    /// Element type and shape, `f32[1, 3, 1024, 1024]`; unknown sizes are `?`.
    pub shape: String,
}

/// What a run gave, to be read without holding the session up.
pub struct Answer(DynValue);

impl Session {
    /// Loads the graph, and checks it against the manifest. Blocks.
    pub fn load(config: &SessionConfig, environment: &Environment) -> Result<Self> {
        check_options(config)?;
        let candidates = provider::candidates(config.provider, &config.ort_library)?;
        let last = candidates.len() - 1;
        for (i, provider) in candidates.into_iter().enumerate() {
            let error = match Self::on(environment, config, provider) {
                Ok(session) => {
                    if config.provider == ProviderChoice::Auto {
                        tracing::info!(
                            provider = provider.as_str(),
                            precision = session.precision.as_str(),
                            "provider auto: chose {}",
                            provider.as_str()
                        );
                    }
                    return Ok(session);
                }
                Err(error) => error,
            };
            if i == last || error.code() != Code::ProviderUnavailable {
                return Err(error);
            }
            tracing::warn!(
                error = error.chain(),
                "provider auto: {} cannot be used; trying the next",
                provider.as_str()
            );
        }
        unreachable!("the last candidate either loads or returns its error")
    }

    fn on(environment: &Environment, config: &SessionConfig, provider: Provider) -> Result<Self> {
        let precision = precision::decide(
            config.precision,
            provider,
            precision::native_bf16(),
            config.manifest.bf16,
        )?;
        let session = build(environment, config, provider, precision)
            .map_err(|error| refused(config, provider, &error))?;
        let (input, output, batches) = ports(&session, &config.manifest)?;
        let options = |shrink| {
            run_options(&output, shrink).map_err(|error| {
                Error::new(Code::EngineDead, "ONNX Runtime refuses run options").caused_by(error)
            })
        };
        let (wanted, wanted_then_shrink) = (options(false)?, options(provider == Provider::Cpu)?);
        let place = if provider.on_gpu() {
            Place::Card {
                device_id: config.options.device_id,
                fixed: config.options.cuda_graphs,
            }
        } else {
            Place::Host
        };
        Ok(Self {
            session,
            input,
            output,
            provider,
            precision,
            place,
            batches,
            wanted,
            wanted_then_shrink,
        })
    }

    /// The device in use.
    pub const fn provider(&self) -> Provider {
        self.provider
    }

    /// What the network computes in.
    pub const fn precision(&self) -> Precision {
        self.precision
    }

    /// Photos in one run at most, given what was asked for (0: whatever suits the provider).
    pub const fn max_batch(&self, asked: usize) -> usize {
        match (self.batches, asked) {
            (false, _) => 1,
            // A replayed graph is of one batch.
            _ if matches!(self.place, Place::Card { fixed: true, .. }) => 1,
            (true, 0) => self.provider.default_max_batch(),
            (true, asked) => asked,
        }
    }

    /// The lanes that make sense, one at least: no second one where all batches must enter at
    /// the same address.
    ///
    /// Errors: `provider_unavailable` when the device has no memory for them.
    pub fn lanes(&self) -> Result<Vec<Lane>> {
        let count = match self.place {
            Place::Card { fixed: true, .. } => 1,
            _ => 2,
        };
        let spec = LaneSpec {
            session: &self.session,
            input: &self.input,
            output: &self.output,
            place: self.place,
        };
        let lanes = (0..count).map(|_| Lane::new(&spec));
        lanes.collect::<ort::Result<_>>().map_err(|error| {
            Error::new(
                Code::ProviderUnavailable,
                format!(
                    "provider {} gives no memory for photos",
                    self.provider.as_str()
                ),
            )
            .caused_by(error)
        })
    }

    /// The graph's inputs.
    pub fn inputs(&self) -> Vec<Port> {
        self.session.inputs().iter().map(port).collect()
    }

    /// The graph's outputs.
    pub fn outputs(&self) -> Vec<Port> {
        self.session.outputs().iter().map(port).collect()
    }

    /// Stages photos and runs them, for the warm-up.
    pub fn try_out(&mut self, lane: &mut Lane, photos: &mut Vec<Tensor>) -> Result<()> {
        let count = photos.len();
        lane.stage(photos).map_err(failed)?;
        self.run(lane, After::Keep)?.mattes(count)?;
        Ok(())
    }

    /// Runs what is staged in a lane. The answer is as the graph gives it: activation and
    /// min–max are the caller's (`pipeline::matte`). Blocks for as long as the network takes.
    pub fn run(&mut self, lane: &mut Lane, after: After) -> Result<Answer> {
        let options = match after {
            After::Shrink => &self.wanted_then_shrink,
            After::Keep => &self.wanted,
        };
        let output = match lane.take() {
            Some(Input::Value(value)) => self
                .session
                .run_with_options(ort::inputs![self.input.as_str() => value], options)
                .map(|mut outputs| outputs.remove(&self.output)),
            // The copy to the card was begun when the lane was filled, and is waited for here: this
            // waits for all that the card does, so not while another lane's batch runs.
            Some(Input::Bound(binding)) => binding
                .synchronize_inputs()
                .and_then(|()| self.session.run_binding(binding))
                .and_then(|mut outputs| {
                    binding.synchronize_outputs()?;
                    Ok(outputs.remove(&self.output))
                }),
            None => return Err(empty_lane()),
        };
        answer(output)
    }

    /// Runs what is staged in a lane in the host's memory, unless `options` are told to end it.
    pub(super) fn run_until_stopped(
        &mut self,
        lane: &mut Lane,
        options: &RunOptions,
    ) -> Result<Answer> {
        let Some(Input::Value(value)) = lane.take() else {
            return Err(empty_lane());
        };
        let inputs = ort::inputs![self.input.as_str() => value];
        // All of the graph's outputs, as options that name some cannot be shared between threads; where it has
        // several, those nobody wants were taken out when it was loaded.
        let output = self.session.run_with_options(inputs, options);
        answer(output.map(|mut outputs| outputs.remove(&self.output)))
    }
}

fn empty_lane() -> Error {
    Error::new(Code::Internal, "a run of an empty lane")
}

fn answer(output: ort::Result<Option<DynValue>>) -> Result<Answer> {
    output
        .map_err(failed)?
        .map(Answer)
        .ok_or_else(|| Error::new(Code::InferenceFailed, "the network's run gave no matte"))
}

fn run_options(output: &str, shrink: bool) -> ort::Result<RunOptions<HasSelectedOutputs>> {
    let mut options = RunOptions::new()?;
    if shrink {
        options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
    }
    Ok(options.with_outputs(OutputSelector::no_default().with(output)))
}

impl Answer {
    /// The mattes of a batch of `count`, copied out.
    ///
    /// Errors: `inference_failed` when that is not what the network answered.
    pub fn mattes(&self, count: usize) -> Result<Vec<Matte>> {
        let output = &self.0;
        let values: Vec<f32> = match output.dtype().tensor_type() {
            Some(TensorElementType::Uint8) => {
                let (_, bytes) = output.try_extract_tensor::<u8>().map_err(failed)?;
                bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect()
            }
            _ => {
                let (_, values) = output.try_extract_tensor::<f32>().map_err(failed)?;
                values.to_vec()
            }
        };
        // [N, 1, H, W] or [N, H, W]: the last two axes are the picture.
        match **output.shape() {
            [.., h, w] if h > 0 && w > 0 && (h * w) as usize * count == values.len() => {
                let matte = |values: Vec<f32>| Matte {
                    width: w as u32,
                    height: h as u32,
                    values,
                };
                if count == 1 {
                    return Ok(vec![matte(values)]);
                }
                Ok(values
                    .chunks_exact((h * w) as usize)
                    .map(|one| matte(one.to_vec()))
                    .collect())
            }
            ref shape => Err(Error::new(
                Code::InferenceFailed,
                format!(
                    "the network answered {count} photos with shape {shape:?}, which is not one matte each"
                ),
            )),
        }
    }
}

/// What a failed run means.
pub(super) fn failed(error: ort::Error) -> Error {
    let message = error.to_string();
    // A sticky CUDA error poisons the context: every later call fails too.
    let code = if message.contains("CUDA error") || message.contains("CUDA failure") {
        Code::EngineDead
    } else {
        Code::InferenceFailed
    };
    Error::new(code, "the network's run failed").caused_by(message)
}

fn check_options(config: &SessionConfig) -> Result<()> {
    if config.options.cuda_graphs && config.max_batch > 1 {
        return Err(Error::new(
            Code::ConfigInvalid,
            "--cuda-graphs replays runs of one photo: leave --max-batch out, or the graphs",
        ));
    }
    if config.options.cuda_graphs && !matches!(config.manifest.resize, Resize::Static { .. }) {
        return Err(Error::new(
            Code::ConfigInvalid,
            format!(
                "--cuda-graphs needs one input size, and {} has: {}; leave it out, or set INSPIRENET_RESIZE=static",
                config.manifest.name, config.manifest.resize
            ),
        ));
    }
    Ok(())
}

fn refused(config: &SessionConfig, provider: Provider, error: &ort::Error) -> Error {
    let error = if provider == Provider::Cpu {
        return Error::new(
            Code::ModelInvalid,
            format!(
                "ONNX Runtime cannot load {}: {error}",
                config.model_file.display()
            ),
        );
    } else {
        error.to_string()
    };
    Error::new(
        Code::ProviderUnavailable,
        format!("provider {} cannot be used: {error}", provider.as_str()),
    )
}

fn build(
    environment: &Environment,
    config: &SessionConfig,
    provider: Provider,
    precision: Precision,
) -> ort::Result<OrtSession> {
    // OpenVINO has threads of its own.
    let threads = match provider {
        Provider::OpenVino => 1,
        _ => config.options.threads,
    };
    let mut builder = OrtSession::builder(environment)?
        .with_log_level(ort::logging::LogLevel::Warning)?
        .with_intra_threads(threads)?
        // Threads that spin for work take the cores from the photos' own.
        .with_intra_op_spinning(false)?
        // A plan of all buffers, made in the first run, takes 0.76 GB beside what that run took
        // by itself, and saves 2 % of the time (docs/benchmarks.md).
        .with_memory_pattern(provider.on_gpu())?;
    let dispatches = provider::dispatch(provider, &config.options, precision);
    if !dispatches.is_empty() {
        builder = builder.with_execution_providers(dispatches)?;
    }
    // Of a graph for every size OpenVINO leaves some of the arithmetic on sizes to the plain
    // kernels. Of one for a single size it takes all, or somebody should know.
    if provider == Provider::OpenVino && config.manifest.any_size.is_none() {
        builder = builder.with_config_entry("session.disable_cpu_ep_fallback", "1")?;
    }
    let name = config.manifest.output.name.as_deref();
    match graph::with_one_output(&config.model_file, name) {
        Ok(Some(content)) => builder.commit_from_memory(&content),
        // If it cannot be read, the runtime says so.
        Ok(None) | Err(_) => builder.commit_from_file(&config.model_file),
    }
}

/// The names of the input and the output to use, and whether they take batches: the manifest's,
/// which the graph must have, or the graph's first.
fn ports(session: &OrtSession, manifest: &Manifest) -> Result<(String, String, bool)> {
    let input = find_port(
        "input",
        session.inputs(),
        manifest.input.name.as_deref(),
        manifest,
    )?;
    let output = find_port(
        "output",
        session.outputs(),
        manifest.output.name.as_deref(),
        manifest,
    )?;
    if !matches!(
        output.dtype().tensor_type(),
        Some(TensorElementType::Float32 | TensorElementType::Uint8)
    ) {
        return Err(Error::new(
            Code::ModelInvalid,
            format!(
                "the output {:?} of the graph {} is {}, and a matte is f32 or u8; correct output.name in the manifest {}",
                output.name(),
                manifest.file,
                port(output).shape,
                manifest.read_from
            ),
        ));
    }
    let wanted = match manifest.input.layout {
        Layout::NchwF32 => TensorElementType::Float32,
        Layout::NhwcU8 => TensorElementType::Uint8,
    };
    match input.dtype() {
        ValueType::Tensor { ty, shape, .. } if *ty == wanted && shape.len() == 4 => Ok((
            input.name().to_owned(),
            output.name().to_owned(),
            shape.first().is_some_and(|batch| *batch < 0),
        )),
        _ => Err(Error::new(
            Code::ModelInvalid,
            format!(
                "the manifest {} gives the input {:?} the layout {:?}, but in the graph {} it is {}; correct input.layout in the manifest",
                manifest.read_from,
                input.name(),
                manifest.input.layout,
                manifest.file,
                port(input).shape
            ),
        )),
    }
}

fn find_port<'a>(
    what: &str,
    ports: &'a [Outlet],
    name: Option<&str>,
    manifest: &Manifest,
) -> Result<&'a Outlet> {
    let found = match name {
        Some(name) => ports.iter().find(|port| port.name() == name),
        None => ports.first(),
    };
    found.ok_or_else(|| {
        let has: Vec<_> = ports
            .iter()
            .map(|p| format!("{} {}", p.name(), port(p).shape))
            .collect();
        Error::new(
            Code::ModelInvalid,
            format!(
                "the manifest {} names the {what} {:?}, but the graph {} has: {}; correct {what}.name in the manifest",
                manifest.read_from,
                name.unwrap_or_default(),
                manifest.file,
                has.join(", ")
            ),
        )
    })
}

fn port(outlet: &Outlet) -> Port {
    let shape = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => {
            let sizes: Vec<_> = shape
                .iter()
                .map(|&n| if n < 0 { "?".to_owned() } else { n.to_string() })
                .collect();
            format!("{ty}[{}]", sizes.join(", "))
        }
        other => format!("{other:?}"),
    };
    Port {
        name: outlet.name().to_owned(),
        shape,
    }
}
