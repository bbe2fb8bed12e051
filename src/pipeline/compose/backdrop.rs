//! Backgrounds that are pictures: the photo's own, blurred, or another one.

use std::borrow::Cow;

use image::{RgbImage, imageops};

use crate::error::Result;
use crate::pipeline::resample::{self, Filter};

use super::Photo;

/// Standard deviation of the blur in pixels of the photo, transparent-background's value.
const SIGMA: f32 = 15.0;

/// The blur is done on a picture smaller by this: a Gaussian this wide leaves nothing that the
/// smaller picture could not hold, and the working memory falls to a sixteenth.
const SHRINK: u32 = 4;

/// The photo blurred with σ = 15.
pub(super) fn blurred(rgb: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    // Small pictures are blurred as they are; shrinking them would show at their borders.
    if width.min(height) < 32 * SHRINK {
        return Ok(gaussian(rgb.to_vec(), width, height, SIGMA));
    }
    let (w, h) = (width.div_ceil(SHRINK), height.div_ceil(SHRINK));
    let small = resample::rgb(rgb, (width, height), (w, h), Filter::Bilinear)?;
    // Shrinking and growing by triangles blur too: each adds SHRINK² / 6 to the variance.
    let shrink = SHRINK as f32;
    let sigma = (SIGMA * SIGMA - 2.0 * shrink * shrink / 6.0).sqrt() / shrink;
    let small = gaussian(small, w, h, sigma);
    resample::rgb(&small, (w, h), (width, height), Filter::Bilinear)
}

fn gaussian(rgb: Vec<u8>, width: u32, height: u32, sigma: f32) -> Vec<u8> {
    match RgbImage::from_raw(width, height, rgb) {
        Some(picture) => imageops::blur(&picture, sigma).into_raw(),
        // Only if the buffer were too short for its size, which the callers rule out.
        None => Vec::new(),
    }
}

/// A background picture scaled to cover the photo, the overhang cut off evenly; its own
/// transparency on white.
pub(super) fn covering(picture: &Photo, width: u32, height: u32) -> Result<Vec<u8>> {
    let rgb = match picture.flattened(255) {
        Some(flat) => Cow::Owned(flat),
        None => Cow::Borrowed(picture.rgb.as_slice()),
    };
    let from = (picture.width, picture.height);
    resample::rgb_covering(&rgb, from, (width, height), Filter::CatmullRom)
}
