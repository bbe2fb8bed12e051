//! S-measure: Fan et al., *Structure-measure: A New Way to Evaluate Foreground Maps*, ICCV 2017, with its
//! α = 0.5.
//!
//! Half of it looks at the object: how bright and even the matte is on the subject, how dark and even off it.
//! Half looks at regions: the structural similarity in the four rectangles that meet at the subject's centre
//! of gravity, weighed by their areas.

use super::levels::{Counts, Levels, Quarters};

/// Between the object's and the regions' share.
const ALPHA: f64 = 0.5;

/// Between 0 and 1; 1 is perfect. Without a subject, or with nothing but it, how close the matte's mean is to
/// the mask's.
///
/// A rectangle without pixels counts for nothing; PySODMetrics answers NaN when the centre of gravity
/// lies in the last row or column.
pub fn s_measure(quarters: &Quarters, levels: &Levels) -> f64 {
    let whole = quarters.whole();
    let (subjects, pixels) = (whole.subjects(), whole.pixels());
    if subjects == 0 {
        return 1.0 - moments(whole.by_level(levels).map(|(v, _, n)| (v, n))).mean;
    }
    if subjects == pixels {
        return moments(whole.by_level(levels).map(|(v, n, _)| (v, n))).mean;
    }
    let regions: f64 = quarters
        .0
        .iter()
        .filter(|quarter| quarter.pixels() > 0)
        .map(|quarter| similarity(quarter, levels) * quarter.pixels() as f64 / pixels as f64)
        .sum();
    (ALPHA * object(&whole, levels) + (1.0 - ALPHA) * regions).max(0.0)
}

fn object(whole: &Counts, levels: &Levels) -> f64 {
    let share = whole.subjects() as f64 / whole.pixels() as f64;
    let score = |moments: Moments| {
        let Moments { mean, deviation } = moments;
        2.0 * mean / (mean * mean + 1.0 + deviation + f64::EPSILON)
    };
    let on = moments(whole.by_level(levels).map(|(v, n, _)| (v, n)));
    let off = moments(whole.by_level(levels).map(|(v, _, n)| (1.0 - v, n)));
    score(on) * share + score(off) * (1.0 - share)
}

struct Moments {
    mean: f64,
    /// With one less than there are in the denominator; 0 of one.
    deviation: f64,
}

/// Of values that occur so many times.
fn moments(values: impl Iterator<Item = (f64, u64)> + Clone) -> Moments {
    let values = values.filter(|&(_, count)| count > 0);
    // Counted from the first one, so that the mean of equal values is that value to the last bit:
    // whether there is any contrast at all decides between 0 and 1 below.
    let first = values.clone().next().map_or(0.0, |(value, _)| value);
    let count: u64 = values.clone().map(|(_, n)| n).sum();
    let sum: f64 = values.clone().map(|(v, n)| (v - first) * n as f64).sum();
    let mean = first + sum / count.max(1) as f64;
    let squares: f64 = values.map(|(v, n)| (v - mean).powi(2) * n as f64).sum();
    let deviation = match count {
        0 | 1 => 0.0,
        _ => (squares / (count - 1) as f64).sqrt(),
    };
    Moments { mean, deviation }
}

/// Wang's structural similarity of matte and hard mask in one rectangle, without its constants.
fn similarity(counts: &Counts, levels: &Levels) -> f64 {
    let pixels = counts.pixels() as f64;
    let matte = moments(counts.by_level(levels).map(|(v, s, r)| (v, s + r))).mean;
    let mask = counts.subjects() as f64 / pixels;
    let (mut of_matte, mut of_mask, mut of_both) = (0.0, 0.0, 0.0);
    for (value, subject, rest) in counts.by_level(levels) {
        let (subject, rest) = (subject as f64, rest as f64);
        let (a, on, off) = (value - matte, 1.0 - mask, -mask);
        of_matte += a * a * (subject + rest);
        of_mask += on * on * subject + off * off * rest;
        of_both += a * (on * subject + off * rest);
    }
    let freedom = pixels - 1.0 + f64::EPSILON;
    let [of_matte, of_mask, of_both] = [of_matte, of_mask, of_both].map(|sum| sum / freedom);
    let above = 4.0 * matte * mask * of_both;
    let below = (matte * matte + mask * mask) * (of_matte + of_mask);
    if above != 0.0 {
        above / (below + f64::EPSILON)
    } else if below == 0.0 {
        1.0
    } else {
        0.0
    }
}
