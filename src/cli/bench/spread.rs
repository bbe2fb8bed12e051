//! Samples in short: the median and the extremes.

use std::time::Duration;

use serde::Serialize;

/// The median and the extremes of samples, in their unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of durations, in seconds.
    pub(super) fn of(samples: impl IntoIterator<Item = Duration>) -> Self {
        Self::of_numbers(samples.into_iter().map(|d| d.as_secs_f64()))
    }

    pub(super) fn of_numbers(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        match samples.as_slice() {
            [] => Self::default(),
            all => Self {
                median: all[all.len() / 2],
                min: all[0],
                max: all[all.len() - 1],
            },
        }
    }

    /// `median (min–max)`, each times `scale`.
    pub(super) fn text(&self, scale: f64, digits: usize) -> String {
        let [median, min, max] = [self.median, self.min, self.max].map(|value| value * scale);
        format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
    }
}

/// The sample below which this share of all lies; 0 of none.
pub(super) fn percentile(samples: &[Duration], share: f64) -> f64 {
    let mut seconds: Vec<f64> = samples.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    let at = (seconds.len() as f64 * share).ceil() as usize;
    seconds
        .get(at.saturating_sub(1).min(seconds.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_nothing_is_zero_and_of_three_has_its_middle() {
        assert_eq!(Spread::of([]), Spread::default());
        let spread = Spread::of([3, 1, 2].map(Duration::from_secs));
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(spread.text(10.0, 0), "20 (10–30)");
    }

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let samples: Vec<_> = (1..=20).map(Duration::from_secs).collect();
        assert_eq!(percentile(&samples, 0.5), 10.0);
        assert_eq!(percentile(&samples, 0.95), 19.0);
        assert_eq!(percentile(&samples[..1], 0.95), 1.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
