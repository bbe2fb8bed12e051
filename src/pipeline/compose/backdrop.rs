//! Another picture behind the subject, brought to the photo's size.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::error::Result;
use crate::job::Fit;
use crate::pipeline::resample::{self, Filter};

use super::Photo;

/// A background picture at the photo's size; its own transparency on white.
pub(super) fn fitted(picture: &Photo, width: u32, height: u32, fit: Fit) -> Result<Vec<u8>> {
    let rgb = match picture.flattened(255) {
        Some(flat) => Cow::Owned(flat),
        None => Cow::Borrowed(picture.rgb.as_slice()),
    };
    let (from, to) = ((picture.width, picture.height), (width, height));
    match fit {
        Fit::Stretch => Ok(stretched(&rgb, from, to)),
        Fit::Cover => resample::rgb_covering(&rgb, from, to, Filter::CatmullRom),
    }
}

/// Weights of the two nearest samples, in 1/2048.
const ONE: f32 = 2048.0;

/// Two neighbours and how much each counts.
#[derive(Clone, Copy, Debug)]
struct Pair {
    first: usize,
    second: usize,
    weights: [u32; 2],
}

/// OpenCV's `resize` with its default, plain bilinear interpolation, as transparent-background
/// calls it: two samples a side even when shrinking, whole numbers for 8-bit pictures, and so the
/// same to the last bit.
///
/// Not by `fast_image_resize`, whose intermediate rows are as many as the source has: a picture
/// of one column behind a photo of one row would take gigabytes.
fn stretched(rgb: &[u8], from: (u32, u32), to: (u32, u32)) -> Vec<u8> {
    let columns: Vec<Pair> = (0..to.0).map(|x| column(x, from.0, to.0)).collect();
    let pixels = rgb.as_chunks::<3>().0;
    let (from_width, stride) = (from.0 as usize, to.0 as usize * 3);
    let mut out = vec![0; stride * to.1 as usize];
    if out.is_empty() {
        return out;
    }
    out.par_chunks_exact_mut(stride)
        .enumerate()
        .for_each(|(y, out)| {
            let rows = row(y as u32, from.1, to.1);
            let upper = &pixels[rows.first * from_width..][..from_width];
            let lower = &pixels[rows.second * from_width..][..from_width];
            for (out, pair) in out.as_chunks_mut::<3>().0.iter_mut().zip(&columns) {
                for (channel, out) in out.iter_mut().enumerate() {
                    let along = |row: &[[u8; 3]]| {
                        u32::from(row[pair.first][channel]) * pair.weights[0]
                            + u32::from(row[pair.second][channel]) * pair.weights[1]
                    };
                    // Cut off where OpenCV's vector code cuts off.
                    let down = |sum: u32, weight: u32| ((sum >> 4) * weight) >> 16;
                    let sum =
                        down(along(upper), rows.weights[0]) + down(along(lower), rows.weights[1]);
                    *out = ((sum + 2) >> 2).min(255) as u8;
                }
            }
        });
    out
}

/// Before the first sample and behind the last there is only that one.
fn column(at: u32, from: u32, to: u32) -> Pair {
    let (first, fraction) = position(at, from, to);
    let last = i64::from(from) - 1;
    let outside = first < 0 || first >= last;
    let first = first.clamp(0, last) as usize;
    Pair {
        first,
        second: if outside { first } else { first + 1 },
        weights: weights(if outside { 0.0 } else { fraction }),
    }
}

/// OpenCV keeps the fraction here and takes the outermost row twice; its rounding shows it.
fn row(at: u32, from: u32, to: u32) -> Pair {
    let (first, fraction) = position(at, from, to);
    let last = i64::from(from) - 1;
    Pair {
        first: first.clamp(0, last) as usize,
        second: (first + 1).clamp(0, last) as usize,
        weights: weights(fraction),
    }
}

/// The sample before a target's centre, and how far behind it the centre lies.
fn position(at: u32, from: u32, to: u32) -> (i64, f32) {
    let scale = f64::from(from) / f64::from(to);
    let position = ((f64::from(at) + 0.5) * scale - 0.5) as f32;
    let first = position.floor();
    (first as i64, position - first)
}

fn weights(fraction: f32) -> [u32; 2] {
    [1.0 - fraction, fraction].map(|weight| (weight * ONE).round_ties_even() as u32)
}
