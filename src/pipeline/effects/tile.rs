//! The picture in tiles: what a thread works on, small enough that the rows it holds stay in a
//! core's own cache, however wide the picture is.

use rayon::prelude::*;

use crate::error::Result;

use super::super::compose::{Picture, mirrored};

/// Rows that one task answers for. The widest effect looks at 12 rows above and below: a tenth of
/// its work is done twice.
pub(super) const BAND: usize = 256;

/// Columns that are worked on together. The widest effect holds 60 rows of them, a quarter of a
/// MiB, and does a twentieth of its work twice.
pub(super) const STRIP: usize = 512;

/// A pixel, straight alpha last.
pub(super) type Pixel = [u8; 4];

/// A cut-out whose buffer fits its size.
pub(super) struct Source<'a> {
    pub(super) pixels: &'a [Pixel],
    pub(super) width: usize,
    pub(super) height: usize,
}

/// A part of the picture: inside it, and not empty.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) left: usize,
    pub(super) width: usize,
    pub(super) top: usize,
    pub(super) height: usize,
}

impl<'a> Source<'a> {
    pub(super) fn of(picture: &'a Picture) -> Result<Self> {
        super::check(picture)?;
        Ok(Self {
            pixels: picture.data.as_chunks().0,
            width: picture.width as usize,
            height: picture.height as usize,
        })
    }

    /// The pixels once more. By all threads, because most of the time goes into fresh memory.
    pub(super) fn copied(&self) -> Vec<u8> {
        self.painted(
            || (),
            |(), tile, rows| {
                for (y, out) in rows.chunks_exact_mut(self.width).enumerate() {
                    let from = &self.row(tile.top + y)[tile.left..][..tile.width];
                    out[tile.left..][..tile.width].copy_from_slice(from);
                }
            },
        )
    }

    /// A row inside the picture.
    pub(super) fn row(&self, y: usize) -> &'a [Pixel] {
        &self.pixels[y * self.width..][..self.width]
    }

    /// Reads a row from column `left` on, as many pixels as `out` has. Beyond its sides the picture
    /// is mirrored, as OpenCV does when not told otherwise (`BORDER_REFLECT_101`); and what is
    /// computed from a mirrored picture is the mirrored answer, so that no later step has to
    /// look at borders.
    pub(super) fn read<T>(&self, y: isize, left: isize, out: &mut [T], map: impl Fn(Pixel) -> T) {
        let row = self.row(mirrored(y, self.height));
        let inside = |column: isize| (column - left).clamp(0, out.len() as isize) as usize;
        let (start, end) = (inside(0), inside(self.width as isize));
        let beyond = |x: usize| map(row[mirrored(left + x as isize, self.width)]);
        for (x, out) in out[..start].iter_mut().enumerate() {
            *out = beyond(x);
        }
        if start < end {
            let row = &row[(left + start as isize) as usize..];
            for (out, &pixel) in out[start..end].iter_mut().zip(row) {
                *out = map(pixel);
            }
        }
        for (x, out) in out.iter_mut().enumerate().skip(end.max(start)) {
            *out = beyond(x);
        }
    }

    /// The bands of a picture, for a vector of `rows` × `width` of whatever, and the tiles in each.
    pub(super) fn tiles(&self, band: usize, rows: usize) -> impl Iterator<Item = Tile> {
        let (width, top) = (self.width, band * BAND);
        (0..width).step_by(STRIP).map(move |left| Tile {
            left,
            width: STRIP.min(width - left),
            top,
            height: rows,
        })
    }

    /// Makes a picture tile by tile: `paint` gets what a thread holds, the tile, and the rows of the
    /// tile's band in their whole width.
    pub(super) fn painted<S>(
        &self,
        scratch: impl Fn() -> S + Sync + Send,
        paint: impl Fn(&mut S, Tile, &mut [Pixel]) + Sync + Send,
    ) -> Vec<u8> {
        let mut painted = vec![0; self.pixels.len() * 4];
        let pixels: &mut [Pixel] = painted.as_chunks_mut().0;
        pixels
            .par_chunks_mut((BAND * self.width).max(1))
            .enumerate()
            .for_each_init(scratch, |scratch, (band, rows)| {
                for tile in self.tiles(band, rows.len() / self.width) {
                    paint(scratch, tile, rows);
                }
            });
        painted
    }
}

/// The latest rows of something, by their number, which may be negative.
pub(super) struct Ring<T> {
    rows: Vec<T>,
    stride: usize,
    count: usize,
}

impl<T: Copy + Default> Ring<T> {
    /// Room for `count` rows of `stride` elements.
    pub(super) fn new(count: usize, stride: usize) -> Self {
        Self {
            rows: vec![T::default(); count * stride],
            stride,
            count,
        }
    }

    fn start(&self, y: isize) -> usize {
        y.rem_euclid(self.count as isize) as usize * self.stride
    }

    /// A row that was written and not overwritten since by one `count` rows on.
    pub(super) fn row(&self, y: isize) -> &[T] {
        &self.rows[self.start(y)..][..self.stride]
    }

    /// A row to be written.
    pub(super) fn row_mut(&mut self, y: isize) -> &mut [T] {
        let start = self.start(y);
        &mut self.rows[start..][..self.stride]
    }
}
