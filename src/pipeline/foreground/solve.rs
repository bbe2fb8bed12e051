//! Foreground and background of a pixel from its neighbours'.
//!
//! Minimised is (α F + β B − I)² + Σ wₙ ((F − Fₙ)² + (B − Bₙ)²), where β is 1 − α and wₙ how much a
//! neighbour's alpha differs. With the weights' sum w, the neighbours' weighted means F̄ and B̄, and
//! i = 1 ÷ (α² + β² + w), the answer is
//!
//! F = (1 − α² i) F̄ − α β i B̄ + α i I,  B = (1 − β² i) B̄ − α β i F̄ + β i I.
//!
//! PyMatting inverts the 2×2 matrix instead, whose determinant loses most of a float's bits where
//! neighbours are alike. Alpha decides all the factors, so they are computed once for all rounds.

use std::iter::zip;
use std::ops::Range;

use wide::f32x4;

use super::level::Pair;

/// How much neighbours have to do with each other when their alpha is the same.
const REGULARIZATION: f32 = 1e-5;

/// The largest value of a channel. Colours are computed in the units that they are kept in.
const WHITE: f32 = 65535.0;

/// A level of a photo's channel in these units.
const LEVEL: f32 = 257.0;

/// Foreground and background of a pixel, 0 to [`WHITE`]; the fourth lane is not used.
#[derive(Clone, Copy, Default)]
pub(super) struct Colours {
    foreground: f32x4,
    background: f32x4,
}

impl Colours {
    pub fn of([foreground, background]: &Pair) -> Self {
        Self {
            foreground: wide(foreground[0], foreground[1], foreground[2]),
            background: wide(background[0], background[1], background[2]),
        }
    }

    pub fn pair(&self) -> Pair {
        [self.foreground, self.background].map(|colour| {
            let whole = (colour + f32x4::HALF).fast_trunc_int();
            whole.to_array().map(|value| value as u16)
        })
    }

    /// Rounded to the photo's levels.
    pub fn foreground(&self) -> [u8; 3] {
        let levels = self.foreground * f32x4::splat(1.0 / LEVEL) + f32x4::HALF;
        let [r, g, b, _] = levels.fast_trunc_int().to_array();
        [r as u8, g as u8, b as u8]
    }
}

/// A colour as a vector. Written out, like what follows, because the suite runs unoptimised, where every
/// `map` of an array is a dozen calls.
#[inline(always)]
fn wide<T: Into<f32>>(red: T, green: T, blue: T) -> f32x4 {
    f32x4::new([red.into(), green.into(), blue.into(), 0.0])
}

/// What a pixel's own and its neighbours' colours are multiplied with.
#[derive(Clone, Copy, Default)]
struct Factors {
    // wₙ ÷ w
    left: f32,
    right: f32,
    above: f32,
    below: f32,
    /// 1 − α² i
    front: f32,
    /// 1 − β² i
    behind: f32,
    /// α β i
    other: f32,
    // α i and β i, for I in levels of the photo.
    seen_front: f32,
    seen_behind: f32,
}

/// Pixels whose factors are computed together.
const LANES: usize = 4;

/// Factors of a row.
#[derive(Default)]
pub(super) struct Coefficients(Vec<Factors>);

impl Coefficients {
    pub fn new(width: usize) -> Self {
        Self(vec![Factors::default(); width])
    }

    /// Memory in bytes that a row takes.
    pub const fn bytes(width: usize) -> usize {
        width * size_of::<Factors>()
    }

    /// Computes the factors of a run from the rows of alpha above, at and below.
    pub fn set(&mut self, run: &Range<usize>, [above, here, below]: [&[u8]; 3]) {
        for (block, out) in self.0[run.clone()].chunks_mut(LANES).enumerate() {
            let x = (run.start + block * LANES) as isize;
            let alpha = fractions(here, x);
            let others = [
                fractions(here, x - 1),
                fractions(here, x + 1),
                fractions(above, x),
                fractions(below, x),
            ];
            for (out, factors) in zip(out, Factors::of(alpha, others)) {
                *out = factors;
            }
        }
    }

    /// One round over a run of a row. Beyond the picture's sides a pixel is its own neighbour.
    pub fn relax(
        &self,
        run: &Range<usize>,
        pixels: &[[u8; 3]],
        row: &mut [Colours],
        [above, below]: [&[Colours]; 2],
    ) {
        let last = row.len() - 1;
        let mut left = row[run.start.saturating_sub(1)];
        for x in run.clone() {
            let factors = &self.0[x];
            let [red, green, blue] = pixels[x];
            let seen = wide(red, green, blue);
            let (right, above, below) = (&row[(x + 1).min(last)], &above[x], &below[x]);
            let to_right = f32x4::splat(factors.right);
            let to_above = f32x4::splat(factors.above);
            let to_below = f32x4::splat(factors.below);
            let front = right.foreground * to_right
                + above.foreground * to_above
                + below.foreground * to_below;
            let behind = right.background * to_right
                + above.background * to_above
                + below.background * to_below;
            let other = f32x4::splat(factors.other);
            let without_left = (
                front * f32x4::splat(factors.front) - behind * other
                    + seen * f32x4::splat(factors.seen_front),
                behind * f32x4::splat(factors.behind) - front * other
                    + seen * f32x4::splat(factors.seen_behind),
            );
            // The left one comes last: it has just been computed, and the rest need not wait for it.
            let other = f32x4::splat(factors.other * factors.left);
            let front = left.foreground * f32x4::splat(factors.front * factors.left);
            let behind = left.background * f32x4::splat(factors.behind * factors.left);
            let front = front - left.background * other;
            let behind = behind - left.foreground * other;
            left = Colours {
                foreground: within(without_left.0 + front),
                background: within(without_left.1 + behind),
            };
            row[x] = left;
        }
    }
}

/// The nearest colour that there is.
#[inline(always)]
fn within(colour: f32x4) -> f32x4 {
    colour.fast_max(f32x4::ZERO).fast_min(f32x4::splat(WHITE))
}

impl Factors {
    /// The factors of four pixels from their alpha and their neighbours' (left, right, above, below).
    #[inline(always)]
    fn of(alpha: f32x4, others: [f32x4; 4]) -> [Self; LANES] {
        let beta = f32x4::ONE - alpha;
        let weight = |other: f32x4| (alpha - other).abs() + f32x4::splat(REGULARIZATION);
        let [left, right, above, below] = others;
        let (left, right) = (weight(left), weight(right));
        let (above, below) = (weight(above), weight(below));
        let sum = left + right + above + below;
        let share = f32x4::ONE / sum;
        let inverse = f32x4::ONE / (alpha * alpha + beta * beta + sum);
        let (seen_front, seen_behind) = (alpha * inverse, beta * inverse);
        let level = f32x4::splat(LEVEL);
        let left = (left * share).to_array();
        let right = (right * share).to_array();
        let above = (above * share).to_array();
        let below = (below * share).to_array();
        let front = (f32x4::ONE - alpha * seen_front).to_array();
        let behind = (f32x4::ONE - beta * seen_behind).to_array();
        let other = (alpha * seen_behind).to_array();
        let seen_front = (seen_front * level).to_array();
        let seen_behind = (seen_behind * level).to_array();
        let mut factors = [Self::default(); LANES];
        let mut lane = 0;
        while lane < LANES {
            factors[lane] = Self {
                left: left[lane],
                right: right[lane],
                above: above[lane],
                below: below[lane],
                front: front[lane],
                behind: behind[lane],
                other: other[lane],
                seen_front: seen_front[lane],
                seen_behind: seen_behind[lane],
            };
            lane += 1;
        }
        factors
    }
}

/// Four pixels of a row of alpha from `x` on, as fractions. What lies beyond its sides is like the
/// outermost pixel.
#[inline(always)]
fn fractions(row: &[u8], x: isize) -> f32x4 {
    let inside = usize::try_from(x).ok().and_then(|x| row.get(x..x + LANES));
    let alpha = match inside {
        Some(alpha) => [alpha[0], alpha[1], alpha[2], alpha[3]],
        None => std::array::from_fn(|lane| {
            let x = (x + lane as isize).clamp(0, row.len() as isize - 1);
            row[x as usize]
        }),
    };
    let [a, b, c, d] = alpha;
    let levels = [f32::from(a), f32::from(b), f32::from(c), f32::from(d)];
    f32x4::new(levels) * f32x4::splat(1.0 / 255.0)
}
