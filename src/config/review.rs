//! When a result should be looked at, and where a copy of it goes then.

use std::str::FromStr;

use clap::Args;

use super::place::Place;
use crate::error::{Error, Result};
use crate::object::ObjectName;
use crate::pipeline::quality::Bounds;

/// Thresholds of the verdict. Numbers are in the result's `quality`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Review")]
pub struct ReviewArgs {
    /// Judge each matte by the thresholds below: the result's verdict is ok or review
    #[arg(long, env = "CUTOUT_REVIEW", default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = clap::value_parser!(bool), value_name = "BOOL")]
    pub review: bool,

    /// Review when less of the picture is subject: a share, 0 to 1
    #[arg(long, env = "CUTOUT_REVIEW_MIN_COVERAGE", default_value_t = 0.005, value_name = "SHARE", value_parser = share)]
    pub review_min_coverage: f64,

    /// Review when more of the picture is subject
    #[arg(long, env = "CUTOUT_REVIEW_MAX_COVERAGE", default_value_t = 0.97, value_name = "SHARE", value_parser = share)]
    pub review_max_coverage: f64,

    /// Review when more of the picture is neither subject nor background
    #[arg(long, env = "CUTOUT_REVIEW_MAX_UNCERTAIN", default_value_t = 0.15, value_name = "SHARE", value_parser = share)]
    pub review_max_uncertain: f64,

    /// Review when the subject is in more parts
    #[arg(
        long,
        env = "CUTOUT_REVIEW_MAX_COMPONENTS",
        default_value_t = 10,
        value_name = "N"
    )]
    pub review_max_components: u32,

    /// Review when the subject touches more of the picture's four edges
    #[arg(long, env = "CUTOUT_REVIEW_MAX_BORDER", default_value_t = 0.8, value_name = "SHARE", value_parser = share)]
    pub review_max_border: f64,

    /// Review when the outline is wider on average, as a share of the picture's longer side
    #[arg(long, env = "CUTOUT_REVIEW_MAX_EDGE_WIDTH", default_value_t = 0.03, value_name = "SHARE", value_parser = share)]
    pub review_max_edge_width: f64,
}

impl ReviewArgs {
    /// The thresholds; `None` for no verdict.
    pub fn bounds(&self) -> Option<Bounds> {
        self.review.then_some(Bounds {
            min_coverage: self.review_min_coverage,
            max_coverage: self.review_max_coverage,
            max_uncertain: self.review_max_uncertain,
            max_components: self.review_max_components,
            max_border: self.review_max_border,
            max_edge_width: self.review_max_edge_width,
        })
    }
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!(
            "{text:?} is not a share: write a number from 0 to 1"
        )),
    }
}

/// Where copies for review go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewPlace(Place);

impl ReviewPlace {
    /// The place itself.
    pub const fn place(&self) -> &Place {
        &self.0
    }

    /// Where the copy of a job's cut-out goes: the place, the destination's own path, and the begin of the
    /// job's key, so that a later job's copy for the same destination never meets this one.
    /// A path that would be too long is left out, and the job's whole key stands for it.
    pub fn copy_of(&self, destination: &ObjectName, key: &str) -> ObjectName {
        let path = match destination.dir() {
            "" => String::new(),
            dir => format!("{dir}/"),
        };
        let extension = destination
            .key()
            .rsplit_once('.')
            .map_or("png", |(_, ext)| ext);
        let short = &key[..key.len().min(12)];
        self.0
            .named(&format!("{path}{}.{short}.{extension}", destination.stem()))
            .or_else(|_| self.0.named(&format!("{key}.png")))
            .expect("a place is refused where a job's key does not fit")
    }
}

impl FromStr for ReviewPlace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // A job's key is 64 hex digits.
        let longest = format!("{}.png", "0".repeat(64));
        Place::parse(text, "--review-prefix", &longest).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_copy_keeps_its_destinations_path_and_is_told_apart_by_its_job() {
        let key = "0123456789abcdef0123";
        for (place, destination, copy) in [
            (
                "gs://perkie/review",
                "gs://out/2026/rex.png",
                "gs://perkie/review/2026/rex.0123456789ab.png",
            ),
            (
                "gs://perkie/review/",
                "gs://out/rex.webp",
                "gs://perkie/review/rex.0123456789ab.webp",
            ),
            (
                "gs://perkie",
                "gs://out/a/b/rex.png",
                "gs://perkie/a/b/rex.0123456789ab.png",
            ),
            (
                "review/",
                "outbox/rex.cutout.png",
                "review/outbox/rex.cutout.0123456789ab.png",
            ),
        ] {
            let place: ReviewPlace = place.parse().unwrap();
            let found = place.copy_of(&destination.parse().unwrap(), key);
            assert_eq!(found.to_string(), copy);
        }
    }

    #[test]
    fn a_destination_whose_path_is_too_long_gets_a_copy_named_by_its_job() {
        let place: ReviewPlace = "gs://perkie/review".parse().unwrap();
        let destination = format!("gs://out/{}.png", "x".repeat(1015))
            .parse()
            .unwrap();
        let key = "ab".repeat(32);
        let copy = place.copy_of(&destination, &key).to_string();
        assert_eq!(copy, format!("gs://perkie/review/{key}.png"));
    }

    #[test]
    fn a_place_that_cannot_be_is_refused() {
        for text in [
            "",
            "/",
            "../review",
            "/abs",
            ".cutout/x",
            "gs://",
            "gs://A B/x",
        ] {
            let error = text.parse::<ReviewPlace>().expect_err(text);
            assert_eq!(error.code(), Code::ConfigInvalid, "{text}");
        }
    }

    #[test]
    fn a_share_is_a_number_from_zero_to_one() {
        assert_eq!(share("0.25"), Ok(0.25));
        for text in ["-0.1", "1.1", "NaN", "much", ""] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
