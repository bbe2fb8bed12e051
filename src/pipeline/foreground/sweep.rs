//! Rounds of Gauss–Seidel over a band of rows, all of them in one walk down.
//!
//! PyMatting goes over the whole picture once a round, from the top left to the bottom right, and
//! each pixel sees what this round made of those before it. A round may follow close behind the one
//! before: as soon as that has left the row below, nothing more will change what this round reads. So
//! a band is walked down once, with as many rows in hand as there are rounds, and three more.

use std::iter::zip;
use std::mem;
use std::ops::Range;

use super::level::{self, Estimates, Pair};
use super::solve::{Coefficients, Colours};

/// Rows above a band that are worked on too, so that its first row sees what it would see in a walk
/// from the picture's top: what enters wrongly above them fades from row to row;
/// [decision 16](../../../docs/decisions/0016-foreground-estimation.md) has the measurement.
pub(super) const RUN_IN: usize = 16;

/// Levels whose sides are at most this long are worked on everywhere, as colours that are looked for where
/// nothing is mixed spread from there to where finer levels mix them. On finer levels they get
/// hardly anywhere.
const WHOLE_SIDE: usize = 256;

/// Runs of pixels that are nearer than this are one.
const GAP: usize = 8;

/// One row, as far as it has come.
pub(super) struct Rows<'a> {
    pub alpha: &'a [u8],
    /// Where `colours` is more than what the coarser level knew.
    pub runs: &'a [Range<usize>],
    pub colours: &'a [Colours],
    coarse: &'a [Pair],
    columns: &'a [u32],
}

impl Rows<'_> {
    /// What the coarser level knows of each pixel.
    pub fn coarse(&self) -> impl Iterator<Item = Pair> {
        let coarse = self.coarse;
        self.columns
            .iter()
            .map(move |&column| coarse[column as usize])
    }
}

/// Where a band's photo comes from and its colours go.
pub(super) trait Target {
    /// A row of the photo: of the band itself, of the [`RUN_IN`] above it or of as many below it as there
    /// are rounds, less one. Not asked for again once the row is settled.
    fn pixels(&self, y: usize) -> &[[u8; 3]];

    /// A row of the band is done.
    fn settle(&mut self, y: usize, rows: &Rows<'_>);
}

/// A row in hand.
#[derive(Default)]
struct Row {
    /// Where it is worked on.
    runs: Vec<Range<usize>>,
    colours: Vec<Colours>,
    coefficients: Coefficients,
}

/// What a thread holds while it walks down bands of one level.
pub(super) struct Sweep<'a> {
    alpha: &'a [u8],
    width: usize,
    height: usize,
    coarse: &'a Estimates,
    /// For each column the coarser level's.
    columns: Vec<u32>,
    rounds: usize,
    /// Rows in hand, round and round.
    rows: Vec<Row>,
    /// Which pixels of a row are worked on, 0 or 1.
    active: Vec<u8>,
    /// Stands for the row beyond the picture.
    beyond: Vec<Colours>,
}

/// Rows in hand for so many rounds: one above and one below those that are worked on, and the next.
const fn in_hand(rounds: usize) -> usize {
    rounds + 3
}

impl<'a> Sweep<'a> {
    pub fn new(
        alpha: &'a [u8],
        (width, height): (usize, usize),
        coarse: &'a Estimates,
        rounds: usize,
    ) -> Self {
        let row = |_| Row {
            runs: Vec::new(),
            colours: vec![Colours::default(); width],
            coefficients: Coefficients::new(width),
        };
        Self {
            alpha,
            width,
            height,
            coarse,
            columns: level::nearest(coarse.width, width),
            rounds,
            rows: (0..in_hand(rounds)).map(row).collect(),
            active: vec![0; width],
            beyond: vec![Colours::default(); width],
        }
    }

    /// Memory in bytes that one takes on the finest level.
    pub fn scratch_bytes(width: usize, height: usize) -> usize {
        let rows = in_hand(super::rounds((width, height)));
        let colours = (rows + 1) * width * size_of::<Colours>();
        let coefficients = rows * Coefficients::bytes(width);
        // A pixel and a gap in turn at worst, and what `Vec` grows by.
        let runs = rows * 2 * width * size_of::<Range<usize>>() / GAP;
        colours + coefficients + runs + width * (size_of::<u32>() + 1)
    }

    /// Works on a band and settles its rows one after the other.
    pub fn run(&mut self, band: Range<usize>, target: &mut impl Target) {
        let first = band.start.saturating_sub(RUN_IN);
        let last_round = self.rounds - 1;
        // A round ends one row above the one before it, as that is how far it can see.
        let end = |round: usize, height: usize| (band.end + last_round - round).min(height);
        // The last row that is worked on looks at one more.
        let loaded = (end(0, self.height) + 1).min(self.height);
        let before = first.saturating_sub(1);
        for y in before..(first + 2).min(self.height) {
            self.find_runs(y);
        }
        for y in before..(first + 1).min(loaded) {
            self.load(y);
        }
        for step in first..band.end + last_round {
            if step + 2 < self.height {
                self.find_runs(step + 2);
            }
            if step + 1 < loaded {
                self.load(step + 1);
            }
            for round in 0..self.rounds {
                let Some(y) = step.checked_sub(round).filter(|&y| y >= first) else {
                    break;
                };
                if y < end(round, self.height) {
                    self.relax(y, target.pixels(y));
                }
            }
            if let Some(y) = step.checked_sub(last_round).filter(|y| band.contains(y)) {
                target.settle(y, &self.settled(y));
            }
        }
    }

    fn alpha_row(&self, y: usize) -> &'a [u8] {
        &self.alpha[y * self.width..][..self.width]
    }

    /// The rows of alpha above, at and below. Beyond the picture a pixel is its own neighbour.
    fn alpha_rows(&self, y: usize) -> [&'a [u8]; 3] {
        [y.saturating_sub(1), y, (y + 1).min(self.height - 1)].map(|y| self.alpha_row(y))
    }

    fn row(&self, y: usize) -> &Row {
        &self.rows[y % self.rows.len()]
    }

    fn row_mut(&mut self, y: usize) -> &mut Row {
        let slot = y % self.rows.len();
        &mut self.rows[slot]
    }

    fn coarse_row(&self, y: usize) -> &'a [Pair] {
        let y = y * self.coarse.height / self.height;
        &self.coarse.pairs[y * self.coarse.width..][..self.coarse.width]
    }

    fn settled(&self, y: usize) -> Rows<'_> {
        let row = self.row(y);
        Rows {
            alpha: self.alpha_row(y),
            runs: &row.runs,
            colours: &row.colours,
            coarse: self.coarse_row(y),
            columns: &self.columns,
        }
    }

    /// Finds where a row is to be worked on: where alpha is neither 0 nor 1, or not that of a
    /// neighbour. Everywhere else one colour is the photo's and the other has next to no influence.
    fn find_runs(&mut self, y: usize) {
        if self.width <= WHOLE_SIDE && self.height <= WHOLE_SIDE {
            let whole = std::iter::once(0..self.width);
            let runs = &mut self.row_mut(y).runs;
            runs.clear();
            runs.extend(whole);
            return;
        }
        let [above, here, below] = self.alpha_rows(y);
        let active = &mut self.active;
        let around = zip(here, zip(above, below));
        for (active, (&here, (&above, &below))) in zip(active.iter_mut(), around) {
            let between = super::is_between(here);
            *active = u8::from(between | (here != above) | (here != below));
        }
        let (behind, before) = (&here[1..], &here[..here.len() - 1]);
        for (active, (a, b)) in zip(active.iter_mut(), zip(before, behind)) {
            *active |= u8::from(a != b);
        }
        for (active, (a, b)) in zip(&mut active[1..], zip(before, behind)) {
            *active |= u8::from(a != b);
        }
        let mut runs = mem::take(&mut self.row_mut(y).runs);
        collect_runs(&self.active, &mut runs);
        self.row_mut(y).runs = runs;
    }

    /// Begins a row with what the coarser level knows, there where it will be looked at: what is
    /// worked on in it and around it.
    fn load(&mut self, y: usize) {
        let (coarse, alpha) = (self.coarse_row(y), self.alpha_rows(y));
        let mut row = mem::take(self.row_mut(y));
        let (above, below) = (y.checked_sub(1), (y + 1 < self.height).then_some(y + 1));
        let neighbours = [above, below].map(|y| y.map(|y| self.row(y).runs.as_slice()));
        let runs = neighbours
            .into_iter()
            .flatten()
            .chain([row.runs.as_slice()]);
        for run in runs.flatten() {
            let wide = run.start.saturating_sub(1)..(run.end + 1).min(self.width);
            for (colours, &column) in zip(&mut row.colours[wide.clone()], &self.columns[wide]) {
                *colours = Colours::of(&coarse[column as usize]);
            }
        }
        for run in &row.runs {
            row.coefficients.set(run, alpha);
        }
        *self.row_mut(y) = row;
    }

    /// One round over a row.
    fn relax(&mut self, y: usize, pixels: &[[u8; 3]]) {
        let mut row = mem::take(self.row_mut(y));
        if row.runs.is_empty() {
            *self.row_mut(y) = row;
            return;
        }
        if y == 0 || y + 1 == self.height {
            self.beyond.copy_from_slice(&row.colours);
        }
        let neighbour = |inside: bool, y: usize| match inside {
            true => self.row(y).colours.as_slice(),
            false => self.beyond.as_slice(),
        };
        let above = neighbour(y > 0, y.wrapping_sub(1));
        let below = neighbour(y + 1 < self.height, y + 1);
        for run in &row.runs {
            row.coefficients
                .relax(run, pixels, &mut row.colours, [above, below]);
        }
        *self.row_mut(y) = row;
    }
}

/// The runs of a row whose bytes are not 0; small gaps belong to them.
fn collect_runs(active: &[u8], runs: &mut Vec<Range<usize>>) {
    runs.clear();
    for (block, bytes) in active.chunks(GAP).enumerate() {
        let at = block * GAP;
        let Some(first) = bytes.iter().position(|&byte| byte != 0) else {
            continue;
        };
        let last = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(first);
        let (start, end) = (at + first, at + last + 1);
        match runs.last_mut() {
            Some(run) if start - run.end < GAP => run.end = end,
            _ => runs.push(start..end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_what_is_active_and_small_gaps() {
        let runs = |active: &[u8]| {
            let mut runs = vec![3..9, 20..30];
            collect_runs(active, &mut runs);
            runs
        };
        assert!(runs(&[0; 40]).is_empty());
        assert_eq!(runs(&[1; 21]), Vec::from_iter(std::iter::once(0..21)));
        let mut active = [0; 60];
        for x in [3, 10, 19, 59] {
            active[x] = 1;
        }
        assert_eq!(runs(&active), vec![3..11, 19..20, 59..60]);
        active[12] = 1;
        assert_eq!(runs(&active), vec![3..20, 59..60]);
    }
}
