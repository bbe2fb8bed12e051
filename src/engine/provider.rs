//! Execution providers: which device runs the network. Strict: what was asked for, or an error.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ort::ep::{self, ExecutionProviderDispatch};

use crate::error::{Code, Error, Result};

/// What the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProviderChoice {
    /// CUDA where its provider library lies beside ONNX Runtime and loads, else CPU; says which.
    Auto,
    /// ONNX Runtime's own CPU kernels.
    #[default]
    Cpu,
    /// CUDA, or failure to start.
    Cuda,
}

impl FromStr for ProviderChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            _ => Err(format!("{text:?} is not a provider: use auto, cpu or cuda")),
        }
    }
}

impl fmt::Display for ProviderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// What runs the network in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// ONNX Runtime's own CPU kernels.
    Cpu,
    /// NVIDIA CUDA.
    Cuda,
}

impl Provider {
    /// Name in results, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// File name of the CUDA provider, which ONNX Runtime loads from its own directory.
const CUDA_LIBRARY: &str = "libonnxruntime_providers_cuda.so";

/// The providers to try, in order. With [`ProviderChoice::Auto`] the CPU follows CUDA.
pub fn candidates(choice: ProviderChoice, ort_library: &Path) -> Result<Vec<Provider>> {
    let has_cuda = ort_library.with_file_name(CUDA_LIBRARY).exists();
    match choice {
        ProviderChoice::Cpu => Ok(vec![Provider::Cpu]),
        ProviderChoice::Auto if has_cuda => Ok(vec![Provider::Cuda, Provider::Cpu]),
        ProviderChoice::Auto => {
            tracing::info!(
                "provider auto: no {CUDA_LIBRARY} beside ONNX Runtime; running on the CPU"
            );
            Ok(vec![Provider::Cpu])
        }
        ProviderChoice::Cuda if has_cuda => Ok(vec![Provider::Cuda]),
        ProviderChoice::Cuda => Err(Error::new(
            Code::ProviderUnavailable,
            format!(
                "provider cuda was asked for, but {CUDA_LIBRARY} is not beside {}: install the files of onnxruntime-gpu there, or choose --provider cpu",
                ort_library.display()
            ),
        )),
    }
}

/// What ONNX Runtime is told. Registration failures are errors, never a silent fall-back.
pub fn dispatch(provider: Provider, device_id: i32) -> Option<ExecutionProviderDispatch> {
    match provider {
        // The CPU provider is always there; its arena keeps buffers between runs.
        Provider::Cpu => None,
        Provider::Cuda => Some(
            ep::CUDA::default()
                .with_device_id(device_id)
                // EXHAUSTIVE costs seconds for each new shape.
                .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
                // Grow by what is asked for: doubling wastes up to half of the card.
                .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
                .build()
                .error_on_failure(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_without_its_library_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let ort = dir.path().join("libonnxruntime.so");
        let error = candidates(ProviderChoice::Cuda, &ort).unwrap_err();
        assert_eq!(error.code(), Code::ProviderUnavailable);
        assert!(error.message().contains(CUDA_LIBRARY), "{error}");
        assert_eq!(
            candidates(ProviderChoice::Auto, &ort).unwrap(),
            [Provider::Cpu]
        );
        std::fs::write(dir.path().join(CUDA_LIBRARY), b"").unwrap();
        assert_eq!(
            candidates(ProviderChoice::Cuda, &ort).unwrap(),
            [Provider::Cuda]
        );
        assert_eq!(
            candidates(ProviderChoice::Auto, &ort).unwrap(),
            [Provider::Cuda, Provider::Cpu]
        );
    }
}
