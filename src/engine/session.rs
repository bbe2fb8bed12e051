//! One ONNX Runtime session: loading, checking against the manifest, running one image.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session as OrtSession};
use ort::value::{DynValue, Outlet, Tensor as OrtTensor, TensorElementType, ValueType};

use super::provider::{self, Provider, ProviderChoice};
use super::tensor::{Matte, Tensor, TensorData};
use crate::error::{Code, Error, Result};
use crate::model::manifest::{Layout, Manifest};

/// What a session is made from.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The ONNX Runtime shared library.
    pub ort_library: PathBuf,
    /// The verified file of the network (see [`crate::model::verify`]).
    pub model_file: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// The device asked for.
    pub provider: ProviderChoice,
    /// Which card, where there are several.
    pub device_id: i32,
    /// Threads inside one operator, on the CPU.
    pub threads: usize,
}

/// A loaded network.
pub struct Session {
    session: OrtSession,
    /// The graph's name for the input.
    input: String,
    /// The graph's name for the matte.
    output: String,
    provider: Provider,
    /// Only the matte: ISNet offers twelve more outputs, which would be kept and copied.
    wanted: RunOptions<HasSelectedOutputs>,
}

/// One input or output of a graph, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The graph's name for it.
    pub name: String,
    /// Element type and shape, `f32[1, 3, 1024, 1024]`; unknown sizes are `?`.
    pub shape: String,
}

impl Session {
    /// Loads the library and the graph, and checks the graph against the manifest. Blocks.
    pub fn load(config: &SessionConfig) -> Result<Self> {
        let environment = environment(&config.ort_library)?;
        let mut failures = Vec::new();
        for provider in provider::candidates(config.provider, &config.ort_library)? {
            match build(&environment, config, provider) {
                Ok(session) => {
                    let (input, output) = ports(&session, &config.manifest)?;
                    let wanted = RunOptions::new()
                        .map_err(|error| {
                            Error::new(Code::EngineDead, "ONNX Runtime refuses run options")
                                .caused_by(error)
                        })?
                        .with_outputs(OutputSelector::no_default().with(&output));
                    return Ok(Self {
                        session,
                        input,
                        output,
                        provider,
                        wanted,
                    });
                }
                Err(error)
                    if config.provider == ProviderChoice::Auto && provider == Provider::Cuda =>
                {
                    tracing::warn!(%error, "provider auto: CUDA cannot be used; running on the CPU");
                    failures.push(error);
                }
                Err(error) if provider == Provider::Cuda => {
                    return Err(Error::new(
                        Code::ProviderUnavailable,
                        format!("provider cuda was asked for and cannot be used: {error}"),
                    )
                    .caused_by(error));
                }
                Err(error) => {
                    return Err(Error::new(
                        Code::ModelInvalid,
                        format!(
                            "ONNX Runtime cannot load {}: {error}",
                            config.model_file.display()
                        ),
                    )
                    .caused_by(error));
                }
            }
        }
        unreachable!("the last candidate either loads or returns its error")
    }

    /// The device in use.
    pub const fn provider(&self) -> Provider {
        self.provider
    }

    /// The graph's inputs.
    pub fn inputs(&self) -> Vec<Port> {
        self.session.inputs().iter().map(port).collect()
    }

    /// The graph's outputs.
    pub fn outputs(&self) -> Vec<Port> {
        self.session.outputs().iter().map(port).collect()
    }

    /// Runs one image. The answer is as the graph gives it: activation and min–max are the
    /// caller's (`pipeline::matte`). Blocks for as long as the network takes.
    pub fn run(&mut self, tensor: Tensor) -> Result<Matte> {
        let failed = |error: ort::Error| {
            let message = error.to_string();
            // A sticky CUDA error poisons the context: every later call fails too.
            let code = if message.contains("CUDA error") || message.contains("CUDA failure") {
                Code::EngineDead
            } else {
                Code::InferenceFailed
            };
            Error::new(code, "the network's run failed").caused_by(message)
        };
        let (width, height) = (tensor.width as usize, tensor.height as usize);
        let input: DynValue = match tensor.data {
            TensorData::NchwF32(data) => OrtTensor::from_array(([1, 3, height, width], data))
                .map_err(failed)?
                .into_dyn(),
            TensorData::NhwcU8(data) => OrtTensor::from_array(([1, height, width, 3], data))
                .map_err(failed)?
                .into_dyn(),
        };
        let outputs = self
            .session
            .run_with_options(ort::inputs![self.input.as_str() => input], &self.wanted)
            .map_err(failed)?;
        let output = &outputs[self.output.as_str()];
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
        // [1, 1, H, W] or [1, H, W]: the last two axes are the picture.
        match **output.shape() {
            [.., h, w] if h > 0 && w > 0 && (h * w) as usize == values.len() => Ok(Matte {
                width: w as u32,
                height: h as u32,
                values,
            }),
            ref shape => Err(Error::new(
                Code::InferenceFailed,
                format!("the network answered with shape {shape:?}, which is not one matte"),
            )),
        }
    }
}

/// The version of ONNX Runtime, which its file name ends in (`libonnxruntime.so.1.26.0`);
/// `ort` checks it against the API it needs but does not tell it.
pub fn runtime_version(library: &Path) -> String {
    library
        .canonicalize()
        .ok()
        .and_then(|file| {
            let name = file.file_name()?.to_str()?;
            Some(name.rsplit_once(".so.")?.1.to_owned())
        })
        .unwrap_or_else(|| "unknown".to_owned())
}

/// ONNX Runtime allows one environment for each process, so it is kept once made.
fn environment(library: &Path) -> Result<Environment> {
    static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);
    let mut slot = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*slot {
        return Ok(environment.clone());
    }
    let fail = |error: String| {
        Error::new(
            Code::ModelInvalid,
            format!(
                "cannot load ONNX Runtime from {}: {error}; run `make setup`, or set --ort-lib (CUTOUT_ORT_LIB) to libonnxruntime.so",
                library.display()
            ),
        )
    };
    let environment = ort::init_from(library)
        .map_err(|error| fail(error.to_string()))?
        .with_name("cutout")
        .with_telemetry(false)
        .with_logger(std::sync::Arc::new(log))
        .build()
        .map_err(|error| fail(error.to_string()))?;
    *slot = Some(environment.clone());
    Ok(environment)
}

/// ONNX Runtime's log goes into ours, one level lower: its INFO is about graph nodes.
fn log(level: ort::logging::LogLevel, category: &str, _: &str, location: &str, message: &str) {
    use ort::logging::LogLevel;
    match level {
        LogLevel::Fatal | LogLevel::Error => {
            tracing::error!(target: "onnxruntime", category, location, "{message}");
        }
        LogLevel::Warning => {
            tracing::debug!(target: "onnxruntime", category, location, "{message}")
        }
        LogLevel::Info | LogLevel::Verbose => {
            tracing::trace!(target: "onnxruntime", category, location, "{message}");
        }
    }
}

fn build(
    environment: &Environment,
    config: &SessionConfig,
    provider: Provider,
) -> ort::Result<OrtSession> {
    let mut builder = OrtSession::builder(environment)?
        .with_log_level(ort::logging::LogLevel::Warning)?
        .with_intra_threads(config.threads)?;
    if let Some(dispatch) = provider::dispatch(provider, config.device_id) {
        builder = builder.with_execution_providers([dispatch])?;
    }
    builder.commit_from_file(&config.model_file)
}

/// The names of the input and the output to use: the manifest's, which the graph must have, or
/// the graph's first.
fn ports(session: &OrtSession, manifest: &Manifest) -> Result<(String, String)> {
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
        ValueType::Tensor { ty, shape, .. } if *ty == wanted && shape.len() == 4 => {
            Ok((input.name().to_owned(), output.name().to_owned()))
        }
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
