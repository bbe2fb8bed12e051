//! What image matting counts: Rhemann et al., *A Perceptually Motivated Online Benchmark for Image Matting*, CVPR
//! 2009, as the evaluation code of *Deep Image Matting* (Xu et al., CVPR 2017) scales it. The two that need no
//! neighbours are here; [`gradient`](super::gradient) and [`connectivity`](super::connectivity) are the others.
//!
//! All four compare with the mask as it is, over the whole picture: there is no trimap, so no region is
//! excused. Sums grow with the number of pixels; compare them on the same photos only.

use super::Pair;

/// What sums are divided by, as everywhere in the field's tables.
pub const SCALE: f64 = 1000.0;

/// How often matte and mask are so many levels apart.
pub type Differences = [u64; 256];

/// Counts them.
pub fn differences(pair: &Pair<'_>) -> Differences {
    let mut counts = [0; 256];
    for (a, b) in pair.matte.iter().zip(pair.mask) {
        counts[usize::from(a.abs_diff(*b))] += 1;
    }
    counts
}

/// Sum of absolute differences of alpha, 0 to 1 each, over 1000.
pub fn sad(differences: &Differences) -> f64 {
    let sum: u64 = (0..).zip(differences).map(|(apart, n)| apart * n).sum();
    sum as f64 / 255.0 / SCALE
}

/// Mean squared difference of alpha. Papers often print it times 1000.
pub fn mse(differences: &Differences) -> f64 {
    let squares = (0..).zip(differences).map(|(apart, n)| apart * apart * n);
    let pixels: u64 = differences.iter().sum();
    squares.sum::<u64>() as f64 / (255.0 * 255.0) / pixels as f64
}
