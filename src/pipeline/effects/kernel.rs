//! Gaussian blurs of rows and columns in f32.
//!
//! Products and sums are separate operations in a fixed order, so that every machine gets the same.

/// Samples that are summed in registers. Rows have room for whole blocks of them.
pub(super) const LANES: usize = 16;

/// A symmetric kernel of 2 `N` − 1 weights, from the centre outwards.
#[derive(Clone, Copy)]
pub(super) struct Kernel<const N: usize>([f32; N]);

impl<const N: usize> Kernel<N> {
    /// How far it looks to each side.
    pub(super) const RADIUS: usize = N - 1;

    /// OpenCV's `getGaussianKernel(2 N − 1, sigma)`.
    pub(super) fn gaussian(sigma: f64) -> Self {
        let bell: [f64; N] =
            std::array::from_fn(|distance| (-0.5 * (distance as f64 / sigma).powi(2)).exp());
        let sum = bell[0] + 2.0 * bell[1..].iter().sum::<f64>();
        Self(bell.map(|weight| (weight / sum) as f32))
    }

    /// Given weights.
    pub(super) const fn of(weights: [f32; N]) -> Self {
        Self(weights)
    }

    /// The blur about one sample.
    pub(super) fn at(&self, row: &[f32], centre: usize) -> f32 {
        let mut sum = self.0[0] * row[centre];
        for (distance, weight) in self.0.iter().enumerate().skip(1) {
            sum += weight * (row[centre - distance] + row[centre + distance]);
        }
        sum
    }

    /// Blurs along a row. The first sample of `row` is the one `RADIUS` before the first of `out`;
    /// `out` is whole blocks.
    pub(super) fn along(&self, row: &[f32], out: &mut [f32]) {
        self.sums(out, |distance, at| {
            let centre = at + Self::RADIUS;
            (block(row, centre - distance), block(row, centre + distance))
        });
    }

    /// Blurs down the columns; `row(0)` is the one in the middle. `out` is whole blocks.
    pub(super) fn down<'a>(&self, row: impl Fn(isize) -> &'a [f32], out: &mut [f32]) {
        let rows: [(&[f32], &[f32]); N] = std::array::from_fn(|distance| {
            let distance = distance as isize;
            (row(-distance), row(distance))
        });
        self.sums(out, |distance, at| {
            let (before, behind) = rows[distance];
            (block(before, at), block(behind, at))
        });
    }

    /// `pair(distance, at)` are the samples that lie `distance` before and behind the block of
    /// `out` at `at`.
    fn sums<'a>(
        &self,
        out: &mut [f32],
        pair: impl Fn(usize, usize) -> (&'a [f32; LANES], &'a [f32; LANES]),
    ) {
        for (index, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let at = index * LANES;
            let (centre, _) = pair(0, at);
            let mut sums = centre.map(|sample| self.0[0] * sample);
            for (distance, &weight) in self.0.iter().enumerate().skip(1) {
                let (before, behind) = pair(distance, at);
                add(&mut sums, weight, before, behind);
            }
            *out = sums;
        }
    }
}

/// This is where the time goes, in vectors when optimised. A loop without an iterator because the
/// suite runs unoptimised, where each step of one is several calls.
fn add(sums: &mut [f32; LANES], weight: f32, before: &[f32; LANES], behind: &[f32; LANES]) {
    let mut lane = 0;
    while lane < LANES {
        sums[lane] += weight * (before[lane] + behind[lane]);
        lane += 1;
    }
}

/// The block of lanes that starts at an index.
fn block(samples: &[f32], at: usize) -> &[f32; LANES] {
    &samples[at..at + LANES].as_chunks().0[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_are_opencvs() {
        // cv2.getGaussianKernel(3, 0.5) and (5, 1.2), from the centre outwards.
        let close = |ours: &[f32], theirs: &[f32]| {
            assert!(
                ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-6),
                "{ours:?}"
            );
        };
        close(&Kernel::<2>::gaussian(0.5).0, &[0.786_986, 0.106_507]);
        close(
            &Kernel::<3>::gaussian(1.2).0,
            &[0.343_406, 0.242_668, 0.085_629],
        );
    }

    #[test]
    fn along_a_row_and_down_columns_it_is_the_same_sum() {
        let kernel = Kernel::<4>::gaussian(1.4);
        let samples: Vec<f32> = (0..64).map(|i| ((i * 37) % 23) as f32).collect();
        let mut along = [0.0; 32];
        kernel.along(&samples, &mut along);
        let columns: Vec<[f32; LANES]> = samples.iter().map(|&s| [s; LANES]).collect();
        for (x, &sum) in along.iter().enumerate() {
            let expected: f32 = (0..7)
                .map(|i: usize| kernel.0[i.abs_diff(3)] * samples[x + i])
                .sum();
            assert!((sum - expected).abs() < 1e-4, "{x}: {sum} {expected}");
            assert_eq!(kernel.at(&samples, x + 3), sum);
            let mut down = [0.0; LANES];
            kernel.down(|dy| &columns[(x as isize + 3 + dy) as usize], &mut down);
            assert_eq!(down, [sum; LANES]);
        }
    }
}
