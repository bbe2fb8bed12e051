//! How sure the network was of a photo, told from its matte alone.
//!
//! A pure function of the finished matte at the **network's** size. That is where the network's doubt is:
//! the full size adds pixels, but nothing that is not interpolated, and what a job asks for (threshold,
//! reverse, crop) is not the network's doing. A photo of 12 megapixels costs no more than a small one.

use crate::engine::tensor::Matte;
use crate::job::{Quality, Reason, Verdict};

use super::components::Components;

/// Alpha from which on a pixel is subject.
const SUBJECT: f32 = 0.5;

/// Alpha between these is neither subject nor background.
const UNCERTAIN: std::ops::Range<f32> = 0.1..0.9;

/// A part of the subject counts from this share of the picture on: specks are not parts.
const PART: f64 = 0.001;

/// Numbers are told to four decimals: a share of 1024² pixels means no more.
const DECIMALS: f64 = 1e4;

/// What is unusual. Each bound is beyond anything that good mattes of our samples reach
/// (docs/evaluation.md); a number exactly at its bound is still usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Least coverage.
    pub min_coverage: f64,
    /// Most coverage.
    pub max_coverage: f64,
    /// Most uncertain pixels.
    pub max_uncertain: f64,
    /// Most parts.
    pub max_components: u32,
    /// Most of the edge.
    pub max_border: f64,
    /// Widest outline.
    pub max_edge_width: f64,
}

/// Takes the numbers of a finished matte ([`super::matte::finish`]); nobody has judged them yet.
pub fn measure(matte: &Matte) -> Quality {
    let (width, height) = (matte.width as usize, matte.height as usize);
    let pixels = (width * height).max(1) as f64;
    let (mut subject, mut uncertain, mut crossings) = (0_u64, 0_u64, 0_u64);
    let mut above: Option<&[f32]> = None;
    for row in matte.values.chunks_exact(width.max(1)) {
        for &alpha in row {
            subject += u64::from(alpha >= SUBJECT);
            uncertain += u64::from(alpha > UNCERTAIN.start && alpha < UNCERTAIN.end);
        }
        crossings += differing(&row[1..], row);
        if let Some(above) = above {
            crossings += differing(row, above);
        }
        above = Some(row);
    }
    let least = (PART * pixels).ceil() as u32;
    let parts = Components::of(width, height, |at| matte.values[at] >= SUBJECT).count(least);
    // The sides between pixels of either kind are 4/π times as many as the outline is long, on
    // average over its directions (Cauchy–Crofton).
    let outline = crossings as f64 * std::f64::consts::FRAC_PI_4;
    let edge_width = match crossings {
        0 => 0.0,
        _ => uncertain as f64 / outline / width.max(height) as f64,
    };
    Quality {
        coverage: rounded(subject as f64 / pixels),
        uncertain: rounded(uncertain as f64 / pixels),
        components: parts as u32,
        border: rounded(border(matte)),
        edge_width: rounded(edge_width),
        verdict: None,
        reasons: Vec::new(),
        copy: None,
    }
}

/// How often one is subject and the other is not.
fn differing(a: &[f32], b: &[f32]) -> u64 {
    let pairs = a.iter().zip(b);
    pairs
        .map(|(a, b)| u64::from((*a >= SUBJECT) != (*b >= SUBJECT)))
        .sum()
}

/// Share of the four edges that is subject; each counts by a quarter, whatever its length.
fn border(matte: &Matte) -> f64 {
    let width = (matte.width as usize).max(1);
    let mut rows = matte.values.chunks_exact(width);
    let share = |subjects: usize, of: usize| subjects as f64 / of.max(1) as f64;
    let of_row = |row: &[f32]| share(row.iter().filter(|a| **a >= SUBJECT).count(), width);
    let sides = [0, width - 1].map(|x| {
        let column = rows.clone().filter(|row| row[x] >= SUBJECT).count();
        share(column, matte.height as usize)
    });
    let first = rows.clone().next().map_or(0.0, of_row);
    let last = rows.next_back().map_or(0.0, of_row);
    (first + last + sides[0] + sides[1]) / 4.0
}

fn rounded(value: f64) -> f64 {
    (value * DECIMALS).round() / DECIMALS
}

impl Bounds {
    /// The numbers with a verdict.
    pub fn judge(&self, numbers: Quality) -> Quality {
        let found = |reason| match reason {
            Reason::Empty => numbers.coverage < self.min_coverage,
            Reason::Full => numbers.coverage > self.max_coverage,
            Reason::Uncertain => numbers.uncertain > self.max_uncertain,
            Reason::Fragmented => numbers.components > self.max_components,
            Reason::Border => numbers.border > self.max_border,
            Reason::Blurred => numbers.edge_width > self.max_edge_width,
        };
        let reasons: Vec<_> = Reason::ALL
            .into_iter()
            .filter(|reason| found(*reason))
            .collect();
        let verdict = match reasons.as_slice() {
            [] => Verdict::Ok,
            _ => Verdict::Review,
        };
        Quality {
            verdict: Some(verdict),
            reasons,
            ..numbers
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matte(width: u32, height: u32, alpha: impl Fn(f64, f64) -> f64) -> Matte {
        let values = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Matte {
            width,
            height,
            values: values
                .map(|(x, y)| alpha(f64::from(x) + 0.5, f64::from(y) + 0.5).clamp(0.0, 1.0) as f32)
                .collect(),
        }
    }

    /// A disc of this radius whose alpha falls from 1 to 0 over `soft` pixels.
    fn disc(x: f64, y: f64, radius: f64, soft: f64) -> impl Fn(f64, f64) -> f64 {
        move |px, py| (radius - (px - x).hypot(py - y)) / soft + 0.5
    }

    const BOUNDS: Bounds = Bounds {
        min_coverage: 0.01,
        max_coverage: 0.95,
        max_uncertain: 0.2,
        max_components: 3,
        max_border: 0.7,
        max_edge_width: 0.05,
    };

    #[test]
    fn a_disc_has_its_area_and_the_width_of_its_edge() {
        for soft in [8.0, 20.0] {
            let numbers = measure(&matte(400, 300, disc(200.0, 150.0, 90.0, soft)));
            let area = std::f64::consts::PI * 90.0 * 90.0 / 120_000.0;
            assert!((numbers.coverage - area).abs() < 0.002, "{numbers:?}");
            // From 0.1 to 0.9 of it.
            let width = 0.8 * soft / 400.0;
            assert!(
                (numbers.edge_width - width).abs() < 0.1 * width,
                "{numbers:?}"
            );
            assert_eq!((numbers.components, numbers.border), (1, 0.0));
        }
    }

    #[test]
    fn parts_are_counted_and_specks_are_not() {
        let (a, b) = (disc(60.0, 60.0, 30.0, 1.0), disc(220.0, 60.0, 40.0, 1.0));
        let speck = disc(150.0, 150.0, 2.0, 1.0);
        let three = matte(300, 200, |x, y| a(x, y).max(b(x, y)).max(speck(x, y)));
        assert_eq!(measure(&three).components, 2);
    }

    #[test]
    fn the_edges_count_by_a_quarter_each() {
        let left = matte(80, 40, |x, _| if x < 20.0 { 1.0 } else { 0.0 });
        // All of the left, a quarter of the top and of the bottom.
        assert_eq!(measure(&left).border, 0.375);
        assert_eq!(measure(&matte(8, 4, |_, _| 1.0)).border, 1.0);
    }

    #[test]
    fn every_reason_has_its_picture() {
        let judge = |matte: &Matte| BOUNDS.judge(measure(matte)).reasons;
        assert_eq!(judge(&matte(200, 200, |_, _| 0.0)), [Reason::Empty]);
        assert_eq!(
            judge(&matte(200, 200, |_, _| 1.0)),
            [Reason::Full, Reason::Border]
        );
        let doubt = matte(200, 200, |x, _| if x < 100.0 { 0.4 } else { 0.0 });
        assert_eq!(judge(&doubt), [Reason::Empty, Reason::Uncertain]);
        let dots = matte(200, 200, |x, y| {
            if (x % 50.0).hypot(y % 50.0) < 20.0 {
                1.0
            } else {
                0.0
            }
        });
        assert_eq!(judge(&dots), [Reason::Fragmented]);
        let haze = matte(200, 200, disc(100.0, 100.0, 20.0, 16.0));
        assert_eq!(judge(&haze), [Reason::Blurred]);
        let good = BOUNDS.judge(measure(&matte(200, 200, disc(100.0, 100.0, 60.0, 4.0))));
        assert_eq!(
            (good.verdict, good.to_string().as_str()),
            (Some(Verdict::Ok), "ok")
        );
    }

    #[test]
    fn a_number_at_its_bound_is_usual() {
        let numbers = measure(&matte(100, 100, |x, _| if x < 50.0 { 1.0 } else { 0.0 }));
        let at = Bounds {
            min_coverage: numbers.coverage,
            max_coverage: numbers.coverage,
            max_uncertain: numbers.uncertain,
            max_components: numbers.components,
            max_border: numbers.border,
            max_edge_width: numbers.edge_width,
        };
        assert_eq!(at.judge(numbers.clone()).verdict, Some(Verdict::Ok));
        let beyond = Bounds {
            max_components: 0,
            ..at
        };
        let found = beyond.judge(numbers);
        assert_eq!(found.to_string(), "review: fragmented");
    }

    proptest! {
        #[test]
        fn any_matte_has_numbers_that_are_shares(
            width in 1_u32..20,
            height in 1_u32..20,
            values in proptest::collection::vec(0.0_f32..=1.0, 400),
        ) {
            let values = values[..(width * height) as usize].to_vec();
            let numbers = measure(&Matte { width, height, values });
            for share in [numbers.coverage, numbers.uncertain, numbers.border] {
                prop_assert!((0.0..=1.0).contains(&share), "{:?}", numbers);
            }
            prop_assert!(numbers.edge_width.is_finite() && numbers.edge_width >= 0.0);
        }
    }
}
