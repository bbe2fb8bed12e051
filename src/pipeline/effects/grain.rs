//! A film's grain: normally distributed noise, fine and coarse, softened.
//!
//! Every number is a function of the picture's checksum and of its own place (a counter-based
//! generator), so that it does not matter who draws it, and when.

use std::sync::LazyLock;

use super::for_all_threads;
use super::kernel::{Kernel, LANES};
use super::tile::{Ring, STRIP, Source, Tile};

/// Normally distributed numbers that are told apart. They lie between ±3.6; the blur that follows
/// makes sums of them anyway. 16 KiB, which stays in the nearest cache.
const LEVELS: usize = 1 << 12;

/// Drawn from one word of random bits.
const DRAWS: usize = 4;

type Soft = Kernel<2>;

/// Columns before the tile, in whole draws, of which one is needed.
const MARGIN: usize = DRAWS;

/// Fine noise of a row; and coarse, half as much, with a margin of whole draws to both sides.
const FINE: usize = STRIP + LANES;
const COARSE: usize = FINE / 2 + 2 * DRAWS;

/// Deviation and share of each, as one factor.
const FINE_STRENGTH: f32 = 0.4 * 0.7;
const COARSE_STRENGTH: f32 = 0.6 * 0.3;

/// Memory in bytes of the windows of all threads, and of the table.
pub(super) fn scratch_bytes() -> u64 {
    let window = FINE + 3 * COARSE + 3 * STRIP;
    let table = LEVELS * size_of::<f32>();
    table as u64 + for_all_threads(window * size_of::<f32>())
}

/// The grain of one picture.
pub(super) struct Grain {
    fine: u64,
    coarse: u64,
    soft: Soft,
}

impl Grain {
    /// The same photo gets the same grain, another photo another.
    pub(super) fn of(source: &Source<'_>) -> Self {
        let seed = u64::from(crc32c::crc32c(source.pixels.as_flattened()));
        Self {
            fine: mixed(seed),
            coarse: mixed(!seed),
            soft: Soft::gaussian(0.5),
        }
    }

    pub(super) fn window(&self) -> Window<'_> {
        Window {
            grain: self,
            left: 0,
            next: 0,
            fine: vec![0.0; FINE],
            coarse: [vec![0.0; COARSE], vec![0.0; COARSE], vec![0.0; COARSE]],
            soft: Ring::new(2 * Soft::RADIUS + 1, STRIP),
        }
    }
}

/// Rows of a tile's grain. They must be asked for from the tile's top downwards.
pub(super) struct Window<'a> {
    grain: &'a Grain,
    left: usize,
    /// The row that is drawn next.
    next: isize,
    fine: Vec<f32>,
    /// Two rows of coarse noise, and what lies between them.
    coarse: [Vec<f32>; 3],
    soft: Ring<f32>,
}

impl Window<'_> {
    pub(super) fn begin(&mut self, tile: Tile) {
        self.left = tile.left;
        self.next = tile.top as isize - Soft::RADIUS as isize;
    }

    /// Grain for a row of the tile, whole blocks of lanes.
    pub(super) fn row(&mut self, y: isize, out: &mut [f32]) {
        while self.next <= y + Soft::RADIUS as isize {
            self.draw(out.len());
        }
        let soft = &self.soft;
        self.grain.soft.down(|dy| soft.row(y + dy), out);
    }

    fn draw(&mut self, used: usize) {
        let y = self.next;
        self.next += 1;
        let left = self.left as isize;
        let fine = &mut self.fine[..used + LANES];
        draw(self.grain.fine, y, left - MARGIN as isize, fine);

        // Enlarged as OpenCV does it bilinearly: pixel centres lie a quarter beside the coarse ones'.
        let (cells, cell) = (fine.len() / 2 + 2 * DRAWS, left / 2 - DRAWS as isize);
        let [near, far, between] = self.coarse.each_mut().map(|row| &mut row[..cells]);
        let (row, other) = (y >> 1, (y >> 1) + if y & 1 == 0 { -1 } else { 1 });
        draw(self.grain.coarse, row, cell, near);
        draw(self.grain.coarse, other, cell, far);
        for ((between, &near), &far) in between.iter_mut().zip(&*near).zip(&*far) {
            *between = COARSE_STRENGTH * (0.75 * near + 0.25 * far);
        }
        // The first fine column is `MARGIN` before the tile, half as many coarse ones.
        let first = DRAWS - MARGIN / 2;
        for (pair, cells) in fine
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .zip(between[first - 1..].windows(3))
        {
            let middle = 0.75 * cells[1];
            pair[0] = FINE_STRENGTH * pair[0] + (0.25 * cells[0] + middle);
            pair[1] = FINE_STRENGTH * pair[1] + (middle + 0.25 * cells[2]);
        }
        let soft = &mut self.soft.row_mut(y)[..used];
        self.grain.soft.along(&fine[MARGIN - Soft::RADIUS..], soft);
    }
}

/// Fills a row from column `left` on, a multiple of `DRAWS`.
fn draw(seed: u64, y: isize, left: isize, out: &mut [f32]) {
    let normal = &**NORMAL;
    let row = mixed(seed.wrapping_add(y as u64));
    let first = (left / DRAWS as isize) as u64;
    for (index, out) in out.as_chunks_mut::<DRAWS>().0.iter_mut().enumerate() {
        let mut bits = mixed(row.wrapping_add(first.wrapping_add(index as u64)));
        for out in out {
            *out = normal[bits as usize % LEVELS];
            bits >>= u64::BITS as usize / DRAWS;
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): the
/// step and the scrambling of its counter.
fn mixed(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The middles of equally likely intervals of the normal distribution, deviation 1: picked at
/// random, they are normally distributed.
static NORMAL: LazyLock<Box<[f32; LEVELS]>> = LazyLock::new(|| {
    const STEP: f64 = 1e-3;
    let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    let (mut x, mut below) = (-6.0, 0.0);
    let places = std::array::from_fn(|level| {
        let wanted = (level as f64 + 0.5) / LEVELS as f64;
        // The area under the bell up to here, by its middle lines.
        while below + density(x + STEP / 2.0) * STEP < wanted {
            below += density(x + STEP / 2.0) * STEP;
            x += STEP;
        }
        x + (wanted - below) / density(x + STEP / 2.0)
    });
    let squares: f64 = places.iter().map(|x: &f64| x * x).sum();
    let deviation = (squares / LEVELS as f64).sqrt();
    Box::new(places.map(|x| (x / deviation) as f32))
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_has_its_quantiles() {
        let normal = &**NORMAL;
        assert!(normal.is_sorted());
        for (share, quantile) in [
            (0.5, 0.0),
            (0.841_345, 1.0),
            (0.977_25, 2.0),
            (0.001_35, -3.0),
        ] {
            let ours = normal[(share * LEVELS as f64) as usize];
            assert!((ours - quantile).abs() < 0.02, "{share}: {ours}");
        }
    }

    fn moments(numbers: &[f32]) -> (f64, f64) {
        let count = numbers.len() as f64;
        let mean = numbers.iter().map(|&n| f64::from(n)).sum::<f64>() / count;
        let square = numbers.iter().map(|&n| f64::from(n).powi(2)).sum::<f64>() / count;
        (mean, (square - mean * mean).sqrt())
    }

    #[test]
    fn what_is_drawn_has_mean_nought_and_deviation_one_and_no_neighbours_that_agree() {
        let (width, height) = (256, 200);
        let mut numbers = vec![0.0; width * height];
        for (y, row) in numbers.chunks_mut(width).enumerate() {
            draw(7, y as isize - 50, -64, row);
        }
        let (mean, deviation) = moments(&numbers);
        // Four standard errors of 51,200 draws.
        assert!(mean.abs() < 0.018, "{mean}");
        assert!((deviation - 1.0).abs() < 0.013, "{deviation}");
        for distance in [1, 2, 4, width, 2 * width, width + 1] {
            let products: f64 = numbers
                .iter()
                .zip(&numbers[distance..])
                .map(|(&a, &b)| f64::from(a * b))
                .sum();
            let correlation = products / numbers.len() as f64;
            assert!(correlation.abs() < 0.018, "{distance}: {correlation}");
        }
    }

    #[test]
    fn the_grain_is_as_strong_as_its_parts() {
        let pixels = [[1, 2, 3, 4]; 4];
        let source = Source {
            pixels: &pixels,
            width: 2,
            height: 2,
        };
        let grain = Grain::of(&source);
        let mut window = grain.window();
        let tile = Tile {
            left: STRIP,
            width: STRIP,
            top: 0,
            height: 128,
        };
        window.begin(tile);
        let mut numbers = vec![0.0; STRIP * tile.height];
        for (y, row) in numbers.chunks_mut(STRIP).enumerate() {
            window.row(y as isize, row);
        }
        let (mean, deviation) = moments(&numbers);
        assert!(mean.abs() < 0.01, "{mean}");
        // Independent numbers, softened, keep the root of the sum of squared weights: 0.787² + 2 ·
        // 0.107² a direction. The coarse ones, enlarged, keep 0.625 a direction of their variance, and
        // the softening takes little more.
        let direction = 0.786_986_f64.powi(2) + 2.0 * 0.106_507_f64.powi(2);
        let fine = f64::from(FINE_STRENGTH) * direction;
        let coarse = f64::from(COARSE_STRENGTH) * 0.625;
        let most = (fine.powi(2) + coarse.powi(2)).sqrt();
        assert!(
            (0.9 * most..1.02 * most).contains(&deviation),
            "{deviation}, at most {most}"
        );
    }
}
