//! `dithering`: black dots on white.
//!
//! The picture is prepared in tiles; then errors run through the grid, a quarter of the picture's
//! points, one after another: each waits for its left neighbour anyway, and 3 million of them take
//! a hundredth of a second.

use std::sync::LazyLock;

use rayon::prelude::*;

use super::for_all_threads;
use super::kernel::{Kernel, LANES};
use super::tile::{BAND, Pixel, Ring, STRIP, Source, Tile};

/// Distance of the grid's points.
const SPACING: usize = 2;

// A band's first row is on the grid, and a strip's first column.
const _: () = assert!(BAND.is_multiple_of(SPACING) && STRIP.is_multiple_of(SPACING));

/// Brightness in thousandths of a byte.
const WEIGHTS: [u32; 3] = [299, 587, 114];
const WHITE: usize = 255_000;

const GAMMA: f32 = 0.45;

/// How much of the Laplacian is added.
const SHARPENING: f32 = 0.3;

type Local = Kernel<4>;

/// What OpenCV takes for seven pixels when no deviation is given (`small_gaussian_tab`).
const LOCAL: Local = Local::of([0.28125, 0.21875, 0.109375, 0.03125]);

/// Shares of the local brightness and of a common 128 in the threshold.
const LOCALLY: f32 = 0.7;
const COMMON: f32 = 128.0 * 0.3;

/// The Laplacian looks a pixel further than the local threshold.
const REACH: usize = Local::RADIUS + 1;

const SHARP: usize = (STRIP + 2 * Local::RADIUS).next_multiple_of(LANES);
const TONES: usize = SHARP + 2;

/// A point of the grid: brightness and threshold, until errors have run through it; then its
/// brightness is 0 or 255.
#[derive(Clone, Copy, Default)]
struct Point {
    brightness: f32,
    threshold: f32,
}

/// The picture in dots.
pub(super) fn dotted(source: &Source<'_>) -> Vec<u8> {
    if source.pixels.is_empty() {
        return Vec::new();
    }
    let mut grid = prepared(source);
    let columns = source.width.div_ceil(SPACING);
    diffuse(&mut grid, columns);
    source.painted(
        || (),
        |(), tile, rows| {
            for (y, out) in rows.chunks_exact_mut(source.width).enumerate() {
                let y = tile.top + y;
                let from = &source.row(y)[tile.left..][..tile.width];
                let out = &mut out[tile.left..][..tile.width];
                let points = &grid[y / SPACING * columns + tile.left / SPACING..];
                let dots = out.chunks_mut(SPACING).zip(from.chunks(SPACING));
                for ((out, from), point) in dots.zip(points) {
                    let level = point.brightness as u8;
                    for (out, pixel) in out.iter_mut().zip(from) {
                        *out = [level, level, level, pixel[3]];
                    }
                }
            }
        },
    )
}

/// Memory in bytes that [`dotted`] takes beside its answer.
pub(super) fn scratch_bytes(width: u32, height: u32) -> u64 {
    let spacing = SPACING as u32;
    let points = u64::from(width.div_ceil(spacing)) * u64::from(height.div_ceil(spacing));
    let window = 3 * TONES + 7 * SHARP + SHARP;
    points * size_of::<Point>() as u64
        + for_all_threads(window * size_of::<f32>())
        + ((WHITE + 1) * size_of::<f32>()) as u64
}

/// The grid's points before errors run through it.
fn prepared(source: &Source<'_>) -> Vec<Point> {
    let columns = source.width.div_ceil(SPACING);
    let rows = source.height.div_ceil(SPACING);
    let mut grid = vec![Point::default(); columns * rows];
    grid.par_chunks_mut(BAND / SPACING * columns)
        .enumerate()
        .for_each_init(Windows::new, |windows, (band, points)| {
            let rows = BAND.min(source.height - band * BAND);
            for tile in source.tiles(band, rows) {
                windows.prepare(source, tile, columns, points);
            }
        });
    grid
}

/// Rows of a tile on their way through the steps.
struct Windows {
    tones: Ring<f32>,
    sharp: Ring<f32>,
    local: Vec<f32>,
}

impl Windows {
    fn new() -> Self {
        Self {
            tones: Ring::new(3, TONES),
            sharp: Ring::new(2 * Local::RADIUS + 1, SHARP),
            local: vec![0.0; SHARP],
        }
    }

    fn prepare(&mut self, source: &Source<'_>, tile: Tile, columns: usize, points: &mut [Point]) {
        let (top, bottom) = (tile.top as isize, (tile.top + tile.height) as isize);
        let (reach, left) = (REACH as isize, tile.left as isize - REACH as isize);
        let used = (tile.width + 2 * Local::RADIUS).next_multiple_of(LANES);
        for y in top - reach..bottom + reach {
            source.read(y, left, &mut self.tones.row_mut(y)[..used + 2], tone);
            let y = y - 1;
            if y < top - reach + 1 {
                continue;
            }
            self.sharpen(y, used);
            let y = y - Local::RADIUS as isize;
            if y < top || y % SPACING as isize != 0 {
                continue;
            }
            let line = (y - top) as usize / SPACING * columns + tile.left / SPACING;
            self.place(y, used, &mut points[line..][..tile.width.div_ceil(SPACING)]);
        }
    }

    /// Adds the edges. Clipped, because this is a picture again: what is whiter than white would
    /// lighten its neighbours.
    fn sharpen(&mut self, y: isize, used: usize) {
        let [above, here, below] = [-1, 0, 1].map(|dy| &self.tones.row(y + dy)[..used + 2]);
        let sharp = &mut self.sharp.row_mut(y)[..used];
        let mut x = 0;
        while x < used {
            let middle = here[x + 1];
            let around = (above[x] + above[x + 2])
                + (below[x] + below[x + 2])
                + (here[x] + here[x + 2])
                + (above[x + 1] + below[x + 1]);
            let edge = middle - around / 8.0;
            sharp[x] = (middle + SHARPENING * edge).clamp(0.0, 255.0);
            x += 1;
        }
    }

    /// The points of a row.
    fn place(&mut self, y: isize, used: usize, points: &mut [Point]) {
        let sharp = &self.sharp;
        LOCAL.down(|dy| sharp.row(y + dy), &mut self.local[..used]);
        for (index, point) in points.iter_mut().enumerate() {
            let centre = index * SPACING + Local::RADIUS;
            *point = Point {
                brightness: sharp.row(y)[centre],
                threshold: LOCAL.at(&self.local, centre) * LOCALLY + COMMON,
            };
        }
    }
}

fn tone([r, g, b, a]: Pixel) -> f32 {
    if a == 0 {
        return 255.0;
    }
    let [red, green, blue] = WEIGHTS;
    TONE[(u32::from(r) * red + u32::from(g) * green + u32::from(b) * blue) as usize]
}

/// Brightness after gamma, 1 MiB. The steps are as fine as bytes make them: near black, where the
/// curve is steep, rounding to whole levels first would show.
static TONE: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let tone = |level| 255.0 * (level as f32 / WHITE as f32).powf(GAMMA);
    (0..=WHITE).map(tone).collect()
});

/// Floyd and Steinberg's error diffusion, row by row from the left. A point above its threshold
/// turns white. Errors that leave the grid are lost.
fn diffuse(grid: &mut [Point], columns: usize) {
    let mut rows = grid.chunks_exact_mut(columns);
    let mut next = rows.next();
    while let Some(row) = next {
        next = rows.next();
        match &mut next {
            Some(below) => diffuse_row(row, below),
            None => diffuse_row(row, &mut vec![Point::default(); columns]),
        }
    }
}

fn diffuse_row(row: &mut [Point], below: &mut [Point]) {
    let last = row.len() - 1;
    let mut carried = 0.0;
    for x in 0..row.len() {
        let point = &mut row[x];
        let wanted = point.brightness + carried;
        let dot = if wanted > point.threshold { 255.0 } else { 0.0 };
        point.brightness = dot;
        let error = wanted - dot;
        carried = error * (7.0 / 16.0);
        if x > 0 {
            below[x - 1].brightness += error * (3.0 / 16.0);
        }
        below[x].brightness += error * (5.0 / 16.0);
        if x < last {
            below[x + 1].brightness += error * (1.0 / 16.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cut;
    use super::*;

    #[test]
    fn an_even_grey_gets_as_many_dots_as_it_is_dark() {
        let columns = 64;
        for level in [0.0, 40.0, 128.0, 200.0, 255.0] {
            let point = Point {
                brightness: level,
                threshold: level * LOCALLY + COMMON,
            };
            let mut grid = vec![point; columns * 64];
            diffuse(&mut grid, columns);
            let mean = grid.iter().map(|p| p.brightness).sum::<f32>() / grid.len() as f32;
            assert!((mean - level).abs() < 4.0, "{level}: {mean}");
            assert!(grid.iter().all(|p| [0.0, 255.0].contains(&p.brightness)));
        }
    }

    #[test]
    fn errors_go_where_floyd_and_steinberg_send_them() {
        let mut row = [Point::default(); 3];
        let mut below = row;
        row[0].threshold = 1000.0;
        row[0].brightness = 16.0;
        row[1].threshold = -1000.0;
        row[2].threshold = -1000.0;
        diffuse_row(&mut row, &mut below);
        assert_eq!(row.map(|p| p.brightness), [0.0, 255.0, 255.0]);
        // 16; 7 − 255 = −248; −248 · 7/16 − 255 = −363.5.
        let expected = [
            16.0 * 5.0 / 16.0 - 248.0 * 3.0 / 16.0,
            1.0 - 248.0 * 5.0 / 16.0 - 363.5 * 3.0 / 16.0,
            -248.0 / 16.0 - 363.5 * 5.0 / 16.0,
        ];
        assert_eq!(below.map(|p| p.brightness), expected);
    }

    #[test]
    fn points_of_neighbouring_strips_are_those_of_one_picture() {
        let (left, width, height) = (STRIP - 40, 80, 24);
        let whole = cut((STRIP + 60) as u32, height as u32, 4);
        let whole = Source::of(&whole).unwrap();
        let pixels: Vec<Pixel> = (0..height)
            .flat_map(|y| &whole.row(y)[left..left + width])
            .copied()
            .collect();
        let part = Source {
            pixels: &pixels,
            width,
            height,
        };
        let (all, few) = (prepared(&whole), prepared(&part));
        let columns = [whole.width, width].map(|width| width.div_ceil(SPACING));
        for y in 0..height / SPACING {
            // What is near the part's sides has seen other neighbours.
            for x in REACH..columns[1] - REACH {
                let expected = all[y * columns[0] + left / SPACING + x];
                let ours = few[y * columns[1] + x];
                assert_eq!(ours.brightness, expected.brightness, "{x}, {y}");
                assert_eq!(ours.threshold, expected.threshold, "{x}, {y}");
            }
        }
    }

    #[test]
    fn gamma_lightens_and_what_cannot_be_seen_is_white() {
        assert_eq!(tone([0, 0, 0, 255]), 0.0);
        assert_eq!(tone([255, 255, 255, 255]), 255.0);
        assert!((tone([64, 64, 64, 1]) - 255.0 * (64.0_f32 / 255.0).powf(0.45)).abs() < 1e-3);
        assert_eq!(tone([0, 0, 0, 0]), 255.0);
    }
}
