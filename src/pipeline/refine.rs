//! Alpha by the photo's own edges, where the matte is smaller than the photo and unsure: a guided filter.
//!
//! Around each pixel of the matte, alpha is taken for a linear function of the photo's colours, α ≈ a·I + b,
//! fitted by least squares in a window (He, Sun and Tang, "Guided Image Filtering", ECCV 2010, equations 14 to 16
//! for colours). The fits are made at the matte's size and only their coefficients are brought to the photo's
//! (He and Sun, "Fast Guided Filter", 2015, [arXiv 1505.00996](https://arxiv.org/abs/1505.00996)), so that a larger
//! photo costs no more fits. Where the matte is sure it stays as it is.

use rayon::prelude::*;
use wide::f32x4;

use super::compose::is_transparent;
use super::decode::{Photo, SPARE_BYTES};
use super::matte::{self, Bytes, Taps, Window};
use super::vector::LANES;
use super::{pillow, preprocess};
use crate::engine::tensor::Matte;
use crate::job::Output;
use crate::model::manifest::{MatteResize, Resize};

/// How far a window reaches to each side, pixels of the matte.
///
/// This and [`EPSILON`] are those with which eight of eight drawn photos came nearer to their true masks both
/// in SAD and in Grad (docs/quality.md); wider windows find more edges, and more that are none of the subject's.
const RADIUS: usize = 2;

/// Variance of the colours, of 1, below which a window shows no edge: 2.5 levels of 255, squared.
const EPSILON: f64 = 1e-4;

/// How near to 0 or 1 the matte is where it is sure: 5 levels of 255.
const SURE: f32 = 0.02;

fn pixels((width, height): (u32, u32)) -> u64 {
    u64::from(width) * u64::from(height)
}

/// Whether a photo has so many more pixels than its matte that its edges say something new: half as many again,
/// and no side below the matte's.
fn is_larger(photo: (u32, u32), matte: (u32, u32)) -> bool {
    photo.0 >= matte.0 && photo.1 >= matte.1 && 2 * pixels(photo) >= 3 * pixels(matte)
}

/// A matte on its way to the size of its photo.
pub struct FullSize<'a> {
    matte: &'a Matte,
    photo: &'a Photo,
    resize: MatteResize,
    output: &'a Output,
    edges: Option<Edges>,
}

impl<'a> FullSize<'a> {
    /// The finished `matte` of `photo`. With `output.refine` it follows the photo's edges, which are looked for here,
    /// unless the photo is not much larger than the matte or has transparency of its own, whose hidden
    /// colours are anybody's guess.
    pub fn new(
        matte: &'a Matte,
        photo: &'a Photo,
        resize: MatteResize,
        output: &'a Output,
    ) -> Self {
        let larger = is_larger((photo.width, photo.height), (matte.width, matte.height));
        let edges =
            (output.refine && larger && !is_transparent(photo)).then(|| Edges::of(matte, photo));
        Self {
            matte,
            photo,
            resize,
            output,
            edges,
        }
    }

    /// One byte a pixel: 255 is kept. As [`matte::to_full_size`] where there is nothing to refine.
    pub fn bytes(&self) -> Vec<u8> {
        let (width, height) = (self.photo.width, self.photo.height);
        match &self.edges {
            None => matte::to_full_size(self.matte, width, height, self.resize, self.output),
            Some(edges) => {
                let bytes = self.levels();
                self.spread(edges, |sums| bytes.of(sums))
            }
        }
    }

    /// The same in 16 bits, as [`matte::to_full_size_deep`]. Edges are those of the photo in 8 bits.
    pub fn deep(&self) -> Vec<u16> {
        let (width, height) = (self.photo.width, self.photo.height);
        match &self.edges {
            None => matte::to_full_size_deep(self.matte, width, height, self.resize, self.output),
            Some(edges) => {
                let bytes = self.levels();
                self.spread(edges, |sums| bytes.deep(sums))
            }
        }
    }

    fn levels(&self) -> Bytes {
        Bytes::of_job(self.resize, self.output)
    }

    /// The matte itself goes its network's own way back, but for `Lanczos`, which is not done in fractions. The
    /// edges go pixel centre to pixel centre, as the guide came.
    fn spread<T: Copy + Default + Send>(
        &self,
        edges: &Edges,
        levels: impl Fn([f32x4; 4]) -> [T; LANES] + Sync,
    ) -> Vec<T> {
        let centred = Ways::new(Taps::half_pixel, self.matte, self.photo);
        let own = matte::taps(self.resize).unwrap_or(Taps::half_pixel);
        let own = Ways::new(own, self.matte, self.photo);
        let stride = self.photo.width as usize * 3;
        matte::in_bands(
            (self.photo.width, self.photo.height),
            || Lines::new(self.matte, edges, &own, &centred),
            |lines, y, out| {
                let rgb = &self.photo.rgb[y * stride..][..stride];
                matte::write(lines.row(y, rgb), &levels, out);
            },
        )
    }
}

/// How columns and rows of the matte become those of the photo.
struct Ways {
    columns: Taps,
    rows: Taps,
}

impl Ways {
    fn new(taps: matte::MakeTaps, matte: &Matte, photo: &Photo) -> Self {
        Self {
            columns: taps(matte.width, photo.width),
            rows: taps(matte.height, photo.height),
        }
    }
}

/// Memory in bytes that refining adds to what decoding a photo of this size has left free
/// ([`SPARE_BYTES`]), for a network of this input.
pub fn extra_bytes(photo: (u32, u32), resize: &Resize, output: &Output) -> u64 {
    if !output.refine {
        return 0;
    }
    let matte = preprocess::target_size(photo.0, photo.1, resize);
    working_bytes(photo, matte).saturating_sub(SPARE_BYTES * pixels(photo))
}

/// Memory in bytes that refining takes at most, beside photo, alpha and matte; sizes are widths and heights in pixels.
pub fn working_bytes(photo: (u32, u32), matte: (u32, u32)) -> u64 {
    if !is_larger(photo, matte) {
        return 0;
    }
    let matte_pixels = pixels(matte);
    // The guide; three slopes, the offset, where they count, and what is between an average's two passes.
    let planes = (3 + 6 * 4) * matte_pixels;
    // The photo at the matte's width or height, whichever goes first.
    let resizing = 3 * pixels((matte.0, photo.1)).max(pixels((photo.0, matte.1)));
    // Rows at the photo's width: three for each of six planes, and the finished one.
    let threads = rayon::current_num_threads() as u64;
    let rows = (6 * 3 + 1) * 4 * (u64::from(photo.0) + LANES as u64) * threads;
    planes.max(resizing + 3 * matte_pixels) + rows
}

/// Alpha as a linear function of the colours, around each pixel of the matte.
struct Edges {
    /// Of red, green and blue, each 0 to 1.
    slopes: [Matte; 3],
    offset: Matte,
    /// 1 where the function counts, 0 where the matte does.
    unsure: Matte,
}

/// What α ≈ a·I + b is in one window: a and b.
type Fit = ([f32; 3], f32);

impl Edges {
    fn of(matte: &Matte, photo: &Photo) -> Self {
        let size = (matte.width, matte.height);
        let from = (photo.width, photo.height);
        let guide = pillow::resize::<3>(&photo.rgb, from, size, &pillow::BILINEAR);
        let field = Field {
            matte,
            guide: guide.as_chunks().0,
        };
        let plane = || Matte {
            values: vec![0.0; matte.values.len()],
            ..*matte
        };
        let (mut slopes, mut offset, mut unsure) =
            (std::array::from_fn(|_| plane()), plane(), plane());
        let width = matte.width as usize;
        let [red, green, blue] = &mut slopes;
        red.values
            .par_chunks_mut(width)
            .zip(green.values.par_chunks_mut(width))
            .zip(blue.values.par_chunks_mut(width))
            .zip(offset.values.par_chunks_mut(width))
            .zip(unsure.values.par_chunks_mut(width))
            .enumerate()
            .for_each(|(y, ((((red, green), blue), offset), unsure))| {
                for x in 0..width {
                    let window = field.window(x, y);
                    let sure = field.is_sure(&window);
                    let (slope, at_black) = match sure {
                        true => ([0.0; 3], field.mean(&window)),
                        false => field.fit(&window),
                    };
                    [red[x], green[x], blue[x]] = slope;
                    offset[x] = at_black;
                    unsure[x] = f32::from(!sure);
                }
            });
        // A pixel lies in as many windows as a window has pixels: the mean of what they say of it.
        for plane in slopes.iter_mut().chain([&mut offset]) {
            average(plane);
        }
        Self {
            slopes,
            offset,
            unsure,
        }
    }
}

/// A window's extent in one direction, shorter at the rim.
fn reach(at: usize, end: usize) -> std::ops::Range<usize> {
    at.saturating_sub(RADIUS)..(at + RADIUS + 1).min(end)
}

/// Matte and photo at the same size.
struct Field<'a> {
    matte: &'a Matte,
    guide: &'a [[u8; 3]],
}

/// A window's rows, as ranges of pixels.
type Rows = [std::ops::Range<usize>; 2 * RADIUS + 1];

impl Field<'_> {
    /// The window around a pixel, smaller at the rim.
    fn window(&self, x: usize, y: usize) -> Rows {
        let (width, height) = (self.matte.width as usize, self.matte.height as usize);
        let columns = reach(x, width);
        std::array::from_fn(|row| match (y + row).checked_sub(RADIUS) {
            Some(y) if y < height => y * width + columns.start..y * width + columns.end,
            _ => 0..0,
        })
    }

    fn alpha<'a>(&'a self, window: &'a Rows) -> impl Iterator<Item = f32> + 'a {
        window
            .iter()
            .flat_map(|row| self.matte.values[row.clone()].iter().copied())
    }

    fn is_sure(&self, window: &Rows) -> bool {
        self.alpha(window).all(|a| a <= SURE) || self.alpha(window).all(|a| a >= 1.0 - SURE)
    }

    fn mean(&self, window: &Rows) -> f32 {
        let pixels: usize = window.iter().map(ExactSizeIterator::len).sum();
        self.alpha(window).sum::<f32>() / pixels as f32
    }

    fn fit(&self, window: &Rows) -> Fit {
        let (mut pixels, mut alpha) = (0.0, 0.0);
        let (mut colour, mut both, mut squares) = ([0.0; 3], [0.0; 3], [[0.0; 3]; 3]);
        for row in window {
            let values = &self.matte.values[row.clone()];
            for (&a, rgb) in values.iter().zip(&self.guide[row.clone()]) {
                let a = f64::from(a);
                let rgb = rgb.map(|level| f64::from(level) / 255.0);
                pixels += 1.0;
                alpha += a;
                for i in 0..3 {
                    colour[i] += rgb[i];
                    both[i] += rgb[i] * a;
                    for j in 0..=i {
                        squares[i][j] += rgb[i] * rgb[j];
                    }
                }
            }
        }
        let alpha = alpha / pixels;
        let colour = colour.map(|sum| sum / pixels);
        let together: [f64; 3] = std::array::from_fn(|i| both[i] / pixels - colour[i] * alpha);
        for i in 0..3 {
            for j in 0..=i {
                squares[i][j] = squares[i][j] / pixels - colour[i] * colour[j];
            }
            squares[i][i] += EPSILON;
        }
        let slopes = solve(&squares, together);
        let offset = alpha - (0..3).map(|i| slopes[i] * colour[i]).sum::<f64>();
        (slopes.map(|slope| slope as f32), offset as f32)
    }
}

/// The x of M·x = y, for a symmetric and positive definite M of which the lower half is given (Cholesky).
fn solve(m: &[[f64; 3]; 3], y: [f64; 3]) -> [f64; 3] {
    let mut l = [[0.0; 3]; 3];
    for i in 0..3 {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| l[i][k] * l[j][k]).sum();
            l[i][j] = match i == j {
                // Never below what was added to the diagonal, but for the last bits.
                true => (m[i][i] - known).max(EPSILON / 2.0).sqrt(),
                false => (m[i][j] - known) / l[j][j],
            };
        }
    }
    let mut x = y;
    for i in 0..3 {
        x[i] = (x[i] - (0..i).map(|k| l[i][k] * x[k]).sum::<f64>()) / l[i][i];
    }
    for i in (0..3).rev() {
        x[i] = (x[i] - (i + 1..3).map(|k| l[k][i] * x[k]).sum::<f64>()) / l[i][i];
    }
    x
}

/// Each value becomes the mean of its window's.
fn average(plane: &mut Matte) {
    let (width, height) = (plane.width as usize, plane.height as usize);
    let mut across = vec![0.0; plane.values.len()];
    across
        .par_chunks_mut(width)
        .zip(plane.values.par_chunks(width))
        .for_each(|(out, values)| {
            for (x, out) in out.iter_mut().enumerate() {
                let window = &values[reach(x, width)];
                *out = window.iter().sum::<f32>() / window.len() as f32;
            }
        });
    plane
        .values
        .par_chunks_mut(width)
        .enumerate()
        .for_each(|(y, out)| {
            let rows = reach(y, height);
            let share = 1.0 / rows.len() as f32;
            out.fill(0.0);
            for row in rows {
                for (out, value) in out.iter_mut().zip(&across[row * width..]) {
                    *out += value * share;
                }
            }
        });
}

/// Rows of the photo's alpha, times 255.
struct Lines<'a> {
    matte: Window<'a>,
    unsure: Window<'a>,
    slopes: [Window<'a>; 3],
    offset: Window<'a>,
    row: Vec<f32x4>,
}

impl<'a> Lines<'a> {
    fn new(matte: &'a Matte, edges: &'a Edges, own: &'a Ways, centred: &'a Ways) -> Self {
        let window = |plane| Window::new(plane, &centred.columns, &centred.rows);
        let [red, green, blue] = &edges.slopes;
        Self {
            matte: Window::new(matte, &own.columns, &own.rows),
            unsure: window(&edges.unsure),
            slopes: [red, green, blue].map(window),
            offset: window(&edges.offset),
            row: Vec::new(),
        }
    }

    /// In whole vectors, as [`Window::row`] has it. `rgb` is the photo's row.
    fn row(&mut self, y: usize, rgb: &[u8]) -> &[f32x4] {
        self.row.clear();
        self.row.extend_from_slice(self.matte.row(y, 255.0));
        let unsure = self.unsure.row(y, 1.0);
        if unsure.iter().all(|&share| share == f32x4::ZERO) {
            return &self.row;
        }
        let [red, green, blue] = self.slopes.each_mut().map(|slope| slope.row(y, 1.0));
        let offset = self.offset.row(y, 255.0);
        let (white, black) = (f32x4::splat(255.0), f32x4::ZERO);
        for (i, (rgb, alpha)) in rgb.chunks(4 * 3).zip(&mut self.row).enumerate() {
            if unsure[i] == f32x4::ZERO {
                continue;
            }
            let colour = |channel: usize| {
                let level = |pixel: usize| rgb.get(pixel * 3 + channel).copied().unwrap_or(0);
                f32x4::new(std::array::from_fn(|pixel| f32::from(level(pixel))))
            };
            let fitted =
                red[i] * colour(0) + green[i] * colour(1) + blue[i] * colour(2) + offset[i];
            let fitted = fitted.fast_max(black).fast_min(white);
            *alpha += (fitted - *alpha) * unsure[i];
        }
        &self.row
    }
}
