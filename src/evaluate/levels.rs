//! What all measures that compare with a hard mask start from: the matte's levels, stretched, and how often
//! each occurs where. Everything else about them follows from these counts, so that each pixel is looked
//! at once.

use super::{HARD, Pair};

/// The matte's 256 levels, stretched to 0…1 by its own extremes, as PySODMetrics does (MATLAB's
/// `mapminmax(im2double(…))`): a matte that never reaches 1 is not punished for it here, but by the measures
/// of matting. A matte of one level stays as it is.
#[derive(Clone, Debug)]
pub struct Levels {
    /// Level: its stretched value.
    pub values: [f64; 256],
    /// Level: the threshold up to which it counts as subject, `values` times 255, cut off.
    pub thresholds: [u8; 256],
}

impl Levels {
    pub fn of(matte: &[u8]) -> Self {
        let (low, high) = matte.iter().fold((u8::MAX, 0), |(low, high), &level| {
            (low.min(level), high.max(level))
        });
        let unit = |level: u8| f64::from(level) / 255.0;
        let values = std::array::from_fn(|level| {
            // Levels outside the extremes do not occur.
            let value = unit(level as u8);
            if low < high {
                ((value - unit(low)) / (unit(high) - unit(low))).clamp(0.0, 1.0)
            } else {
                value
            }
        });
        Self {
            values,
            thresholds: values.map(|value| (value * 255.0) as u8),
        }
    }
}

/// How often each level of the matte occurs, on the subject and off it.
#[derive(Clone, Debug)]
pub struct Counts {
    pub subject: [u64; 256],
    pub rest: [u64; 256],
}

impl Counts {
    const NONE: Self = Self {
        subject: [0; 256],
        rest: [0; 256],
    };

    pub fn subjects(&self) -> u64 {
        self.subject.iter().sum()
    }

    pub fn pixels(&self) -> u64 {
        self.subjects() + self.rest.iter().sum::<u64>()
    }

    /// Each level that occurs with its value, and how often it does on the subject and off it.
    pub fn by_level<'a>(
        &'a self,
        levels: &'a Levels,
    ) -> impl Iterator<Item = (f64, u64, u64)> + Clone + 'a {
        let counts = self.subject.iter().zip(&self.rest);
        let all = levels.values.iter().zip(counts);
        all.map(|(&value, (&subject, &rest))| (value, subject, rest))
            .filter(|(_, subject, rest)| subject + rest > 0)
    }
}

/// The counts of the four rectangles that meet at the subject's centre of gravity: left and right above,
/// left and right below.
#[derive(Clone, Debug)]
pub struct Quarters(pub [Counts; 4]);

impl Quarters {
    pub fn of(pair: &Pair<'_>) -> Self {
        let (column, row) = centre(pair);
        let mut quarters = [Counts::NONE; 4];
        for (y, (matte, mask)) in pair.rows().enumerate() {
            let above = if y < row { 0 } else { 2 };
            let sides = [(0..column, above), (column..pair.width, above + 1)];
            for (columns, quarter) in sides {
                let counts = &mut quarters[quarter];
                for (&level, &truth) in matte[columns.clone()].iter().zip(&mask[columns]) {
                    if truth > HARD {
                        counts.subject[usize::from(level)] += 1;
                    } else {
                        counts.rest[usize::from(level)] += 1;
                    }
                }
            }
        }
        Self(quarters)
    }

    pub fn whole(&self) -> Counts {
        let mut whole = Counts::NONE;
        for quarter in &self.0 {
            let add = |sums: &mut [u64; 256], counts: &[u64; 256]| {
                for (sum, count) in sums.iter_mut().zip(counts) {
                    *sum += count;
                }
            };
            add(&mut whole.subject, &quarter.subject);
            add(&mut whole.rest, &quarter.rest);
        }
        whole
    }
}

/// The column and the row behind the subject's centre of gravity, halves to the even one; behind, because the
/// authors' MATLAB counts from 1 and includes both ends. The picture's middle where there is no subject.
fn centre(pair: &Pair<'_>) -> (usize, usize) {
    let (mut count, mut columns, mut rows) = (0_u64, 0_u64, 0_u64);
    for (y, (_, mask)) in pair.rows().enumerate() {
        for (x, &truth) in mask.iter().enumerate() {
            if truth > HARD {
                count += 1;
                columns += x as u64;
                rows += y as u64;
            }
        }
    }
    let at = |sum: u64, side: usize| {
        let mean = match count {
            0 => side as f64 / 2.0,
            _ => sum as f64 / count as f64,
        };
        (mean.round_ties_even() as usize + 1).min(side)
    };
    (at(columns, pair.width), at(rows, pair.height))
}
