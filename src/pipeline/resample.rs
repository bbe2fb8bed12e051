//! Resizing of what people will see, all of it by `fast_image_resize`; what networks see, [`super::pillow`]
//! resizes.
//!
//! Its resizer is generic over the pixel type and compiles its kernels anew, some hundred of them
//! a type, in the crate that calls it: half of this crate's build. So this is the only caller,
//! and it makes do with two types.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8x3, U16x4};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use crate::error::{Code, Error, Result};

/// Width and height in pixels.
pub(super) type Dimensions = (u32, u32);

/// Which filter, all of them antialiased when shrinking.
#[derive(Clone, Copy, Debug)]
pub(super) enum Filter {
    /// Sharp without much ringing, for enlarging.
    CatmullRom,
    /// Lanczos with a = 3: the sharpest, for what a customer sees.
    Lanczos,
}

impl Filter {
    fn options(self) -> ResizeOptions {
        let filter = match self {
            Self::CatmullRom => FilterType::CatmullRom,
            Self::Lanczos => FilterType::Lanczos3,
        };
        ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(filter))
            // Alpha is ours to treat, see `rgba`.
            .use_alpha(false)
    }
}

/// Three bytes a pixel.
pub(super) fn rgb(
    source: &[u8],
    from: Dimensions,
    to: Dimensions,
    filter: Filter,
) -> Result<Vec<u8>> {
    resize::<U8x3>(source, from, to, filter.options())
}

/// Three bytes a pixel, scaled to cover the target; the overhang is cut off evenly.
pub(super) fn rgb_covering(
    source: &[u8],
    from: Dimensions,
    to: Dimensions,
    filter: Filter,
) -> Result<Vec<u8>> {
    let options = filter.options().fit_into_destination(Some((0.5, 0.5)));
    resize::<U8x3>(source, from, to, options)
}

fn resize<P: PixelTrait>(
    source: &[u8],
    from: Dimensions,
    to: Dimensions,
    options: ResizeOptions,
) -> Result<Vec<u8>> {
    let mut target = vec![0; to.0 as usize * to.1 as usize * P::size()];
    let view = TypedImageRef::<P>::from_buffer(from.0, from.1, source)
        .map_err(|error| failed(from, to, error))?;
    let mut target_view = TypedImage::<P>::from_buffer(to.0, to.1, &mut target)
        .map_err(|error| failed(from, to, error))?;
    Resizer::new()
        .resize_typed(&view, &mut target_view, &options)
        .map_err(|error| failed(from, to, error))?;
    Ok(target)
}

/// Lanczos reaches this many source pixels to each side when not shrinking.
const LANCZOS_REACH: f64 = 3.0;

/// Source pixels that are widened to 16 bits at a time (1 MiB), give or take the filter's reach.
const BAND_PIXELS: f64 = (1 << 17) as f64;

/// Fixed point for premultiplied samples: 1.0 is half the range of 16 bits, because the filter
/// overshoots at edges. In 8 bits alpha would stop at 255 where colour does not, and every
/// subject would get a bright rim.
const ONE: u32 = 1 << 15;

/// Four bytes a pixel with straight alpha, by Lanczos. Colour is weighted by alpha, so that what
/// lies under transparent pixels does not bleed into the edge.
pub(super) fn rgba(source: &[u8], from: Dimensions, to: Dimensions) -> Result<Vec<u8>> {
    banded::<4>(source, from, to, premultiplied, straight)
}

/// One byte a pixel, by Lanczos: the alpha of a pixel without colour.
pub(super) fn grey(source: &[u8], from: Dimensions, to: Dimensions) -> Result<Vec<u8>> {
    let widen = |[a]: [u8; 1]| premultiplied([0, 0, 0, a]);
    banded::<1>(source, from, to, widen, |pixel| [straight(pixel)[3]])
}

/// Four samples of 16 bits a pixel with straight alpha, in the order of bytes that PNG has, by Lanczos. 15
/// bits of them count.
pub(super) fn deep_rgba(source: &[u8], from: Dimensions, to: Dimensions) -> Result<Vec<u8>> {
    let widen = |pixel: [u8; 8]| deep_premultiplied(samples(pixel));
    banded::<8>(source, from, to, widen, |pixel| bytes(deep_straight(pixel)))
}

/// The same without alpha.
pub(super) fn deep_rgb(source: &[u8], from: Dimensions, to: Dimensions) -> Result<Vec<u8>> {
    let widen = |pixel: [u8; 6]| {
        let [r, g, b] = samples(pixel);
        deep_premultiplied([r, g, b, u16::MAX])
    };
    let narrow = |[r, g, b, a]: [u16; 4]| {
        // What the filter makes of opaque pixels is opaque but for its rounding.
        let [r, g, b, _] = deep_straight([r, g, b, a.max(1)]);
        bytes([r, g, b])
    };
    banded::<6>(source, from, to, widen, narrow)
}

/// The same of one sample a pixel.
pub(super) fn deep_grey(source: &[u8], from: Dimensions, to: Dimensions) -> Result<Vec<u8>> {
    let widen = |pixel: [u8; 2]| {
        let [a] = samples(pixel);
        deep_premultiplied([0, 0, 0, a])
    };
    let narrow = |pixel: [u16; 4]| bytes([deep_straight(pixel)[3]]);
    banded::<2>(source, from, to, widen, narrow)
}

/// Samples from their bytes, the larger first.
fn samples<const BYTES: usize, const SAMPLES: usize>(pixel: [u8; BYTES]) -> [u16; SAMPLES] {
    std::array::from_fn(|i| u16::from_be_bytes([pixel[2 * i], pixel[2 * i + 1]]))
}

fn bytes<const BYTES: usize, const SAMPLES: usize>(pixel: [u16; SAMPLES]) -> [u8; BYTES] {
    std::array::from_fn(|i| pixel[i / 2].to_be_bytes()[i % 2])
}

fn deep_premultiplied([r, g, b, a]: [u16; 4]) -> [u16; 4] {
    const WHITE: u64 = u16::MAX as u64;
    let (alpha, one) = (u64::from(a), u64::from(ONE));
    let wide = |c: u64| ((c * alpha * one + WHITE * WHITE / 2) / (WHITE * WHITE)) as u16;
    [
        wide(u64::from(r)),
        wide(u64::from(g)),
        wide(u64::from(b)),
        wide(WHITE),
    ]
}

fn deep_straight([r, g, b, a]: [u16; 4]) -> [u16; 4] {
    const WHITE: u32 = u16::MAX as u32;
    let alpha = u32::from(a);
    let out = ((u64::from(alpha) * u64::from(WHITE) + u64::from(ONE / 2)) / u64::from(ONE))
        .min(WHITE.into());
    if out == 0 {
        return [0; 4];
    }
    let colour = |c: u16| {
        ((u64::from(c) * u64::from(WHITE) + u64::from(alpha / 2)) / u64::from(alpha))
            .min(WHITE.into())
    };
    [colour(r), colour(g), colour(b), out].map(|level| level as u16)
}

/// Resizes pixels of `N` bytes in 16 bits, band of rows by band of rows: the wide samples of the
/// whole picture are never held.
fn banded<const N: usize>(
    source: &[u8],
    from: Dimensions,
    to: Dimensions,
    widen: impl Fn([u8; N]) -> [u16; 4],
    narrow: impl Fn([u16; 4]) -> [u8; N],
) -> Result<Vec<u8>> {
    let (pixels, _) = source.as_chunks::<N>();
    let (width, height) = (from.0 as usize, from.1 as usize);
    let ratio = f64::from(from.1) / f64::from(to.1);
    let reach = LANCZOS_REACH * ratio.max(1.0);
    let band = ((BAND_PIXELS / f64::from(from.0) / ratio) as u32).clamp(1, to.1);
    let mut target = Vec::with_capacity(to.0 as usize * to.1 as usize * N);
    let mut resizer = Resizer::new();
    for top in (0..to.1).step_by(band as usize) {
        let rows = band.min(to.1 - top);
        let (start, end) = (f64::from(top) * ratio, f64::from(top + rows) * ratio);
        // One row more than the reach to each side, against rounding.
        let first = (start - reach - 1.0).max(0.0) as usize;
        let last = ((end + reach + 1.0) as usize).min(height);
        let wide: Vec<U16x4> = pixels[first * width..last * width]
            .iter()
            .map(|&pixel| U16x4::new(widen(pixel)))
            .collect();
        let view = TypedImageRef::new(from.0, (last - first) as u32, &wide)
            .map_err(|error| failed(from, to, error))?;
        let mut out = TypedImage::<U16x4>::new(to.0, rows);
        let offset = start - first as f64;
        let crop_height = (end - start).min((last - first) as f64 - offset);
        let options = Filter::Lanczos
            .options()
            .crop(0.0, offset, f64::from(from.0), crop_height);
        resizer
            .resize_typed(&view, &mut out, &options)
            .map_err(|error| failed(from, to, error))?;
        target.extend(out.pixels().iter().flat_map(|pixel| narrow(pixel.0)));
    }
    Ok(target)
}

fn premultiplied([r, g, b, a]: [u8; 4]) -> [u16; 4] {
    let alpha = u32::from(a);
    let wide = |c: u32| ((c * alpha * ONE + 255 * 255 / 2) / (255 * 255)) as u16;
    [
        wide(u32::from(r)),
        wide(u32::from(g)),
        wide(u32::from(b)),
        wide(255),
    ]
}

fn straight([r, g, b, a]: [u16; 4]) -> [u8; 4] {
    let alpha = u32::from(a);
    let out = ((alpha * 255 + ONE / 2) / ONE).min(255) as u8;
    if out == 0 {
        return [0; 4];
    }
    let colour = |c: u16| ((u32::from(c) * 255 + alpha / 2) / alpha).min(255) as u8;
    [colour(r), colour(g), colour(b), out]
}

fn failed(
    from: Dimensions,
    to: Dimensions,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let ((w, h), (to_w, to_h)) = (from, to);
    Error::new(
        Code::Internal,
        format!("a picture of {w}×{h} pixels cannot be resized to {to_w}×{to_h}"),
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bands_join_without_a_seam() {
        // Wide enough for several bands; compared with the same picture resized in one go.
        let (width, height) = (3000u32, 400u32);
        let level = |x: u32, y: u32| ((x * 7 + y * 13 + x * y / 50) % 200) as u8 + 20;
        let plane: Vec<u8> = (0..width * height)
            .map(|i| level(i % width, i / width))
            .collect();
        let colour: Vec<u8> = plane.iter().flat_map(|&v| [v; 3]).collect();
        let source: Vec<u8> = plane.iter().flat_map(|&v| [v, v, v, 255]).collect();
        for to in [(1000, 133), (2999, 399), (700, 800)] {
            let from = (width, height);
            let expected = rgb(&colour, from, to, Filter::Lanczos).unwrap();
            let masks = grey(&plane, from, to).unwrap();
            let pixels = rgba(&source, from, to).unwrap();
            let expected = expected.as_chunks::<3>().0;
            for (i, (pixel, expected)) in pixels.as_chunks::<4>().0.iter().zip(expected).enumerate()
            {
                let row = i as u32 / to.0;
                assert_eq!(pixel[3], 255, "row {row}");
                // Only where neither clips can the two be compared.
                if (1..255).contains(&expected[0]) {
                    assert!(pixel[0].abs_diff(expected[0]) <= 1, "row {row}");
                    assert!(masks[i].abs_diff(expected[0]) <= 1, "row {row}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_plain_colour_stays_itself_at_any_size(
            from in (1u32..60, 1u32..60), to in (1u32..60, 1u32..60),
            colour in any::<[u8; 3]>(), alpha in 1u8..=255,
        ) {
            let [r, g, b] = colour;
            let source = [r, g, b, alpha].repeat((from.0 * from.1) as usize);
            let target = rgba(&source, from, to).unwrap();
            prop_assert_eq!(target.len(), (to.0 * to.1 * 4) as usize);
            for pixel in target.as_chunks::<4>().0 {
                prop_assert!(pixel[3].abs_diff(alpha) <= 1);
                for (c, expected) in pixel.iter().zip(colour) {
                    // One step of 2^-15 weighs 255 / alpha levels after the division.
                    prop_assert!(c.abs_diff(expected) <= 1 + 8 / alpha, "{:?}", pixel);
                }
            }
        }
    }
}
