//! Pillow's resampling, to the last bit (`src/libImaging/Resample.c`, 8 bits a channel).
//!
//! The networks were trained and are published with it, and a level more or less in what goes in is
//! several in the mask that comes out: `fast_image_resize`, whose weights have fewer bits, is within
//! one level and moved masks by 1.6 levels on average (docs/decisions/0007). Pictures for people do
//! not come by here.

use std::borrow::Cow;

use rayon::prelude::*;

/// A filter: how far it reaches, in source pixels when not shrinking, and its value at a distance.
pub(super) struct Kernel {
    reach: f64,
    at: fn(f64) -> f64,
}

/// Pillow's `BILINEAR`.
pub(super) const BILINEAR: Kernel = Kernel {
    reach: 1.0,
    at: |x| (1.0 - x.abs()).max(0.0),
};

/// Pillow's `LANCZOS`: a sinc windowed by a sinc three times as wide.
pub(super) const LANCZOS: Kernel = Kernel {
    reach: 3.0,
    at: |x| {
        let sinc = |x: f64| {
            let x = x * std::f64::consts::PI;
            if x == 0.0 { 1.0 } else { x.sin() / x }
        };
        if (-3.0..3.0).contains(&x) {
            sinc(x) * sinc(x / 3.0)
        } else {
            0.0
        }
    },
};

/// Bits after the point in a weight; a byte and the sum's overshoot have room above them.
const PRECISION: u32 = 32 - 8 - 2;

/// `N` bytes a pixel, from one size (width, height) to another.
///
/// What lies between the two passes is in bytes, as in Pillow, and so their order shows: as in
/// version 13, the height goes first if it loses more than twice the pixels that the width does.
/// (Before that version the width always went first; that is a level here and there.) The memory
/// beside the answer is what lies between, at most target width × source height × `N` bytes.
pub(super) fn resize<const N: usize>(
    source: &[u8],
    from: (u32, u32),
    to: (u32, u32),
    kernel: &Kernel,
) -> Vec<u8> {
    let (lost_width, lost_height) = (
        i64::from(from.0) - i64::from(to.0),
        i64::from(from.1) - i64::from(to.1),
    );
    if lost_height > 0 && lost_height > 2 * lost_width {
        let lower = down::<N>(source, from, to.1, kernel);
        across::<N>(&lower, from.0, to.0, kernel).into_owned()
    } else {
        let narrower = across::<N>(source, from.0, to.0, kernel);
        down::<N>(&narrower, (to.0, from.1), to.1, kernel).into_owned()
    }
}

fn across<'a, const N: usize>(
    source: &'a [u8],
    from: u32,
    to: u32,
    kernel: &Kernel,
) -> Cow<'a, [u8]> {
    if from == to {
        return Cow::Borrowed(source);
    }
    let (source, _) = source.as_chunks::<N>();
    let weights = Weights::new(from, to, kernel);
    let rows = source.len() / from as usize;
    let mut target = vec![[0; N]; to as usize * rows];
    target
        .par_chunks_exact_mut(to as usize)
        .zip(source.par_chunks_exact(from as usize))
        .for_each(|(target, source)| {
            for (pixel, (first, weights)) in target.iter_mut().zip(weights.iter()) {
                let mut sums = [HALF; N];
                for (pixel, weight) in source[first..].iter().zip(weights) {
                    for (sum, &sample) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(sample) * weight;
                    }
                }
                *pixel = sums.map(clipped);
            }
        });
    Cow::Owned(target.into_flattened())
}

fn down<'a, const N: usize>(
    source: &'a [u8],
    from: (u32, u32),
    to: u32,
    kernel: &Kernel,
) -> Cow<'a, [u8]> {
    if from.1 == to {
        return Cow::Borrowed(source);
    }
    let weights = Weights::new(from.1, to, kernel);
    let row = from.0 as usize * N;
    let mut target = vec![0; row * to as usize];
    target.par_chunks_exact_mut(row).enumerate().for_each_init(
        || vec![HALF; row],
        |sums, (y, target)| {
            let (first, weights) = weights.of(y);
            sums.fill(HALF);
            for (source, weight) in source[first * row..].chunks_exact(row).zip(weights) {
                for (sum, &sample) in sums.iter_mut().zip(source) {
                    *sum += i32::from(sample) * weight;
                }
            }
            for (sample, &sum) in target.iter_mut().zip(&*sums) {
                *sample = clipped(sum);
            }
        },
    );
    Cow::Owned(target)
}

/// One half: sums are rounded to nearest.
const HALF: i32 = 1 << (PRECISION - 1);

fn clipped(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// For each target position the first source position, and the weights from there on
/// (`precompute_coeffs` and `normalize_coeffs_8bpc`).
struct Weights {
    /// First source position, and where its weights end in `all`.
    spans: Vec<(usize, usize)>,
    all: Vec<i32>,
}

impl Weights {
    fn new(from: u32, to: u32, kernel: &Kernel) -> Self {
        let scale = f64::from(from) / f64::from(to);
        let stretch = scale.max(1.0);
        let support = kernel.reach * stretch;
        // Pillow multiplies by the reciprocal, which differs from dividing in the last bit.
        let squeeze = 1.0 / stretch;
        let mut weights = Self {
            spans: Vec::with_capacity(to as usize),
            all: Vec::new(),
        };
        let mut exact = Vec::new();
        for x in 0..to {
            let centre = (f64::from(x) + 0.5) * scale;
            // The casts cut off towards zero, as C's do, and stop at zero below.
            let first = (centre - support + 0.5) as u32;
            let end = ((centre + support + 0.5) as u32).min(from);
            exact.clear();
            exact
                .extend((first..end).map(|i| (kernel.at)((f64::from(i) - centre + 0.5) * squeeze)));
            let sum: f64 = exact.iter().sum();
            weights.all.extend(exact.iter().map(|weight| {
                let weight = if sum == 0.0 { *weight } else { weight / sum };
                let fixed = weight * f64::from(1u32 << PRECISION);
                (fixed + 0.5f64.copysign(fixed)) as i32
            }));
            weights.spans.push((first as usize, weights.all.len()));
        }
        weights
    }

    fn of(&self, target: usize) -> (usize, &[i32]) {
        let begin = target
            .checked_sub(1)
            .map_or(0, |before| self.spans[before].1);
        let (first, end) = self.spans[target];
        (first, &self.all[begin..end])
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        (0..self.spans.len()).map(|target| self.of(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::fixtures;
    use proptest::prelude::*;

    #[test]
    fn pictures_are_pillows_to_the_last_bit() {
        let source = fixtures::rgb("resize.png");
        let from = source.dimensions();
        for to in [(32, 24), (7, 5), (96, 64), (1, 1)] {
            let ours = resize::<3>(source.as_raw(), from, to, &BILINEAR);
            let theirs = fixtures::rgb(&format!("resize_{}x{}.png", to.0, to.1));
            assert_eq!(ours, theirs.into_raw(), "{to:?}");
        }
    }

    proptest! {
        #[test]
        fn any_size_keeps_a_plain_picture_plain(
            from in (1u32..60, 1u32..60), to in (1u32..60, 1u32..60), colour in any::<[u8; 3]>(),
        ) {
            let pixels = |(width, height): (u32, u32)| colour.repeat((width * height) as usize);
            prop_assert_eq!(resize::<3>(&pixels(from), from, to, &BILINEAR), pixels(to));
        }
    }
}
