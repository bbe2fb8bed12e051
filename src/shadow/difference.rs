//! How far two mattes of one photo are apart. A pure function of both at the networks' sizes.

use serde::Serialize;

use crate::engine::tensor::Matte;

/// From here on a pixel is subject: above 128 of 255, rounded as bytes are; where `crate::evaluate` draws the line.
const SUBJECT: f32 = 128.5 / 255.0;

/// Two mattes' difference, at the size of the smaller one: what the larger knows beyond that, the other cannot.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Pixels at which it was taken.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Mean absolute difference, 0 to 1.
    pub mean: f64,
    /// Share of the pixels that differ by more than a half: one network says subject, the other does not.
    pub disagreeing: f64,
    /// Intersection over union of what both call subject (above 128 of 255); 1 where neither finds any.
    pub iou: f64,
}

/// Takes it. Both are finished ([`crate::pipeline::matte::finish`]): 0 to 1, and not empty.
pub fn between(a: &Matte, b: &Matte) -> Difference {
    let pixels = |matte: &Matte| u64::from(matte.width) * u64::from(matte.height);
    let (small, large) = if pixels(a) <= pixels(b) {
        (a, b)
    } else {
        (b, a)
    };
    let (width, height) = (small.width, small.height);
    let resized;
    let other = if (large.width, large.height) == (width, height) {
        &large.values
    } else {
        resized = area_averaged(large, width, height);
        &resized
    };
    let (mut sum, mut disagreeing, mut both, mut either) = (0.0, 0_u64, 0_u64, 0_u64);
    for (&a, &b) in small.values.iter().zip(other) {
        let difference = (a - b).abs();
        sum += f64::from(difference);
        disagreeing += u64::from(difference > 0.5);
        let (a, b) = (a >= SUBJECT, b >= SUBJECT);
        both += u64::from(a && b);
        either += u64::from(a || b);
    }
    let count = pixels(small).max(1) as f64;
    Difference {
        width,
        height,
        mean: sum / count,
        disagreeing: disagreeing as f64 / count,
        iou: if either == 0 {
            1.0
        } else {
            both as f64 / either as f64
        },
    }
}

/// Each pixel the mean of what it covers, by area; one axis after the other.
fn area_averaged(matte: &Matte, width: u32, height: u32) -> Vec<f32> {
    let (from_width, from_height) = (matte.width as usize, matte.height as usize);
    let (width, height) = (width as usize, height as usize);
    let columns = covered(from_width, width);
    let mut narrow = Vec::with_capacity(width * from_height);
    for row in matte.values.chunks_exact(from_width) {
        narrow.extend(columns.iter().map(|(first, weights)| {
            let covered = row[*first..].iter().zip(weights);
            covered.map(|(value, weight)| value * weight).sum::<f32>()
        }));
    }
    let mut small = vec![0.0; width * height];
    for ((first, weights), out) in covered(from_height, height)
        .iter()
        .zip(small.chunks_exact_mut(width))
    {
        let rows = narrow[first * width..].chunks_exact(width);
        for (row, weight) in rows.zip(weights) {
            for (out, value) in out.iter_mut().zip(row) {
                *out += value * weight;
            }
        }
    }
    small
}

/// For each of `to` pixels: the first of `from` that it covers, and the weight of that and those after it.
fn covered(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let step = from as f64 / to as f64;
    let pixels = (0..to).map(|x| {
        let (begin, end) = (x as f64 * step, (x + 1) as f64 * step);
        let first = (begin as usize).min(from - 1);
        let last = (end.ceil() as usize).clamp(first + 1, from);
        let weight = |i: usize| {
            let overlap = end.min((i + 1) as f64) - begin.max(i as f64);
            (overlap.max(0.0) / step) as f32
        };
        (first, (first..last).map(weight).collect())
    });
    pixels.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matte(width: u32, height: u32, at: impl Fn(u32, u32) -> f32) -> Matte {
        let values = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Matte {
            width,
            height,
            values: values.map(|(x, y)| at(x, y)).collect(),
        }
    }

    #[test]
    fn the_measures_are_what_they_say() {
        let a = matte(4, 1, |x, _| [1.0, 1.0, 0.0, 0.25][x as usize]);
        let b = matte(4, 1, |x, _| [1.0, 0.0, 0.5, 0.25][x as usize]);
        let found = between(&a, &b);
        assert_eq!((found.width, found.height), (4, 1));
        assert_eq!(found.mean, 1.5 / 4.0);
        // A half is not more than a half.
        assert_eq!(found.disagreeing, 0.25);
        // Nor is it above 128.
        assert_eq!(found.iou, 0.5);
        assert_eq!(between(&b, &a), found);
    }

    #[test]
    fn two_that_find_nothing_agree() {
        let nothing = matte(3, 3, |_, _| 0.0);
        let found = between(&nothing, &nothing);
        assert_eq!((found.mean, found.disagreeing, found.iou), (0.0, 0.0, 1.0));
        let all = matte(3, 3, |_, _| 1.0);
        let found = between(&nothing, &all);
        assert_eq!((found.mean, found.disagreeing, found.iou), (1.0, 1.0, 0.0));
    }

    #[test]
    fn the_larger_is_brought_to_the_smaller_by_area() {
        let fine = matte(6, 4, |x, _| if x < 3 { 1.0 } else { 0.0 });
        let coarse = matte(2, 2, |x, _| if x == 0 { 1.0 } else { 0.0 });
        let found = between(&fine, &coarse);
        assert_eq!((found.width, found.height), (2, 2));
        assert_eq!((found.mean, found.disagreeing, found.iou), (0.0, 0.0, 1.0));
        // 3 to 2: the middle one is shared by halves.
        let third = matte(3, 1, |x, _| if x == 1 { 1.0 } else { 0.0 });
        let found = between(&third, &matte(2, 1, |_, _| 0.0));
        assert!((found.mean - 1.0 / 3.0).abs() < 1e-6, "{found:?}");
    }

    proptest! {
        #[test]
        fn a_plain_matte_stays_itself_at_every_size(
            from in (1_u32..40, 1_u32..40), to in (1_u32..40, 1_u32..40), value in 0.0_f32..=1.0,
        ) {
            let (a, b) = (matte(from.0, from.1, |_, _| value), matte(to.0, to.1, |_, _| value));
            let found = between(&a, &b);
            prop_assert!(found.mean < 1e-5, "{found:?}");
            prop_assert_eq!(found.disagreeing, 0.0);
        }
    }
}
