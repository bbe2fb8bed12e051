//! Execution providers: which device and which kernels run the network. Strict: what was asked
//! for, or an error. What ONNX Runtime is told stands here as data, so that it can be tested
//! where the device is not at hand.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytesize::ByteSize;
use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProviderDispatch};

use super::precision::Precision;
use crate::error::{Code, Error, Result};

/// What the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProviderChoice {
    /// The first that is here and loads: CUDA (its library and a card), `OpenVINO`, CPU; says which.
    #[default]
    Auto,
    /// ONNX Runtime's own CPU kernels.
    Cpu,
    /// Intel's CPU kernels, or failure to start.
    OpenVino,
    /// CUDA, or failure to start.
    Cuda,
    /// TensorRT, what it cannot run on CUDA; or failure to start.
    TensorRt,
}

impl FromStr for ProviderChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "openvino" => Ok(Self::OpenVino),
            "cuda" => Ok(Self::Cuda),
            "tensorrt" => Ok(Self::TensorRt),
            _ => Err(format!(
                "{text:?} is not a provider: use auto, cpu, openvino, cuda or tensorrt"
            )),
        }
    }
}

impl fmt::Display for ProviderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::OpenVino => "openvino",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        })
    }
}

/// What runs the network in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// ONNX Runtime's own CPU kernels.
    Cpu,
    /// Intel's `OpenVINO`, on the CPU.
    OpenVino,
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT.
    TensorRt,
}

impl Provider {
    /// Name in results, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::OpenVino => "openvino",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }

    /// Whether it runs on a card, whose memory is not the host's.
    pub const fn on_gpu(self) -> bool {
        matches!(self, Self::Cuda | Self::TensorRt)
    }

    /// File name of the provider, which ONNX Runtime loads from its own directory.
    const fn library(self) -> Option<&'static str> {
        match self {
            Self::Cpu => None,
            Self::OpenVino => Some("libonnxruntime_providers_openvino.so"),
            Self::Cuda => Some("libonnxruntime_providers_cuda.so"),
            Self::TensorRt => Some("libonnxruntime_providers_tensorrt.so"),
        }
    }

    /// What to install where the library is missing.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Cpu => "",
            Self::OpenVino => {
                "run `make setup`, which fetches it for x86-64, or install the files of onnxruntime-openvino there"
            }
            Self::Cuda => "install the files of onnxruntime-gpu there",
            Self::TensorRt => "install the files of onnxruntime-gpu and of TensorRT there",
        }
    }

    /// Photos in one run when the operator does not say. A CPU gains nothing from more than one:
    /// its cores are busy with one already.
    pub const fn default_max_batch(self) -> usize {
        if self.on_gpu() { 4 } else { 1 }
    }
}

/// What can be chosen about the providers, beyond which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderOptions {
    /// Which card, where there are several.
    pub device_id: i32,
    /// Most memory of the card that ONNX Runtime's arena may take; all of it when absent.
    pub gpu_memory_limit: Option<ByteSize>,
    /// Capture the run as a CUDA graph and replay it: only for networks of one input size.
    pub cuda_graphs: bool,
    /// Where TensorRT keeps its engines between starts; they are built anew each time when absent.
    pub engine_cache: Option<PathBuf>,
    /// Threads inside one operator, on the CPU.
    pub threads: usize,
}

/// The providers to try, in order. With [`ProviderChoice::Auto`] the CPU comes last.
pub fn candidates(choice: ProviderChoice, ort_library: &Path) -> Result<Vec<Provider>> {
    candidates_with(choice, ort_library, has_card())
}

fn candidates_with(
    choice: ProviderChoice,
    ort_library: &Path,
    card: bool,
) -> Result<Vec<Provider>> {
    let wanted = match choice {
        ProviderChoice::Auto => {
            let mut found: Vec<_> = [Provider::Cuda, Provider::OpenVino]
                .into_iter()
                .filter(|provider| card || !provider.on_gpu())
                .filter(|provider| is_beside(*provider, ort_library))
                .collect();
            found.push(Provider::Cpu);
            return Ok(found);
        }
        ProviderChoice::Cpu => Provider::Cpu,
        ProviderChoice::OpenVino => Provider::OpenVino,
        ProviderChoice::Cuda => Provider::Cuda,
        ProviderChoice::TensorRt => Provider::TensorRt,
    };
    match wanted.library() {
        Some(library) if !is_beside(wanted, ort_library) => Err(Error::new(
            Code::ProviderUnavailable,
            format!(
                "provider {choice} was asked for, but {library} is not beside {}: {}, or choose --provider cpu",
                ort_library.display(),
                wanted.remedy()
            ),
        )),
        _ => Ok(vec![wanted]),
    }
}

/// ONNX Runtime's library in a directory of them. The build with `OpenVINO` is one of its own, in
/// a directory of that name.
pub fn library(choice: ProviderChoice, lib: &Path) -> PathBuf {
    library_with(choice, lib, has_card())
}

/// Whether an NVIDIA driver shows a card: what `auto` goes by, so that an image for cards still
/// takes the fastest kernels where there is none.
fn has_card() -> bool {
    // The second is the one of Linux on Windows.
    ["/dev/nvidiactl", "/dev/dxg"]
        .iter()
        .any(|device| Path::new(device).exists())
}

fn library_with(choice: ProviderChoice, lib: &Path, card: bool) -> PathBuf {
    const NAME: &str = "libonnxruntime.so";
    let (plain, openvino) = (lib.join(NAME), lib.join("openvino").join(NAME));
    let with_openvino = match choice {
        ProviderChoice::OpenVino => true,
        ProviderChoice::Auto => {
            !(card && is_beside(Provider::Cuda, &plain)) && is_beside(Provider::OpenVino, &openvino)
        }
        ProviderChoice::Cpu | ProviderChoice::Cuda | ProviderChoice::TensorRt => false,
    };
    if with_openvino && openvino.exists() {
        openvino
    } else {
        plain
    }
}

fn is_beside(provider: Provider, ort_library: &Path) -> bool {
    provider.library().is_some_and(|library| {
        let file = ort_library.canonicalize();
        let file = file.as_deref().unwrap_or(ort_library);
        file.with_file_name(library).exists()
    })
}

/// What ONNX Runtime is told about one provider: names and values as in its documentation.
pub type Settings = Vec<(&'static str, String)>;

/// The settings of `OpenVINO`'s provider
/// (<https://onnxruntime.ai/docs/execution-providers/OpenVINO-ExecutionProvider.html>).
///
/// The precision is always given: left alone, `OpenVINO` computes in bf16 wherever the CPU can.
pub fn openvino(options: &ProviderOptions, precision: Precision) -> Settings {
    let hint = match precision {
        Precision::Bf16 => "bf16",
        Precision::F32 | Precision::Graph => "f32",
    };
    vec![
        ("device_type", "CPU".into()),
        ("num_of_threads", options.threads.to_string()),
        ("num_streams", "1".into()),
        (
            "load_config",
            format!(r#"{{"CPU":{{"INFERENCE_PRECISION_HINT":"{hint}"}}}}"#),
        ),
    ]
}

/// The settings of the CUDA provider
/// (<https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html>).
pub fn cuda(options: &ProviderOptions) -> Settings {
    let mut settings = vec![
        ("device_id", options.device_id.to_string()),
        // EXHAUSTIVE costs seconds for each new shape.
        ("cudnn_conv_algo_search", "HEURISTIC".into()),
        // More workspace lets cuDNN choose faster algorithms; the arena's limit holds anyway.
        ("cudnn_conv_use_max_workspace", "1".into()),
        // Grow by what is asked for: doubling wastes up to half of the card.
        ("arena_extend_strategy", "kSameAsRequested".into()),
        // TF32 would round the factors of an f32 graph to 10 bits, unasked and unsaid; networks for
        // cards are exported in fp16.
        ("use_tf32", "0".into()),
        // Copies share the compute stream: ONNX Runtime then needs no synchronisation between
        // them. The next batch's input is bound, and so copied, outside any run.
        ("do_copy_in_default_stream", "1".into()),
    ];
    if let Some(limit) = options.gpu_memory_limit {
        settings.push(("gpu_mem_limit", limit.as_u64().to_string()));
    }
    if options.cuda_graphs {
        settings.push(("enable_cuda_graph", "1".into()));
    }
    settings
}

/// The settings of the TensorRT provider
/// (<https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html>).
pub fn tensorrt(options: &ProviderOptions) -> Settings {
    let mut settings = vec![("device_id", options.device_id.to_string())];
    if let Some(limit) = options.gpu_memory_limit {
        settings.push(("trt_max_workspace_size", limit.as_u64().to_string()));
    }
    if options.cuda_graphs {
        settings.push(("trt_cuda_graph_enable", "1".into()));
    }
    if let Some(dir) = &options.engine_cache {
        let dir = dir.display().to_string();
        settings.extend([
            ("trt_engine_cache_enable", "1".into()),
            ("trt_engine_cache_path", dir.clone()),
            ("trt_timing_cache_enable", "1".into()),
            ("trt_timing_cache_path", dir),
        ]);
    }
    settings
}

/// The providers to register for one that was chosen, in order of preference. Registration
/// failures are errors, never a silent fall-back.
pub fn dispatch(
    provider: Provider,
    options: &ProviderOptions,
    precision: Precision,
) -> Vec<ExecutionProviderDispatch> {
    let on_cuda = || with(ep::CUDA::default(), cuda(options)).build();
    let dispatches = match provider {
        // The CPU provider is always there.
        Provider::Cpu => vec![],
        Provider::OpenVino => {
            vec![with(ep::OpenVINO::default(), openvino(options, precision)).build()]
        }
        Provider::Cuda => vec![on_cuda()],
        Provider::TensorRt => vec![
            with(ep::TensorRT::default(), tensorrt(options)).build(),
            on_cuda(),
        ],
    };
    dispatches
        .into_iter()
        .map(ExecutionProviderDispatch::error_on_failure)
        .collect()
}

fn with<P: ArbitrarilyConfigurableExecutionProvider>(provider: P, settings: Settings) -> P {
    settings
        .into_iter()
        .fold(provider, |provider, (key, value)| {
            provider.with_arbitrary_config(key, value)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &Settings, name: &str) -> Option<String> {
        settings
            .iter()
            .find_map(|(key, value)| (*key == name).then(|| value.clone()))
    }

    #[test]
    fn a_provider_without_its_library_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let ort = dir.path().join("libonnxruntime.so");
        for (choice, provider) in [
            (ProviderChoice::Cuda, Provider::Cuda),
            (ProviderChoice::OpenVino, Provider::OpenVino),
            (ProviderChoice::TensorRt, Provider::TensorRt),
        ] {
            let library = provider.library().unwrap();
            let error = candidates(choice, &ort).unwrap_err();
            assert_eq!(error.code(), Code::ProviderUnavailable);
            assert!(error.message().contains(library), "{error}");
            std::fs::write(dir.path().join(library), b"").unwrap();
            assert_eq!(candidates(choice, &ort).unwrap(), [provider]);
        }
    }

    #[test]
    fn auto_tries_cuda_then_openvino_then_the_cpu_as_far_as_they_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let ort = dir.path().join("libonnxruntime.so");
        let found = |ort: &Path| candidates_with(ProviderChoice::Auto, ort, true).unwrap();
        assert_eq!(found(&ort), [Provider::Cpu]);
        for provider in [Provider::OpenVino, Provider::Cuda] {
            std::fs::write(dir.path().join(provider.library().unwrap()), b"").unwrap();
        }
        assert_eq!(
            found(&ort),
            [Provider::Cuda, Provider::OpenVino, Provider::Cpu]
        );
        let without_card = candidates_with(ProviderChoice::Auto, &ort, false).unwrap();
        assert_eq!(without_card, [Provider::OpenVino, Provider::Cpu]);
        // TensorRT builds an engine for minutes: only who asks for it gets it.
        assert_eq!(found(&ort).len(), 3);
    }

    #[test]
    fn the_build_with_openvino_is_used_where_it_is_there_and_wanted() {
        use ProviderChoice::{Auto, Cpu, Cuda, OpenVino};
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path();
        let (plain, special) = (
            lib.join("libonnxruntime.so"),
            lib.join("openvino/libonnxruntime.so"),
        );
        for choice in [Auto, Cpu, Cuda, OpenVino] {
            assert_eq!(library(choice, lib), plain);
        }
        std::fs::create_dir(lib.join("openvino")).unwrap();
        for file in ["libonnxruntime.so", Provider::OpenVino.library().unwrap()] {
            std::fs::write(lib.join("openvino").join(file), b"").unwrap();
        }
        for (choice, expected) in [
            (Auto, &special),
            (OpenVino, &special),
            (Cpu, &plain),
            (Cuda, &plain),
        ] {
            assert_eq!(&library(choice, lib), expected, "{choice}");
        }
        std::fs::write(lib.join(Provider::Cuda.library().unwrap()), b"").unwrap();
        assert_eq!(library_with(Auto, lib, true), plain);
        assert_eq!(library_with(Auto, lib, false), special);
    }

    #[test]
    fn names_are_read_back() {
        for name in ["auto", "cpu", "openvino", "cuda", "tensorrt"] {
            assert_eq!(name.parse::<ProviderChoice>().unwrap().to_string(), name);
        }
        assert!(
            "gpu"
                .parse::<ProviderChoice>()
                .unwrap_err()
                .contains("cuda")
        );
    }

    #[test]
    fn openvino_is_always_told_its_precision() {
        let options = ProviderOptions {
            threads: 3,
            ..ProviderOptions::default()
        };
        let exact = openvino(&options, Precision::F32);
        let config = of(&exact, "load_config").unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["CPU"]["INFERENCE_PRECISION_HINT"], "f32");
        assert_eq!(of(&exact, "num_of_threads").unwrap(), "3");
        let short = openvino(&options, Precision::Bf16);
        assert!(of(&short, "load_config").unwrap().contains("\"bf16\""));
    }

    #[test]
    fn cuda_gets_the_card_its_limit_and_graphs_only_when_asked() {
        let plain = cuda(&ProviderOptions::default());
        assert_eq!(of(&plain, "cudnn_conv_algo_search").unwrap(), "HEURISTIC");
        assert_eq!(of(&plain, "use_tf32").unwrap(), "0");
        assert_eq!(of(&plain, "gpu_mem_limit"), None);
        assert_eq!(of(&plain, "enable_cuda_graph"), None);
        let all = ProviderOptions {
            device_id: 1,
            gpu_memory_limit: Some(ByteSize::gib(6)),
            cuda_graphs: true,
            engine_cache: Some("/engines".into()),
            threads: 1,
        };
        let cuda = cuda(&all);
        assert_eq!(of(&cuda, "device_id").unwrap(), "1");
        assert_eq!(of(&cuda, "gpu_mem_limit").unwrap(), "6442450944");
        assert_eq!(of(&cuda, "enable_cuda_graph").unwrap(), "1");
        let tensorrt = tensorrt(&all);
        assert_eq!(of(&tensorrt, "trt_engine_cache_path").unwrap(), "/engines");
        assert_eq!(of(&tensorrt, "trt_cuda_graph_enable").unwrap(), "1");
        assert_eq!(
            of(
                &super::tensorrt(&ProviderOptions::default()),
                "trt_engine_cache_enable"
            ),
            None
        );
    }

    #[test]
    fn tensorrt_is_registered_before_cuda() {
        let options = ProviderOptions::default();
        assert_eq!(
            dispatch(Provider::TensorRt, &options, Precision::Graph).len(),
            2
        );
        assert!(dispatch(Provider::Cpu, &options, Precision::Graph).is_empty());
    }
}
