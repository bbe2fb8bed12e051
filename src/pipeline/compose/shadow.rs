//! The subject's shadow: its alpha, blurred by a Gaussian, moved, and laid under it.
//!
//! A soft shadow holds no detail, so it is blurred small: blocks of pixels are averaged until some four to
//! eight of them are a standard deviation, and what was blurred is interpolated. What averaging and
//! interpolating blur by themselves is taken off the Gaussian's variance.

use rayon::prelude::*;

use crate::job::Output;

use super::{Bounds, STRETCH, blend};

/// Least blocks in a standard deviation, from two pixels a block on.
const BLOCKS: f64 = 4.0;

/// Where the Gaussian is cut off, in standard deviations: what is beyond is less than a level.
const REACH: f64 = 3.5;

/// Blocks around the picture, into which the shadow fades. A move brings it into view, as what lies beyond
/// the picture's edge is nothing and not cut off. A standard deviation is less than eight blocks.
const MARGIN: usize = (REACH * 2.0 * BLOCKS) as usize + 2;

/// A shadow, ready to be laid under something.
pub(super) struct Cast {
    /// The blurred alpha of blocks, 65535 for opaque, with a margin all around.
    plane: Vec<u16>,
    width: usize,
    height: usize,
    /// Pixels a block.
    step: usize,
    /// Where it lies, in pixels to the right and below.
    offset: (f32, f32),
    opacity: f32,
    /// In the picture's profile.
    colour: [u8; 3],
    /// The picture's width, pixels.
    row: usize,
}

/// Memory in bytes that a shadow takes of a picture of this size, beside the picture.
pub(super) fn working_bytes(width: u32, height: u32) -> u64 {
    let side = |side: u32| u64::from(side) + 2 * MARGIN as u64 + 1;
    // Two planes, at worst with a block for each pixel; and each thread's rows in whole numbers and fractions.
    let rows = rayon::current_num_threads() as u64 * 2 * 4 * (side(width) + 2 * MARGIN as u64);
    2 * 2 * side(width) * side(height) + rows
}

impl Cast {
    /// The shadow that a job asks for, in `colour`; `None` where it asks for none, or where there is nothing
    /// that could throw one.
    pub fn of(
        output: &Output,
        alpha: &[u8],
        (width, height): (u32, u32),
        subject: Option<Bounds>,
        colour: [u8; 3],
    ) -> Option<Self> {
        let (shadow, subject) = (output.shadow?, subject?);
        let side = subject.width.max(subject.height);
        let sigma = f64::from(shadow.blur.pixels(side)) / 2.0;
        let step = ((sigma / BLOCKS) as usize).max(1);
        let (width, height) = (width as usize, height as usize);
        let (blocks, size) = averaged(alpha, width, height, step);
        let kernel = kernel(block_sigma(sigma, step));
        let across = blurred_across(&blocks, size, &kernel);
        drop(blocks);
        let plane = blurred_down(&across, size, &kernel);
        Some(Self {
            plane,
            width: size.0,
            height: size.1,
            step,
            // To whole pixels, so that a sharp shadow has the subject's own edge.
            offset: (shadow.x.pixels(side).round(), shadow.y.pixels(side).round()),
            opacity: shadow.opacity,
            colour,
            row: width,
        })
    }

    /// How much of what lies at row `y` is shadow: 0 to 1 for each pixel.
    pub fn row(&self, y: usize, out: &mut [f32]) {
        let scale = self.opacity / 65_535.0;
        let at = |pixel: usize, offset: f32| {
            let block = (pixel as f32 - offset + 0.5) / self.step as f32 - 0.5;
            let whole = block.floor();
            // Far away both are outside.
            (whole as isize + MARGIN as isize, block - whole)
        };
        let (top, down) = at(y, self.offset.1);
        let line = |y: isize| match usize::try_from(y) {
            Ok(y) if y < self.height => &self.plane[y * self.width..][..self.width],
            _ => &[],
        };
        let lines = (line(top), line(top + 1));
        if lines.0.is_empty() && lines.1.is_empty() {
            out.fill(0.0);
            return;
        }
        let sample = |line: &[u16], x: isize| {
            let level = usize::try_from(x).ok().and_then(|x| line.get(x));
            f32::from(level.copied().unwrap_or(0))
        };
        for (x, out) in out.iter_mut().enumerate() {
            let (left, right) = at(x, self.offset.0);
            let of = |line| {
                let (a, b) = (sample(line, left), sample(line, left + 1));
                a + (b - a) * right
            };
            let (upper, lower) = (of(lines.0), of(lines.1));
            *out = (upper + (lower - upper) * down) * scale;
        }
    }

    /// The cut-out with its shadow, straight-alpha RGBA.
    pub fn under(&self, rgb: Vec<u8>, alpha: &[u8]) -> Vec<u8> {
        let mut rgba = vec![0; alpha.len() * 4];
        let colours = rgb.par_chunks(self.row * 3);
        rgba.par_chunks_mut(self.row * 4)
            .zip(colours)
            .zip(alpha.par_chunks(self.row))
            .enumerate()
            .with_min_len(rows_of_task(self.row))
            .for_each_init(
                || vec![0.0; self.row],
                |shade, (y, ((rgba, rgb), alpha))| {
                    self.row(y, shade);
                    let pixels = rgb.as_chunks::<3>().0.iter().zip(alpha).zip(shade);
                    let out = rgba.as_chunks_mut::<4>().0.iter_mut();
                    for (out, ((&[r, g, b], &a), &mut shade)) in out.zip(pixels) {
                        if a == u8::MAX || (a > 0 && shade <= 0.0) {
                            *out = [r, g, b, a];
                        } else if shade > 0.0 {
                            let colour = [r, g, b].map(f32::from);
                            let (mixed, whole) =
                                self.mixed(colour, f32::from(a) / 255.0, shade, 1.0);
                            let a = (whole * 255.0).round() as u8;
                            if a > 0 {
                                let [r, g, b] = mixed.map(|level| level.round() as u8);
                                *out = [r, g, b, a];
                            }
                        }
                    }
                },
            );
        rgba
    }

    /// The subject and its shadow on a plain colour.
    pub fn on_colour(&self, mut rgb: Vec<u8>, alpha: &[u8], under: [u8; 3]) -> Vec<u8> {
        rgb.par_chunks_mut(self.row * 3)
            .zip(alpha.par_chunks(self.row))
            .enumerate()
            .with_min_len(rows_of_task(self.row))
            .for_each_init(
                || vec![0.0; self.row],
                |shade, (y, (rgb, alpha))| {
                    self.row(y, shade);
                    let pixels = rgb.as_chunks_mut::<3>().0.iter_mut();
                    for ((pixel, &a), &mut shade) in pixels.zip(alpha).zip(shade) {
                        blend(pixel, &self.shaded(under, shade), a);
                    }
                },
            );
        rgb
    }

    /// Lays the shadow on a picture that the subject comes on.
    pub fn darken(&self, under: &mut [u8]) {
        under
            .par_chunks_mut(self.row * 3)
            .enumerate()
            .with_min_len(rows_of_task(self.row))
            .for_each_init(
                || vec![0.0; self.row],
                |shade, (y, under)| {
                    self.row(y, shade);
                    for (pixel, &mut shade) in under.as_chunks_mut::<3>().0.iter_mut().zip(shade) {
                        *pixel = self.shaded(*pixel, shade);
                    }
                },
            );
    }

    /// One pixel of 16 bits with the shadow under it: its colour and its alpha.
    pub fn under_pixel(&self, pixel: [u16; 3], alpha: u16, shade: f32) -> ([u16; 3], u16) {
        let colour = pixel.map(f32::from);
        let (mixed, whole) = self.mixed(colour, f32::from(alpha) / 65_535.0, shade, 257.0);
        let alpha = (whole * 65_535.0).round() as u16;
        match alpha {
            0 => ([0; 3], 0),
            _ => (mixed.map(|level| level.round() as u16), alpha),
        }
    }

    /// One pixel of a background in 16 bits with the shadow on it.
    pub fn on_pixel(&self, under: [u16; 3], shade: f32) -> [u16; 3] {
        std::array::from_fn(|c| {
            let (from, to) = (f32::from(under[c]), f32::from(self.colour[c]) * 257.0);
            (from + (to - from) * shade).round() as u16
        })
    }

    fn shaded(&self, under: [u8; 3], shade: f32) -> [u8; 3] {
        std::array::from_fn(|c| {
            let (from, to) = (f32::from(under[c]), f32::from(self.colour[c]));
            (from + (to - from) * shade).round() as u8
        })
    }

    /// A pixel over the shadow over nothing, in straight alpha (Porter and Duff's `over`). `scale` brings the
    /// shadow's colour to the pixel's range.
    fn mixed(&self, colour: [f32; 3], alpha: f32, shade: f32, scale: f32) -> ([f32; 3], f32) {
        let behind = shade * (1.0 - alpha);
        let whole = alpha + behind;
        let mixed = std::array::from_fn(|c| {
            let shadow = f32::from(self.colour[c]) * scale;
            (colour[c] * alpha + shadow * behind) / whole
        });
        (mixed, whole)
    }
}

/// Rows that one task works on.
fn rows_of_task(width: usize) -> usize {
    (STRETCH / width.max(1)).max(1)
}

/// The standard deviation in blocks that is left to the Gaussian. A mean over `n` pixels has a variance of
/// (n² − 1) / 12, and interpolating between blocks of `n` pixels one of n² / 6, in pixels.
fn block_sigma(sigma: f64, step: usize) -> f64 {
    let step = step as f64;
    if step == 1.0 {
        return sigma;
    }
    let done = (step * step - 1.0) / 12.0 + step * step / 6.0;
    (sigma * sigma - done).max(0.0).sqrt() / step
}

/// The Gaussian's weights from the centre outwards; all of them, on both sides, are 1 together.
fn kernel(sigma: f64) -> Vec<f32> {
    let radius = ((REACH * sigma).ceil() as usize).min(MARGIN - 1);
    let bell = |distance: usize| match distance {
        0 => 1.0,
        _ => (-0.5 * (distance as f64 / sigma).powi(2)).exp(),
    };
    let sum = 1.0 + 2.0 * (1..=radius).map(bell).sum::<f64>();
    (0..=radius).map(|at| (bell(at) / sum) as f32).collect()
}

/// Means of blocks of `step`×`step` pixels, in 16 bits, with the margin around them; and their size. Beyond
/// the picture there is nothing.
fn averaged(alpha: &[u8], width: usize, height: usize, step: usize) -> (Vec<u16>, (usize, usize)) {
    let blocks = |side: usize| side.div_ceil(step) + 2 * MARGIN;
    let size = (blocks(width), blocks(height));
    let mut means = vec![0; size.0 * size.1];
    let inside = &mut means[MARGIN * size.0..(size.1 - MARGIN) * size.0];
    let pixels = (step * step) as u64;
    inside.par_chunks_mut(size.0).enumerate().for_each_init(
        Vec::new,
        |sums: &mut Vec<u64>, (y, out)| {
            sums.clear();
            sums.resize(width.div_ceil(step), 0);
            let rows = alpha.chunks_exact(width).skip(y * step).take(step);
            for row in rows {
                for (sum, block) in sums.iter_mut().zip(row.chunks(step)) {
                    *sum += block.iter().map(|&a| u64::from(a)).sum::<u64>();
                }
            }
            for (out, sum) in out[MARGIN..].iter_mut().zip(&*sums) {
                *out = ((sum * 257 + pixels / 2) / pixels) as u16;
            }
        },
    );
    (means, size)
}

fn blurred_across(source: &[u16], (width, height): (usize, usize), kernel: &[f32]) -> Vec<u16> {
    let mut out = vec![0; width * height];
    out.par_chunks_mut(width)
        .zip(source.par_chunks(width))
        .with_min_len(rows_of_task(width))
        .for_each_init(
            || (vec![0.0; width + 2 * MARGIN], vec![0.0; width]),
            |(line, sums), (out, source)| {
                if source.iter().all(|&level| level == 0) {
                    return;
                }
                for (line, &level) in line[MARGIN..].iter_mut().zip(source) {
                    *line = f32::from(level);
                }
                sums.fill(0.0);
                for (distance, &weight) in kernel.iter().enumerate() {
                    add(sums, &line[MARGIN - distance..], weight);
                    if distance > 0 {
                        add(sums, &line[MARGIN + distance..], weight);
                    }
                }
                narrow(out, sums);
            },
        );
    out
}

fn blurred_down(source: &[u16], (width, height): (usize, usize), kernel: &[f32]) -> Vec<u16> {
    let mut out = vec![0; width * height];
    out.par_chunks_mut(width)
        .enumerate()
        .with_min_len(rows_of_task(width))
        .for_each_init(
            || vec![0.0; width],
            |sums: &mut Vec<f32>, (y, out)| {
                sums.fill(0.0);
                let reach = kernel.len() - 1;
                for row in y.saturating_sub(reach)..(y + reach + 1).min(height) {
                    let weight = kernel[row.abs_diff(y)];
                    let source = &source[row * width..][..width];
                    for (sum, &level) in sums.iter_mut().zip(source) {
                        *sum += f32::from(level) * weight;
                    }
                }
                narrow(out, sums);
            },
        );
    out
}

fn add(sums: &mut [f32], line: &[f32], weight: f32) {
    for (sum, level) in sums.iter_mut().zip(line) {
        *sum += level * weight;
    }
}

fn narrow(out: &mut [u16], sums: &[f32]) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = (sum + 0.5) as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Length, Shadow};
    use crate::pipeline::fixtures;
    use proptest::prelude::*;

    const SHADOW: Shadow = Shadow {
        x: Length::Pixels(0),
        y: Length::Pixels(0),
        blur: Length::Pixels(0),
        opacity: 1.0,
        color: [0; 3],
    };

    fn cast(alpha: &[u8], width: u32, shadow: Shadow) -> Cast {
        let output = Output {
            shadow: Some(shadow),
            ..Output::default()
        };
        let subject = Bounds::of_subject(alpha, width);
        let size = (width, alpha.len() as u32 / width);
        Cast::of(&output, alpha, size, subject, shadow.color).unwrap()
    }

    /// The shadow's own alpha, in levels.
    fn levels(cast: &Cast, height: usize) -> Vec<u8> {
        let mut row = vec![0.0; cast.row];
        let mut levels = Vec::new();
        for y in 0..height {
            cast.row(y, &mut row);
            levels.extend(row.iter().map(|shade| (shade * 255.0).round() as u8));
        }
        levels
    }

    #[test]
    fn a_sharp_shadow_is_the_alpha_moved() {
        let alpha = [0, 10, 255, 0, 0, 0, 128, 0, 0, 0, 0, 0];
        let moved = cast(
            &alpha,
            4,
            Shadow {
                x: Length::Pixels(1),
                y: Length::Pixels(-1),
                ..SHADOW
            },
        );
        assert_eq!(levels(&moved, 3), [0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0]);
        let half = cast(
            &alpha,
            4,
            Shadow {
                opacity: 0.5,
                ..SHADOW
            },
        );
        assert_eq!(levels(&half, 3)[..4], [0, 5, 128, 0]);
    }

    #[test]
    fn shadows_are_those_of_a_gaussian_in_double_precision() {
        let alpha = fixtures::read("shadow_alpha.png");
        let alpha = image::load_from_memory(&alpha).unwrap().into_luma8();
        let (width, height) = alpha.dimensions();
        // tests/reference/make_shadows.py names the files by blur and offset.
        for (blur, x, y) in [
            (0, 0, 0),
            (3, 2, 5),
            (12, -7, 4),
            (31, 20, 30),
            (90, -40, 0),
        ] {
            let cast = cast(
                alpha.as_raw(),
                width,
                Shadow {
                    x: Length::Pixels(x),
                    y: Length::Pixels(y),
                    blur: Length::Pixels(blur),
                    ..SHADOW
                },
            );
            let expected = fixtures::read(&format!("shadow_{blur}_{x}_{y}.png"));
            let expected = image::load_from_memory(&expected).unwrap().into_luma8();
            let found = levels(&cast, height as usize);
            let worst = fixtures::difference(&found, expected.as_raw());
            println!("blur {blur}: {worst} levels");
            assert!(worst <= 1, "blur {blur}: {worst}");
        }
    }

    #[test]
    fn percents_are_of_the_subjects_longer_side() {
        let mut alpha = vec![0; 40 * 30];
        // 20×10 pixels.
        for y in 5..15 {
            alpha[y * 40 + 10..y * 40 + 30].fill(255);
        }
        let percent = cast(
            &alpha,
            40,
            Shadow {
                x: Length::Percent(10.0),
                y: Length::Percent(50.0),
                ..SHADOW
            },
        );
        let pixels = cast(
            &alpha,
            40,
            Shadow {
                x: Length::Pixels(2),
                y: Length::Pixels(10),
                ..SHADOW
            },
        );
        assert_eq!(levels(&percent, 30), levels(&pixels, 30));
    }

    #[test]
    fn nothing_throws_no_shadow() {
        let output = Output {
            shadow: Some(SHADOW),
            ..Output::default()
        };
        assert!(Cast::of(&output, &[0; 6], (3, 2), None, [0; 3]).is_none());
    }

    #[test]
    fn what_is_under_shows_through_by_porter_and_duff() {
        let alpha = [255, 128, 0];
        let shadow = Shadow {
            opacity: 0.5,
            color: [10, 20, 30],
            ..SHADOW
        };
        let cast = cast(&alpha, 3, shadow);
        let rgba = cast.under(vec![200; 9], &alpha);
        // Opaque: as it was. Half: 128/255 of 200 over a quarter of the shadow.
        assert_eq!(rgba[..4], [200, 200, 200, 255]);
        let (a, s) = (128.0 / 255.0_f64, 128.0 / 255.0 * 0.5);
        let whole = a + s * (1.0 - a);
        let red = (200.0 * a + 10.0 * s * (1.0 - a)) / whole;
        assert_eq!(rgba[4], red.round() as u8);
        assert_eq!(rgba[7], (whole * 255.0).round() as u8);
        assert_eq!(rgba[8..], [0; 4]);
        let white = cast.on_colour(vec![200; 9], &alpha, [255; 3]);
        assert_eq!((white[0], white[6]), (200, 255));
        let mut under = vec![255; 9];
        cast.darken(&mut under);
        assert_eq!(under[..3], [133, 138, 143]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn any_shadow_of_any_size_stays_within_its_opacity(
            width in 1u32..50, height in 1u32..50, blur in 0i32..16_384, x in -16_384i32..16_384,
            y in -60i32..60, opacity in 0.0f32..=1.0, seed in any::<u32>(),
        ) {
            let alpha: Vec<u8> = (0..width * height).map(|i| (i.wrapping_mul(2_654_435_761) ^ seed) as u8 | 9).collect();
            let shadow = Shadow {
                x: Length::Pixels(x), y: Length::Pixels(y), blur: Length::Pixels(blur), opacity, ..SHADOW
            };
            let cast = cast(&alpha, width, shadow);
            let most = (opacity * 255.0).round() as u8;
            prop_assert!(levels(&cast, height as usize).iter().all(|&level| level <= most));
        }
    }
}
