//! `retro8bit`: large pixels of 32 colours, smaller ones along edges.
//!
//! Averages are taken of the picture, and the palette's colour nearest to each average. The other way
//! round, averages of palette colours, would not be in the palette, and it would be 32 colours no
//! longer.

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

const COLOURS: usize = 32;

const PALETTE: [[u8; 3]; COLOURS] = [
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

/// .15, .60 and .25 in twentieths: distances are whole numbers below 2²⁴, which floats hold.
const WEIGHTS: [f32; 3] = [3.0, 12.0, 5.0];

/// Slopes look a pixel around, and widening the edges another one.
const REACH: usize = 2;

const GREYS: usize = (STRIP + 2 * REACH).next_multiple_of(LANES);

/// The picture in large pixels.
pub(super) fn pixelated(source: &Source<'_>) -> Vec<u8> {
    if source.pixels.is_empty() {
        return Vec::new();
    }
    let (coarse, fine) = (Cells::of(source, COARSE), Cells::of(source, FINE));
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
    cells(COARSE) + cells(FINE) + for_all_threads(window)
}

/// The picture in cells, each as the number of a colour.
struct Cells {
    across: Side,
    down: Side,
    colours: Vec<u8>,
}

impl Cells {
    fn of(source: &Source<'_>, factor: usize) -> Self {
        let across = Side::new(source.width, factor);
        let down = Side::new(source.height, factor);
        let mut colours = vec![0; across.cells * down.cells];
        colours
            .par_chunks_mut(across.cells)
            .enumerate()
            .for_each(|(row, colours)| {
                // A plain surface is most of a cut-out, and of what surrounds it.
                let mut latest = ([0; 3], nearest([0; 3]));
                for (colour, average) in colours.iter_mut().zip(averages(source, across, down, row))
                {
                    if average != latest.0 {
                        latest = (average, nearest(average));
                    }
                    *colour = latest.1;
                }
            });
        Self {
            across,
            down,
            colours,
        }
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.colours[self.down.nearest(y) * self.across.cells..][..self.across.cells]
    }
}

/// The palette by channels, for vectors.
const BY_CHANNEL: [[f32; COLOURS]; 3] = {
    let mut channels = [[0.0; COLOURS]; 3];
    let mut i = 0;
    while i < COLOURS {
        let mut channel = 0;
        while channel < 3 {
            channels[channel][i] = PALETTE[i][channel] as f32;
            channel += 1;
        }
        i += 1;
    }
    channels
};

/// The colour at the smallest distance, the first of equals, as `argmin` says.
fn nearest(colour: [u8; 3]) -> u8 {
    let [r, g, b] = colour.map(f32::from);
    let [reds, greens, blues] = &BY_CHANNEL;
    let mut distances = [0.0f32; COLOURS];
    for (i, distance) in distances.iter_mut().enumerate() {
        let (r, g, b) = (r - reds[i], g - greens[i], b - blues[i]);
        *distance = WEIGHTS[0] * r * r + WEIGHTS[1] * g * g + WEIGHTS[2] * b * b;
    }
    let mut least = [f32::INFINITY; 8];
    for distances in distances.as_chunks::<8>().0 {
        for (least, &distance) in least.iter_mut().zip(distances) {
            *least = if distance < *least { distance } else { *least };
        }
    }
    let least = least.into_iter().fold(f32::INFINITY, f32::min);
    distances
        .iter()
        .position(|&distance| distance == least)
        .map_or(0, |index| index as u8)
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

    fn fill(&self, y: isize, colours: [&[u8]; 2], from: &[Pixel], out: &mut [Pixel]) {
        let used = out.len() + 2;
        let [above, here, below] = [-1, 0, 1].map(|dy| &self.edges.row(y + dy)[..used]);
        let [coarse, fine] = &self.cells;
        for (x, (out, pixel)) in out.iter_mut().zip(from).enumerate() {
            let column = |x: usize| above[x] | here[x] | below[x];
            let number = if column(x) | column(x + 1) | column(x + 2) == 0 {
                colours[0][coarse[x] as usize]
            } else {
                colours[1][fine[x] as usize]
            };
            let [r, g, b] = PALETTE[usize::from(number)];
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
            assert_eq!(usize::from(nearest(colour)), number);
        }
        // As far from 130 as from 160, 145 goes to the first.
        assert_eq!(PALETTE[usize::from(nearest([145; 3]))], [130; 3]);
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
            prop_assert_eq!(usize::from(nearest(colour)), first);
        }
    }
}
