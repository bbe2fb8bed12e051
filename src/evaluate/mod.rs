//! How good a matte is, next to a mask that is known to be true: the measures of the field.
//!
//! Pure functions of two planes of bytes. They come in three families, one file each and one paper each:
//! those of salient object detection, which compare with the mask made hard ([`threshold`], [`structure`],
//! [`weighted`]), the outline ([`boundary`]), and those of image matting, which compare with the mask as it
//! is, soft edges included ([`matting`]). `docs/evaluation.md` says what each can tell;
//! `tests/measures.rs` compares every one of them with somebody else's implementation. How far two mattes agree
//! of which neither is known to be true, [`agreement`] says.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

pub mod agreement;
pub mod boundary;
pub mod connectivity;
pub mod gradient;
mod levels;
pub mod matting;
mod nearest;
pub mod spread;
pub mod structure;
pub mod summary;
pub mod threshold;
pub mod weighted;

use levels::{Levels, Quarters};
pub use threshold::Curve;

/// What belongs to a hard mask: levels above this, as PySODMetrics has it.
const HARD: u8 = 128;

/// A matte and the true mask of the same photo, one byte a pixel, row by row: 0 is background, 255 subject.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    width: usize,
    height: usize,
    matte: &'a [u8],
    mask: &'a [u8],
}

impl<'a> Pair<'a> {
    /// A matte and a mask of `width`×`height` pixels.
    ///
    /// Errors: `internal` when there is no pixel, or one of the two has not that many bytes.
    pub fn new(width: u32, height: u32, matte: &'a [u8], mask: &'a [u8]) -> Result<Self> {
        let pixels = width as usize * height as usize;
        if pixels == 0 || matte.len() != pixels || mask.len() != pixels {
            return Err(Error::new(
                Code::Internal,
                format!(
                    "{width}×{height} pixels are compared, but the matte has {} and the mask {}",
                    matte.len(),
                    mask.len()
                ),
            ));
        }
        Ok(Self {
            width: width as usize,
            height: height as usize,
            matte,
            mask,
        })
    }

    const fn pixels(&self) -> usize {
        self.matte.len()
    }

    /// Row by row: the matte's and the mask's.
    fn rows(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let matte = self.matte.chunks_exact(self.width);
        matte.zip(self.mask.chunks_exact(self.width))
    }
}

/// Which way a measure gets better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// 1 is perfect.
    Higher,
    /// 0 is perfect.
    Lower,
}

/// One number about a matte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Mean absolute error: [`threshold::mean_absolute_error`].
    Mae,
    /// F-measure at the best threshold: [`threshold::f_curve`].
    MaxF,
    /// F-measure at twice the matte's mean: [`threshold::adaptive`].
    AdaptiveF,
    /// Weighted F-measure: [`weighted::weighted_f`].
    WeightedF,
    /// S-measure: [`structure::s_measure`].
    S,
    /// E-measure at the best threshold: [`threshold::e_curve`].
    MaxE,
    /// E-measure at twice the matte's mean: [`threshold::adaptive`].
    AdaptiveE,
    /// Boundary IoU: [`boundary::boundary_iou`].
    BoundaryIou,
    /// Sum of absolute differences: [`matting::sad`].
    Sad,
    /// Mean squared error: [`matting::mse`].
    Mse,
    /// Gradient error: [`gradient::gradient_error`].
    Gradient,
    /// Connectivity error: [`connectivity::connectivity_error`].
    Connectivity,
}

impl Measure {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 12] = [
        Self::Mae,
        Self::MaxF,
        Self::AdaptiveF,
        Self::WeightedF,
        Self::S,
        Self::MaxE,
        Self::AdaptiveE,
        Self::BoundaryIou,
        Self::Sad,
        Self::Mse,
        Self::Gradient,
        Self::Connectivity,
    ];

    /// Its key in JSON.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Mae => "mae",
            Self::MaxF => "max_f",
            Self::AdaptiveF => "adaptive_f",
            Self::WeightedF => "weighted_f",
            Self::S => "s",
            Self::MaxE => "max_e",
            Self::AdaptiveE => "adaptive_e",
            Self::BoundaryIou => "boundary_iou",
            Self::Sad => "sad",
            Self::Mse => "mse",
            Self::Gradient => "gradient",
            Self::Connectivity => "connectivity",
        }
    }

    /// Its name in tables, as papers write it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Mae => "MAE",
            Self::MaxF => "max F",
            Self::AdaptiveF => "adaptive F",
            Self::WeightedF => "weighted F",
            Self::S => "S",
            Self::MaxE => "max E",
            Self::AdaptiveE => "adaptive E",
            Self::BoundaryIou => "boundary IoU",
            Self::Sad => "SAD",
            Self::Mse => "MSE",
            Self::Gradient => "Grad",
            Self::Connectivity => "Conn",
        }
    }

    /// Which way it gets better.
    pub const fn better(self) -> Better {
        match self {
            Self::Mae | Self::Sad | Self::Mse | Self::Gradient | Self::Connectivity => {
                Better::Lower
            }
            _ => Better::Higher,
        }
    }
}

/// All measures of one matte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    mae: f64,
    f: Curve,
    adaptive_f: f64,
    weighted_f: f64,
    s: f64,
    e: Curve,
    adaptive_e: f64,
    boundary_iou: f64,
    sad: f64,
    mse: f64,
    gradient: f64,
    connectivity: f64,
}

impl Scores {
    /// Measures one matte. Takes some 12 bytes a pixel for as long as it runs, and all cores.
    pub fn of(pair: &Pair<'_>) -> Self {
        let levels = Levels::of(pair.matte);
        let salient = || {
            let quarters = Quarters::of(pair);
            let whole = quarters.whole();
            let adaptive = threshold::adaptive(&whole, &levels);
            (
                threshold::mean_absolute_error(&whole, &levels),
                threshold::f_curve(&whole, &levels),
                adaptive,
                structure::s_measure(&quarters, &levels),
                threshold::e_curve(&whole, &levels),
            )
        };
        let ((salient, weighted_f), (outline, matting)) = rayon::join(
            || rayon::join(salient, || weighted::weighted_f(pair, &levels)),
            || {
                rayon::join(
                    || (boundary::boundary_iou(pair), matting::differences(pair)),
                    || {
                        rayon::join(
                            || gradient::gradient_error(pair),
                            || connectivity::connectivity_error(pair),
                        )
                    },
                )
            },
        );
        let (mae, f, adaptive, s, e) = salient;
        let (boundary_iou, differences) = outline;
        let (gradient, connectivity) = matting;
        Self {
            mae,
            f,
            adaptive_f: adaptive.f,
            weighted_f,
            s,
            e,
            adaptive_e: adaptive.e,
            boundary_iou,
            sad: matting::sad(&differences),
            mse: matting::mse(&differences),
            gradient,
            connectivity,
        }
    }

    /// One of them.
    pub fn get(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Mae => self.mae,
            Measure::MaxF => self.f.max(),
            Measure::AdaptiveF => self.adaptive_f,
            Measure::WeightedF => self.weighted_f,
            Measure::S => self.s,
            Measure::MaxE => self.e.max(),
            Measure::AdaptiveE => self.adaptive_e,
            Measure::BoundaryIou => self.boundary_iou,
            Measure::Sad => self.sad,
            Measure::Mse => self.mse,
            Measure::Gradient => self.gradient,
            Measure::Connectivity => self.connectivity,
        }
    }
}
