//! The levels: their sizes, the photo at their size, and what was estimated on them.

use std::iter::zip;

use rayon::prelude::*;

/// Foreground and background of a pixel, in 1/65535; the fourth value is not used and makes a vector.
pub(super) type Pair = [[u16; 4]; 2];

/// Widths and heights from the coarsest level, one pixel, to the photo itself; each is about twice
/// the one before. Empty for a photo of one pixel, which has no level but itself.
pub(super) fn sizes(width: usize, height: usize) -> Vec<(usize, usize)> {
    let levels = width.max(height).next_power_of_two().trailing_zeros();
    let side = |side: usize, level: u32| {
        let share = f64::from(level) / f64::from(levels);
        (side as f64).powf(share).round() as usize
    };
    (0..=levels)
        .filter(|_| levels > 0)
        .map(|level| (side(width, level), side(height, level)))
        .collect()
}

/// Which of `from` positions each of `to` positions takes its value from: the nearest before it.
pub(super) fn nearest(from: usize, to: usize) -> Vec<u32> {
    (0..to).map(|at| (at * from / to) as u32).collect()
}

/// The photo and its matte at a level's size, by their nearest pixels.
pub(super) struct Sampled {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<[u8; 3]>,
    pub alpha: Vec<u8>,
}

impl Sampled {
    pub fn new(
        pixels: &[[u8; 3]],
        alpha: &[u8],
        from: (usize, usize),
        (width, height): (usize, usize),
    ) -> Self {
        let columns = nearest(from.0, width);
        let mut sampled = Self {
            width,
            height,
            pixels: vec![[0; 3]; width * height],
            alpha: vec![0; width * height],
        };
        sampled
            .pixels
            .par_chunks_mut(width)
            .zip(sampled.alpha.par_chunks_mut(width))
            .enumerate()
            .for_each(|(y, (pixels_out, alpha_out))| {
                let start = y * from.1 / height * from.0;
                let (pixels, alpha) = (&pixels[start..][..from.0], &alpha[start..][..from.0]);
                for ((pixel, a), &x) in zip(zip(pixels_out, alpha_out), &columns) {
                    *pixel = pixels[x as usize];
                    *a = alpha[x as usize];
                }
            });
        sampled
    }
}

/// What was estimated on a level.
pub(super) struct Estimates {
    pub width: usize,
    pub height: usize,
    pub pairs: Vec<Pair>,
}

impl Estimates {
    /// The same everywhere.
    pub fn plain(pair: Pair) -> Self {
        Self {
            width: 1,
            height: 1,
            pairs: vec![pair],
        }
    }
}
