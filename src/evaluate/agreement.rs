//! How far two mattes of one photo agree, neither of which is known to be true.
//!
//! A pure function of two planes of bytes at the photo's full size. What a network does to hair is in the mean
//! difference and in the boundary IoU, what it takes for another subject in the IoU and the share that changed
//! sides.

use super::boundary::boundary_iou;
use super::{HARD, Pair};

/// Levels of pixels that are neither subject nor background: alpha between 0.1 and 0.9, as for
/// [`crate::pipeline::quality`].
const UNCERTAIN: std::ops::RangeInclusive<u8> = 26..=229;

/// A difference of more than one half, in levels.
const HALF: u8 = 127;

/// What one matte is like by itself. Shares of the picture, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Above 128 of 255: subject.
    pub coverage: f64,
    /// Alpha between 0.1 and 0.9: neither subject nor background.
    pub uncertain: f64,
}

/// How far two mattes, A and B, agree. Means and shares are over the picture, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Mean of what A's alpha has more than B's, where it has more; 0 elsewhere.
    pub a_more: f64,
    /// The same for B. Both together are the mean absolute difference.
    pub b_more: f64,
    /// Share of the pixels whose alpha differs by more than one half.
    pub changed: f64,
    /// Intersection over union of both, made hard above 128 of 255; 1 where neither has a subject.
    pub iou: f64,
    /// The same along the outlines ([`boundary_iou`]).
    pub boundary_iou: f64,
    /// A by itself.
    pub a: Shares,
    /// B by itself.
    pub b: Shares,
}

impl Agreement {
    /// Compares two mattes: `matte` is A, `mask` is B.
    pub fn of(pair: &Pair<'_>) -> Self {
        let (counts, boundary_iou) = rayon::join(|| Counts::of(pair), || boundary_iou(pair));
        let pixels = pair.pixels() as f64;
        let share = |count: u64| count as f64 / pixels;
        let mean = |levels: u64| levels as f64 / 255.0 / pixels;
        let [a, b] = [0, 1].map(|of| Shares {
            coverage: share(counts.subject[of]),
            uncertain: share(counts.uncertain[of]),
        });
        Self {
            a_more: mean(counts.more[0]),
            b_more: mean(counts.more[1]),
            changed: share(counts.changed),
            iou: match counts.either {
                0 => 1.0,
                either => counts.both as f64 / either as f64,
            },
            boundary_iou,
            a,
            b,
        }
    }

    /// Mean absolute difference, 0 to 1.
    pub fn difference(&self) -> f64 {
        self.a_more + self.b_more
    }
}

/// What is counted in one walk over both.
#[derive(Default)]
struct Counts {
    more: [u64; 2],
    changed: u64,
    both: u64,
    either: u64,
    subject: [u64; 2],
    uncertain: [u64; 2],
}

impl Counts {
    fn of(pair: &Pair<'_>) -> Self {
        let mut counts = Self::default();
        for (&a, &b) in pair.matte.iter().zip(pair.mask) {
            let apart = a.abs_diff(b);
            counts.more[usize::from(b > a)] += u64::from(apart);
            counts.changed += u64::from(apart > HALF);
            let (a_is, b_is) = (a > HARD, b > HARD);
            counts.both += u64::from(a_is && b_is);
            counts.either += u64::from(a_is || b_is);
            counts.subject[0] += u64::from(a_is);
            counts.subject[1] += u64::from(b_is);
            counts.uncertain[0] += u64::from(UNCERTAIN.contains(&a));
            counts.uncertain[1] += u64::from(UNCERTAIN.contains(&b));
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(a: &[u8], b: &[u8]) -> Agreement {
        Agreement::of(&Pair::new(a.len() as u32 / 2, 2, a, b).unwrap())
    }

    #[test]
    fn every_number_is_what_it_is_said_to_be() {
        let agreement = of(&[255, 255, 0, 128], &[0, 204, 51, 0]);
        assert!((agreement.a_more - (255.0 + 51.0 + 128.0) / 1020.0).abs() < 1e-12);
        assert!((agreement.b_more - 51.0 / 1020.0).abs() < 1e-12);
        assert_eq!(agreement.changed, 0.5, "the first, and 128 of 255");
        assert_eq!(agreement.iou, 0.5);
        assert_eq!((agreement.a.coverage, agreement.b.coverage), (0.5, 0.25));
        assert_eq!((agreement.a.uncertain, agreement.b.uncertain), (0.25, 0.5));
    }

    #[test]
    fn nothing_agrees_with_nothing() {
        let agreement = of(&[0; 4], &[0; 4]);
        assert_eq!((agreement.iou, agreement.boundary_iou), (1.0, 1.0));
        assert_eq!(agreement.difference(), 0.0);
    }

    proptest! {
        #[test]
        fn the_two_change_places(levels in proptest::collection::vec(any::<(u8, u8)>(), 2..40)) {
            let even = &levels[..levels.len() / 2 * 2];
            let (a, b): (Vec<u8>, Vec<u8>) = even.iter().copied().unzip();
            let (ours, theirs) = (of(&a, &b), of(&b, &a));
            prop_assert_eq!((ours.a_more, ours.b_more), (theirs.b_more, theirs.a_more));
            prop_assert_eq!((ours.a, ours.b), (theirs.b, theirs.a));
            prop_assert_eq!((ours.iou, ours.changed), (theirs.iou, theirs.changed));
            prop_assert_eq!(of(&a, &a).difference(), 0.0);
        }
    }
}
