//! ONNX Runtime's shared library: finding out its version, loading it once, taking its log.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use crate::error::{Code, Error, Result};

/// The version of ONNX Runtime, which its file name ends in (`libonnxruntime.so.1.26.0`);
/// `ort` checks it against the API it needs but does not tell it.
pub fn version(library: &Path) -> String {
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
pub(super) fn environment(library: &Path) -> Result<Environment> {
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
