//! From the network's values to an alpha channel at the photo's size.

use rayon::prelude::*;

use crate::engine::tensor::Matte;
use crate::error::{Code, Error, Result};
use crate::model::manifest::{Activation, MatteResize, OutputSpec};

/// Keeps a matte without contrast from being divided by zero; transparent-background's value.
const MIN_MAX_EPSILON: f32 = 1e-8;

/// Turns the network's raw values into probabilities, in place: sigmoid for logits, the
/// image's own minimum and maximum where the manifest asks for it, then 0 to 1.
///
/// Errors: `inference_failed` when a value is not a finite number.
pub fn finish(matte: &mut Matte, spec: &OutputSpec) -> Result<()> {
    let expected = matte.width as usize * matte.height as usize;
    if expected == 0 || matte.values.len() != expected {
        return Err(Error::new(
            Code::InferenceFailed,
            format!(
                "the network answered {} values for a {}×{} matte",
                matte.values.len(),
                matte.width,
                matte.height
            ),
        ));
    }
    if matte.values.iter().any(|value| !value.is_finite()) {
        return Err(Error::new(
            Code::InferenceFailed,
            "the network answered values that are not finite numbers",
        ));
    }
    if spec.activation == Activation::Logit {
        for value in &mut matte.values {
            *value = 1.0 / (1.0 + (-*value).exp());
        }
    }
    if spec.min_max {
        let (min, max) = matte
            .values
            .iter()
            .fold((f32::MAX, f32::MIN), |(min, max), &v| {
                (min.min(v), max.max(v))
            });
        let range = max - min + MIN_MAX_EPSILON;
        for value in &mut matte.values {
            *value = (*value - min) / range;
        }
    }
    for value in &mut matte.values {
        *value = value.clamp(0.0, 1.0);
    }
    Ok(())
}

/// The finished matte at the photo's size, one byte a pixel, 255 is subject.
///
/// Works row by row: beside the answer it holds one row of the matte's width for each thread.
/// `Bilinear` rounds to nearest; `BilinearAlignCorners` cuts off, as transparent-background
/// does (`(pred * 255).astype(uint8)`). `Lanczos` cuts off before it resizes, as rembg does.
pub fn to_full_size(matte: &Matte, width: u32, height: u32, resize: MatteResize) -> Vec<u8> {
    if resize == MatteResize::Lanczos {
        return lanczos_of_bytes(matte, width, height);
    }
    let columns = Taps::new(matte.width, width, resize);
    let rows = Taps::new(matte.height, height, resize);
    let rounding = match resize {
        MatteResize::Bilinear => 0.5,
        // Cutting off, but not for the last bits of an f32: a 1.0 must come out as 255.
        MatteResize::BilinearAlignCorners => 1.0 / 1024.0,
        MatteResize::Lanczos => unreachable!("answered above"),
    };
    let stride = matte.width as usize;
    let mut alpha = vec![0; width as usize * height as usize];
    if alpha.is_empty() || matte.values.is_empty() {
        return alpha;
    }
    alpha
        .par_chunks_exact_mut(width as usize)
        .enumerate()
        .for_each_init(
            || vec![0.0f32; stride],
            |blend, (y, out)| {
                let (first, weights) = rows.at(y);
                blend.fill(0.0);
                for (row, weight) in weights.iter().enumerate() {
                    let source = &matte.values[(first + row) * stride..][..stride];
                    for (sum, value) in blend.iter_mut().zip(source) {
                        // The scale to bytes is folded in here, once for each source column.
                        *sum += value * (weight * 255.0);
                    }
                }
                columns.spread(blend, rounding, out);
            },
        );
    alpha
}

/// rembg's way back: `Image.fromarray((pred * 255).astype("uint8")).resize(size, LANCZOS)`.
///
/// Lanczos overshoots at every edge, so it matters that Pillow goes first across, then down, and
/// stores bytes between: beside the answer this holds those, one row of the photo's width for
/// each of the matte's.
fn lanczos_of_bytes(matte: &Matte, width: u32, height: u32) -> Vec<u8> {
    let (stride, wide) = (matte.width as usize, width as usize);
    let mut alpha = vec![0; wide * height as usize];
    if alpha.is_empty() || matte.values.is_empty() {
        return alpha;
    }
    let columns = Taps::half_pixel(matte.width, width, &LANCZOS);
    let rows = Taps::half_pixel(matte.height, height, &LANCZOS);
    let mut across = vec![0; wide * matte.height as usize];
    across
        .par_chunks_exact_mut(wide)
        .zip(matte.values.par_chunks_exact(stride))
        .for_each_init(
            || vec![0.0f32; stride],
            |levels, (out, values)| {
                for (level, value) in levels.iter_mut().zip(values) {
                    *level = (value * 255.0).floor();
                }
                columns.spread(levels, 0.5, out);
            },
        );
    alpha.par_chunks_exact_mut(wide).enumerate().for_each_init(
        || vec![0.0f32; wide],
        |blend, (y, out)| {
            let (first, weights) = rows.at(y);
            blend.fill(0.5);
            for (row, weight) in weights.iter().enumerate() {
                let source = &across[(first + row) * wide..][..wide];
                for (sum, &level) in blend.iter_mut().zip(source) {
                    *sum += f32::from(level) * weight;
                }
            }
            for (out, sum) in out.iter_mut().zip(blend) {
                *out = *sum as u8;
            }
        },
    );
    alpha
}

/// One of Pillow's filters: how far it reaches, in source pixels when not shrinking, and its
/// value at a distance.
struct Kernel {
    reach: f64,
    at: fn(f64) -> f64,
}

/// Pillow's `BILINEAR`.
const TRIANGLE: Kernel = Kernel {
    reach: 1.0,
    at: |x| (1.0 - x.abs()).max(0.0),
};

/// Pillow's `LANCZOS`: a sinc windowed by a sinc three times as wide.
const LANCZOS: Kernel = Kernel {
    reach: 3.0,
    at: |x| {
        let sinc = |x: f64| {
            let x = x * std::f64::consts::PI;
            if x == 0.0 { 1.0 } else { x.sin() / x }
        };
        if x.abs() < 3.0 {
            sinc(x) * sinc(x / 3.0)
        } else {
            0.0
        }
    },
};

/// For each target position: the first source position, and the weights from there on. All
/// targets have the same number of weights, so that the inner loop has no surprises.
struct Taps {
    first: Vec<u32>,
    weights: Vec<f32>,
    width: usize,
}

impl Taps {
    fn new(source: u32, target: u32, resize: MatteResize) -> Self {
        match resize {
            MatteResize::Bilinear => Self::half_pixel(source, target, &TRIANGLE),
            MatteResize::Lanczos => Self::half_pixel(source, target, &LANCZOS),
            MatteResize::BilinearAlignCorners => Self::align_corners(source, target),
        }
    }

    /// Pillow's filters (`precompute_coeffs` in its Resample.c): stretched by the step when
    /// shrinking, never squeezed.
    fn half_pixel(source: u32, target: u32, kernel: &Kernel) -> Self {
        let scale = f64::from(source) / f64::from(target.max(1));
        let stretch = scale.max(1.0);
        let support = kernel.reach * stretch;
        let width = (support.ceil() as usize * 2 + 1).min(source as usize);
        let mut taps = Self::empty(target, width);
        for x in 0..target {
            let centre = (f64::from(x) + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as u32;
            let end = ((centre + support + 0.5) as u32).min(source);
            // Moved left where the fixed number of weights would run over the edge.
            let first = start.min(source - width as u32);
            let weight = |i: u32| {
                if !(start..end).contains(&i) {
                    return 0.0;
                }
                (kernel.at)((f64::from(i) - centre + 0.5) / stretch)
            };
            let weights = (first..first + width as u32).map(weight);
            let sum: f64 = weights.clone().sum();
            taps.first.push(first);
            taps.weights.extend(weights.map(|w| (w / sum) as f32));
        }
        taps
    }

    /// torch's `interpolate(mode="bilinear", align_corners=True)`: the outermost centres
    /// coincide; never antialiased.
    fn align_corners(source: u32, target: u32) -> Self {
        let width = 2.min(source as usize);
        let mut taps = Self::empty(target, width);
        let scale = if target > 1 {
            (source.saturating_sub(1)) as f32 / (target - 1) as f32
        } else {
            0.0
        };
        for x in 0..target {
            let at = x as f32 * scale;
            let first = (at as u32).min(source - width as u32);
            let right = (at - first as f32).clamp(0.0, 1.0);
            taps.first.push(first);
            match width {
                2 => taps.weights.extend([1.0 - right, right]),
                _ => taps.weights.push(1.0),
            }
        }
        taps
    }

    fn empty(target: u32, width: usize) -> Self {
        Self {
            first: Vec::with_capacity(target as usize),
            weights: Vec::with_capacity(target as usize * width),
            width,
        }
    }

    fn at(&self, target: usize) -> (usize, &[f32]) {
        let weights = &self.weights[target * self.width..][..self.width];
        (self.first[target] as usize, weights)
    }

    /// One target row out of one blended source row (already times 255).
    fn spread(&self, source: &[f32], rounding: f32, out: &mut [u8]) {
        let targets = self.first.iter().zip(self.weights.chunks_exact(self.width));
        for (out, (&first, weights)) in out.iter_mut().zip(targets) {
            let values = &source[first as usize..][..self.width];
            let sum: f32 = values.iter().zip(weights).map(|(v, w)| v * w).sum();
            // `as` saturates, so a last bit above 255 stays 255.
            *out = (sum + rounding) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::fixtures;
    use proptest::prelude::*;

    fn spec(activation: Activation, min_max: bool) -> OutputSpec {
        OutputSpec {
            min_max,
            ..OutputSpec::new(activation)
        }
    }

    fn matte(width: u32, height: u32, values: Vec<f32>) -> Matte {
        Matte {
            width,
            height,
            values,
        }
    }

    #[test]
    fn logits_become_probabilities_and_are_stretched_by_the_images_own_range() {
        let mut raw = matte(3, 1, vec![-1.0, 0.0, 1.0]);
        finish(&mut raw, &spec(Activation::Logit, false)).unwrap();
        for (value, expected) in raw.values.iter().zip([0.268_941, 0.5, 0.731_059]) {
            assert!((value - expected).abs() < 1e-6, "{value}");
        }
        finish(&mut raw, &spec(Activation::Probability, true)).unwrap();
        for (value, expected) in raw.values.iter().zip([0.0, 0.5, 1.0]) {
            assert!((value - expected).abs() < 1e-6, "{value}");
        }
    }

    #[test]
    fn a_matte_without_contrast_is_empty_after_min_max_and_not_a_division_by_zero() {
        let mut raw = matte(2, 1, vec![0.7, 0.7]);
        finish(&mut raw, &spec(Activation::Probability, true)).unwrap();
        assert_eq!(raw.values, [0.0, 0.0]);
    }

    #[test]
    fn values_outside_the_range_are_clamped_and_non_numbers_refused() {
        let mut raw = matte(2, 1, vec![-0.1, 1.2]);
        finish(&mut raw, &spec(Activation::Probability, false)).unwrap();
        assert_eq!(raw.values, [0.0, 1.0]);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut raw = matte(2, 1, vec![0.0, bad]);
            let error = finish(&mut raw, &spec(Activation::Logit, true)).unwrap_err();
            assert_eq!(error.code(), Code::InferenceFailed);
        }
        let error = finish(&mut matte(2, 2, vec![0.0]), &spec(Activation::Logit, false));
        assert_eq!(error.unwrap_err().code(), Code::InferenceFailed);
    }

    #[test]
    fn align_corners_keeps_the_corners_and_cuts_off() {
        let small = matte(2, 2, vec![0.0, 1.0, 0.0, 1.0]);
        let alpha = to_full_size(&small, 4, 2, MatteResize::BilinearAlignCorners);
        assert_eq!(alpha, [0, 85, 170, 255, 0, 85, 170, 255]);
        let grey = matte(1, 1, vec![0.999]);
        assert_eq!(
            to_full_size(&grey, 1, 1, MatteResize::BilinearAlignCorners),
            [254]
        );
        assert_eq!(to_full_size(&grey, 1, 1, MatteResize::Bilinear), [255]);
    }

    #[test]
    fn both_ways_back_match_their_references() {
        let source = image::load_from_memory(&fixtures::read("matte.png"))
            .unwrap()
            .into_luma8();
        let values = source
            .as_raw()
            .iter()
            .map(|&v| f32::from(v) / 255.0)
            .collect();
        let small = matte(source.width(), source.height(), values);
        for (width, height) in [(50, 33), (5, 4), (3, 40), (1, 1)] {
            for (resize, name) in [
                (MatteResize::Bilinear, "half"),
                (MatteResize::BilinearAlignCorners, "corners"),
            ] {
                let file = fixtures::read(&format!("matte_{name}_{width}x{height}.png"));
                let expected = image::load_from_memory(&file).unwrap().into_luma8();
                let alpha = to_full_size(&small, width, height, resize);
                let worst = fixtures::difference(&alpha, expected.as_raw());
                assert!(worst <= 1, "{name} {width}×{height}: {worst}");
            }
        }
    }

    #[test]
    fn a_matte_goes_back_as_rembgs_does() {
        let values = fixtures::read("rembg_answer.f32");
        let (values, _) = values.as_chunks::<4>();
        let values = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
        let mut small = matte(16, 12, values);
        let text = include_str!("../../models/birefnet-general.toml");
        let spec = crate::model::origin::Published::parse(text, "birefnet-general")
            .unwrap()
            .output;
        finish(&mut small, &spec).unwrap();
        for (width, height) in [(50, 33), (5, 4), (3, 40), (16, 12)] {
            let file = fixtures::read(&format!("rembg_mask_{width}x{height}.png"));
            let expected = image::load_from_memory(&file).unwrap().into_luma8();
            let alpha = to_full_size(&small, width, height, spec.resize);
            let worst = fixtures::difference(&alpha, expected.as_raw());
            assert!(worst <= 1, "{width}×{height}: {worst}");
        }
    }

    #[test]
    fn shrinking_averages_instead_of_skipping() {
        let stripes = matte(8, 1, [0.0, 1.0].repeat(4));
        let alpha = to_full_size(&stripes, 2, 1, MatteResize::Bilinear);
        assert!(alpha.iter().all(|a| a.abs_diff(128) < 12), "{alpha:?}");
    }

    proptest! {
        #[test]
        fn any_size_keeps_a_flat_matte_flat(
            from in (1u32..40, 1u32..40), to in (1u32..90, 1u32..90), level in 0u8..=255, way in 0..3usize,
        ) {
            // A quarter of a level above, so that cutting off does not lose one to the last bit.
            let value = (f32::from(level) + 0.25) / 255.0;
            let flat = matte(from.0, from.1, vec![value; (from.0 * from.1) as usize]);
            let resize = [MatteResize::Bilinear, MatteResize::BilinearAlignCorners, MatteResize::Lanczos][way];
            let alpha = to_full_size(&flat, to.0, to.1, resize);
            prop_assert_eq!(alpha.len(), (to.0 * to.1) as usize);
            prop_assert!(alpha.iter().all(|&a| a == level), "{:?}", alpha);
        }

        #[test]
        fn the_same_size_changes_nothing(width in 1u32..30, height in 1u32..30, corners in any::<bool>()) {
            let n = width * height;
            let values: Vec<f32> = (0..n).map(|i| ((i * 37) % 256) as f32 / 255.0).collect();
            let expected: Vec<u8> = (0..n).map(|i| ((i * 37) % 256) as u8).collect();
            let resize = if corners { MatteResize::BilinearAlignCorners } else { MatteResize::Bilinear };
            let alpha = to_full_size(&matte(width, height, values), width, height, resize);
            for (a, e) in alpha.iter().zip(expected) {
                prop_assert!(a.abs_diff(e) <= u8::from(corners), "{} {}", a, e);
            }
        }
    }
}
