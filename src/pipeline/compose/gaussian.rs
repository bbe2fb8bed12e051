//! The blur behind the subject: OpenCV's `GaussianBlur(photo, (0, 0), 15)` to the last bit, as
//! transparent-background calls it.
//!
//! For 8-bit pictures OpenCV computes with whole numbers: weights in 1/256, rows blurred, columns
//! of those, rounded once. Nothing depends on the machine, here neither.
//!
//! Its weights are 0 to 7 and change 36 times along 91 pixels. So, instead of multiplying, sums
//! from the beginning of the row (and column) are subtracted from one another, once a change.

use rayon::prelude::*;

/// Standard deviation in pixels of the photo, transparent-background's value.
const SIGMA: f64 = 15.0;

/// OpenCV cuts an 8-bit Gaussian off at three standard deviations.
const RADIUS: usize = 45;

/// What the weights add up to.
const ONE: u32 = 256;

/// Sums over rows that are held: one before each row in reach and one behind the last are needed.
/// A power of two, because the place of a row, a remainder, is asked for 72 times a block; it saves
/// a seventh of the time.
const WINDOW: usize = (2 * RADIUS + 2).next_power_of_two();

/// Columns that are worked on together. Their window takes 192 KiB, which stays in a core's own
/// cache while it moves down.
const STRIP: usize = 128;

/// Rows that one task answers for. It blurs the rows in reach above and below once more: a third
/// of one of both passes, for work that can be shared out.
const BAND: usize = 256;

const CHANNELS: usize = 3;

const STRIDE: usize = STRIP * CHANNELS;

/// Samples that are summed in registers.
const LANES: usize = 32;

// Only whole blocks of lanes are summed, so that the loops need no remainder.
const _: () = assert!(STRIDE.is_multiple_of(LANES));

/// The photo, blurred. Bands of rows are worked on in parallel.
pub(super) fn blurred(rgb: &[u8], width: u32, height: u32) -> Vec<u8> {
    let (width, height) = (width as usize, height as usize);
    let mut blurred = vec![0; rgb.len()];
    if blurred.is_empty() {
        return blurred;
    }
    let changes = Changes::of(&kernel());
    let source = Source { rgb, width, height };
    blurred
        .par_chunks_mut(BAND * width * CHANNELS)
        .enumerate()
        .for_each_init(
            || Window::new(&changes),
            |window, (band, out)| {
                for left in (0..width).step_by(STRIP) {
                    window.strip(&source, band * BAND, left, out);
                }
            },
        );
    blurred
}

/// Memory in bytes that [`blurred`] takes beside its answer.
pub(super) fn scratch_bytes() -> u64 {
    let sums = WINDOW * STRIDE + LINE;
    (rayon::current_num_threads() * sums * size_of::<u32>()) as u64
}

/// The weights from the centre outwards.
fn kernel() -> [u32; RADIUS + 1] {
    let bell = |distance: usize| (-0.5 * (distance as f64 / SIGMA).powi(2)).exp();
    let sum = 1.0 + 2.0 * (1..=RADIUS).map(bell).sum::<f64>();
    let mut kernel = [0; RADIUS + 1];
    // What rounding takes from a weight goes to the next one inwards, and the rest to the centre,
    // so that a plain colour stays itself.
    let mut carried = 0.0;
    for distance in (1..=RADIUS).rev() {
        let wanted = f64::from(ONE) * bell(distance) / sum + carried;
        let rounded = wanted.round_ties_even();
        carried = wanted - rounded;
        kernel[distance] = rounded as u32;
    }
    kernel[0] = ONE - 2 * kernel[1..].iter().sum::<u32>();
    kernel
}

/// Distances from the centre at which the weight is another one than a pixel before, once for
/// each unit of the difference.
struct Changes {
    falls: Vec<usize>,
    rises: Vec<usize>,
}

impl Changes {
    fn of(kernel: &[u32]) -> Self {
        let (mut falls, mut rises) = (Vec::new(), Vec::new());
        for (before, &weight) in kernel.iter().enumerate() {
            let next = kernel.get(before + 1).copied().unwrap_or(0);
            let distance = before + 1;
            let unit = |of: u32| std::iter::repeat_n(distance, of as usize);
            falls.extend(unit(weight.saturating_sub(next)));
            rises.extend(unit(next.saturating_sub(weight)));
        }
        Self { falls, rises }
    }

    /// The weighted sum about a centre, for a block of lanes. `before(offset)` is the sum of all
    /// samples before the one that lies `offset` behind the centre.
    ///
    /// Sums may wrap: what is subtracted from one another has wrapped equally often.
    fn weighted<'a>(&self, before: impl Fn(isize) -> &'a [u32; LANES]) -> [u32; LANES] {
        let mut sums = [0; LANES];
        let both = |distance: usize| {
            let distance = distance as isize;
            (before(distance), before(1 - distance))
        };
        for &distance in &self.falls {
            let (end, start) = both(distance);
            add_difference(&mut sums, end, start);
        }
        for &distance in &self.rises {
            let (end, start) = both(distance);
            add_difference(&mut sums, start, end);
        }
        sums
    }
}

/// This is where the time goes, in vectors when optimised. A loop without an iterator because the
/// suite runs unoptimised, where each step of one is several calls.
fn add_difference(sums: &mut [u32; LANES], plus: &[u32; LANES], minus: &[u32; LANES]) {
    let mut lane = 0;
    while lane < LANES {
        sums[lane] = sums[lane]
            .wrapping_add(plus[lane])
            .wrapping_sub(minus[lane]);
        lane += 1;
    }
}

/// The block of lanes that starts at an index.
fn block(samples: &[u32], at: usize) -> &[u32; LANES] {
    &samples[at..at + LANES].as_chunks().0[0]
}

struct Source<'a> {
    rgb: &'a [u8],
    width: usize,
    height: usize,
}

/// Samples that [`Source::sums`] writes: sums before each column in reach, and behind the last.
const LINE: usize = (STRIP + 2 * RADIUS + 1) * CHANNELS;

impl Source<'_> {
    /// The sums of a row's samples, from `RADIUS` columns before `left` on. Beyond the picture's
    /// sides it is mirrored.
    fn sums(&self, y: usize, left: usize, line: &mut [u32]) {
        let row = self.rgb[y * self.width * CHANNELS..][..self.width * CHANNELS]
            .as_chunks::<CHANNELS>()
            .0;
        let mut sums = [0; CHANNELS];
        for (column, out) in line.as_chunks_mut::<CHANNELS>().0.iter_mut().enumerate() {
            *out = sums;
            let at = (left + column).wrapping_sub(RADIUS);
            let [r, g, b] = match row.get(at) {
                Some(&pixel) => pixel,
                None => row[mirrored(at as isize, self.width)],
            };
            sums[0] += u32::from(r);
            sums[1] += u32::from(g);
            sums[2] += u32::from(b);
        }
    }
}

/// Where a position outside 0 to `length` is read: mirrored about the outermost pixel, which is
/// not repeated (OpenCV's `BORDER_REFLECT_101`), as often as it takes.
pub(in crate::pipeline) fn mirrored(at: isize, length: usize) -> usize {
    let period = 2 * (length as isize - 1);
    if period == 0 {
        return 0;
    }
    let at = at.rem_euclid(period);
    at.min(period - at) as usize
}

/// Sums of blurred rows around the row that is being answered for.
struct Window<'a> {
    changes: &'a Changes,
    /// `WINDOW` rows of `STRIDE` samples, each the sum of all blurred rows before it; which is
    /// which goes round.
    rows: Vec<u32>,
    line: Vec<u32>,
}

impl<'a> Window<'a> {
    fn new(changes: &'a Changes) -> Self {
        Self {
            changes,
            rows: vec![0; WINDOW * STRIDE],
            line: vec![0; LINE],
        }
    }

    /// Blurs the columns from `left` on of the rows from `top` on, as many as `out` has.
    fn strip(&mut self, source: &Source<'_>, top: usize, left: usize, out: &mut [u8]) {
        let samples = (source.width - left).min(STRIP) * CHANNELS;
        let used = samples.next_multiple_of(LANES);
        let reach = 2 * RADIUS;
        for n in 0..reach {
            self.enter(source, top, left, n, used);
        }
        for (y, out) in out.chunks_exact_mut(source.width * CHANNELS).enumerate() {
            self.enter(source, top, left, y + reach, used);
            self.answer(y + RADIUS, &mut out[left * CHANNELS..][..samples]);
        }
    }

    /// Blurs row `n` of the strip (`RADIUS` rows above `top` is row 0) along itself and adds it to
    /// the sum of those before.
    fn enter(&mut self, source: &Source<'_>, top: usize, left: usize, n: usize, used: usize) {
        let y = (top + n) as isize - RADIUS as isize;
        source.sums(mirrored(y, source.height), left, &mut self.line);
        let (from, to) = (n % WINDOW * STRIDE, (n + 1) % WINDOW * STRIDE);
        for at in (0..used).step_by(LANES) {
            let centre = at + RADIUS * CHANNELS;
            let line = &self.line;
            let before =
                |offset: isize| block(line, centre.wrapping_add_signed(offset * CHANNELS as isize));
            let row = self.changes.weighted(before);
            for (lane, sum) in row.into_iter().enumerate() {
                self.rows[to + at + lane] = self.rows[from + at + lane].wrapping_add(sum);
            }
        }
    }

    /// The blurred samples of row `n`.
    fn answer(&self, n: usize, out: &mut [u8]) {
        for (block_index, out) in out.chunks_mut(LANES).enumerate() {
            let before = |offset: isize| {
                let row = n.wrapping_add_signed(offset) % WINDOW;
                block(&self.rows, row * STRIDE + block_index * LANES)
            };
            let sums = self.changes.weighted(before);
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = ((sum + ONE * ONE / 2) / (ONE * ONE)) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::fixtures;
    use proptest::prelude::*;

    /// The definition, sample by sample.
    fn by_definition(rgb: &[u8], width: usize, height: usize, x: usize, y: usize) -> [u8; 3] {
        let kernel = kernel();
        let weights: Vec<u64> = (0..=2 * RADIUS)
            .map(|i| u64::from(kernel[i.abs_diff(RADIUS)]))
            .collect();
        let mut sums = [0u64; 3];
        for (dy, down) in weights.iter().enumerate() {
            let row = mirrored((y + dy) as isize - RADIUS as isize, height) * width;
            for (dx, along) in weights.iter().enumerate() {
                let column = mirrored((x + dx) as isize - RADIUS as isize, width);
                for (channel, sum) in sums.iter_mut().enumerate() {
                    *sum += down * along * u64::from(rgb[(row + column) * 3 + channel]);
                }
            }
        }
        sums.map(|sum| ((sum + (1 << 15)) >> 16) as u8)
    }

    #[test]
    fn the_kernel_is_opencvs() {
        // From the centre outwards, as OpenCV 5.0 diffuses it.
        let opencvs = [
            6, 7, 7, 7, 6, 7, 6, 6, 6, 6, 5, 5, 5, 5, 5, 4, 4, 3, 3, 3, 3, 3, 2, 2, 2, 2, 1, 2, 1,
            1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0,
        ];
        assert_eq!(kernel(), opencvs);
        assert_eq!(opencvs[0] + 2 * opencvs[1..].iter().sum::<u32>(), ONE);
    }

    #[test]
    fn positions_outside_are_mirrored_without_repeating_the_edge() {
        let row = |length| (-5..8).map(|at| mirrored(at, length)).collect::<Vec<_>>();
        assert_eq!(row(4), [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert_eq!(row(2), [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(row(1), [0; 13]);
    }

    #[test]
    fn strips_and_bands_join_without_a_seam() {
        let (width, height) = (STRIP as u32 + 70, BAND as u32 + 60);
        let photo = fixtures::photo(width, height);
        let ours = blurred(&photo.rgb, width, height);
        let (width, height) = (width as usize, height as usize);
        for (x, y) in [
            (0, 0),
            (width - 1, height - 1),
            (STRIP - 1, BAND - 1),
            (STRIP, BAND),
            (STRIP + 1, 10),
            (3, BAND + 2),
        ] {
            let expected = by_definition(&photo.rgb, width, height, x, y);
            assert_eq!(ours[(y * width + x) * 3..][..3], expected, "{x}, {y}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn every_size_follows_the_definition(
            size in prop_oneof![(1u32..60, 1u32..60), Just((1, 1)), Just((1, 900)), Just((900, 1))],
            at in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let photo = fixtures::photo(size.0, size.1);
            let ours = blurred(&photo.rgb, size.0, size.1);
            let (width, height) = (size.0 as usize, size.1 as usize);
            let (x, y) = (at.0.index(width), at.1.index(height));
            let expected = by_definition(&photo.rgb, width, height, x, y);
            prop_assert_eq!(&ours[(y * width + x) * 3..][..3], &expected);
        }

        #[test]
        fn a_plain_colour_stays_itself(width in 1u32..70, height in 1u32..70, colour in any::<[u8; 3]>()) {
            let plain = colour.repeat((width * height) as usize);
            prop_assert_eq!(blurred(&plain, width, height), plain);
        }
    }
}
