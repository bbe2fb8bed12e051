//! From the network's values to an alpha channel at the photo's size.

use rayon::prelude::*;
use wide::f32x4;

use crate::engine::tensor::Matte;
use crate::error::{Code, Error, Result};
use crate::job::{Kind, Output};
use crate::model::manifest::{Activation, MatteResize, OutputSpec};

use super::pillow;
use super::vector::{self, LANES};

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

/// Keeps the last bits of an f32 from deciding: a 1.0 must come out as 255 where values are cut
/// off, and one half as outside where they are rounded, as in transparent-background's
/// `pred > 0.5`. A quarter of the step between 16-bit values, so nothing else moves.
const SLACK: f32 = 1.0 / 1024.0;

/// The finished matte at the photo's size, one byte a pixel: 255 is kept, 0 is removed.
///
/// The order is transparent-background's, all of it before anything becomes a byte: to the
/// photo's size, then `output.threshold`, then `output.reverse`.
///
/// `BilinearAlignCorners` cuts alpha and masks off, as transparent-background does
/// (`(pred * 255).astype(uint8)`). Where the matte only weighs two pictures it uses the fraction
/// itself, and the nearest byte is the best one for it.
///
/// Works row by row: beside the answer it holds three rows of the photo's width for each thread.
pub fn to_full_size(
    matte: &Matte,
    width: u32,
    height: u32,
    resize: MatteResize,
    output: &Output,
) -> Vec<u8> {
    let bytes = Bytes::of_job(resize, output);
    let Some(taps) = taps(resize) else {
        // rembg makes bytes of the matte first, by cutting off.
        let small: Vec<u8> = matte
            .values
            .iter()
            .map(|value| (value * 255.0) as u8)
            .collect();
        let size = (matte.width, matte.height);
        let mut alpha = pillow::resize::<1>(&small, size, (width, height), &pillow::LANCZOS);
        if bytes.threshold.is_some() || bytes.reverse {
            let table: [u8; 256] =
                std::array::from_fn(|byte| bytes.of([f32x4::splat(byte as f32); 4])[0]);
            alpha
                .par_iter_mut()
                .for_each(|byte| *byte = table[usize::from(*byte)]);
        }
        return alpha;
    };
    spread(matte, width, height, taps, |sums| bytes.of(sums))
}

/// The same in 16 bits: 65535 is kept. To nearest in any case, as there is nothing to be equal to.
///
/// A matte that comes back by `Lanczos` has no more than 8 bits.
pub fn to_full_size_deep(
    matte: &Matte,
    width: u32,
    height: u32,
    resize: MatteResize,
    output: &Output,
) -> Vec<u16> {
    let bytes = Bytes::of_job(resize, output);
    let Some(taps) = taps(resize) else {
        let alpha = to_full_size(matte, width, height, resize, output);
        return alpha.into_par_iter().map(|a| u16::from(a) * 257).collect();
    };
    spread(matte, width, height, taps, |sums| bytes.deep(sums))
}

pub(super) type MakeTaps = fn(u32, u32) -> Taps;

/// How rows and columns are interpolated; `None` for what is not done in fractions.
pub(super) fn taps(resize: MatteResize) -> Option<MakeTaps> {
    match resize {
        MatteResize::Bilinear => Some(Taps::half_pixel),
        MatteResize::BilinearAlignCorners => Some(Taps::align_corners),
        MatteResize::Lanczos => None,
    }
}

/// Interpolates the matte, and makes levels of its values times 255.
fn spread<T: Copy + Default + Send>(
    matte: &Matte,
    width: u32,
    height: u32,
    taps: MakeTaps,
    levels: impl Fn([f32x4; 4]) -> [T; LANES] + Sync,
) -> Vec<T> {
    let columns = taps(matte.width, width);
    let rows = taps(matte.height, height);
    if matte.values.is_empty() {
        return vec![T::default(); width as usize * height as usize];
    }
    in_bands(
        (width, height),
        || Window::new(matte, &columns, &rows),
        |window, y, out| write(window.row(y, 255.0), &levels, out),
    )
}

/// Makes a picture row by row, in parallel. What a task keeps from one row to the next, `state` makes.
pub(super) fn in_bands<S, T: Copy + Default + Send>(
    (width, height): (u32, u32),
    state: impl Fn() -> S + Send + Sync,
    row: impl Fn(&mut S, usize, &mut [T]) + Send + Sync,
) -> Vec<T> {
    let width = width as usize;
    let mut picture = vec![T::default(); width * height as usize];
    if picture.is_empty() {
        return picture;
    }
    picture
        .par_chunks_mut(BAND * width)
        .enumerate()
        .for_each_init(state, |state, (band, out)| {
            for (y, out) in out.chunks_exact_mut(width).enumerate() {
                row(state, band * BAND + y, out);
            }
        });
    picture
}

/// Rows that one task answers for. The first of them spreads rows of the matte that the band before
/// has spread too: with 32, a tenth more of them for a matte a third as high as the photo.
const BAND: usize = 32;

/// Makes levels of a row in whole vectors, as [`Window::row`] answers it.
pub(super) fn write<T: Copy>(
    row: &[f32x4],
    levels: impl Fn([f32x4; 4]) -> [T; LANES],
    out: &mut [T],
) {
    for (out, &sums) in out.chunks_mut(LANES).zip(row.as_chunks::<4>().0) {
        out.copy_from_slice(&levels(sums)[..out.len()]);
    }
}

/// How values times 255 become bytes.
pub(super) struct Bytes {
    threshold: Option<f32>,
    reverse: bool,
    rounding: f32,
}

impl Bytes {
    pub(super) fn of_job(resize: MatteResize, output: &Output) -> Self {
        let rounding = match (resize, output.effective_kind()) {
            (MatteResize::BilinearAlignCorners, Kind::Rgba | Kind::Mask) => SLACK,
            _ => 0.5 - SLACK,
        };
        Self {
            threshold: output.threshold.map(|threshold| threshold.get() * 255.0),
            reverse: output.reverse,
            rounding,
        }
    }

    pub(super) fn of(&self, values: [f32x4; 4]) -> [u8; LANES] {
        let whole = values
            .map(|value| (self.decided(value) + f32x4::splat(self.rounding)).fast_trunc_int());
        vector::clamped(whole)
    }

    pub(super) fn deep(&self, values: [f32x4; 4]) -> [u16; LANES] {
        let values = values.map(|value| self.decided(value).to_array());
        // 255 × 257 = 65535.
        std::array::from_fn(|lane| (values[lane / 4][lane % 4] * 257.0 + 0.5) as u16)
    }

    /// With the job's threshold and reverse.
    fn decided(&self, value: f32x4) -> f32x4 {
        let white = f32x4::splat(255.0);
        // The interpolation's last bit may lie above 1.0, and so above a threshold of 1.
        let mut value = value.fast_min(white);
        if let Some(threshold) = self.threshold {
            value = value.simd_gt(f32x4::splat(threshold)) & white;
        }
        if self.reverse {
            value = white - value;
        }
        value
    }
}

/// Rows of the matte at the photo's width. Each is spread once, and used for as many rows as the matte
/// is enlarged by.
pub(super) struct Window<'a> {
    matte: &'a Matte,
    columns: &'a Taps,
    rows: &'a Taps,
    /// Which row of the matte each holds, and the row in whole vectors. Two are what enlarging
    /// needs; when shrinking, a row is spread anew for each that it counts for, which are few.
    spread: [(Option<usize>, Vec<f32x4>); 2],
    sums: Vec<f32x4>,
}

impl<'a> Window<'a> {
    pub(super) fn new(matte: &'a Matte, columns: &'a Taps, rows: &'a Taps) -> Self {
        let row = vec![f32x4::ZERO; columns.first.len().div_ceil(LANES) * 4];
        Self {
            matte,
            columns,
            rows,
            spread: std::array::from_fn(|_| (None, row.clone())),
            sums: row,
        }
    }

    /// One row at the photo's size, times `scale`, in whole vectors of [`LANES`] values.
    pub(super) fn row(&mut self, y: usize, scale: f32) -> &[f32x4] {
        let (first, weights) = self.rows.at(y);
        let stride = self.matte.width as usize;
        self.sums.fill(f32x4::ZERO);
        for (row, weight) in (first..).zip(weights) {
            let (held, spread) = &mut self.spread[row % 2];
            if *held != Some(row) {
                let source = &self.matte.values[row * stride..][..stride];
                self.columns.spread(source, spread);
                *held = Some(row);
            }
            // The scale is folded in here, once for each row.
            let weight = f32x4::splat(weight * scale);
            for (sum, &values) in self.sums.iter_mut().zip(&*spread) {
                *sum += values * weight;
            }
        }
        &self.sums
    }
}

/// For each target position: the first source position, and the weights from there on. All
/// targets have the same number of weights, so that the inner loop has no surprises.
pub(super) struct Taps {
    first: Vec<u32>,
    weights: Vec<f32>,
    width: usize,
}

impl Taps {
    /// Pillow's triangle filter (`precompute_coeffs` in its Resample.c): as wide as the step
    /// when shrinking, two taps when growing.
    pub(super) fn half_pixel(source: u32, target: u32) -> Self {
        let scale = f64::from(source) / f64::from(target.max(1));
        let support = scale.max(1.0);
        let reached = if scale > 1.0 {
            support.ceil() as usize * 2 + 1
        } else {
            2
        };
        let width = reached.min(source as usize);
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
                (1.0 - ((f64::from(i) - centre + 0.5) / support).abs()).max(0.0)
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

    /// One row of values, spread to the targets.
    fn spread(&self, source: &[f32], out: &mut [f32x4]) {
        let at = |target: usize| {
            let (first, weights) = self.at(target);
            let values = &source[first..][..weights.len()];
            values.iter().zip(weights).map(|(v, w)| v * w).sum()
        };
        let targets = self.first.len();
        for (i, out) in out.iter_mut().enumerate() {
            *out = f32x4::new(std::array::from_fn(|lane| match i * 4 + lane {
                target if target < targets => at(target),
                _ => 0.0,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Threshold;
    use crate::pipeline::fixtures;
    use proptest::prelude::*;

    fn spec(activation: Activation, min_max: bool) -> OutputSpec {
        OutputSpec {
            min_max,
            ..OutputSpec::new(activation)
        }
    }

    /// As a plain cut-out wants it.
    fn to_full_size(matte: &Matte, width: u32, height: u32, resize: MatteResize) -> Vec<u8> {
        super::to_full_size(matte, width, height, resize, &Output::default())
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
            assert_eq!(worst, 0, "{width}×{height}");
        }
    }

    #[test]
    fn a_threshold_comes_after_the_resize_and_before_reverse() {
        let ramp = matte(2, 1, vec![0.0, 1.0]);
        let cut = |threshold: f32, reverse| {
            let output = Output {
                threshold: Some(Threshold::new(threshold).unwrap()),
                reverse,
                ..Output::default()
            };
            let corners = MatteResize::BilinearAlignCorners;
            super::to_full_size(&ramp, 5, 1, corners, &output)
        };
        assert_eq!(cut(0.0, false), [0, 255, 255, 255, 255]);
        // What equals the threshold is not above it.
        assert_eq!(cut(0.5, false), [0, 0, 0, 255, 255]);
        assert_eq!(cut(1.0, false), [0; 5]);
        assert_eq!(cut(0.5, true), [255, 255, 255, 0, 0]);
        assert_eq!(cut(1.0, true), [255; 5]);
    }

    #[test]
    fn reversing_is_done_on_the_fraction_and_cut_off_after_it() {
        let ramp = matte(2, 1, vec![0.0, 1.0]);
        let kind = |kind: &str| {
            let output = Output {
                kind: kind.parse().unwrap(),
                reverse: true,
                ..Output::default()
            };
            let corners = MatteResize::BilinearAlignCorners;
            super::to_full_size(&ramp, 3, 1, corners, &output)
        };
        assert_eq!(kind("mask"), [255, 127, 0]);
        // One half is outside both ways round.
        assert_eq!(kind("overlay"), [255, 127, 0]);
        let grey = matte(1, 1, vec![0.3]);
        let mut output = Output::default();
        let corners = MatteResize::BilinearAlignCorners;
        // 76.5 and 178.5: cut off for alpha, and the nearest byte for a mixture.
        output.reverse = true;
        let bytes = super::to_full_size(&grey, 1, 1, corners, &output);
        assert_eq!(bytes, [178]);
        let nearly = matte(1, 1, vec![0.299]);
        output.kind = Kind::White;
        let bytes = super::to_full_size(&nearly, 1, 1, corners, &output);
        assert_eq!(bytes, [179]);
    }

    #[test]
    fn shrinking_averages_instead_of_skipping() {
        let stripes = matte(8, 1, [0.0, 1.0].repeat(4));
        let alpha = to_full_size(&stripes, 2, 1, MatteResize::Bilinear);
        assert!(alpha.iter().all(|a| a.abs_diff(128) < 12), "{alpha:?}");
    }

    proptest! {
        #[test]
        fn a_hard_mask_is_black_and_white_at_any_size_and_its_reverse_the_rest(
            from in (1u32..20, 1u32..20), to in (1u32..60, 1u32..60), corners in any::<bool>(),
            threshold in prop_oneof![Just(0.0f32), Just(1.0), 0.0f32..=1.0],
        ) {
            let values = (0..from.0 * from.1).map(|i| ((i * 89) % 256) as f32 / 255.0).collect();
            let soft = matte(from.0, from.1, values);
            let resize = if corners { MatteResize::BilinearAlignCorners } else { MatteResize::Bilinear };
            let mut output = Output {
                threshold: Some(Threshold::new(threshold).unwrap()),
                ..Output::default()
            };
            let hard = super::to_full_size(&soft, to.0, to.1, resize, &output);
            output.reverse = true;
            let rest = super::to_full_size(&soft, to.0, to.1, resize, &output);
            for (&a, &b) in hard.iter().zip(&rest) {
                prop_assert!((a, b) == (255, 0) || (a, b) == (0, 255));
            }
            if threshold == 1.0 {
                prop_assert!(hard.iter().all(|&a| a == 0));
            }
        }

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
