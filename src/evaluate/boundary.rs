//! Boundary IoU: Cheng, Girshick, Dollár, Berg and Kirillov, *Boundary IoU: Improving Object-Centric Image
//! Segmentation Evaluation*, CVPR 2021.
//!
//! Intersection over union of two bands: the pixels of each mask that lie within a distance of its outline,
//! 2 % of the picture's diagonal. Unlike plain IoU it does not stop looking at the outline as subjects get
//! larger. Distance is counted in king's moves, and the picture's edge is an outline too, both as in the
//! authors' code.

use super::{HARD, Pair};

/// Width of the band, as a share of the diagonal: the paper's.
const SHARE: f64 = 0.02;

/// Between 0 and 1; 1 is perfect. The matte is made hard where it is above 128 of 255. 1 where neither it
/// nor the mask has a subject, which the authors leave undefined.
pub fn boundary_iou(pair: &Pair<'_>) -> f64 {
    let diagonal = (pair.width as f64).hypot(pair.height as f64);
    let distance = ((SHARE * diagonal).round_ties_even() as usize).max(1);
    let (matte, mask) = rayon::join(
        || interior(pair.matte, pair.width, distance),
        || interior(pair.mask, pair.width, distance),
    );
    let (mut both, mut either) = (0_u64, 0_u64);
    let inside = |level: u8, interior: bool| level > HARD && !interior;
    for (i, (&ours, &truth)) in pair.matte.iter().zip(pair.mask).enumerate() {
        let (ours, truth) = (inside(ours, matte[i]), inside(truth, mask[i]));
        both += u64::from(ours && truth);
        either += u64::from(ours || truth);
    }
    if either == 0 {
        return 1.0;
    }
    both as f64 / either as f64
}

/// The pixels whose neighbours up to `distance` king's moves away all belong to the subject: an erosion by
/// a square, as runs along the rows and then along the columns.
fn interior(levels: &[u8], width: usize, distance: usize) -> Vec<bool> {
    let side = 2 * distance + 1;
    let mut interior = vec![false; levels.len()];
    let mut across = vec![false; width];
    // How many pixels in a row, upwards from here, have survived the erosion along their rows.
    let mut above = vec![0_usize; width];
    for (y, row) in levels.chunks_exact(width).enumerate() {
        let mut run = 0;
        across.fill(false);
        for (x, &level) in row.iter().enumerate() {
            run = if level > HARD { run + 1 } else { 0 };
            if run >= side {
                across[x - distance] = true;
            }
        }
        for (x, (above, &survives)) in above.iter_mut().zip(&across).enumerate() {
            *above = if survives { *above + 1 } else { 0 };
            if *above >= side {
                interior[(y - distance) * width + x] = true;
            }
        }
    }
    interior
}
