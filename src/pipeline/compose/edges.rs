//! The subject's edge as OpenCV's `Canny(mask, 50, 100)` draws it on a black and white mask.
//!
//! On such a mask every slope is at least 255, above both thresholds: each pixel decides for
//! itself, and nothing has to be followed along the edge.

use std::ops::Range;

/// Alpha from which a pixel lies inside. Rounded to nearest, this is what is above one half.
const INSIDE: u8 = 128;

/// 13573 / 2^15 is the tangent of 22.5°: where a slope is neither along a row nor along a column.
const TANGENT: u32 = 13_573;

/// How the mask rises at a pixel, by the Sobel operator.
#[derive(Clone, Copy, Default)]
struct Slope {
    /// To the right, −4 to 4.
    x: i8,
    /// Downwards, −4 to 4.
    y: i8,
}

impl Slope {
    /// OpenCV's default, the sum of both and not their length.
    fn steepness(self) -> u8 {
        self.x.unsigned_abs() + self.y.unsigned_abs()
    }
}

/// Calls `found` with the index of each edge pixel in the given rows, in order.
///
/// Rows are looked at on their own, so that bands of a picture can be traced in parallel; beside
/// that, three rows of slopes are held.
pub(super) fn trace(alpha: &[u8], width: usize, rows: Range<usize>, mut found: impl FnMut(usize)) {
    let height = alpha.len() / width;
    // A column more on each side: beyond the picture there is no slope.
    let mut above = vec![Slope::default(); width + 2];
    let mut here = above.clone();
    let mut below = above.clone();
    if let Some(y) = rows.start.checked_sub(1) {
        slopes(alpha, width, y, &mut above);
    }
    slopes(alpha, width, rows.start, &mut here);
    for y in rows {
        if y + 1 < height {
            slopes(alpha, width, y + 1, &mut below);
        } else {
            below.fill(Slope::default());
        }
        for x in 0..width {
            let around = [&above[x..x + 3], &here[x..x + 3], &below[x..x + 3]];
            if around[1][1].steepness() > 0 && is_ridge(around) {
                found(y * width + x);
            }
        }
        std::mem::swap(&mut above, &mut here);
        std::mem::swap(&mut here, &mut below);
    }
}

/// The slopes of one row, from its second element on. The mask goes on beyond the picture as it
/// ends.
fn slopes(alpha: &[u8], width: usize, y: usize, out: &mut [Slope]) {
    let last = alpha.len() / width - 1;
    let row = |y: usize| &alpha[y * width..][..width];
    let (above, here, below) = (row(y.saturating_sub(1)), row(y), row((y + 1).min(last)));
    let inside = |row: &[u8], x: usize| i8::from(row[x] >= INSIDE);
    let smooth = |x: usize| inside(above, x) + 2 * inside(here, x) + inside(below, x);
    let rise = |x: usize| inside(below, x) - inside(above, x);
    for (x, slope) in out[1..=width].iter_mut().enumerate() {
        let (left, right) = (x.saturating_sub(1), (x + 1).min(width - 1));
        *slope = Slope {
            x: smooth(right) - smooth(left),
            y: rise(left) + 2 * rise(x) + rise(right),
        };
    }
}

/// Whether the mask is nowhere steeper on the way up and down from the middle. Of two that are
/// equally steep the left or upper one is the edge; on a diagonal neither.
fn is_ridge(around: [&[Slope]; 3]) -> bool {
    let slope = around[1][1];
    let steepness = slope.steepness();
    let at = |row: usize, column: usize| around[row][column].steepness();
    let across = u32::from(slope.x.unsigned_abs());
    let down = u32::from(slope.y.unsigned_abs()) << 15;
    let flat = across * TANGENT;
    // The tangent of 67.5° is that of 22.5° and two.
    let steep = flat + (across << 16);
    if down < flat {
        steepness > at(1, 0) && steepness >= at(1, 2)
    } else if down > steep {
        steepness > at(0, 1) && steepness >= at(2, 1)
    } else if (slope.x < 0) == (slope.y < 0) {
        steepness > at(0, 0) && steepness > at(2, 2)
    } else {
        steepness > at(0, 2) && steepness > at(2, 0)
    }
}
