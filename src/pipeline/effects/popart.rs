//! `popart`: flat areas of loud colours.
//!
//! Everything up to the three levels is done with whole numbers, so nothing hangs on how a float
//! was rounded.

use super::tile::{Pixel, Source};

const BLACK: [u8; 3] = [0, 0, 0];
const VIOLET: [u8; 3] = [0x8a, 0x2b, 0xe2];
const SKY_BLUE: [u8; 3] = [0x00, 0xbf, 0xff];
const PINK: [u8; 3] = [0xff, 0x14, 0x93];
const ORANGE: [u8; 3] = [0xff, 0x45, 0x00];
const LIME: [u8; 3] = [0x32, 0xcd, 0x32];
const SPRING_GREEN: [u8; 3] = [0x00, 0xff, 0x7f];

/// Brightness up to which a colour is taken. Black ends before its bound.
const BY_BRIGHTNESS: [(f64, [u8; 3]); 7] = [
    (70.0, VIOLET),
    (100.0, SKY_BLUE),
    (130.0, PINK),
    (160.0, LIME),
    (190.0, SPRING_GREEN),
    (210.0, LIME),
    (240.0, PINK),
];

/// What three levels are: `np.round(x / 127.5) * 127.5` as bytes, which cuts the half off.
const LEVELS: [u8; 3] = [0, 127, 255];

/// Levels of red, of green and of blue.
const COLOURS: usize = LEVELS.len().pow(3);

/// A saturated channel is a sum over red, green and blue, in units of 1/2000 of a byte.
type Shares = [[i32; 3]; 256];

/// The picture in six colours and black.
pub(super) fn painted(source: &Source<'_>) -> Vec<u8> {
    let palette = Palette::new();
    source.painted(
        || (),
        |(), tile, rows| {
            for (y, out) in rows.chunks_exact_mut(source.width).enumerate() {
                let from = &source.row(tile.top + y)[tile.left..][..tile.width];
                let out = &mut out[tile.left..][..tile.width];
                for (out, &pixel) in out.iter_mut().zip(from) {
                    *out = palette.paint(pixel);
                }
            }
        },
    )
}

/// Memory in bytes that [`painted`] takes beside its answer.
pub(super) fn scratch_bytes() -> u64 {
    size_of::<Palette>() as u64
}

struct Palette {
    shares: [Shares; 3],
    colours: [[u8; 3]; COLOURS],
}

impl Palette {
    fn new() -> Self {
        Self {
            shares: std::array::from_fn(shares),
            colours: std::array::from_fn(|index| {
                let level = |place| LEVELS[index / LEVELS.len().pow(place) % LEVELS.len()];
                colour([level(0), level(1), level(2)])
            }),
        }
    }

    fn paint(&self, [r, g, b, a]: Pixel) -> Pixel {
        let [red, green, blue] = &self.shares;
        let (red, green, blue) = (&red[r as usize], &green[g as usize], &blue[b as usize]);
        let level = |channel: usize| level(red[channel] + green[channel] + blue[channel]);
        let [r, g, b] = self.colours[level(0) + 3 * level(1) + 9 * level(2)];
        [r, g, b, a]
    }
}

/// What each byte of a channel adds to the three saturated ones: contrast 2.5 about 128, clipped;
/// then twice as far from the brightness (299, 587 and 114 thousandths) as before.
fn shares(channel: usize) -> Shares {
    let weight = [299, 587, 114][channel];
    std::array::from_fn(|byte| {
        // In halves: 2 (2.5 (x − 128) + 128).
        let halves = (5 * byte as i32 - 384).clamp(0, 510);
        // c + (c − L) = 2 c − L.
        std::array::from_fn(|target| {
            let own = if target == channel { 2000 } else { 0 };
            (own - weight) * halves
        })
    })
}

/// 0, 1 or 2, whichever third is nearest. Of two that are equally near NumPy rounds to the even one.
/// What lies outside a byte needs no clipping: it is nearest to the same end.
fn level(saturated: i32) -> usize {
    const UNITS: i32 = 2000;
    // 63.75 and 191.25.
    usize::from(saturated > 255 * UNITS / 4) + usize::from(saturated >= 3 * 255 * UNITS / 4)
}

/// The loud colour of one of the 27 that are left.
fn colour([r, g, b]: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = [r, g, b].map(i32::from);
    let most = red.max(green).max(blue);
    let least = red.min(green).min(blue);
    let leads = |one: i32, other: i32, third: i32| one - other > 30 && one - third > 30;
    // The rule gives the colours of each pair in this order.
    let pick = |even: [u8; 3], odd: [u8; 3]| {
        if (red + green + blue) % 2 == 0 {
            even
        } else {
            odd
        }
    };
    if most - least > 60 {
        if leads(red, green, blue) {
            return pick(PINK, ORANGE);
        }
        if leads(green, red, blue) {
            return pick(SPRING_GREEN, LIME);
        }
        if leads(blue, red, green) {
            return pick(VIOLET, SKY_BLUE);
        }
    }
    let brightness = 0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b);
    if brightness < 40.0 {
        return BLACK;
    }
    BY_BRIGHTNESS
        .iter()
        .find(|(bound, _)| brightness <= *bound)
        .map_or(SKY_BLUE, |&(_, colour)| colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule in floats, as one writes it with NumPy.
    fn by_definition(pixel: [u8; 3]) -> [u8; 3] {
        let contrasted = pixel.map(|c| ((f64::from(c) - 128.0) * 2.5 + 128.0).clamp(0.0, 255.0));
        let brightness = 0.299 * contrasted[0] + 0.587 * contrasted[1] + 0.114 * contrasted[2];
        let levels = contrasted.map(|c| {
            let saturated = (brightness + (c - brightness) * 2.0).clamp(0.0, 255.0);
            ((saturated / 127.5).round_ties_even() * 127.5) as u8
        });
        colour(levels)
    }

    #[test]
    fn greys_and_pure_colours_become_what_the_rule_says() {
        for (levels, expected) in [
            ([0, 0, 0], BLACK),
            ([127, 127, 127], PINK),
            ([255, 255, 255], SKY_BLUE),
            // 255 is odd, 382 even.
            ([255, 0, 0], ORANGE),
            ([255, 127, 0], PINK),
            ([0, 255, 0], LIME),
            ([0, 0, 255], SKY_BLUE),
            ([0, 127, 255], VIOLET),
            // No channel leads: 0.9278 · 255 is 236.6, 0.2848 · 255 is 72.6.
            ([255, 255, 0], PINK),
            ([255, 0, 255], SKY_BLUE),
        ] {
            assert_eq!(colour(levels), expected, "{levels:?}");
        }
    }

    #[test]
    fn alpha_passes_through() {
        let palette = Palette::new();
        for alpha in [0, 1, 255] {
            assert_eq!(palette.paint([200, 10, 10, alpha])[3], alpha);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn whole_numbers_say_what_floats_say(pixel in any::<[u8; 3]>()) {
            let [r, g, b] = pixel;
            let [r, g, b, _] = Palette::new().paint([r, g, b, 255]);
            prop_assert_eq!([r, g, b], by_definition(pixel));
        }
    }
}
