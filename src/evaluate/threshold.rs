//! Measures of the matte made hard at a threshold, next to the hard mask, and the plainest of all.
//!
//! The F-measure is Achanta et al., *Frequency-tuned Salient Region Detection*, CVPR 2009, with its β² = 0.3:
//! precision counts more than recall. The E-measure is Fan et al., *Enhanced-alignment Measure for Binary
//! Foreground Map Evaluation*, IJCAI 2018. The mean absolute error is Perazzi et al., *Saliency Filters*, CVPR
//! 2012. The matte is stretched first ([`Levels`]).

use serde::{Deserialize, Serialize};

use super::levels::{Counts, Levels};

/// β² of the F-measure.
const BETA_SQUARED: f64 = 0.3;

/// A value of a measure for each threshold, from 255 down to 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Curve(Box<[f64; 256]>);

impl TryFrom<Vec<f64>> for Curve {
    type Error = String;

    fn try_from(values: Vec<f64>) -> Result<Self, String> {
        let values: Box<[f64]> = values.into();
        let values = values.try_into().map(Self);
        values.map_err(|values: Box<[f64]>| format!("a curve has 256 values, not {}", values.len()))
    }
}

impl From<Curve> for Vec<f64> {
    fn from(Curve(values): Curve) -> Self {
        (values as Box<[f64]>).into()
    }
}

impl Curve {
    /// At the best threshold.
    pub fn max(&self) -> f64 {
        self.0.iter().fold(f64::MIN, |best, &value| best.max(value))
    }

    /// The mean of several, threshold by threshold; papers take the best threshold of this one, the same for
    /// all photos. `None` of none.
    pub fn mean<'a>(curves: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut sums = Box::new([0.0; 256]);
        let mut count = 0_u64;
        for curve in curves {
            count += 1;
            for (sum, value) in sums.iter_mut().zip(curve.0.iter()) {
                *sum += value;
            }
        }
        for sum in sums.iter_mut() {
            *sum /= count as f64;
        }
        (count > 0).then_some(Self(sums))
    }
}

/// Mean absolute error: mean |matte − mask| over the pixels. 0 is perfect.
pub fn mean_absolute_error(counts: &Counts, levels: &Levels) -> f64 {
    let sum: f64 = counts
        .by_level(levels)
        .map(|(value, subject, rest)| (1.0 - value) * subject as f64 + value * rest as f64)
        .sum();
    sum / counts.pixels() as f64
}

/// What a threshold makes of a matte: how many pixels of the subject, and of the rest, count as found.
#[derive(Clone, Copy, Debug)]
struct Found {
    subject: u64,
    rest: u64,
}

/// F-measure for each threshold: (1 + β²)·P·R / (β²·P + R). 0 where nothing of the subject is found.
pub fn f_curve(counts: &Counts, levels: &Levels) -> Curve {
    let subjects = counts.subjects();
    at_thresholds(counts, levels, |found| f_measure(found, subjects))
}

/// E-measure for each threshold: the mean of (1 + ξ)² / 4, where ξ = 2ab / (a² + b²) says how well the
/// hard matte's and the mask's deviations a and b from their own means agree in a pixel. As the authors'
/// code, it divides by one pixel less than there are, so that a perfect matte is a trifle above 1.
pub fn e_curve(counts: &Counts, levels: &Levels) -> Curve {
    let (subjects, pixels) = (counts.subjects(), counts.pixels());
    at_thresholds(counts, levels, |found| e_measure(found, subjects, pixels))
}

fn at_thresholds(counts: &Counts, levels: &Levels, measure: impl Fn(Found) -> f64) -> Curve {
    let mut reached = [Found {
        subject: 0,
        rest: 0,
    }; 256];
    let both = counts.subject.iter().zip(&counts.rest);
    for (&threshold, (subject, rest)) in levels.thresholds.iter().zip(both) {
        let found = &mut reached[usize::from(threshold)];
        found.subject += subject;
        found.rest += rest;
    }
    let mut so_far = Found {
        subject: 0,
        rest: 0,
    };
    let mut curve = Box::new([0.0; 256]);
    for (value, found) in curve.iter_mut().zip(reached.iter().rev()) {
        so_far.subject += found.subject;
        so_far.rest += found.rest;
        *value = measure(so_far);
    }
    Curve(curve)
}

/// F- and E-measure at the matte's own threshold.
#[derive(Clone, Copy, Debug)]
pub struct Adaptive {
    pub f: f64,
    pub e: f64,
}

/// Both measures at twice the stretched matte's mean, at most 1: what "adaptive" means in papers.
pub fn adaptive(counts: &Counts, levels: &Levels) -> Adaptive {
    let (subjects, pixels) = (counts.subjects(), counts.pixels());
    let sum: f64 = counts
        .by_level(levels)
        .map(|(value, subject, rest)| value * (subject + rest) as f64)
        .sum();
    let threshold = (2.0 * (sum / pixels as f64)).min(1.0);
    let mut found = Found {
        subject: 0,
        rest: 0,
    };
    for (value, subject, rest) in counts.by_level(levels) {
        if value >= threshold {
            found.subject += subject;
            found.rest += rest;
        }
    }
    Adaptive {
        f: f_measure(found, subjects),
        e: e_measure(found, subjects, pixels),
    }
}

fn f_measure(found: Found, subjects: u64) -> f64 {
    if found.subject == 0 {
        return 0.0;
    }
    let precision = found.subject as f64 / (found.subject + found.rest) as f64;
    let recall = found.subject as f64 / subjects as f64;
    (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
}

fn e_measure(found: Found, subjects: u64, pixels: u64) -> f64 {
    let marked = found.subject + found.rest;
    let sum = if subjects == 0 {
        (pixels - marked) as f64
    } else if subjects == pixels {
        marked as f64
    } else {
        let missed = subjects - found.subject;
        let kept_out = pixels - marked - missed;
        let share = |count: u64| count as f64 / pixels as f64;
        let (matte, mask) = (share(marked), share(subjects));
        [
            (found.subject, 1.0 - matte, 1.0 - mask),
            (found.rest, 1.0 - matte, -mask),
            (missed, -matte, 1.0 - mask),
            (kept_out, -matte, -mask),
        ]
        .into_iter()
        .map(|(count, a, b)| {
            let alignment = 2.0 * a * b / (a * a + b * b + f64::EPSILON);
            (alignment + 1.0).powi(2) / 4.0 * count as f64
        })
        .sum()
    };
    // A picture of one pixel would be divided by nothing.
    sum / (pixels - 1).max(1) as f64
}
