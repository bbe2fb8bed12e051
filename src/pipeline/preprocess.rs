//! From a photo to what the network eats.

use crate::engine::tensor::{Tensor, TensorData};
use crate::error::Result;
use crate::model::manifest::{InputFilter, InputRange, InputSpec, Layout, Resize};

use super::decode::Photo;
use super::pillow;

/// How many times longer than the shorter side a dynamic input may be. Without a cap a 1×5000
/// photo would ask for a tensor of millions of pixels. Real photos stay below 3:1; what is
/// longer is squeezed.
const MAX_ASPECT: u32 = 4;

/// What transparent pixels look like to the network: neutral, so that neither colours hidden
/// under transparency nor a stark border steer it.
const NEUTRAL_GREY: u8 = 128;

/// Width and height of the network's input for a photo of this size.
///
/// `Dynamic` does what transparent-background 1.3.4 does (`dynamic_resize` in utils.py): a
/// shorter side above `short` becomes `short`, the other keeps the aspect; smaller photos keep
/// their size; then both go to the nearest multiple, halves to the even one, as Python rounds.
/// Beyond it: no side below `multiple`, none above four times `short`.
pub fn target_size(width: u32, height: u32, resize: &Resize) -> (u32, u32) {
    let (short, multiple) = match *resize {
        Resize::Static { width, height } => return (width, height),
        Resize::Dynamic { short, multiple } => (short, multiple.max(1)),
    };
    let (w, h, limit) = (f64::from(width), f64::from(height), f64::from(short));
    // The same order of operations as the original: ties are decided by the last bit.
    let (w, h) = if w >= h && h > limit {
        (w / (h / limit), limit)
    } else if h > w && w > limit {
        (limit, h / (w / limit))
    } else {
        (w, h)
    };
    let longest = (MAX_ASPECT.saturating_mul(short) / multiple * multiple).max(multiple);
    let round = |side: f64| {
        let steps = (side / f64::from(multiple)).round_ties_even();
        ((steps * f64::from(multiple)) as u32).clamp(multiple, longest)
    };
    (round(w), round(h))
}

/// The photo at the network's size, in its layout.
///
/// The resampling is Pillow's antialiased `BILINEAR` or `LANCZOS`, whichever the network was
/// published with.
pub fn to_tensor(photo: &Photo, input: &InputSpec, resize: &Resize) -> Result<Tensor> {
    let (width, height) = target_size(photo.width, photo.height, resize);
    let flat = photo.flattened(NEUTRAL_GREY);
    let rgb = flat.as_deref().unwrap_or(&photo.rgb);
    let from = (photo.width, photo.height);
    let kernel = match input.filter {
        InputFilter::Bilinear => &pillow::BILINEAR,
        InputFilter::Lanczos => &pillow::LANCZOS,
    };
    let pixels = pillow::resize::<3>(rgb, from, (width, height), kernel);
    let data = match input.layout {
        Layout::NhwcU8 => TensorData::NhwcU8(pixels),
        Layout::NchwF32 => TensorData::NchwF32(normalised(&pixels, input)),
    };
    Ok(Tensor {
        width,
        height,
        data,
    })
}

/// Planes of `(x - mean) / std`, where the brightest x is 255 if the network wants it so.
fn normalised(pixels: &[u8], input: &InputSpec) -> Vec<f32> {
    let stretch = match input.range {
        InputRange::Full => 1.0,
        // A black photo stays black: rembg divides it by 1e-6 for the same reason.
        InputRange::ImageMax => {
            255.0 / f32::from(pixels.iter().copied().max().unwrap_or(255).max(1))
        }
    };
    let (pixels, _) = pixels.as_chunks::<3>();
    let mut planes = Vec::with_capacity(pixels.len() * 3);
    for channel in 0..3 {
        // 256 possible values: a table spares a division a pixel.
        let (mean, std) = (input.mean[channel], input.std[channel]);
        let table: [f32; 256] = std::array::from_fn(|x| (x as f32 * stretch - mean) / std);
        planes.extend(
            pixels
                .iter()
                .map(|pixel| table[usize::from(pixel[channel])]),
        );
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::fixtures;
    use proptest::prelude::*;

    const DYNAMIC: Resize = Resize::Dynamic {
        short: 1280,
        multiple: 32,
    };

    fn input(layout: Layout) -> InputSpec {
        InputSpec {
            mean: [128.0, 100.0, 0.0],
            std: [256.0, 2.0, 1.0],
            ..InputSpec::new(layout)
        }
    }

    fn plain(width: u32, height: u32, colour: [u8; 3]) -> Photo {
        let pixels = width as usize * height as usize;
        Photo {
            width,
            height,
            rgb: colour.repeat(pixels),
            alpha: None,
        }
    }

    #[test]
    fn dynamic_sizes_are_those_of_transparent_background() {
        // Computed with `dynamic_resize(1280)` of transparent-background 1.3.4.
        for ((width, height), expected) in [
            ((4032, 3024), (1696, 1280)),
            ((3024, 4032), (1280, 1696)),
            ((1280, 1280), (1280, 1280)),
            ((640, 480), (640, 480)),
            ((451, 300), (448, 288)),
            // 48 / 32 and 80 / 32 lie halfway: to the even multiple.
            ((80, 48), (64, 64)),
            ((2000, 1300), (1984, 1280)),
        ] {
            assert_eq!(
                target_size(width, height, &DYNAMIC),
                expected,
                "{width}×{height}"
            );
        }
    }

    #[test]
    fn thin_photos_get_neither_an_empty_nor_a_gigantic_input() {
        assert_eq!(target_size(1, 5000, &DYNAMIC), (32, 4992));
        assert_eq!(target_size(30_000, 1281, &DYNAMIC), (5120, 1280));
        assert_eq!(target_size(1, 1, &DYNAMIC), (32, 32));
    }

    #[test]
    fn a_tensor_is_planar_and_normalised_or_interleaved_and_raw() {
        let photo = plain(6, 4, [128, 110, 7]);
        let resize = Resize::Static {
            width: 3,
            height: 2,
        };
        let tensor = to_tensor(&photo, &input(Layout::NchwF32), &resize).unwrap();
        assert_eq!((tensor.width, tensor.height), (3, 2));
        let planes = [[0.0; 6], [5.0; 6], [7.0; 6]].concat();
        assert_eq!(tensor.data, TensorData::NchwF32(planes));
        let tensor = to_tensor(&photo, &input(Layout::NhwcU8), &resize).unwrap();
        assert_eq!(tensor.data, TensorData::NhwcU8([128, 110, 7].repeat(6)));
    }

    #[test]
    fn resizing_is_pillows_antialiased_bilinear() {
        let source = fixtures::rgb("resize.png");
        let photo = Photo {
            width: source.width(),
            height: source.height(),
            rgb: source.into_raw(),
            alpha: None,
        };
        for (width, height) in [(32, 24), (7, 5), (96, 64), (1, 1)] {
            let resize = Resize::Static { width, height };
            let tensor = to_tensor(&photo, &input(Layout::NhwcU8), &resize).unwrap();
            let TensorData::NhwcU8(pixels) = tensor.data else {
                panic!("another layout than asked for");
            };
            let expected = fixtures::rgb(&format!("resize_{width}x{height}.png"));
            let worst = fixtures::difference(&pixels, &expected);
            assert_eq!(worst, 0, "{width}×{height}");
        }
    }

    #[test]
    fn rembgs_networks_get_what_rembg_gives_them() {
        // `normalize` of rembg's sessions/base.py with the numbers of sessions/u2net.py, run by
        // tests/reference/make_rembg.py on a photo that is nowhere white.
        let source = fixtures::rgb("rembg_photo.png");
        let photo = Photo {
            width: source.width(),
            height: source.height(),
            rgb: source.into_raw(),
            alpha: None,
        };
        let text = include_str!("../../models/u2net.toml");
        let u2net = crate::model::origin::Published::parse(text, "u2net").unwrap();
        for (width, height) in [(24, 18), (70, 12)] {
            let resize = Resize::Static { width, height };
            let tensor = to_tensor(&photo, &u2net.input, &resize).unwrap();
            let TensorData::NchwF32(values) = tensor.data else {
                panic!("another layout than asked for");
            };
            let expected = fixtures::read(&format!("rembg_input_{width}x{height}.f32"));
            let (expected, _) = expected.as_chunks::<4>();
            assert_eq!(values.len(), expected.len());
            for (value, expected) in values.iter().zip(expected) {
                let expected = f32::from_le_bytes(*expected);
                // The pixels are the same; rembg computes in f64.
                assert!((value - expected).abs() <= 1e-5, "{value} {expected}");
            }
        }
    }

    #[test]
    fn a_black_photo_is_black_whatever_its_maximum() {
        let spec = InputSpec {
            range: InputRange::ImageMax,
            ..InputSpec::new(Layout::NchwF32)
        };
        let resize = Resize::Static {
            width: 2,
            height: 1,
        };
        for (level, expected) in [(0, 0.0), (51, 255.0), (255, 255.0)] {
            let photo = plain(4, 4, [level; 3]);
            let tensor = to_tensor(&photo, &spec, &resize).unwrap();
            assert_eq!(tensor.data, TensorData::NchwF32(vec![expected; 6]));
        }
    }

    #[test]
    fn colours_hidden_under_transparency_do_not_reach_the_network() {
        let mut photo = plain(8, 8, [255, 0, 0]);
        photo.alpha = Some(vec![0; 64]);
        let resize = Resize::Static {
            width: 4,
            height: 4,
        };
        let tensor = to_tensor(&photo, &input(Layout::NhwcU8), &resize).unwrap();
        assert_eq!(tensor.data, TensorData::NhwcU8(vec![NEUTRAL_GREY; 48]));
    }

    proptest! {
        #[test]
        fn dynamic_sizes_are_multiples_within_bounds(width in 1u32..40_000, height in 1u32..40_000) {
            let (w, h) = target_size(width, height, &DYNAMIC);
            for side in [w, h] {
                prop_assert!(side % 32 == 0 && (32..=5120).contains(&side), "{w}×{h}");
            }
            prop_assert!(w.min(h) <= 1280);
        }

        #[test]
        fn any_photo_fills_the_input(width in 1u32..80, height in 1u32..80, colour in any::<[u8; 3]>()) {
            let resize = Resize::Static { width: 32, height: 24 };
            let tensor = to_tensor(&plain(width, height, colour), &input(Layout::NhwcU8), &resize).unwrap();
            prop_assert_eq!(tensor.data, TensorData::NhwcU8(colour.repeat(32 * 24)));
        }
    }
}
