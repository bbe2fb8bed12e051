//! Shrinking by averages, as OpenCV's `resize(…, INTER_AREA)` does it to the last bit, and
//! enlarging as its `INTER_NEAREST`.

use super::tile::Source;

/// How a side is shrunk: to a whole number of cells, each a little wider than asked where the side
/// is no multiple, as `cv2.resize(picture, (width // factor, height // factor))` does.
#[derive(Clone, Copy)]
pub(super) struct Side {
    from: usize,
    pub(super) cells: usize,
    scale: f64,
}

/// The pixels of a cell along one side, and how much of each.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    start: usize,
    count: usize,
    first: f32,
    inner: f32,
    last: f32,
}

impl Side {
    /// `from` pixels, `factor` to a cell, one cell at least.
    pub(super) fn new(from: usize, factor: usize) -> Self {
        let cells = (from / factor).max(1);
        Self {
            from,
            cells,
            scale: from as f64 / cells as f64,
        }
    }

    /// Pixels to a cell, where that is a whole number.
    fn whole(self) -> Option<usize> {
        self.from
            .is_multiple_of(self.cells)
            .then(|| self.from / self.cells)
    }

    /// OpenCV's `computeResizeAreaTab`. What it takes for too little to count (a thousandth of a
    /// pixel) is left out here too.
    fn span(self, cell: usize) -> Span {
        const LITTLE: f64 = 1e-3;
        let start = cell as f64 * self.scale;
        let end = start + self.scale;
        let width = self.scale.min(self.from as f64 - start);
        let whole_end = (end.floor() as usize).min(self.from - 1);
        let whole_start = (start.ceil() as usize).min(whole_end);
        let before = whole_start as f64 - start;
        let behind = end - whole_end as f64;
        let inner = (1.0 / width) as f32;
        let (has_first, has_last) = (before > LITTLE, behind > LITTLE);
        Span {
            start: whole_start - usize::from(has_first),
            count: whole_end - whole_start + usize::from(has_first) + usize::from(has_last),
            first: if has_first {
                (before / width) as f32
            } else {
                inner
            },
            inner,
            last: if has_last {
                (behind.min(1.0).min(width) / width) as f32
            } else {
                inner
            },
        }
    }

    /// The cell whose colour a pixel gets when enlarged again. The reciprocal is OpenCV's: a
    /// division would round differently at some borders.
    pub(super) fn nearest(self, pixel: usize) -> usize {
        let enlarging = self.from as f64 / self.cells as f64;
        let step = 1.0 / enlarging;
        ((pixel as f64 * step) as usize).min(self.cells - 1)
    }
}

impl Span {
    fn weight(self, index: usize) -> f32 {
        // A single pixel is all of its cell, and then `last` says so.
        if index + 1 == self.count {
            self.last
        } else if index == 0 {
            self.first
        } else {
            self.inner
        }
    }
}

/// The average colour of a row of cells; transparency is not looked at.
pub(super) fn averages(
    source: &Source<'_>,
    across: Side,
    down: Side,
    row: usize,
) -> impl Iterator<Item = [u8; 3]> {
    // OpenCV's two ways: sums of bytes where cells are whole, of weighted floats elsewhere.
    let whole = across.whole().zip(down.whole());
    let rows = down.span(row);
    (0..across.cells).map(move |cell| match whole {
        Some((width, height)) => {
            whole_average(source, [cell * width, row * height], [width, height])
        }
        None => weighted_average(source, across.span(cell), rows),
    })
}

fn whole_average(
    source: &Source<'_>,
    [left, top]: [usize; 2],
    [width, height]: [usize; 2],
) -> [u8; 3] {
    let mut sums = [0u32; 3];
    for y in top..top + height {
        for &[r, g, b, _] in &source.row(y)[left..left + width] {
            sums[0] += u32::from(r);
            sums[1] += u32::from(g);
            sums[2] += u32::from(b);
        }
    }
    if [width, height] == [2, 2] {
        // OpenCV has this case apart, and rounds halves up in it.
        return sums.map(|sum| ((sum + 2) / 4) as u8);
    }
    let scale = 1.0 / (width * height) as f32;
    sums.map(|sum| rounded(sum as f32 * scale))
}

fn weighted_average(source: &Source<'_>, columns: Span, rows: Span) -> [u8; 3] {
    let mut sums = [0.0f32; 3];
    for dy in 0..rows.count {
        let row = &source.row(rows.start + dy)[columns.start..][..columns.count];
        let mut line = [0.0f32; 3];
        for (dx, pixel) in row.iter().enumerate() {
            let weight = columns.weight(dx);
            for (sum, &byte) in line.iter_mut().zip(pixel) {
                *sum += f32::from(byte) * weight;
            }
        }
        for (sum, line) in sums.iter_mut().zip(line) {
            *sum += rows.weight(dy) * line;
        }
    }
    sums.map(rounded)
}

fn rounded(number: f32) -> u8 {
    number.round_ties_even() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_side_that_is_no_multiple_has_fewer_and_wider_cells() {
        let side = Side::new(20, 6);
        assert_eq!((side.cells, side.whole()), (3, None));
        // 6⅔ pixels: 0 to 6.67, 6.67 to 13.33, 13.33 to 20.
        let middle = side.span(1);
        assert_eq!((middle.start, middle.count), (6, 8));
        assert!((middle.first - 0.05).abs() < 1e-6 && (middle.last - 0.05).abs() < 1e-6);
        assert_eq!(Side::new(5, 6).whole(), Some(5));
        assert_eq!(Side::new(1, 3).cells, 1);
    }

    #[test]
    fn enlarging_gives_each_pixel_its_own_cell() {
        let side = Side::new(4032, 6);
        for pixel in 0..4032 {
            assert_eq!(side.nearest(pixel), pixel / 6, "{pixel}");
        }
    }

    proptest! {
        #[test]
        fn cells_cover_the_side_and_their_weights_are_one(from in 1usize..5000, factor in 1usize..8) {
            let side = Side::new(from, factor);
            for cell in 0..side.cells {
                let span = side.span(cell);
                prop_assert!(span.count > 0 && span.start + span.count <= from, "{span:?}");
                let sum: f32 = (0..span.count).map(|i| span.weight(i)).sum();
                prop_assert!((sum - 1.0).abs() < 1e-3, "{cell}: {span:?}");
            }
            prop_assert_eq!(side.nearest(from - 1), side.cells - 1);
            prop_assert_eq!(side.nearest(0), 0);
        }

        #[test]
        fn the_average_of_one_colour_is_that_colour(
            width in 1usize..40, height in 1usize..40, factor in 1usize..8, colour in any::<[u8; 4]>(),
        ) {
            let pixels = vec![colour; width * height];
            let source = Source { pixels: &pixels, width, height };
            let (across, down) = (Side::new(width, factor), Side::new(height, factor));
            for row in 0..down.cells {
                for average in averages(&source, across, down, row) {
                    prop_assert_eq!(&average, &colour[..3]);
                }
            }
        }
    }
}
