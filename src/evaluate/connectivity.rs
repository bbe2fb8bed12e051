//! Connectivity error (Rhemann et al. 2009): how far the two alphas come apart from the part that they share.
//!
//! For each of ten thresholds the largest connected part (over edges, not corners) of where both alphas
//! reach it is taken. A pixel's l is the last threshold up to which it belongs to that part all along, and its
//! connectivity φ = 1 − d where d = α − l is at least 0.15, else 1. The error is the sum of the differences of
//! both φ, over 1000.

use super::Pair;
use super::matting::SCALE;
use crate::pipeline::components::Components;

const STEPS: usize = 10;

/// Differences below this are forgiven.
const FORGIVEN: f64 = 0.15;

/// 0 is perfect.
pub fn connectivity_error(pair: &Pair<'_>) -> f64 {
    let lasting = lasting(pair);
    // Alpha times step: φ.
    let phi: Vec<[f64; 256]> = (0..=STEPS)
        .map(|step| {
            std::array::from_fn(|level| {
                let apart = level as f64 / 255.0 - threshold(step);
                if apart >= FORGIVEN { 1.0 - apart } else { 1.0 }
            })
        })
        .collect();
    let mut sum = 0.0;
    for ((&ours, &truth), &step) in pair.matte.iter().zip(pair.mask).zip(&lasting) {
        let phi = &phi[usize::from(step)];
        sum += (phi[usize::from(ours)] - phi[usize::from(truth)]).abs();
    }
    sum / SCALE
}

/// A tenth of the way each. Multiplied out as NumPy's `arange` does, whose 0.3 and 0.6 are a trifle more.
fn threshold(step: usize) -> f64 {
    step as f64 * (1.0 / STEPS as f64)
}

/// For each pixel the last step up to which it belongs to the largest shared part.
fn lasting(pair: &Pair<'_>) -> Vec<u8> {
    const ALL_ALONG: u8 = STEPS as u8;
    let mut lasting = vec![ALL_ALONG; pair.pixels()];
    for step in 1..=STEPS {
        let enough = (0..=u8::MAX)
            .find(|&level| f64::from(level) / 255.0 >= threshold(step))
            .unwrap_or(u8::MAX);
        let reaches = |at: usize| pair.matte[at].min(pair.mask[at]) >= enough;
        let parts = Components::of(pair.width, pair.height, reaches);
        let largest = parts.largest();
        let leave = |pixels: &mut [u8]| {
            for last in pixels.iter_mut().filter(|last| **last == ALL_ALONG) {
                *last = (step - 1) as u8;
            }
        };
        for (y, row) in lasting.chunks_exact_mut(pair.width).enumerate() {
            let mut begin = 0;
            for (run, part) in parts.row(y) {
                if Some(part) == largest {
                    leave(&mut row[begin..run.start]);
                    begin = run.end;
                }
            }
            leave(&mut row[begin..]);
        }
    }
    lasting
}
