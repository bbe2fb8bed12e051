//! One photo of a comparison: what it is known by, and what came of it.

use serde::{Deserialize, Serialize};

use super::wire::Run;
use crate::error::{Class, Code, Error};
use crate::evaluate::Scores;
use crate::evaluate::agreement::{Agreement, Shares};

/// What decides a photo's row, beside the settings that hold for all. Digests are SHA-256 of files, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    /// Its path below the folder that was named, or its file name.
    pub name: String,
    /// `None` of a photo that cannot be read, which is tried again every time.
    pub photo: Option<String>,
    /// Of the mattes that were there already.
    pub mattes: [Option<String>; 2],
    pub mask: Option<String>,
}

/// A photo's row in the state and in the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub key: Key,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Compared(Box<Compared>),
    Failed(Failed),
}

/// Two mattes next to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Compared {
    /// The photo's, upright.
    pub width: u32,
    pub height: u32,
    /// As in [`Agreement`].
    pub a_more: f64,
    pub b_more: f64,
    pub changed: f64,
    pub iou: f64,
    pub boundary_iou: f64,
    /// A and B.
    pub arms: [ArmRow; 2],
}

/// One of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ArmRow {
    /// As in [`Shares`].
    pub coverage: f64,
    pub uncertain: f64,
    /// `None` of a matte that was there already.
    pub run: Option<Run>,
    /// Next to the true mask, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
}

/// Why there is nothing to be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    pub code: String,
    pub message: String,
}

impl Compared {
    pub fn new(
        (width, height): (u32, u32),
        agreement: &Agreement,
        runs: [Option<Run>; 2],
        scores: [Option<Scores>; 2],
    ) -> Self {
        let arm = |shares: Shares, run, scores| ArmRow {
            coverage: shares.coverage,
            uncertain: shares.uncertain,
            run,
            scores,
        };
        let ([a_run, b_run], [a_scores, b_scores]) = (runs, scores);
        Self {
            width,
            height,
            a_more: agreement.a_more,
            b_more: agreement.b_more,
            changed: agreement.changed,
            iou: agreement.iou,
            boundary_iou: agreement.boundary_iou,
            arms: [
                arm(agreement.a, a_run, a_scores),
                arm(agreement.b, b_run, b_scores),
            ],
        }
    }

    /// Mean absolute difference of the two, 0 to 1.
    pub fn difference(&self) -> f64 {
        self.a_more + self.b_more
    }
}

impl Row {
    /// Whether running it again would give the same: what failed for a reason that may pass is tried again.
    pub fn is_final(&self) -> bool {
        match &self.outcome {
            Outcome::Compared(_) => self.key.photo.is_some(),
            Outcome::Failed(failed) => {
                self.key.photo.is_some() && failed.code().class() == Class::Permanent
            }
        }
    }
}

impl Failed {
    pub fn new(error: &Error) -> Self {
        Self {
            code: error.code().as_str().to_owned(),
            message: error.chain(),
        }
    }

    /// Likewise of one of the two.
    pub fn of(label: &str, error: &Error) -> Self {
        let Self { code, message } = Self::new(error);
        Self {
            code,
            message: format!("{label}: {message}"),
        }
    }

    pub fn code(&self) -> Code {
        let known = Code::ALL.iter().find(|code| code.as_str() == self.code);
        known.copied().unwrap_or(Code::Internal)
    }

    /// What was told by another process, as an error again.
    pub fn error(&self) -> Error {
        Error::new(self.code(), self.message.clone())
    }
}
