//! What a result says of its matte: numbers, a verdict, and why.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::object::ObjectName;

/// How sure the network was, in numbers; and whether somebody should look at the picture.
///
/// The numbers are about the network's own matte, before the job's threshold, reverse, crop and size.
/// Shares are of the whole picture, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    /// Share that is subject (alpha of at least one half).
    pub coverage: f64,
    /// Share that is neither subject nor background (alpha between 0.1 and 0.9).
    pub uncertain: f64,
    /// Separate parts of the subject, those of less than a thousandth of the picture left out.
    pub components: u32,
    /// Share of the picture's four edges that the subject touches.
    pub border: f64,
    /// How wide the way from background to subject is, on average along the outline, as a share of the
    /// picture's longer side; 0 without an outline.
    pub edge_width: f64,
    /// What the worker's thresholds make of the numbers; absent where it was told not to judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why somebody should look; empty when all is well.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// A copy of the cut-out, where the worker was told to put those that somebody should look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<ObjectName>,
}

/// Whether a result should be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing about the matte is unusual.
    Ok,
    /// Somebody should look at the picture before it is used.
    Review,
}

impl Verdict {
    /// The JSON word; also object metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Review => "review",
        }
    }
}

/// What is unusual about a matte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Hardly anything was found.
    Empty,
    /// Hardly anything was removed.
    Full,
    /// Much of it is neither subject nor background.
    Uncertain,
    /// The subject is in many parts.
    Fragmented,
    /// The subject is cut off by most of the picture's edge.
    Border,
    /// The outline is a wide haze.
    Blurred,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Full,
        Self::Uncertain,
        Self::Fragmented,
        Self::Border,
        Self::Blurred,
    ];

    /// The JSON word; also a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Full => "full",
            Self::Uncertain => "uncertain",
            Self::Fragmented => "fragmented",
            Self::Border => "border",
            Self::Blurred => "blurred",
        }
    }
}

impl Quality {
    /// Whether somebody should look at the picture.
    pub fn needs_review(&self) -> bool {
        self.verdict == Some(Verdict::Review)
    }
}

/// The verdict and its reasons, as HTTP headers and warnings have it: `ok`, `review: empty, blurred`.
impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verdict.map_or("unjudged", Verdict::as_str))?;
        let reasons: Vec<_> = self.reasons.iter().map(|reason| reason.as_str()).collect();
        if reasons.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", reasons.join(", "))
    }
}
