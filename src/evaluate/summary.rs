//! The mean of a measure over many photos, and how sure it is.

use rayon::prelude::*;

use super::{Curve, Measure, Scores};

/// How often the photos are drawn anew for an interval: the ends of a 95 % interval move by less than a tenth
/// of its width from seed to seed.
pub(super) const DRAWS: u64 = 1000;

/// The share of the draws that the interval holds.
const SURE: f64 = 0.95;

/// A mean, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Over the photos. Of `max_f` and `max_e` it is the maximum of the mean curve, as in papers: one
    /// threshold for all photos.
    pub mean: f64,
    /// From where to where the mean lies with 95 % confidence (percentile bootstrap over the photos,
    /// Efron 1979); `None` of fewer than two photos.
    pub interval: Option<(f64, f64)>,
}

impl Summary {
    /// Of one measure over some photos; `None` of none.
    pub fn of(scores: &[Scores], measure: Measure) -> Option<Self> {
        let mean = mean(scores.iter(), measure)?;
        let drawn = |draw: u64| {
            let drawn = sample(scores.len(), draw).map(|at| &scores[at]);
            self::mean(drawn, measure)
        };
        Some(Self {
            mean,
            interval: interval(scores.len(), drawn),
        })
    }

    /// Of what `ours` are ahead of `theirs`, photo by photo in the same order: the difference between two
    /// networks is surer than either of them, as what makes a photo hard is hard for both.
    pub fn of_difference(ours: &[Scores], theirs: &[Scores], measure: Measure) -> Option<Self> {
        debug_assert_eq!(ours.len(), theirs.len());
        let difference = |photos: &mut dyn Iterator<Item = usize>| {
            let photos: Vec<usize> = photos.collect();
            let ours = mean(photos.iter().map(|&at| &ours[at]), measure)?;
            let theirs = mean(photos.iter().map(|&at| &theirs[at]), measure)?;
            Some(ours - theirs)
        };
        let count = ours.len().min(theirs.len());
        Some(Self {
            mean: difference(&mut (0..count))?,
            interval: interval(count, |draw| difference(&mut sample(count, draw))),
        })
    }
}

fn mean<'a>(scores: impl ExactSizeIterator<Item = &'a Scores>, measure: Measure) -> Option<f64> {
    let count = scores.len();
    match measure {
        Measure::MaxF => Some(Curve::mean(scores.map(|one| &one.f))?.max()),
        Measure::MaxE => Some(Curve::mean(scores.map(|one| &one.e))?.max()),
        _ => {
            let sum: f64 = scores.map(|one| one.get(measure)).sum();
            (count > 0).then_some(sum / count as f64)
        }
    }
}

/// As many photos as there are, drawn with replacement; the same ones for every measure and at every run.
pub(super) fn sample(count: usize, draw: u64) -> impl ExactSizeIterator<Item = usize> {
    let mut random = fastrand::Rng::with_seed(draw);
    (0..count).map(move |_| random.usize(..count))
}

fn interval(count: usize, drawn: impl Fn(u64) -> Option<f64> + Send + Sync) -> Option<(f64, f64)> {
    if count < 2 {
        return None;
    }
    ends((0..DRAWS).into_par_iter().filter_map(drawn).collect())
}

/// The ends of the interval that holds [`SURE`] of the draws; `None` of none.
pub(super) fn ends(mut draws: Vec<f64>) -> Option<(f64, f64)> {
    draws.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = draws.len().checked_sub(1)?;
        draws.get((share * last as f64).round() as usize).copied()
    };
    Some((at((1.0 - SURE) / 2.0)?, at((1.0 + SURE) / 2.0)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Pair;

    fn scores(mattes: &[[u8; 4]]) -> Vec<Scores> {
        let mask = [255, 255, 0, 0];
        let of = |matte: &[u8; 4]| Scores::of(&Pair::new(2, 2, matte, &mask).unwrap());
        mattes.iter().map(of).collect()
    }

    #[test]
    fn an_interval_holds_the_mean_and_is_the_same_every_time() {
        let all = scores(&[
            [255, 200, 0, 9],
            [255, 9, 0, 80],
            [255, 255, 0, 0],
            [9, 255, 200, 0],
        ]);
        for measure in Measure::ALL {
            let summary = Summary::of(&all, measure).unwrap();
            let (low, high) = summary.interval.unwrap();
            assert!(
                low <= summary.mean && summary.mean <= high,
                "{measure:?}: {summary:?}"
            );
            assert_eq!(Summary::of(&all, measure), Some(summary));
        }
    }

    #[test]
    fn one_photo_has_no_interval_and_none_no_mean() {
        let one = scores(&[[255, 200, 0, 9]]);
        assert_eq!(Summary::of(&one, Measure::S).unwrap().interval, None);
        assert_eq!(Summary::of(&[], Measure::S), None);
        assert_eq!(Summary::of(&[], Measure::MaxF), None);
    }

    #[test]
    fn a_difference_that_every_photo_has_is_sure() {
        let theirs = scores(&[[255, 200, 0, 9], [255, 9, 0, 80], [9, 255, 200, 0]]);
        let ours = scores(&[[255, 255, 0, 0]; 3]);
        let ahead = Summary::of_difference(&ours, &theirs, Measure::Sad).unwrap();
        let (_, high) = ahead.interval.unwrap();
        assert!(ahead.mean < 0.0 && high < 0.0, "{ahead:?}");
        let same = Summary::of_difference(&ours, &ours, Measure::MaxE).unwrap();
        assert_eq!((same.mean, same.interval), (0.0, Some((0.0, 0.0))));
    }

    #[test]
    fn the_best_threshold_is_one_for_all_photos() {
        let both = scores(&[[255, 100, 90, 0], [255, 200, 190, 0]]);
        let mean = (both[0].get(Measure::MaxF) + both[1].get(Measure::MaxF)) / 2.0;
        let together = Summary::of(&both, Measure::MaxF).unwrap().mean;
        assert!(
            (mean - 1.0).abs() < 1e-12 && together < 0.99,
            "{mean} {together}"
        );
    }
}
