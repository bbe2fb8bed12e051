//! `enhancedblackwhite`: black and white as from film.

use rayon::prelude::*;

use crate::effect::EffectParams;

use super::for_all_threads;
use super::grain::Grain;
use super::kernel::{Kernel, LANES};
use super::tile::{Pixel, Ring, STRIP, Source, Tile};

/// Brightness in units of 1/25500: eighteen, seventy-two and ten hundredths of a byte are whole
/// numbers of them, so the curve is a table and loses nothing.
const WEIGHTS: [u32; 3] = [18, 72, 10];
const WHITE: usize = 25_500;

/// Brightness from which a pixel glows.
const BRIGHT: f32 = 0.75;

type Edge = Kernel<3>;
type Wide = Kernel<11>;
type Near = Kernel<5>;

/// Rows and columns beyond a tile of which the sharpened picture is needed, for the wide glow; and
/// of the picture before it.
const GLOW: usize = Wide::RADIUS;
const REACH: usize = GLOW + Edge::RADIUS;

// The columns of a full tile at each step, in whole blocks of lanes.
const GLOWING: usize = STRIP;
const SHARP: usize = (GLOWING + 2 * GLOW).next_multiple_of(LANES);
const TONES: usize = (SHARP + 2 * Edge::RADIUS).next_multiple_of(LANES);

/// Rows in the windows: of tones until their blur has its lower rows, sharpened ones until the glow
/// around them is known, blurred ones as many as the other direction's kernel has.
const TONE_ROWS: usize = Edge::RADIUS + 1;
const EDGE_ROWS: usize = 2 * Edge::RADIUS + 1;
const SHARP_ROWS: usize = GLOW + 1;
const WIDE_ROWS: usize = 2 * GLOW + 1;
const NEAR_ROWS: usize = GLOW + Near::RADIUS + 1;

/// The picture in black and white.
pub(super) fn developed(source: &Source<'_>, params: &EffectParams) -> Vec<u8> {
    let film = Film::new(params);
    // What does not show needs no noise to be drawn.
    let grain = (params.grain > 0.0).then(|| Grain::of(source));
    source.painted(
        || Windows::new(&film, grain.as_ref()),
        |windows, tile, rows| windows.develop(source, tile, rows),
    )
}

/// Memory in bytes that [`developed`] takes beside its answer.
pub(super) fn scratch_bytes() -> u64 {
    let windows = TONE_ROWS * TONES
        + EDGE_ROWS * SHARP
        + (SHARP_ROWS + 1) * SHARP
        + (WIDE_ROWS + NEAR_ROWS + 3) * GLOWING;
    let table = WHITE + 1;
    (table * size_of::<f32>()) as u64
        + for_all_threads(windows * size_of::<f32>())
        + super::grain::scratch_bytes()
}

/// What is the same for every pixel.
struct Film {
    curve: Vec<f32>,
    edge: Edge,
    wide: Wide,
    near: Near,
    halation: f32,
    grain: f32,
}

impl Film {
    fn new(params: &EffectParams) -> Self {
        // `contrast` scales what the factor adds: without it the curve stays as it is. Scaled as
        // a whole, nought would make everything grey.
        let contrast = 1.0 + 0.12 * f64::from(params.contrast);
        let tone = |level: usize| {
            let toned = curve(level as f64 / WHITE as f64);
            ((toned - 0.5) * contrast + 0.5).clamp(0.0, 1.0) as f32
        };
        Self {
            curve: (0..=WHITE).into_par_iter().map(tone).collect(),
            edge: Edge::gaussian(1.2),
            wide: Wide::gaussian(7.0),
            near: Near::gaussian(2.5),
            halation: 0.12 * params.halation,
            grain: 0.08 * params.grain,
        }
    }

    fn tone(&self, [r, g, b, _]: Pixel) -> f32 {
        let [red, green, blue] = WEIGHTS;
        let level = u32::from(r) * red + u32::from(g) * green + u32::from(b) * blue;
        self.curve[level as usize]
    }
}

/// The film's curve, without contrast.
fn curve(g: f64) -> f64 {
    let shadows = (1.1 * g).powf(1.25) * 0.92;
    let highlights = 1.0 - ((1.0 - g) * 1.05).powf(0.75) * 0.95;
    let weight = ((g - 0.4 + 0.15) / 0.3).clamp(0.0, 1.0);
    shadows * (1.0 - weight) + highlights * weight
}

/// Rows of a tile on their way through the steps.
struct Windows<'a> {
    film: &'a Film,
    grain: Option<super::grain::Window<'a>>,
    tones: Ring<f32>,
    edges: Ring<f32>,
    sharp: Ring<f32>,
    bright: Vec<f32>,
    wide: Ring<f32>,
    near: Ring<f32>,
    /// The glow of one row, by the wide and by the near kernel.
    glow: [Vec<f32>; 2],
    noise: Vec<f32>,
}

impl<'a> Windows<'a> {
    fn new(film: &'a Film, grain: Option<&'a Grain>) -> Self {
        Self {
            film,
            grain: grain.map(Grain::window),
            tones: Ring::new(TONE_ROWS, TONES),
            edges: Ring::new(EDGE_ROWS, SHARP),
            sharp: Ring::new(SHARP_ROWS, SHARP),
            bright: vec![0.0; SHARP],
            wide: Ring::new(WIDE_ROWS, GLOWING),
            near: Ring::new(NEAR_ROWS, GLOWING),
            glow: [vec![0.0; GLOWING], vec![0.0; GLOWING]],
            noise: vec![0.0; GLOWING],
        }
    }

    /// Each row that comes in at the top of this walk lets one finished row out below, `REACH` rows
    /// higher up.
    fn develop(&mut self, source: &Source<'_>, tile: Tile, rows: &mut [Pixel]) {
        let (top, bottom) = (tile.top as isize, (tile.top + tile.height) as isize);
        let (reach, edge, glow) = (REACH as isize, Edge::RADIUS as isize, GLOW as isize);
        let glowing = tile.width.next_multiple_of(LANES);
        let sharp = (glowing + 2 * GLOW).next_multiple_of(LANES);
        if let Some(grain) = &mut self.grain {
            grain.begin(tile);
        }
        for y in top - reach..bottom + reach {
            self.enter(source, y, tile.left as isize - reach, sharp);
            let y = y - edge;
            if y < top - reach + edge {
                continue;
            }
            self.sharpen(y, sharp);
            self.brighten(y, glowing);
            let y = y - glow;
            if y >= top {
                let line = (y - top) as usize * source.width + tile.left;
                let from = &source.row(y as usize)[tile.left..][..tile.width];
                self.finish(y, glowing, from, &mut rows[line..][..tile.width]);
            }
        }
    }

    /// The film's tones, and those blurred along the row. The first column of the tones is `REACH`
    /// before the tile.
    fn enter(&mut self, source: &Source<'_>, y: isize, left: isize, sharp: usize) {
        let film = self.film;
        let tones = &mut self.tones.row_mut(y)[..sharp + 2 * Edge::RADIUS];
        source.read(y, left, tones, |pixel| film.tone(pixel));
        film.edge.along(tones, &mut self.edges.row_mut(y)[..sharp]);
    }

    /// Adds the edges, most in the middle tones. Nothing is clipped here: an edge may shoot past
    /// white, which the glow and the highlights then take in.
    fn sharpen(&mut self, y: isize, used: usize) {
        let blurred = &mut self.bright[..used];
        let edges = &self.edges;
        self.film.edge.down(|dy| edges.row(y + dy), blurred);
        let tones = &self.tones.row(y)[Edge::RADIUS..];
        let sharp = &mut self.sharp.row_mut(y)[..used];
        // The blurred tones are needed once and give their place to what glows.
        for ((sharp, blurred), &g) in sharp.iter_mut().zip(blurred).zip(tones) {
            let s = g + (g - *blurred) * 0.9 * 4.0 * g * (1.0 - g);
            *sharp = s;
            *blurred = if s > BRIGHT { s } else { 0.0 };
        }
    }

    /// Blurs what glows along the row.
    fn brighten(&mut self, y: isize, used: usize) {
        let wide = &mut self.wide.row_mut(y)[..used];
        self.film.wide.along(&self.bright, wide);
        let near = &mut self.near.row_mut(y)[..used];
        let first = GLOW - Near::RADIUS;
        self.film.near.along(&self.bright[first..], near);
    }

    fn finish(&mut self, y: isize, used: usize, from: &[Pixel], out: &mut [Pixel]) {
        let (film, wide, near) = (self.film, &self.wide, &self.near);
        let [glow, close] = self.glow.each_mut().map(|row| &mut row[..used]);
        film.wide.down(|dy| wide.row(y + dy), glow);
        film.near.down(|dy| near.row(y + dy), close);
        let sharp = &self.sharp.row(y)[GLOW..];
        for ((glow, &close), &g) in glow.iter_mut().zip(&*close).zip(sharp) {
            *glow = g + (*glow * 0.3 + close * 0.7) * film.halation * (1.0 - g * g);
        }
        if let Some(grain) = &mut self.grain {
            let noise = &mut self.noise[..used];
            grain.row(y, noise);
            for ((g, &noise), pixel) in glow.iter_mut().zip(&*noise).zip(from) {
                let shown = if pixel[3] > 0 { film.grain } else { 0.0 };
                *g += noise * (1.2 - *g).clamp(0.3, 1.0) * shown;
            }
        }
        for ((out, &g), pixel) in out.iter_mut().zip(&*glow).zip(from) {
            let g = if g > 0.9 { g * 0.95 + 0.05 } else { g };
            let level = rounded(g.clamp(0.0, 1.0) * 255.0);
            *out = [level, level, level, pixel[3]];
        }
    }
}

/// A number from 0 to 255 rounded to nearest. Added to 2²³, where floats are whole numbers apart, it
/// stands in the lowest bits: a few instructions on vectors, where a cast is many on each number.
fn rounded(number: f32) -> u8 {
    (number + 8_388_608.0).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_nearest() {
        for level in 0..=255u8 {
            let exact = f32::from(level);
            for number in [exact, exact - 0.49, exact + 0.49] {
                assert_eq!(rounded(number.clamp(0.0, 255.0)), level);
            }
        }
    }

    #[test]
    fn the_curve_joins_black_and_white_to_almost_black_and_white() {
        assert_eq!(curve(0.0), 0.0);
        assert_eq!(curve(1.0), 1.0);
        // By hand: 0.4 lies in the middle of the blend.
        let middle = 0.5 * (0.44_f64.powf(1.25) * 0.92 + 1.0 - 0.63_f64.powf(0.75) * 0.95);
        assert!((curve(0.4) - middle).abs() < 1e-12);
        let film = Film::new(&EffectParams::default());
        assert_eq!(film.tone([0, 0, 0, 255]), 0.0);
        assert_eq!(film.tone([255; 4]), 1.0);
        assert!(film.curve.is_sorted());
    }

    #[test]
    fn without_contrast_the_curve_stays_as_it_is() {
        let film = Film::new(&EffectParams {
            contrast: 0.0,
            ..EffectParams::default()
        });
        for level in (0..=WHITE).step_by(100) {
            let expected = curve(level as f64 / WHITE as f64) as f32;
            assert_eq!(film.curve[level], expected);
        }
    }
}
