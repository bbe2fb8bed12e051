//! Pillow's resampling, to the last bit (`src/libImaging/Resample.c`, 8 bits a channel).
//!
//! The networks were trained and are published with it, and a level more or less in what goes in is
//! several in the mask that comes out: `fast_image_resize`, whose weights have fewer bits, is within
//! one level and moved masks by 1.6 levels on average (docs/decisions/0007). Pictures for people do
//! not come by here.

use std::borrow::Cow;

use rayon::prelude::*;
use wide::{i16x8, i32x4, u8x16};

use super::vector::{self, LANES};

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
    let weights = Weights::new(from, to, kernel);
    let (from, to) = (from as usize, to as usize);
    // As many rows as fit into a vector go together: a column of them is what `weighted` takes for
    // a row.
    let rows = LANES / N;
    let mut target = vec![0; to * (source.len() / from)];
    target
        .par_chunks_mut(to * N * rows)
        .zip(source.par_chunks(from * N * rows))
        .for_each_init(
            || vec![[0; LANES]; from],
            |columns, (target, source)| {
                upright::<N>(source, columns);
                for x in 0..to {
                    let (first, pairs) = weights.of(x);
                    let column = weighted(columns[first..].as_flattened(), LANES, pairs);
                    let pixels = column.as_chunks::<N>().0;
                    for (row, pixel) in target.chunks_exact_mut(to * N).zip(pixels) {
                        row[x * N..][..N].copy_from_slice(pixel);
                    }
                }
            },
        );
    Cow::Owned(target)
}

/// A few rows, turned into columns: the pixels of the first position one below the other, then
/// those of the second, and so on.
fn upright<const N: usize>(rows: &[u8], columns: &mut [[u8; LANES]]) {
    // Columns that stay in the nearest cache while each row is brought into them.
    const TILE: usize = 256;
    let width = columns.len() * N;
    for (tile, columns) in columns.chunks_mut(TILE).enumerate() {
        for (place, row) in rows.chunks_exact(width).enumerate() {
            let pixels = row[tile * TILE * N..].as_chunks::<N>().0;
            for (column, pixel) in columns.iter_mut().zip(pixels) {
                column[place * N..][..N].copy_from_slice(pixel);
            }
        }
    }
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
    target
        .par_chunks_exact_mut(row)
        .enumerate()
        .for_each(|(y, target)| {
            let (first, pairs) = weights.of(y);
            let source = &source[first * row..];
            for (i, target) in target.chunks_mut(LANES).enumerate() {
                let samples = weighted(&source[i * LANES..], row, pairs);
                target.copy_from_slice(&samples[..target.len()]);
            }
        });
    Cow::Owned(target)
}

/// One half: sums are rounded to nearest.
const HALF: i32 = 1 << (PRECISION - 1);

/// Weights are cut in two here, because the widest product that every processor of the family has
/// (SSE2's `pmaddwd`, which adds two of them besides) takes 16 bits a side.
const LOW_BITS: u32 = 11;

/// The weights of two neighbours in turn, as often as they fit, in their upper and lower bits.
struct Pair {
    high: i16x8,
    low: i16x8,
}

impl Pair {
    fn new(first: i32, second: i32) -> Self {
        let alternating = |of: fn(i32) -> i16| {
            let (first, second) = (of(first), of(second));
            i16x8::new([first, second, first, second, first, second, first, second])
        };
        Self {
            // A weight is at most a little above one, 23 bits with its sign.
            high: alternating(|weight| (weight >> LOW_BITS) as i16),
            low: alternating(|weight| (weight & ((1 << LOW_BITS) - 1)) as i16),
        }
    }
}

/// The weighted sums of neighbours that lie `stride` bytes apart, for as many bytes as a vector
/// has. What lies beyond the end of `source` has no weight, or no reader.
#[inline(always)]
fn weighted(source: &[u8], stride: usize, pairs: &[Pair]) -> [u8; LANES] {
    let mut high = [i32x4::ZERO; 4];
    let mut low = [i32x4::splat(HALF); 4];
    for (i, pair) in pairs.iter().enumerate() {
        let first = load(source, 2 * i * stride);
        let second = load(source, (2 * i + 1) * stride);
        let begin = u8x16::unpack_low(first, second);
        let end = u8x16::unpack_high(first, second);
        let neighbours = [
            i16x8::from_u8x16_low(begin),
            i16x8::from_u8x16_high(begin),
            i16x8::from_u8x16_low(end),
            i16x8::from_u8x16_high(end),
        ];
        for ((high, low), neighbours) in high.iter_mut().zip(&mut low).zip(neighbours) {
            *high += neighbours.dot(pair.high);
            *low += neighbours.dot(pair.low);
        }
    }
    vector::clamped(std::array::from_fn(|i| {
        ((high[i] << LOW_BITS) + low[i]) >> PRECISION
    }))
}

#[inline(always)]
fn load(source: &[u8], at: usize) -> u8x16 {
    let rest = source.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(bytes) => u8x16::new(*bytes),
        None => load_last(rest),
    }
}

#[cold]
fn load_last(rest: &[u8]) -> u8x16 {
    let mut bytes = [0; LANES];
    bytes[..rest.len()].copy_from_slice(rest);
    u8x16::new(bytes)
}

/// For each target position the first source position, and the weights from there on
/// (`precompute_coeffs` and `normalize_coeffs_8bpc`).
struct Weights {
    /// First source position, and where its weights end in `all`.
    spans: Vec<(usize, usize)>,
    all: Vec<Pair>,
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
            let fixed = |weight: f64| {
                let weight = if sum == 0.0 { weight } else { weight / sum };
                let fixed = weight * f64::from(1u32 << PRECISION);
                (fixed + 0.5f64.copysign(fixed)) as i32
            };
            weights.all.extend(exact.chunks(2).map(|pair| {
                let second = pair.get(1).copied().map_or(0, fixed);
                Pair::new(fixed(pair[0]), second)
            }));
            weights.spans.push((first as usize, weights.all.len()));
        }
        weights
    }

    fn of(&self, target: usize) -> (usize, &[Pair]) {
        let begin = target
            .checked_sub(1)
            .map_or(0, |before| self.spans[before].1);
        let (first, end) = self.spans[target];
        (first, &self.all[begin..end])
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

    /// One pass over a line, sample by sample.
    fn by_definition(line: &[u8], to: u32, kernel: &Kernel) -> Vec<u8> {
        let scale = line.len() as f64 / f64::from(to);
        let squeeze = 1.0 / scale.max(1.0);
        let reach = kernel.reach * scale.max(1.0);
        let sample = |x: u32| {
            let centre = (f64::from(x) + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(line.len());
            let weight = |i: usize| (kernel.at)((i as f64 - centre + 0.5) * squeeze);
            let sum: f64 = (first..end).map(weight).sum();
            let fixed = |i: usize| (weight(i) / sum * f64::from(1 << PRECISION)).round() as i64;
            let sums: i64 = (first..end).map(|i| fixed(i) * i64::from(line[i])).sum();
            ((sums + i64::from(HALF)) >> PRECISION).clamp(0, 255) as u8
        };
        (0..to).map(sample).collect()
    }

    fn follows_the_definition<const N: usize>(samples: &[u8], to: u32, lines: usize) {
        for kernel in [&BILINEAR, &LANCZOS] {
            // Each line another one, so that none can stand in for its neighbour.
            let turned = |line: usize| {
                let mut samples = samples.to_vec();
                let by = line % samples.len();
                samples.rotate_left(by);
                samples
            };
            let (length, pixels) = (samples.len() as u32, lines.div_ceil(N));
            let source: Vec<_> = (0..pixels * N).map(turned).collect();
            let expected: Vec<_> = source
                .iter()
                .map(|l| by_definition(l, to, kernel))
                .collect();
            // A line a column for `down`, whose bytes are all alike; for `across` pixels again.
            let below = |lines: &[Vec<u8>], length: usize| -> Vec<u8> {
                (0..length)
                    .flat_map(|y| lines.iter().map(move |line| line[y]))
                    .collect()
            };
            let beside = |lines: &[Vec<u8>], length: usize| -> Vec<u8> {
                lines
                    .chunks(N)
                    .flat_map(|pixel| below(pixel, length))
                    .collect()
            };
            let upright = below(&source, length as usize);
            let shrunk = down::<N>(&upright, (pixels as u32, length), to, kernel);
            assert_eq!(*shrunk, below(&expected, to as usize));
            let shrunk =
                across::<N>(&beside(&source, length as usize), length, to, kernel).into_owned();
            assert_eq!(shrunk, beside(&expected, to as usize));
        }
    }

    proptest! {
        #[test]
        fn vectors_add_up_to_the_sums_of_the_definition(
            samples in prop::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 1..90),
            to in 1u32..90, lines in 1usize..40,
        ) {
            follows_the_definition::<1>(&samples, to, lines);
            follows_the_definition::<3>(&samples, to, lines);
        }

        #[test]
        fn any_size_keeps_a_plain_picture_plain(
            from in (1u32..60, 1u32..60), to in (1u32..60, 1u32..60), colour in any::<[u8; 3]>(),
        ) {
            let pixels = |(width, height): (u32, u32)| colour.repeat((width * height) as usize);
            prop_assert_eq!(resize::<3>(&pixels(from), from, to, &BILINEAR), pixels(to));
        }
    }
}
