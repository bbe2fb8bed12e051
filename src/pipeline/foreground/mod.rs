//! The subject's own colours, where the photo shows them mixed with what was behind.
//!
//! A hair that covers half a pixel leaves half a pixel of lawn in it, and a green seam on every new
//! background. With a photo I and its matte α, each pixel is I = α F + (1 − α) B; F is what belongs
//! into the cut-out. Many F and B fit; wanted are those that change little where α does not and follow
//! it where it does (Germer, Uelwer, Conrad, Harmeling: Fast Multi-Level Foreground Estimation, 2020,
//! arXiv 2006.14970). As in the authors' PyMatting 1.1, colours are spread from coarse levels to fine
//! ones, with a few rounds of Gauss–Seidel on each, pixel by pixel in reading order.
//!
//! What is done otherwise, and what it costs in equality, is in
//! docs/decisions/0016-foreground-estimation.md.

use std::iter::zip;

use rayon::prelude::*;

use crate::error::{Code, Error, Result};

mod level;
mod solve;
mod sweep;

use level::{Estimates, Pair, Sampled};
use sweep::{Rows, Sweep, Target};

/// A level whose sides are at most this long takes many rounds: there colours have far to go, and
/// pixels are few. PyMatting's values, like all here that are not explained.
const SMALL_SIDE: usize = 32;
const SMALL_ROUNDS: usize = 10;
const ROUNDS: usize = 2;

/// Alpha from which, and up to which, a pixel counts for the mean colour that the coarsest level
/// starts from: above 0.9 and below 0.1.
const SURELY_SUBJECT: u8 = 230;
const SURELY_BEHIND: u8 = 25;

/// Rows that one task answers for. It also works on those in reach above ([`sweep::RUN_IN`]): an
/// eighth more.
const BAND: usize = 128;

/// Rows of a large photo that its mean colours are taken of, about.
const ROWS_OF_MEAN: usize = 128;

/// Pixels that one task looks at.
const STRETCH: usize = 1 << 16;

/// Puts the subject's own colours in place of the photo's where `alpha` is neither 0 nor 255. `rgb`
/// is three bytes a pixel, `alpha` one, both `width` times as many as there are rows.
///
/// Where alpha is 255 the photo stays as it is. Where it is 0 any colour would do: those next to the
/// subject take its colour, the rest stays.
///
/// Bands of rows are worked on in parallel; the answer does not depend on the number of threads.
/// Takes [`working_bytes`] of memory.
///
/// Errors: `internal` when the buffers do not fit each other and the width.
pub fn estimate(rgb: &mut [u8], alpha: &[u8], width: u32) -> Result<()> {
    let width = width as usize;
    // Of 0 only 0 is a multiple.
    if rgb.len() != alpha.len() * 3 || !alpha.len().is_multiple_of(width) {
        return Err(Error::new(
            Code::Internal,
            format!(
                "{} bytes of colour and {} of alpha are no picture {width} pixels wide",
                rgb.len(),
                alpha.len()
            ),
        ));
    }
    let pixels = rgb.as_chunks_mut::<3>().0;
    if !alpha.par_chunks(STRETCH).any(is_soft) {
        return Ok(());
    }
    let height = alpha.len() / width;
    let mut estimates = Estimates::plain(mean_pair(pixels, alpha, width));
    let (finest, coarser) = level::sizes(width, height)
        .split_last()
        .map(|(finest, coarser)| (*finest, coarser.to_vec()))
        .unwrap_or(((width, height), Vec::new()));
    for size in coarser {
        let sampled = Sampled::new(pixels, alpha, (width, height), size);
        estimates = refine(&sampled, &estimates);
    }
    finish(pixels, alpha, finest, &estimates);
    Ok(())
}

/// Whether there is anything between nothing and all.
fn is_soft(alpha: &[u8]) -> bool {
    // Without a way out in the middle it goes by vectors.
    alpha.iter().fold(false, |soft, &a| soft | is_between(a))
}

/// Whether a pixel shows the subject and what is behind it both.
fn is_between(alpha: u8) -> bool {
    alpha.wrapping_add(1) > 1
}

/// Memory in bytes that [`estimate`] takes at most, for a photo of `width`×`height` pixels.
pub fn working_bytes(width: u32, height: u32) -> u64 {
    let (width, height) = (width as usize, height as usize);
    let sizes = level::sizes(width, height);
    let pixels = |back: usize| {
        let size = sizes.len().checked_sub(back + 1).and_then(|i| sizes.get(i));
        size.map_or(0, |&(width, height)| width * height)
    };
    let pair = size_of::<Pair>();
    // The last but one is made of a sample of the photo and the one before it.
    let levels = pixels(1) * (pair + 4) + pixels(2) * pair;
    let bands = height.div_ceil(BAND);
    let borders = bands * (sweep::RUN_IN + ROUNDS) * width * 3;
    let threads = rayon::current_num_threads().min(bands);
    let threads = threads * Sweep::scratch_bytes(width, height);
    (levels + borders + threads) as u64
}

fn rounds((width, height): (usize, usize)) -> usize {
    if width <= SMALL_SIDE && height <= SMALL_SIDE {
        SMALL_ROUNDS
    } else {
        ROUNDS
    }
}

/// The mean colours of what is surely the subject and of what is surely behind it. They are a start and
/// no more, so of large photos some rows will do.
fn mean_pair(pixels: &[[u8; 3]], alpha: &[u8], width: usize) -> Pair {
    type Sums = [[u64; 4]; 2];
    let add = |mut sums: Sums, (&[r, g, b], &a): (&[u8; 3], &u8)| {
        let which = match a {
            SURELY_SUBJECT.. => 0,
            ..=SURELY_BEHIND => 1,
            _ => return sums,
        };
        let pixel = [r, g, b, 1].map(u64::from);
        for (sum, value) in zip(&mut sums[which], pixel) {
            *sum += value;
        }
        sums
    };
    let rows = zip(pixels.chunks(width), alpha.chunks(width));
    let step = (alpha.len() / width / ROWS_OF_MEAN).max(1);
    let sums = rows
        .step_by(step)
        .flat_map(|(pixels, alpha)| zip(pixels, alpha))
        .fold(Sums::default(), add);
    sums.map(|[r, g, b, count]| [r, g, b, 0].map(|sum| (sum * 257 / count.max(1)) as u16))
}

/// The estimates of a level from those of the one before.
fn refine(sampled: &Sampled, coarse: &Estimates) -> Estimates {
    let size @ (width, height) = (sampled.width, sampled.height);
    let mut pairs = vec![Pair::default(); width * height];
    pairs
        .par_chunks_mut(BAND * width)
        .enumerate()
        .for_each_init(
            || Sweep::new(&sampled.alpha, size, coarse, rounds(size)),
            |sweep, (band, out)| {
                let top = band * BAND;
                let mut target = Refined { sampled, top, out };
                sweep.run(top..top + target.out.len() / width, &mut target);
            },
        );
    Estimates {
        width,
        height,
        pairs,
    }
}

/// A band of a level between the coarsest and the finest.
struct Refined<'a> {
    sampled: &'a Sampled,
    top: usize,
    out: &'a mut [Pair],
}

impl Target for Refined<'_> {
    fn pixels(&self, y: usize) -> &[[u8; 3]] {
        &self.sampled.pixels[y * self.sampled.width..][..self.sampled.width]
    }

    fn settle(&mut self, y: usize, rows: &Rows<'_>) {
        let width = self.sampled.width;
        let out = &mut self.out[(y - self.top) * width..][..width];
        let pixels = &self.sampled.pixels[y * width..][..width];
        // Away from the edge one of the two colours is the photo's, and the other's does not matter
        // but to finer levels, which may have an edge here.
        let seen = zip(pixels, rows.alpha);
        for ((out, coarse), (&[r, g, b], &alpha)) in zip(zip(out.iter_mut(), rows.coarse()), seen) {
            *out = coarse;
            let whole = |level: u8| u16::from(level) * 257;
            out[usize::from(alpha == 0)] = [whole(r), whole(g), whole(b), 0];
        }
        for run in rows.runs {
            for (out, colours) in zip(&mut out[run.clone()], &rows.colours[run.clone()]) {
                *out = colours.pair();
            }
        }
    }
}

/// The finest level: its foreground goes into the photo, and nothing else is kept.
fn finish(pixels: &mut [[u8; 3]], alpha: &[u8], size: (usize, usize), coarse: &Estimates) {
    let (width, height) = size;
    let rounds = rounds(size);
    // What a band reads of its neighbours they will have overwritten.
    let borders: Vec<Border> = (BAND..height)
        .step_by(BAND)
        .map(|top| Border::new(pixels, width, top, rounds))
        .collect();
    pixels
        .par_chunks_mut(BAND * width)
        .enumerate()
        .for_each_init(
            || Sweep::new(alpha, size, coarse, rounds),
            |sweep, (band, inside)| {
                let top = band * BAND;
                let mut target = InPlace {
                    width,
                    top,
                    inside,
                    above: band.checked_sub(1).map(|above| &borders[above]),
                    below: borders.get(band),
                };
                sweep.run(top..top + target.inside.len() / width, &mut target);
            },
        );
}

/// Rows around the first row of a band.
struct Border {
    /// The first of them.
    top: usize,
    pixels: Vec<[u8; 3]>,
}

impl Border {
    fn new(pixels: &[[u8; 3]], width: usize, around: usize, rounds: usize) -> Self {
        let top = around.saturating_sub(sweep::RUN_IN);
        let end = (around + rounds) * width;
        Self {
            top,
            pixels: pixels[top * width..end.min(pixels.len())].to_vec(),
        }
    }

    fn row(&self, y: usize, width: usize) -> &[[u8; 3]] {
        &self.pixels[(y - self.top) * width..][..width]
    }
}

/// A band of the photo itself.
struct InPlace<'a> {
    width: usize,
    top: usize,
    inside: &'a mut [[u8; 3]],
    above: Option<&'a Border>,
    below: Option<&'a Border>,
}

impl Target for InPlace<'_> {
    fn pixels(&self, y: usize) -> &[[u8; 3]] {
        let end = self.top + self.inside.len() / self.width;
        match (self.above, self.below) {
            (Some(above), _) if y < self.top => above.row(y, self.width),
            (_, Some(below)) if y >= end => below.row(y, self.width),
            _ => &self.inside[(y - self.top) * self.width..][..self.width],
        }
    }

    fn settle(&mut self, y: usize, rows: &Rows<'_>) {
        let out = &mut self.inside[(y - self.top) * self.width..][..self.width];
        for run in rows.runs {
            let run = run.clone();
            let colours = zip(&rows.colours[run.clone()], &rows.alpha[run.clone()]);
            for (out, (colours, &alpha)) in zip(&mut out[run], colours) {
                if alpha < u8::MAX {
                    *out = colours.foreground();
                }
            }
        }
    }
}
