//! Where numbers of many photos lie, and how sure that is.

use rayon::prelude::*;

use super::summary::{DRAWS, ends, sample};

/// The share of the photos that the last of the three stays below.
const HIGH: f64 = 0.95;

/// A statistic of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Of the numbers as they are.
    pub value: f64,
    /// From where to where it lies with 95 % confidence: percentile bootstrap over the photos, the same draws
    /// every time; `None` of fewer than two.
    pub interval: Option<(f64, f64)>,
}

/// Where some numbers lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Their mean.
    pub mean: Estimate,
    /// Half of them lie below.
    pub median: Estimate,
    /// 95 % of them lie below.
    pub p95: Estimate,
}

impl Spread {
    /// Of these numbers, one a photo; `None` of none. Numbers are finite.
    ///
    /// Percentiles lie between two numbers in proportion (Hyndman and Fan's seventh kind, as in NumPy).
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        // A draw is how often each of the sorted numbers was drawn: percentiles are read off without sorting
        // anew.
        let once = vec![1_u32; count];
        let drawn = |draw: u64| {
            let mut times = vec![0_u32; count];
            for at in sample(count, draw) {
                times[at] += 1;
            }
            statistics(&sorted, &times)
        };
        let draws: Vec<[f64; 3]> = match count {
            1 => Vec::new(),
            _ => (0..DRAWS).into_par_iter().map(drawn).collect(),
        };
        let values = statistics(&sorted, &once);
        let estimate = |which: usize| Estimate {
            value: values[which],
            interval: ends(draws.iter().map(|draw| draw[which]).collect()),
        };
        Some(Self {
            mean: estimate(0),
            median: estimate(1),
            p95: estimate(2),
        })
    }
}

/// How many times the mean of `theirs` the mean of `ours` is, drawn in pairs; `None` of no photos, or where
/// theirs is nothing.
pub fn ratio_of_means(ours: &[f64], theirs: &[f64]) -> Option<Estimate> {
    debug_assert_eq!(ours.len(), theirs.len());
    let count = ours.len().min(theirs.len());
    let ratio = |photos: &mut dyn Iterator<Item = usize>| {
        let (mut our, mut their) = (0.0, 0.0);
        for at in photos {
            our += ours[at];
            their += theirs[at];
        }
        (their > 0.0).then_some(our / their)
    };
    let draws = match count {
        0 | 1 => Vec::new(),
        _ => (0..DRAWS)
            .into_par_iter()
            .filter_map(|draw| ratio(&mut sample(count, draw)))
            .collect(),
    };
    Some(Estimate {
        value: ratio(&mut (0..count))?,
        interval: ends(draws),
    })
}

/// Mean, median and 95th percentile of sorted numbers, each taken so many times.
fn statistics(sorted: &[f64], times: &[u32]) -> [f64; 3] {
    let count: usize = times.iter().map(|&times| times as usize).sum();
    let last = count.saturating_sub(1) as f64;
    let ranks = [0.5, HIGH].map(|share| share * last);
    // The two neighbours of either percentile.
    let wanted = [
        ranks[0].floor(),
        ranks[0].ceil(),
        ranks[1].floor(),
        ranks[1].ceil(),
    ];
    let mut found = [0.0; 4];
    let (mut sum, mut seen, mut next) = (0.0, 0_usize, 0);
    for (&value, &times) in sorted.iter().zip(times) {
        sum += value * f64::from(times);
        seen += times as usize;
        while next < wanted.len() && (wanted[next] as usize) < seen {
            found[next] = value;
            next += 1;
        }
    }
    let between = |low: f64, high: f64, rank: f64| low + (high - low) * rank.fract();
    [
        sum / count as f64,
        between(found[0], found[1], ranks[0]),
        between(found[2], found[3], ranks[1]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_numpy() {
        // numpy.percentile([3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [50, 95]) = 3.5, 7.65
        let spread = Spread::of(&[3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0]).unwrap();
        assert_eq!(spread.mean.value, 3.9);
        assert_eq!(spread.median.value, 3.5);
        assert!((spread.p95.value - 7.65).abs() < 1e-12, "{spread:?}");
        // Times taken stand for numbers that are there so often: [1, 1, 1, 2] and [2, 2].
        assert_eq!(statistics(&[1.0, 2.0], &[3, 1])[..2], [1.25, 1.0]);
        assert_eq!(statistics(&[1.0, 2.0], &[0, 2]), [2.0, 2.0, 2.0]);
    }

    #[test]
    fn an_interval_holds_its_value_and_is_the_same_every_time() {
        let values: Vec<f64> = (0..60).map(|i| f64::from(i * i % 61)).collect();
        let spread = Spread::of(&values).unwrap();
        for estimate in [spread.mean, spread.median, spread.p95] {
            let (low, high) = estimate.interval.unwrap();
            assert!(
                low < estimate.value && estimate.value < high,
                "{estimate:?}"
            );
        }
        assert_eq!(Spread::of(&values), Some(spread));
        // The mean of n numbers is uncertain by 1.96 standard errors to each side.
        let mean = spread.mean.value;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 60.0;
        let (low, high) = spread.mean.interval.unwrap();
        let expected = 2.0 * 1.96 * (variance / 60.0).sqrt();
        assert!(
            ((high - low) / expected - 1.0).abs() < 0.15,
            "{low} {high} {expected}"
        );
    }

    #[test]
    fn one_number_has_no_interval_and_none_no_spread() {
        let one = Spread::of(&[2.5]).unwrap();
        assert_eq!((one.p95.value, one.p95.interval), (2.5, None));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(ratio_of_means(&[], &[]), None);
        assert_eq!(ratio_of_means(&[1.0], &[0.0]), None);
    }

    #[test]
    fn a_ratio_that_every_photo_has_is_sure() {
        let theirs = [1.0, 7.0, 3.0, 20.0];
        let ours = theirs.map(|value| 2.0 * value);
        let ratio = ratio_of_means(&ours, &theirs).unwrap();
        assert_eq!((ratio.value, ratio.interval), (2.0, Some((2.0, 2.0))));
    }
}
