//! All looks of a cut-out side by side, to choose from.

use crate::effect::{Effect, EffectParams};
use crate::error::{Code, Error, Result};

use super::super::compose::{Channels, Picture};
use super::super::resample;

mod glyphs;

/// Tiles in a row where the cut-out is wide, and where it is high: each makes a sheet that fits a
/// screen.
const COLUMNS_OF_WIDE: usize = 2;
const COLUMNS_OF_HIGH: usize = Effect::ALL.len();

/// A cut-out this many times wider than high is wide.
const WIDE: f64 = 1.2;

/// The two greys that stand for transparency everywhere, and the side of their squares in pixels.
const SQUARES: [u8; 2] = [255, 216];
const SQUARE: usize = 12;

/// Around tiles.
const PAPER: u8 = 255;
const INK: u8 = 32;
const GAP: usize = 12;

/// Largest side of a tile: five of these are a sheet of 20 megapixels.
const MAX_SIDE: u32 = 2048;

/// Every effect of a cut-out on a checkerboard, in equal tiles with the effects' names underneath, as
/// an opaque picture. `side` is the tiles' longest side in pixels; a smaller cut-out is not enlarged.
///
/// The cut-out is reduced before it is given its looks: dots, grain and large pixels keep their size
/// and can be seen, though they are larger next to the subject than in the full picture.
///
/// Errors: `invalid_job` for a side of 0 or above 2048; `internal` when the picture is no cut-out, or empty.
pub fn contact_sheet(cut: &Picture, params: &EffectParams, side: u32) -> Result<Picture> {
    super::check(cut)?;
    if cut.data.is_empty() {
        return Err(super::no_cut_out(cut));
    }
    if side == 0 || side > MAX_SIDE {
        return Err(Error::new(
            Code::InvalidJob,
            format!("a contact sheet's tiles cannot be {side} pixels: ask for 1 to {MAX_SIDE}"),
        ));
    }
    let small = reduced(cut, side)?;
    let mut sheet = Sheet::new(small.width as usize, small.height as usize);
    for (index, effect) in Effect::ALL.into_iter().enumerate() {
        let look = super::apply(effect, params, &small)?;
        sheet.place(index, &look, effect.as_str());
    }
    Ok(sheet.picture())
}

fn reduced(cut: &Picture, side: u32) -> Result<Picture> {
    let longest = cut.width.max(cut.height);
    if longest <= side {
        return Ok(cut.clone());
    }
    let scaled = |length: u32| {
        let exact = f64::from(length) * f64::from(side) / f64::from(longest);
        (exact.round() as u32).max(1)
    };
    let (width, height) = (scaled(cut.width), scaled(cut.height));
    Ok(Picture {
        width,
        height,
        data: resample::rgba(&cut.data, (cut.width, cut.height), (width, height))?,
        ..super::dimensions_of(cut)
    })
}

struct Sheet {
    columns: usize,
    tile: [usize; 2],
    width: usize,
    height: usize,
    rgb: Vec<[u8; 3]>,
}

impl Sheet {
    fn new(tile_width: usize, tile_height: usize) -> Self {
        let columns = if tile_width as f64 > tile_height as f64 * WIDE {
            COLUMNS_OF_WIDE
        } else {
            COLUMNS_OF_HIGH
        };
        let rows = Effect::ALL.len().div_ceil(columns);
        // Narrow tiles are widened to hold their names.
        let longest = Effect::ALL
            .map(|effect| effect.as_str().len())
            .into_iter()
            .max();
        let cell_width = tile_width.max(glyphs::width(longest.unwrap_or(0)));
        let width = GAP + columns * (cell_width + GAP);
        let height = GAP + rows * (tile_height + glyphs::LINE + GAP);
        Self {
            columns,
            tile: [cell_width, tile_height],
            width,
            height,
            rgb: vec![[PAPER; 3]; width * height],
        }
    }

    fn place(&mut self, index: usize, look: &Picture, name: &str) {
        let (column, row) = (index % self.columns, index / self.columns);
        let [cell_width, tile_height] = self.tile;
        let width = look.width as usize;
        let left = GAP + column * (cell_width + GAP);
        let top = GAP + row * (tile_height + glyphs::LINE + GAP);
        for (y, pixels) in look.data.as_chunks::<4>().0.chunks_exact(width).enumerate() {
            let out = &mut self.rgb[(top + y) * self.width + left..][..width];
            for (x, (out, &[r, g, b, a])) in out.iter_mut().zip(pixels).enumerate() {
                let under = SQUARES[(x / SQUARE + y / SQUARE) % 2];
                *out = [r, g, b].map(|over| on(over, under, a));
            }
        }
        let (top, stride) = (top + tile_height, self.width);
        glyphs::draw(name, |x, y| {
            self.rgb[(top + y) * stride + left + x] = [INK; 3]
        });
    }

    fn picture(self) -> Picture {
        Picture {
            width: self.width as u32,
            height: self.height as u32,
            channels: Channels::Rgb,
            data: self.rgb.into_flattened(),
            subject: None,
        }
    }
}

/// `over` on `under` by `alpha`, rounded.
fn on(over: u8, under: u8, alpha: u8) -> u8 {
    let alpha = u32::from(alpha);
    ((u32::from(over) * alpha + u32::from(under) * (255 - alpha) + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(width: u32, height: u32, pixel: [u8; 4]) -> Picture {
        Picture {
            width,
            height,
            channels: Channels::Rgba,
            data: pixel.repeat((width * height) as usize),
            subject: None,
        }
    }

    #[test]
    fn every_look_has_its_tile_and_its_name() {
        let sheet = contact_sheet(
            &cut(200, 160, [200, 40, 40, 255]),
            &EffectParams::default(),
            100,
        )
        .unwrap();
        assert_eq!(sheet.channels, Channels::Rgb);
        let pixels = sheet.data.as_chunks::<3>().0;
        let at = |x: usize, y: usize| pixels[y * sheet.width as usize + x];
        // Wide: two columns, three rows; the first tile is the cut-out itself, the third is loud.
        assert_eq!(at(GAP, GAP), [200, 40, 40]);
        assert_eq!(at(GAP, GAP + 80 + glyphs::LINE + GAP), [0xff, 0x45, 0x00]);
        let ink = pixels.iter().filter(|&&pixel| pixel == [INK; 3]).count();
        assert!(ink > 5 * 4 * 10, "{ink}");
    }

    #[test]
    fn what_is_transparent_shows_the_checkerboard() {
        let sheet = contact_sheet(&cut(40, 40, [0; 4]), &EffectParams::default(), 40).unwrap();
        let pixels = sheet.data.as_chunks::<3>().0;
        let row = &pixels[GAP * sheet.width as usize..];
        assert_eq!(row[GAP], [SQUARES[0]; 3]);
        assert_eq!(row[GAP + SQUARE], [SQUARES[1]; 3]);
    }

    #[test]
    fn a_side_of_nothing_or_of_too_much_is_refused() {
        let params = EffectParams::default();
        for side in [0, MAX_SIDE + 1] {
            let error = contact_sheet(&cut(2, 2, [9; 4]), &params, side).unwrap_err();
            assert_eq!(error.code(), Code::InvalidJob);
        }
        let empty = contact_sheet(&cut(0, 0, [9; 4]), &params, 9).unwrap_err();
        assert_eq!(empty.code(), Code::Internal);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn every_size_makes_a_sheet(
            size in prop_oneof![(1u32..50, 1u32..50), Just((1, 700)), Just((700, 1))],
            side in 1u32..80,
        ) {
            let sheet = contact_sheet(&cut(size.0, size.1, [9, 90, 200, 128]), &EffectParams::default(), side).unwrap();
            prop_assert_eq!(sheet.data.len(), (sheet.width * sheet.height * 3) as usize);
        }
    }
}
