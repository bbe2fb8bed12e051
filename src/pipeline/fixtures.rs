//! Pictures for the unit tests: those that `tests/reference/make_pixels.py` made with Pillow,
//! and some that are encoded on the spot.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, RgbImage};

use super::decode::Photo;

/// A file of tests/fixtures/pixels.
pub fn read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pixels");
    std::fs::read(path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The pixels of a PNG of tests/fixtures/pixels, read without our decoder.
pub fn rgb(name: &str) -> RgbImage {
    image::load_from_memory(&read(name)).unwrap().into_rgb8()
}

/// A colourful photo without a repeating pattern.
pub fn photo(width: u32, height: u32) -> Photo {
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) >> 7;
        image::Rgb([
            (x * 255 / width) as u8,
            (y * 255 / height) as u8,
            (x + y + noise % 24) as u8,
        ])
    });
    Photo {
        width,
        height,
        rgb: picture.into_raw(),
        alpha: None,
    }
}

/// A picture in a file format, by the `image` crate.
pub fn file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// The largest difference between two pictures' bytes.
pub fn difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| a.abs_diff(*b))
        .max()
        .unwrap_or(0)
}
