//! The small pictures of a report. Photo and both mattes are enough: the page makes cut-outs and difference of
//! them, as a mean of differences is the difference of means.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

use crate::cli::plane::Plane;
use crate::error::{Code, Error, Result};
use crate::pipeline::decode::Photo;

/// Of the photo's JPEG: no artefact is seen at this size, and 90 would be half as large again.
const QUALITY: u8 = 80;

/// Levels of a small matte, 0 and 255 among them. The last two bits of a haze are most of its PNG, and no eye sees
/// them; figures are taken from the mattes as they are.
const LEVELS: u8 = 64;

/// Files in base64: the photo as JPEG, A's and B's matte as grey PNG, all of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pictures(pub [String; 3]);

impl Pictures {
    /// With sides of at most `side` pixels; never enlarged.
    pub fn of(photo: Photo, mattes: [Plane; 2], side: u32) -> Result<Self> {
        let (width, height) = fit((photo.width, photo.height), side);
        let flat = photo.flattened(u8::MAX);
        let rgb = flat.unwrap_or(photo.rgb);
        let rgb = RgbImage::from_raw(photo.width, photo.height, rgb).ok_or_else(not_that_many)?;
        let small = DynamicImage::from(rgb).thumbnail_exact(width, height);
        let mut jpeg = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut jpeg, QUALITY);
        small.write_with_encoder(encoder).map_err(not_encoded)?;
        let matte = |plane: Plane| {
            let grey = GrayImage::from_raw(plane.width, plane.height, plane.levels)
                .ok_or_else(not_that_many)?;
            let mut small = DynamicImage::from(grey).thumbnail_exact(width, height);
            if let Some(small) = small.as_mut_luma8() {
                small.iter_mut().for_each(|level| *level = coarse(*level));
            }
            let mut png = Vec::new();
            let encoder =
                PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive);
            small.write_with_encoder(encoder).map_err(not_encoded)?;
            Ok(BASE64_STANDARD.encode(png))
        };
        let [a, b] = mattes;
        Ok(Self([BASE64_STANDARD.encode(jpeg), matte(a)?, matte(b)?]))
    }
}

/// Width and height within a square.
fn fit((width, height): (u32, u32), side: u32) -> (u32, u32) {
    let longer = width.max(height);
    if longer <= side {
        return (width, height);
    }
    let scaled = |length: u32| {
        let scaled = f64::from(length) * f64::from(side) / f64::from(longer);
        (scaled.round() as u32).max(1)
    };
    (scaled(width), scaled(height))
}

/// The nearest of [`LEVELS`].
fn coarse(level: u8) -> u8 {
    let last = u32::from(LEVELS - 1);
    let nearest = (u32::from(level) * last + 127) / 255;
    ((nearest * 255 + last / 2) / last) as u8
}

fn not_that_many() -> Error {
    Error::new(
        Code::Internal,
        "a picture has not as many pixels as it says",
    )
}

fn not_encoded(error: image::ImageError) -> Error {
    Error::new(Code::Internal, "a small picture could not be encoded").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_keep_their_shape_and_are_never_enlarged() {
        assert_eq!(fit((4000, 3000), 320), (320, 240));
        assert_eq!(fit((3000, 4000), 320), (240, 320));
        assert_eq!(fit((20, 10), 320), (20, 10));
        assert_eq!(fit((9000, 2), 320), (320, 1));
    }

    #[test]
    fn coarse_levels_are_near_and_keep_the_ends() {
        assert_eq!((coarse(0), coarse(255)), (0, 255));
        let levels: std::collections::BTreeSet<_> = (0..=255).map(coarse).collect();
        assert_eq!(levels.len(), usize::from(LEVELS));
        assert!((0..=255).all(|level: u8| coarse(level).abs_diff(level) <= 2));
    }

    #[test]
    fn a_small_matte_is_the_mean_of_the_large_one() {
        let plane = |levels: Vec<u8>| Plane {
            width: 64,
            height: 64,
            levels,
        };
        let photo = Photo {
            width: 64,
            height: 64,
            rgb: vec![90; 64 * 64 * 3],
            alpha: None,
        };
        let stripes = (0..64 * 64).map(|i| if i % 2 == 0 { 200 } else { 100 });
        let mattes = [plane(stripes.collect()), plane(vec![255; 64 * 64])];
        let Pictures([_, a, b]) = Pictures::of(photo, mattes, 32).unwrap();
        let levels = |text: String| {
            let png = BASE64_STANDARD.decode(text).unwrap();
            let grey = image::load_from_memory(&png).unwrap().into_luma8();
            assert_eq!(grey.dimensions(), (32, 32));
            grey.into_raw()
        };
        assert!(levels(a).iter().all(|&level| level == 150));
        assert!(levels(b).iter().all(|&level| level == 255));
    }
}
