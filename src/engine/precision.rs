//! In which type the network computes. Less of it is faster where the CPU has units for it, and
//! moves the matte: so it is chosen only by who asks, or where its price is known to be small.

use std::fmt;
use std::str::FromStr;

use super::provider::Provider;
use crate::error::{Code, Error, Result};
use crate::model::manifest::MeasuredError;

/// What the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// bf16 where the CPU computes in it and the manifest's measured error is within [`BOUND`],
    /// else what the graph is written in.
    #[default]
    Auto,
    /// 32 bits with `OpenVINO`; the others compute in the types that the graph is written in, and
    /// are told to take no shorter ones.
    F32,
    /// bfloat16, or failure to start.
    Bf16,
}

impl FromStr for PrecisionChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!(
                "{text:?} is not a precision: use auto, f32 or bf16"
            )),
        }
    }
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// What the network computes in, in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// The types that the graph is written in (ONNX Runtime's CPU kernels compute halves in f32).
    Graph,
    /// 32 bits.
    F32,
    /// bfloat16: the range of f32, 8 bits of precision.
    Bf16,
}

impl Precision {
    /// Name in results, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// What [`PrecisionChoice::Auto`] accepts: half a level on average, and one pixel in twenty off
/// by more than a level. The rounding of the matte to bytes is a quarter of a level on average.
pub const BOUND: MeasuredError = MeasuredError {
    mean: 0.5 / 255.0,
    off: 0.05,
};

/// Whether an error is small enough for bf16 to be chosen unasked.
pub fn within_bound(error: MeasuredError) -> bool {
    error.mean <= BOUND.mean && error.off <= BOUND.off
}

/// Decides. `native` is whether this CPU computes in bf16, `measured` the manifest's error.
///
/// Errors: `provider_unavailable` when bf16 was asked for and cannot be had.
pub fn decide(
    choice: PrecisionChoice,
    provider: Provider,
    native: bool,
    measured: Option<MeasuredError>,
) -> Result<Precision> {
    match (provider, choice) {
        (Provider::OpenVino, PrecisionChoice::F32) => Ok(Precision::F32),
        (Provider::OpenVino, PrecisionChoice::Bf16) if native => Ok(Precision::Bf16),
        (Provider::OpenVino, PrecisionChoice::Auto) => {
            Ok(if native && measured.is_some_and(within_bound) {
                Precision::Bf16
            } else {
                Precision::F32
            })
        }
        (_, PrecisionChoice::Bf16) => Err(Error::new(
            Code::ProviderUnavailable,
            format!(
                "precision bf16 was asked for, but {}: choose --precision auto",
                if provider == Provider::OpenVino {
                    "this CPU does not compute in it (it has no avx512_bf16)"
                } else {
                    "only the provider openvino has it"
                }
            ),
        )),
        _ => Ok(Precision::Graph),
    }
}

/// Whether this CPU computes in bf16. Every one with AMX has AVX-512 for it too.
pub fn native_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: MeasuredError = MeasuredError {
        mean: 0.0007,
        off: 0.03,
    };
    const LARGE: MeasuredError = MeasuredError {
        mean: 0.0007,
        off: 0.2,
    };

    #[test]
    fn bf16_is_chosen_unasked_only_where_it_is_fast_and_its_error_is_known_to_be_small() {
        use Precision::{Bf16, F32, Graph};
        use PrecisionChoice::Auto;
        for (provider, native, measured, expected) in [
            (Provider::OpenVino, true, Some(SMALL), Bf16),
            (Provider::OpenVino, true, Some(LARGE), F32),
            (Provider::OpenVino, true, None, F32),
            (Provider::OpenVino, false, Some(SMALL), F32),
            (Provider::Cpu, true, Some(SMALL), Graph),
            (Provider::Cuda, true, Some(SMALL), Graph),
        ] {
            let chosen = decide(Auto, provider, native, measured).unwrap();
            assert_eq!(chosen, expected, "{provider:?} {native} {measured:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_done_or_refused() {
        let decide = |choice, provider, native| decide(choice, provider, native, None);
        let (bf16, f32) = (PrecisionChoice::Bf16, PrecisionChoice::F32);
        assert_eq!(
            decide(bf16, Provider::OpenVino, true).unwrap(),
            Precision::Bf16
        );
        assert_eq!(
            decide(f32, Provider::OpenVino, true).unwrap(),
            Precision::F32
        );
        for (provider, native) in [
            (Provider::OpenVino, false),
            (Provider::Cpu, true),
            (Provider::Cuda, true),
        ] {
            let error = decide(bf16, provider, native).unwrap_err();
            assert_eq!(error.code(), Code::ProviderUnavailable);
        }
    }

    #[test]
    fn names_are_read_back() {
        for name in ["auto", "f32", "bf16"] {
            assert_eq!(name.parse::<PrecisionChoice>().unwrap().to_string(), name);
        }
        assert!("int8".parse::<PrecisionChoice>().is_err());
    }
}
