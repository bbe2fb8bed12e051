//! Gradient error (Rhemann et al. 2009): the sum of squared differences of the two alphas' gradient magnitudes,
//! over 1000. Each alpha is stretched to 0…1 by its own extremes and taken with first derivatives of a
//! Gaussian of σ = 1.4; beyond the picture its edge goes on.

use rayon::prelude::*;

use super::Pair;
use super::matting::SCALE;

const SIGMA: f64 = 1.4;

/// Pixels from a pixel to the edge of its window: where the Gaussian has fallen to 1 %,
/// ⌈σ·√(−2 ln(√(2π)·σ·0.01))⌉.
const REACH: usize = 4;

const WINDOW: usize = 2 * REACH + 1;

/// 0 is perfect. Does not see a matte that is wrong by the same amount everywhere, nor one inside out.
pub fn gradient_error(pair: &Pair<'_>) -> f64 {
    let kernel = Kernel::new();
    let (matte, mask) = (stretched(pair.matte), stretched(pair.mask));
    let sums: Vec<f64> = (0..pair.height)
        .into_par_iter()
        .map_init(
            || [Row::new(pair.width), Row::new(pair.width)],
            |[ours, truth], y| {
                ours.take(pair.matte, &matte, y, &kernel);
                truth.take(pair.mask, &mask, y, &kernel);
                (0..pair.width)
                    .map(|x| (ours.magnitude(x, &kernel) - truth.magnitude(x, &kernel)).powi(2))
                    .sum()
            },
        )
        .collect();
    sums.iter().sum::<f64>() / SCALE
}

/// Level: its value when the darkest is 0 and the brightest 1; all 0 where there is but one.
fn stretched(levels: &[u8]) -> [f64; 256] {
    let (low, high) = levels.iter().fold((u8::MAX, 0), |(low, high), &level| {
        (low.min(level), high.max(level))
    });
    let range = f64::from(high.saturating_sub(low)).max(1.0);
    std::array::from_fn(|level| (level as f64 - f64::from(low)).max(0.0) / range)
}

/// A Gaussian and its derivative, each of length 1 as a vector: the two-dimensional filter, their product, has
/// the authors' normalisation then.
struct Kernel {
    smooth: [f64; WINDOW],
    slope: [f64; WINDOW],
}

impl Kernel {
    fn new() -> Self {
        let at = |step: usize| step as f64 - REACH as f64;
        let smooth = std::array::from_fn(|step| (-at(step).powi(2) / (2.0 * SIGMA * SIGMA)).exp());
        let slope = std::array::from_fn(|step| -at(step) * smooth[step]);
        let unit = |taps: [f64; WINDOW]| {
            let length = taps.iter().map(|tap| tap * tap).sum::<f64>().sqrt();
            taps.map(|tap| tap / length)
        };
        Self {
            smooth: unit(smooth),
            slope: unit(slope),
        }
    }
}

/// One row of an alpha, filtered along its columns, with the edge going on at both ends.
struct Row {
    smooth: Vec<f64>,
    slope: Vec<f64>,
}

impl Row {
    fn new(width: usize) -> Self {
        let row = vec![0.0; width + 2 * REACH];
        Self {
            smooth: row.clone(),
            slope: row,
        }
    }

    fn take(&mut self, levels: &[u8], values: &[f64; 256], y: usize, kernel: &Kernel) {
        let width = self.smooth.len() - 2 * REACH;
        let height = levels.len() / width;
        self.smooth.fill(0.0);
        self.slope.fill(0.0);
        for (step, (smooth, slope)) in kernel.smooth.iter().zip(&kernel.slope).enumerate() {
            let row = (y + step).saturating_sub(REACH).min(height - 1);
            let row = &levels[row * width..][..width];
            let sums = self.smooth[REACH..]
                .iter_mut()
                .zip(&mut self.slope[REACH..]);
            for ((smooth_sum, slope_sum), &level) in sums.zip(row) {
                let value = values[usize::from(level)];
                *smooth_sum += smooth * value;
                *slope_sum += slope * value;
            }
        }
        for sums in [&mut self.smooth, &mut self.slope] {
            let (first, last) = (sums[REACH], sums[REACH + width - 1]);
            sums[..REACH].fill(first);
            sums[REACH + width..].fill(last);
        }
    }

    fn magnitude(&self, x: usize, kernel: &Kernel) -> f64 {
        let along = |sums: &[f64], taps: &[f64; WINDOW]| -> f64 {
            sums[x..x + WINDOW]
                .iter()
                .zip(taps)
                .map(|(sum, tap)| sum * tap)
                .sum()
        };
        along(&self.smooth, &kernel.slope).hypot(along(&self.slope, &kernel.smooth))
    }
}
