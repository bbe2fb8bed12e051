//! `retro8bit`: the colours of an old console in large pixels, smaller ones along edges.
//!
//! In the order of the rule: first every pixel becomes the palette's nearest colour, then averages are
//! taken, so that a large pixel may lie between the palette's colours
//! (docs/decisions/0014-effects-in-the-order-of-their-rules.md).

use std::sync::LazyLock;

use rayon::prelude::*;

use super::area::{Side, averages};
use super::for_all_threads;
use super::kernel::LANES;
use super::tile::{Pixel, Ring, STRIP, Source, Tile};

/// Pixels to a side of a cell, away from edges and along them.
const COARSE: usize = 6;
const FINE: usize = 3;

/// Slope above which a pixel is an edge, squared.
const EDGE: i32 = 40 * 40;

const PALETTE: [[u8; 3]; 32] = [
    // Greys.
    [0, 0, 0],
    [25, 25, 25],
    [50, 50, 50],
    [75, 75, 75],
    [100, 100, 100],
    [130, 130, 130],
    [160, 160, 160],
    [190, 190, 190],
    [220, 220, 220],
    [255, 255, 255],
    // Browns.
    [45, 30, 15],
    [62, 39, 20],
    [85, 55, 30],
    [101, 67, 33],
    [120, 80, 45],
    [139, 90, 50],
    [160, 110, 70],
    [180, 130, 90],
    [200, 150, 110],
    // Pinks and creams.
    [255, 180, 120],
    [255, 200, 160],
    [240, 220, 200],
    [205, 133, 63],
    [160, 82, 45],
    [139, 69, 19],
    // Accents.
    [70, 50, 30],
    [100, 70, 40],
    [40, 60, 80],
    [60, 80, 120],
    [150, 200, 255],
    // Greens.
    [34, 70, 34],
    [50, 100, 50],
];

/// .15, .60 and .25 in twentieths: distances are whole numbers.
const WEIGHTS: [u32; 3] = [3, 12, 5];

/// Pixels that one task works on.
const STRETCH: usize = 1 << 14;

/// Slopes look a pixel around, and widening the edges another one.
const REACH: usize = 2;

const GREYS: usize = (STRIP + 2 * REACH).next_multiple_of(LANES);

/// The picture in large pixels.
pub(super) fn pixelated(source: &Source<'_>) -> Vec<u8> {
    if source.pixels.is_empty() {
        return Vec::new();
    }
    let (coarse, fine) = {
        let few = Source {
            pixels: &in_palette(source),
            ..*source
        };
        (Cells::of(&few, COARSE), Cells::of(&few, FINE))
    };
    source.painted(Windows::new, |windows, tile, rows| {
        windows.paint(source, [&coarse, &fine], tile, rows);
    })
}

/// Memory in bytes that [`pixelated`] takes beside its answer.
pub(super) fn scratch_bytes(width: u32, height: u32) -> u64 {
    let cells = |factor: usize| {
        let side = |from: u32| Side::new(from as usize, factor).cells as u64;
        side(width) * side(height)
    };
    let window = 3 * (GREYS * size_of::<i16>() + GREYS) + 2 * STRIP * size_of::<u32>();
    // The picture in the palette is gone before the answer begins, which is as large.
    3 * (cells(COARSE) + cells(FINE)) + for_all_threads(window)
}

/// The picture in the palette's colours.
fn in_palette(source: &Source<'_>) -> Vec<Pixel> {
    let mut few = vec![[0; 4]; source.pixels.len()];
    few.par_chunks_mut(STRETCH)
        .zip(source.pixels.par_chunks(STRETCH))
        .for_each(|(few, pixels)| {
            // A plain surface is most of what surrounds a cut-out.
            let mut latest = ([0; 3], PALETTE[nearest([0; 3])]);
            for (few, &[r, g, b, a]) in few.iter_mut().zip(pixels) {
                if [r, g, b] != latest.0 {
                    latest = ([r, g, b], PALETTE[nearest([r, g, b])]);
                }
                let [r, g, b] = latest.1;
                *few = [r, g, b, a];
            }
        });
    few
}

/// The picture in cells.
struct Cells {
    across: Side,
    down: Side,
    colours: Vec<[u8; 3]>,
}

impl Cells {
    fn of(source: &Source<'_>, factor: usize) -> Self {
        let across = Side::new(source.width, factor);
        let down = Side::new(source.height, factor);
        let mut colours = vec![[0; 3]; across.cells * down.cells];
        colours
            .par_chunks_mut(across.cells)
            .enumerate()
            .for_each(|(row, colours)| {
                for (colour, average) in colours.iter_mut().zip(averages(source, across, down, row))
                {
                    *colour = average;
                }
            });
        Self {
            across,
            down,
            colours,
        }
    }

    fn row(&self, y: usize) -> &[[u8; 3]] {
        &self.colours[self.down.nearest(y) * self.across.cells..][..self.across.cells]
    }
}

/// Cubes along each axis of the colour space that [`CANDIDATES`] are kept for.
const CUBES: usize = 16;
const CUBE: usize = 256 / CUBES;

/// For each cube of colours the palette's colours that are nearest to some colour in it, in order: a
/// handful instead of 32 to look at, with the same answer.
static CANDIDATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    (0..CUBES.pow(3))
        .map(|cube| {
            let corner = [cube / CUBES / CUBES, cube / CUBES % CUBES, cube % CUBES];
            let reaches = PALETTE.map(|colour| reach(colour, corner.map(|c| c * CUBE)));
            // Whatever colour it is, one of the palette is at most so far away.
            let bound = reaches.iter().map(|(_, farthest)| *farthest).min();
            (0u8..)
                .zip(reaches)
                .filter(|(_, (closest, _))| Some(*closest) <= bound)
                .map(|(number, _)| number)
                .collect()
        })
        .collect()
});

/// The least and the greatest distance from a colour to those of a cube with this corner.
fn reach(colour: [u8; 3], corner: [usize; 3]) -> (u32, u32) {
    let (mut closest, mut farthest) = (0, 0);
    for channel in 0..3 {
        let at = u32::from(colour[channel]);
        let (low, high) = (corner[channel] as u32, (corner[channel] + CUBE - 1) as u32);
        let outside = low.saturating_sub(at).max(at.saturating_sub(high));
        let across = at.abs_diff(low).max(at.abs_diff(high));
        closest += WEIGHTS[channel] * outside * outside;
        farthest += WEIGHTS[channel] * across * across;
    }
    (closest, farthest)
}

/// The number of the palette's colour at the smallest distance, the first of equals, as `argmin` says.
fn nearest(colour: [u8; 3]) -> usize {
    let [r, g, b] = colour.map(|c| usize::from(c) / CUBE);
    let candidates = &CANDIDATES[(r * CUBES + g) * CUBES + b];
    let (mut best, mut least) = (0, u32::MAX);
    for &number in candidates {
        let distance = distance(colour, PALETTE[usize::from(number)]);
        if distance < least {
            (best, least) = (number, distance);
        }
    }
    usize::from(best)
}

/// The squared distance of two colours, in twentieths.
fn distance(one: [u8; 3], other: [u8; 3]) -> u32 {
    (0..3)
        .map(|channel| WEIGHTS[channel] * u32::from(one[channel].abs_diff(other[channel])).pow(2))
        .sum()
}

/// Rows of a tile.
struct Windows {
    greys: Ring<i16>,
    /// 1 where there is an edge.
    edges: Ring<u8>,
    /// Which coarse and which fine cell each column is in.
    cells: [Vec<u32>; 2],
}

impl Windows {
    fn new() -> Self {
        Self {
            greys: Ring::new(3, GREYS),
            edges: Ring::new(3, GREYS),
            cells: [vec![0; STRIP], vec![0; STRIP]],
        }
    }

    fn paint(&mut self, source: &Source<'_>, cells: [&Cells; 2], tile: Tile, rows: &mut [Pixel]) {
        for (columns, cells) in self.cells.iter_mut().zip(cells) {
            for (x, column) in columns[..tile.width].iter_mut().enumerate() {
                *column = cells.across.nearest(tile.left + x) as u32;
            }
        }
        let (top, bottom) = (tile.top as isize, (tile.top + tile.height) as isize);
        let (reach, left) = (REACH as isize, tile.left as isize - REACH as isize);
        let used = tile.width + 2 * REACH;
        for y in top - reach..bottom + reach {
            source.read(y, left, &mut self.greys.row_mut(y)[..used], grey);
            let y = y - 1;
            if y < top - reach + 1 {
                continue;
            }
            self.find_edges(source, y, left + 1, used - 2);
            let y = y - 1;
            if y < top {
                continue;
            }
            let line = (y - top) as usize * source.width + tile.left;
            let from = &source.row(y as usize)[tile.left..][..tile.width];
            let colours = cells.map(|cells| cells.row(y as usize));
            self.fill(y, colours, from, &mut rows[line..][..tile.width]);
        }
    }

    /// Sobel's slopes of a row from column `left` on. Outside the picture there are no edges,
    /// though a mirrored one would show some: widening looks at what is inside.
    fn find_edges(&mut self, source: &Source<'_>, y: isize, left: isize, used: usize) {
        let edges = &mut self.edges.row_mut(y)[..used];
        if y < 0 || y >= source.height as isize {
            edges.fill(0);
            return;
        }
        let [above, here, below] = [-1, 0, 1].map(|dy| &self.greys.row(y + dy)[..used + 2]);
        let mut x = 0;
        while x < used {
            let across =
                (above[x + 2] - above[x]) + 2 * (here[x + 2] - here[x]) + (below[x + 2] - below[x]);
            let down = (below[x] - above[x])
                + 2 * (below[x + 1] - above[x + 1])
                + (below[x + 2] - above[x + 2]);
            let (across, down) = (i32::from(across), i32::from(down));
            edges[x] = u8::from(across * across + down * down > EDGE);
            x += 1;
        }
        if left < 0 {
            edges[0] = 0;
        }
        if left + used as isize > source.width as isize {
            edges[used - 1] = 0;
        }
    }

    fn fill(&self, y: isize, colours: [&[[u8; 3]]; 2], from: &[Pixel], out: &mut [Pixel]) {
        let used = out.len() + 2;
        let [above, here, below] = [-1, 0, 1].map(|dy| &self.edges.row(y + dy)[..used]);
        let [coarse, fine] = &self.cells;
        for (x, (out, pixel)) in out.iter_mut().zip(from).enumerate() {
            let column = |x: usize| above[x] | here[x] | below[x];
            let [r, g, b] = if column(x) | column(x + 1) | column(x + 2) == 0 {
                colours[0][coarse[x] as usize]
            } else {
                colours[1][fine[x] as usize]
            };
            *out = [r, g, b, pixel[3]];
        }
    }
}

/// As OpenCV's `cvtColor` to grey: the weights .299, .587 and .114 in 1/32768, rounded.
fn grey([r, g, b, _]: Pixel) -> i16 {
    let sum = u32::from(r) * 9798 + u32::from(g) * 19235 + u32::from(b) * 3735;
    ((sum + (1 << 14)) >> 15) as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn colours_of_the_palette_are_their_own_nearest() {
        for (number, &colour) in PALETTE.iter().enumerate() {
            assert_eq!(nearest(colour), number);
        }
        // As far from 130 as from 160, 145 goes to the first.
        assert_eq!(PALETTE[nearest([145; 3])], [130; 3]);
    }

    #[test]
    fn grey_weights_add_up_to_white() {
        assert_eq!(grey([255, 255, 255, 0]), 255);
        assert_eq!(grey([255, 0, 0, 0]), 76);
        assert_eq!(grey([0, 255, 0, 0]), 150);
        assert_eq!(grey([0, 0, 255, 0]), 29);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        #[test]
        fn the_nearest_colour_is_nearest(colour in any::<[u8; 3]>()) {
            let distance = |other: &[u8; 3]| {
                let square = |channel: usize| {
                    i64::from(colour[channel].abs_diff(other[channel])).pow(2)
                };
                15 * square(0) + 60 * square(1) + 25 * square(2)
            };
            let least = PALETTE.iter().map(distance).min().unwrap();
            let first = PALETTE.iter().position(|other| distance(other) == least).unwrap();
            prop_assert_eq!(nearest(colour), first);
        }
    }
}
