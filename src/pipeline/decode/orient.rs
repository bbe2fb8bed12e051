//! Turning stored pixels upright, as EXIF asks.

use image::metadata::Orientation;
use rayon::prelude::*;

use super::{Deep, Kept, Photo};

/// Where the upright picture's pixels lie in the stored one: the index of its first pixel, and
/// the steps to the next pixel of a row and of a column.
struct Walk {
    first: isize,
    right: isize,
    down: isize,
    width: u32,
    height: u32,
}

impl Walk {
    fn new(width: u32, height: u32, orientation: Orientation) -> Option<Self> {
        let (w, h) = (width as isize, height as isize);
        let last = w * h - 1;
        // Stored indices of the four corners.
        let (top_left, top_right, bottom_left) = (0, w - 1, last - (w - 1));
        let (first, right, down, turned) = match orientation {
            Orientation::NoTransforms => return None,
            Orientation::FlipHorizontal => (top_right, -1, w, false),
            Orientation::Rotate180 => (last, -1, -w, false),
            Orientation::FlipVertical => (bottom_left, 1, -w, false),
            Orientation::Rotate90FlipH => (top_left, w, 1, true),
            Orientation::Rotate90 => (bottom_left, -w, 1, true),
            Orientation::Rotate270FlipH => (last, -w, -1, true),
            Orientation::Rotate270 => (top_right, w, -1, true),
        };
        let (width, height) = if turned {
            (height, width)
        } else {
            (width, height)
        };
        Some(Self {
            first,
            right,
            down,
            width,
            height,
        })
    }

    /// Copies pixels of `N` samples in the walk's order, rows in parallel.
    fn gather<T: Copy + Default + Send + Sync, const N: usize>(&self, stored: &[T]) -> Vec<T> {
        let (pixels, _) = stored.as_chunks::<N>();
        let mut upright = vec![T::default(); stored.len()];
        upright
            .par_chunks_exact_mut(self.width as usize * N)
            .enumerate()
            .for_each(|(y, row)| {
                let mut at = self.first + y as isize * self.down;
                for pixel in row.as_chunks_mut::<N>().0 {
                    *pixel = pixels[at as usize];
                    at += self.right;
                }
            });
        upright
    }
}

/// The photo turned upright.
pub(super) fn upright(stored: Photo, orientation: Orientation) -> Photo {
    let Some(walk) = Walk::new(stored.width, stored.height, orientation) else {
        return stored;
    };
    Photo {
        width: walk.width,
        height: walk.height,
        // Moved in, so that each stored plane is freed before the next is turned.
        rgb: turn::<_, 3>(stored.rgb, &walk),
        alpha: stored.alpha.map(|alpha| turn::<_, 1>(alpha, &walk)),
    }
}

/// The same for all that was kept of it.
pub(super) fn all_upright(stored: Kept, orientation: Orientation) -> Kept {
    let walk = Walk::new(stored.photo.width, stored.photo.height, orientation);
    let deep = match (stored.deep, walk) {
        (Some(deep), Some(walk)) => Some(Deep {
            rgb: turn::<_, 3>(deep.rgb, &walk),
            alpha: deep.alpha.map(|alpha| turn::<_, 1>(alpha, &walk)),
        }),
        (deep, _) => deep,
    };
    Kept {
        photo: upright(stored.photo, orientation),
        deep,
        ..stored
    }
}

fn turn<T: Copy + Default + Send + Sync, const N: usize>(stored: Vec<T>, walk: &Walk) -> Vec<T> {
    walk.gather::<T, N>(&stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, GrayImage, RgbImage};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_orientation_turns_as_the_image_crate_does(
            width in 1u32..9, height in 1u32..9, exif in 1u8..=8, seed in any::<u8>(),
        ) {
            let orientation = Orientation::from_exif(exif).unwrap();
            let n = (width * height) as usize;
            let rgb: Vec<u8> = (0..n * 3).map(|i| (i as u8).wrapping_mul(7).wrapping_add(seed)).collect();
            let alpha: Vec<u8> = (0..n).map(|i| (i as u8).wrapping_mul(31)).collect();
            let mut colour = DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, rgb.clone()).unwrap());
            let mut grey = DynamicImage::ImageLuma8(GrayImage::from_raw(width, height, alpha.clone()).unwrap());
            colour.apply_orientation(orientation);
            grey.apply_orientation(orientation);
            let turned = upright(Photo { width, height, rgb, alpha: Some(alpha) }, orientation);
            prop_assert_eq!((turned.width, turned.height), (colour.width(), colour.height()));
            prop_assert_eq!(turned.rgb, colour.into_bytes());
            prop_assert_eq!(turned.alpha.unwrap(), grey.into_bytes());
        }
    }
}
