//! The connected parts of a set of pixels, over edges, not corners.

use std::ops::Range;

/// The parts, as runs along the rows: memory goes with the outline, not with the area.
pub struct Components {
    /// Row by row, left to right.
    runs: Vec<Run>,
    /// Which of them each row has.
    rows: Vec<Range<usize>>,
    /// Run: another one of the same part that comes before it, in the end the part's first.
    parents: Vec<u32>,
}

/// Neighbours in a row.
struct Run {
    begin: u32,
    end: u32,
}

impl Components {
    /// Of the pixels of a `width`×`height` picture, counted row by row, that belong to the set.
    pub fn of(width: usize, height: usize, belongs: impl Fn(usize) -> bool) -> Self {
        let mut parts = Self {
            runs: Vec::new(),
            rows: Vec::with_capacity(height),
            parents: Vec::new(),
        };
        let mut above = 0..0;
        for y in 0..height {
            let first = parts.runs.len();
            let mut open = None;
            for x in 0..width {
                match (belongs(y * width + x), open) {
                    (true, None) => open = Some(x),
                    (false, Some(begin)) => {
                        parts.add(begin, x);
                        open = None;
                    }
                    _ => {}
                }
            }
            if let Some(begin) = open {
                parts.add(begin, width);
            }
            let row = first..parts.runs.len();
            parts.join(above, row.clone());
            parts.rows.push(row.clone());
            above = row;
        }
        parts.flatten();
        parts
    }

    fn add(&mut self, begin: usize, end: usize) {
        self.parents.push(self.runs.len() as u32);
        self.runs.push(Run {
            begin: begin as u32,
            end: end as u32,
        });
    }

    /// Joins the runs of a row with those that they touch in the row above.
    fn join(&mut self, above: Range<usize>, row: Range<usize>) {
        let mut next = above.start;
        for at in row {
            let (begin, end) = (self.runs[at].begin, self.runs[at].end);
            while next < above.end && self.runs[next].end <= begin {
                next += 1;
            }
            let mut touched = next;
            while touched < above.end && self.runs[touched].begin < end {
                let (a, b) = (self.find(touched as u32), self.find(at as u32));
                self.parents[a.max(b) as usize] = a.min(b);
                touched += 1;
            }
        }
    }

    /// Follows a run to its part, and makes the way shorter for the next one.
    fn find(&mut self, run: u32) -> u32 {
        let mut at = run as usize;
        while self.parents[at] as usize != at {
            let above = self.parents[self.parents[at] as usize];
            self.parents[at] = above;
            at = above as usize;
        }
        at as u32
    }

    /// Makes every run's parent its part: parents come before their children.
    fn flatten(&mut self) {
        for run in 0..self.parents.len() {
            self.parents[run] = self.parents[self.parents[run] as usize];
        }
    }

    /// The runs of a row, left to right, each with its part.
    pub fn row(&self, y: usize) -> impl Iterator<Item = (Range<usize>, u32)> {
        let row = self.rows[y].clone();
        let runs = self.runs[row.clone()].iter().zip(&self.parents[row]);
        runs.map(|(run, &part)| (run.begin as usize..run.end as usize, part))
    }

    /// The part with most pixels; of equal ones the first.
    pub fn largest(&self) -> Option<u32> {
        let sizes = self.sizes();
        let parts = sizes.iter().enumerate().rev();
        parts
            .max_by_key(|(_, size)| **size)
            .map(|(part, _)| part as u32)
    }

    /// How many parts have at least so many pixels (at least one).
    pub fn count(&self, pixels: u32) -> usize {
        let least = pixels.max(1);
        self.sizes()
            .into_iter()
            .filter(|size| *size >= least)
            .count()
    }

    /// Run: the pixels of its part for a part's first run, 0 for the others.
    fn sizes(&self) -> Vec<u32> {
        let mut sizes = vec![0; self.parents.len()];
        for (run, &part) in self.runs.iter().zip(&self.parents) {
            sizes[part as usize] += run.end - run.begin;
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(rows: &[&str]) -> Components {
        let width = rows.first().map_or(0, |row| row.len());
        let pixels: Vec<u8> = rows.concat().into_bytes();
        Components::of(width, rows.len(), |at| pixels[at] == b'#')
    }

    #[test]
    fn parts_meet_over_edges_and_not_over_corners() {
        let found = parts(&["#..#.", "#.#..", "###..", "....#"]);
        assert_eq!((found.count(0), found.count(2), found.count(7)), (3, 1, 0));
        assert_eq!(found.count(6), 1);
    }

    #[test]
    fn what_comes_together_late_is_one_part() {
        let found = parts(&["#.#.#.#", "#.#.#.#", "#.###.#", "#######"]);
        assert_eq!((found.count(1), found.largest()), (1, Some(0)));
        let spiral = parts(&["#####", "....#", "###.#", "#...#", "#####"]);
        assert_eq!(spiral.count(17), 1);
    }

    #[test]
    fn the_first_of_equal_parts_is_the_largest_and_nothing_has_none() {
        let found = parts(&["...##", "##..."]);
        let part = found.largest().unwrap();
        let rows = [0, 1].map(|y| found.row(y).collect::<Vec<_>>());
        assert_eq!(rows, [vec![(3..5, part)], vec![(0..2, 1)]]);
        assert_eq!(parts(&["...", "..."]).largest(), None);
        assert_eq!(parts(&[]).count(1), 0);
    }
}
