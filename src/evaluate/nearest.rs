//! The nearest pixel of the subject for every pixel, exactly: Maurer, Qi and Raghavan, *A Linear Time Algorithm
//! for Computing Exact Euclidean Distance Transforms of Binary Images in Arbitrary Dimensions*, PAMI 2003.
//!
//! First along the columns, then along each row. Of pixels equally near the topmost, then the leftmost is
//! taken, as in SciPy's `distance_transform_edt`: the weighted F-measure depends on which.

use super::{HARD, Pair};

/// No pixel of the column belongs to the subject.
const NONE: u32 = u32::MAX;

/// For every pixel, the row of the nearest pixel of the subject in its own column.
pub struct Columns {
    width: usize,
    rows: Vec<u32>,
}

impl Columns {
    pub fn of(pair: &Pair<'_>) -> Self {
        let width = pair.width;
        let mut rows = vec![NONE; pair.pixels()];
        let mut last = vec![NONE; width];
        for (y, row) in rows.chunks_exact_mut(width).enumerate() {
            let mask = &pair.mask[y * width..][..width];
            for ((nearest, last), &truth) in row.iter_mut().zip(&mut last).zip(mask) {
                if truth > HARD {
                    *last = y as u32;
                }
                *nearest = *last;
            }
        }
        last.fill(NONE);
        for (y, row) in rows.chunks_exact_mut(width).enumerate().rev() {
            let y = y as u32;
            for (above, below) in row.iter_mut().zip(&mut last) {
                if *above == y {
                    *below = y;
                } else if *below != NONE && (*above == NONE || *below - y < y - *above) {
                    *above = *below;
                }
            }
        }
        Self { width, rows }
    }
}

/// What one row is worked on with; used for one row after the other.
#[derive(Default)]
pub struct Scratch {
    /// Columns whose pixel is the nearest for some stretch of the row, left to right.
    sites: Vec<usize>,
}

impl Columns {
    /// For each pixel of row `y`: the squared distance to the nearest pixel of the subject, and that one's
    /// row and column. Nothing where there is no subject at all.
    pub fn row(&self, y: usize, scratch: &mut Scratch, mut visit: impl FnMut(usize, Near)) {
        let rows = &self.rows[y * self.width..][..self.width];
        let up = |column: usize| {
            let distance = i64::from(rows[column]) - y as i64;
            distance * distance
        };
        let sites = &mut scratch.sites;
        sites.clear();
        for column in (0..self.width).filter(|&column| rows[column] != NONE) {
            while let [.., before, last] = sites[..] {
                let (a, b) = ((last - before) as i64, (column - last) as i64);
                let c = a + b;
                // Whether the middle one of the three is nearest anywhere.
                if c * up(last) - b * up(before) - a * up(column) - a * b * c <= 0 {
                    break;
                }
                sites.pop();
            }
            sites.push(column);
        }
        let squared = |x: usize, site: usize| {
            let across = site as i64 - x as i64;
            across * across + up(site)
        };
        let mut at = 0;
        for x in 0..self.width {
            let Some(&site) = sites.get(at) else { return };
            let (mut site, mut nearest) = (site, squared(x, site));
            while let Some(&next) = sites.get(at + 1) {
                let distance = squared(x, next);
                if nearest <= distance {
                    break;
                }
                (site, nearest) = (next, distance);
                at += 1;
            }
            let near = Near {
                squared: nearest as u64,
                row: rows[site] as usize,
                column: site,
            };
            visit(x, near);
        }
    }
}

/// The nearest pixel of the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    /// The distance squared, pixels.
    pub squared: u64,
    pub row: usize,
    pub column: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pixels against all.
    fn slow(mask: &[u8], width: usize, x: usize, y: usize) -> Option<Near> {
        let subject = mask.iter().enumerate().filter(|(_, truth)| **truth > HARD);
        let near = subject.map(|(i, _)| {
            let (row, column) = (i / width, i % width);
            let (up, across) = (row.abs_diff(y) as u64, column.abs_diff(x) as u64);
            Near {
                squared: up * up + across * across,
                row,
                column,
            }
        });
        near.min_by_key(|near| near.squared)
    }

    #[test]
    fn it_finds_the_same_distances_as_looking_everywhere() {
        let mut random = fastrand::Rng::with_seed(7);
        for (width, height, share) in [(1, 1, 0.5), (23, 17, 0.03), (9, 40, 0.4), (31, 5, 0.0)] {
            let pixels = width * height;
            let mask: Vec<u8> = (0..pixels)
                .map(|_| if random.f64() < share { 255 } else { 0 })
                .collect();
            let pair = Pair::new(width as u32, height as u32, &mask, &mask).unwrap();
            let columns = Columns::of(&pair);
            let mut scratch = Scratch::default();
            let mut visited = 0;
            for y in 0..height {
                columns.row(y, &mut scratch, |x, near| {
                    visited += 1;
                    assert_eq!(near.squared, slow(&mask, width, x, y).unwrap().squared);
                    assert!(mask[near.row * width + near.column] > HARD);
                });
            }
            let expected = if mask.contains(&255) { pixels } else { 0 };
            assert_eq!(visited, expected);
        }
    }
}
