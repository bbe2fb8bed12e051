//! Weighted F-measure: Margolin, Zelnik-Manor and Tal, *How to Evaluate Foreground Maps?*, CVPR 2014.
//!
//! Errors are no longer counted one by one. Inside the subject an error counts less when its neighbours
//! are right (a Gaussian of σ = 5 over 7×7 pixels, where a pixel off the subject has the error of the
//! nearest one on it). Outside it counts more the further it is from the subject: up to twice, by
//! 2 − e^(ln ½ · d / 5). The F-measure of these, with β = 1, is the answer.

use rayon::prelude::*;

use super::levels::Levels;
use super::nearest::{Columns, Scratch};
use super::{HARD, Pair};

/// Pixels from a pixel to the edge of its window.
const REACH: usize = 3;

/// Of the Gaussian.
const SIGMA: f64 = 5.0;

/// Pixels over which the additional weight of an error outside comes half way to its limit.
const HALF_WAY: f64 = 5.0;

/// Between 0 and 1; 1 is perfect. 0 where there is no subject.
pub fn weighted_f(pair: &Pair<'_>, levels: &Levels) -> f64 {
    let subjects = pair.mask.iter().filter(|&&truth| truth > HARD).count();
    if subjects == 0 {
        return 0.0;
    }
    // The level of the matte that each pixel's error inside is taken from: its own, or the nearest's.
    let mut borrowed = pair.matte.to_vec();
    let outside = outside(pair, levels, &mut borrowed);
    let inside = inside(pair, levels, &borrowed);
    let subjects = subjects as f64;
    let found = subjects - inside;
    let recall = 1.0 - inside / subjects;
    let precision = found / (found + outside + f64::EPSILON);
    2.0 * recall * precision / (recall + precision + f64::EPSILON)
}

/// The sum of the weighed errors off the subject. Fills in what the pixels there borrow.
fn outside(pair: &Pair<'_>, levels: &Levels, borrowed: &mut [u8]) -> f64 {
    let columns = Columns::of(pair);
    let rows = borrowed.par_chunks_exact_mut(pair.width).enumerate();
    let sums: Vec<f64> = rows
        .map_init(Scratch::default, |scratch, (y, borrowed)| {
            let begin = y * pair.width;
            let mut sum = 0.0;
            columns.row(y, scratch, |x, near| {
                if near.squared == 0 {
                    return;
                }
                borrowed[x] = pair.matte[near.row * pair.width + near.column];
                let error = levels.values[usize::from(pair.matte[begin + x])];
                if error > 0.0 {
                    let distance = (near.squared as f64).sqrt();
                    sum += error * (2.0 - (0.5_f64.ln() / HALF_WAY * distance).exp());
                }
            });
            sum
        })
        .collect();
    sums.iter().sum()
}

/// The sum of the errors on the subject, each at most its neighbourhood's.
fn inside(pair: &Pair<'_>, levels: &Levels, borrowed: &[u8]) -> f64 {
    let error = levels.values.map(|value| 1.0 - value);
    let window = window();
    let (width, height) = (pair.width, pair.height);
    let sums: Vec<f64> = (0..height)
        .into_par_iter()
        .map_init(
            // With room at both ends: outside the picture there is no error.
            || vec![0.0; width + 2 * REACH],
            |columns, y| {
                let mask = &pair.mask[y * width..][..width];
                if mask.iter().all(|&truth| truth <= HARD) {
                    return 0.0;
                }
                columns.fill(0.0);
                for (step, weight) in window.iter().enumerate() {
                    let Some(row) = (y + step).checked_sub(REACH).filter(|row| *row < height)
                    else {
                        continue;
                    };
                    let row = &borrowed[row * width..][..width];
                    for (sum, &level) in columns[REACH..].iter_mut().zip(row) {
                        *sum += weight * error[usize::from(level)];
                    }
                }
                let own = &pair.matte[y * width..][..width];
                let around = columns.windows(2 * REACH + 1);
                around
                    .zip(own)
                    .zip(mask)
                    .filter(|(_, truth)| **truth > HARD)
                    .map(|((around, &own), _)| {
                        let mean: f64 = around.iter().zip(&window).map(|(e, w)| e * w).sum();
                        mean.min(error[usize::from(own)])
                    })
                    .sum()
            },
        )
        .collect();
    sums.iter().sum()
}

/// One side of the separable Gaussian; its weights are 1 together.
fn window() -> [f64; 2 * REACH + 1] {
    let weights: [f64; 2 * REACH + 1] = std::array::from_fn(|step| {
        let distance = step as f64 - REACH as f64;
        (-distance * distance / (2.0 * SIGMA * SIGMA)).exp()
    });
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}
