//! What all photos together say.

use serde::Serialize;

use super::row::{ArmRow, Compared};
use super::wire::Run;
use crate::evaluate::spread::{Estimate, Spread, ratio_of_means};
use crate::evaluate::summary::Summary;
use crate::evaluate::{Better, Measure, Scores};

/// Everything above the list of photos. Shares are 0 to 1, times milliseconds, memory bytes.
#[derive(Serialize)]
pub(super) struct Statistics {
    pub photos: usize,
    /// How far the two are apart.
    pub agreement: Vec<Named>,
    /// Each by itself, and B less A photo by photo.
    pub shares: Vec<Sides>,
    /// The same of times; empty where none is a network.
    pub times: Vec<Sides>,
    /// Most that was resident in each network's process.
    pub peak: [Option<u64>; 2],
    /// Next to true masks; empty without.
    pub measures: Vec<Measured>,
}

/// A figure of how far the two are apart. The last of its three is that which 95 % of the photos are better than.
#[derive(Serialize)]
pub(super) struct Named {
    pub key: &'static str,
    pub spread: SpreadJson,
}

#[derive(Serialize)]
pub(super) struct Sides {
    pub key: &'static str,
    pub a: Option<SpreadJson>,
    pub b: Option<SpreadJson>,
    /// B less A.
    pub less: Option<SpreadJson>,
    /// Mean of B by mean of A.
    pub ratio: Option<EstimateJson>,
}

/// A measure next to true masks.
#[derive(Serialize)]
pub(super) struct Measured {
    pub key: &'static str,
    pub title: &'static str,
    pub higher_is_better: bool,
    pub a: EstimateJson,
    pub b: EstimateJson,
    /// B less A.
    pub less: EstimateJson,
    /// Photos on which each is better than the other.
    pub a_wins: usize,
    pub b_wins: usize,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct EstimateJson {
    pub value: f64,
    /// Both ends of the 95 % interval.
    pub interval: Option<(f64, f64)>,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct SpreadJson {
    pub mean: EstimateJson,
    pub median: EstimateJson,
    pub p95: EstimateJson,
}

impl Statistics {
    pub fn of(rows: &[&Compared]) -> Self {
        let all = |value: &dyn Fn(&Compared) -> f64| -> Vec<f64> {
            rows.iter().map(|row| value(row)).collect()
        };
        let apart = |key, value: &dyn Fn(&Compared) -> f64| {
            let spread = Spread::of(&all(value))?.into();
            Some(Named { key, spread })
        };
        // Of what is better the larger it is, most photos are above.
        let alike = |key, value: &dyn Fn(&Compared) -> f64| {
            let spread =
                SpreadJson::from(Spread::of(&all(&|row| 1.0 - value(row)))?).less_than_one();
            Some(Named { key, spread })
        };
        let agreement = [
            apart("difference", &Compared::difference),
            apart("changed", &|row| row.changed),
            alike("iou", &|row| row.iou),
            alike("boundary_iou", &|row| row.boundary_iou),
        ];
        let shares = [
            sides(rows, "coverage", |arm| Some(arm.coverage)),
            sides(rows, "uncertain", |arm| Some(arm.uncertain)),
        ];
        let times = [
            sides(rows, "infer_ms", |arm| arm.run.map(|run| run.infer_ms)),
            sides(rows, "total_ms", |arm| arm.run.map(|run| run.total_ms)),
        ];
        let peak = [0, 1].map(|arm: usize| {
            let runs = rows.iter().filter_map(|row| row.arms[arm].run);
            runs.filter_map(|run: Run| run.peak).max()
        });
        Self {
            photos: rows.len(),
            agreement: agreement.into_iter().flatten().collect(),
            shares: shares.into(),
            times: times
                .into_iter()
                .filter(|sides| sides.a.is_some() || sides.b.is_some())
                .collect(),
            peak,
            measures: measures(rows),
        }
    }
}

fn sides(rows: &[&Compared], key: &'static str, value: impl Fn(&ArmRow) -> Option<f64>) -> Sides {
    let all = |arm: usize| -> Vec<f64> {
        let values = rows.iter().filter_map(|row| value(&row.arms[arm]));
        values.collect()
    };
    let (a, b) = (all(0), all(1));
    let mut sides = Sides {
        key,
        a: Spread::of(&a).map(Into::into),
        b: Spread::of(&b).map(Into::into),
        less: None,
        ratio: None,
    };
    // One of the two may have no times: a folder.
    if a.len() == b.len() {
        let less: Vec<f64> = b.iter().zip(&a).map(|(b, a)| b - a).collect();
        sides.less = Spread::of(&less).map(Into::into);
        sides.ratio = ratio_of_means(&b, &a).map(Into::into);
    }
    sides
}

fn measures(rows: &[&Compared]) -> Vec<Measured> {
    let scores = |arm: usize| -> Vec<Scores> {
        let scores = rows.iter().filter_map(|row| row.arms[arm].scores.clone());
        scores.collect()
    };
    let (a, b) = (scores(0), scores(1));
    if a.len() != rows.len() || b.len() != rows.len() {
        return Vec::new();
    }
    let measured = |measure: Measure| {
        let higher_is_better = measure.better() == Better::Higher;
        let ahead = |ours: &Scores, theirs: &Scores| {
            let (ours, theirs) = (ours.get(measure), theirs.get(measure));
            ours != theirs && (ours > theirs) == higher_is_better
        };
        let pairs = || a.iter().zip(&b);
        Some(Measured {
            key: measure.key(),
            title: measure.title(),
            higher_is_better,
            a: Summary::of(&a, measure)?.into(),
            b: Summary::of(&b, measure)?.into(),
            less: Summary::of_difference(&b, &a, measure)?.into(),
            a_wins: pairs().filter(|(a, b)| ahead(a, b)).count(),
            b_wins: pairs().filter(|(a, b)| ahead(b, a)).count(),
        })
    };
    Measure::ALL.into_iter().filter_map(measured).collect()
}

impl SpreadJson {
    /// The same of 1 less each number.
    fn less_than_one(self) -> Self {
        let less = |estimate: EstimateJson| EstimateJson {
            value: 1.0 - estimate.value,
            interval: estimate.interval.map(|(low, high)| (1.0 - high, 1.0 - low)),
        };
        Self {
            mean: less(self.mean),
            median: less(self.median),
            p95: less(self.p95),
        }
    }
}

impl From<Estimate> for EstimateJson {
    fn from(Estimate { value, interval }: Estimate) -> Self {
        Self { value, interval }
    }
}

impl From<Summary> for EstimateJson {
    fn from(Summary { mean, interval }: Summary) -> Self {
        Self {
            value: mean,
            interval,
        }
    }
}

impl From<Spread> for SpreadJson {
    fn from(Spread { mean, median, p95 }: Spread) -> Self {
        Self {
            mean: mean.into(),
            median: median.into(),
            p95: p95.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(difference: f64, iou: f64, times: Option<[f64; 2]>) -> Compared {
        let arm = |total_ms: Option<f64>, peak| ArmRow {
            coverage: 0.5,
            uncertain: 0.0,
            run: total_ms.map(|total_ms| Run {
                infer_ms: total_ms / 2.0,
                total_ms,
                peak: Some(peak),
            }),
            scores: None,
        };
        Compared {
            width: 1,
            height: 1,
            a_more: difference,
            b_more: 0.0,
            changed: 0.0,
            iou,
            boundary_iou: 1.0,
            arms: [
                arm(times.map(|[a, _]| a), (difference * 1000.0) as u64),
                arm(times.map(|[_, b]| b), 7),
            ],
        }
    }

    #[test]
    fn the_tail_is_that_of_the_photos_that_differ_most() {
        let rows: Vec<_> = (0..=100)
            .map(|i| {
                let share = f64::from(i) / 100.0;
                row(share, 1.0 - share, Some([10.0, 10.0 + f64::from(i)]))
            })
            .collect();
        let statistics = Statistics::of(&rows.iter().collect::<Vec<_>>());
        let [difference, _, iou, _] = statistics.agreement.as_slice() else {
            panic!("four figures");
        };
        assert!((difference.spread.p95.value - 0.95).abs() < 1e-12);
        assert!((iou.spread.p95.value - 0.05).abs() < 1e-12);
        let (low, high) = iou.spread.p95.interval.unwrap();
        assert!(low <= iou.spread.p95.value && iou.spread.p95.value <= high);
        assert_eq!(statistics.peak, [Some(1000), Some(7)]);
        let whole = &statistics.times[1];
        assert_eq!(whole.key, "total_ms");
        assert_eq!(whole.less.unwrap().mean.value, 50.0);
        assert_eq!(whole.ratio.unwrap().value, 6.0);
    }

    #[test]
    fn without_networks_there_are_no_times_and_without_photos_nothing() {
        let there = row(0.1, 0.9, None);
        let statistics = Statistics::of(&[&there]);
        assert!(statistics.times.is_empty());
        assert_eq!(statistics.peak, [None, None]);
        let nothing = Statistics::of(&[]);
        assert!(nothing.agreement.is_empty() && nothing.measures.is_empty());
    }
}
