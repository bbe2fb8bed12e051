//! A network described by a manifest, not by code: file, checksum, input, resize policy, output.

use serde::{Deserialize, Serialize};

/// How a photo is brought to the network's input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Resize {
    /// Always `width`×`height` pixels; the aspect is not kept.
    Static {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The shorter side becomes `short` pixels, the longer keeps the aspect, both are rounded
    /// to `multiple`.
    Dynamic {
        /// Pixels of the shorter side.
        short: u32,
        /// What both sides are multiples of.
        multiple: u32,
    },
}

/// The element type and axis order of the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `[N, 3, H, W]` f32, normalised by us: the graph is bare.
    NchwF32,
    /// `[N, H, W, 3]` u8 RGB: the graph normalises.
    NhwcU8,
}

/// The network's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// The graph's name for it.
    pub name: String,
    /// Element type and axis order.
    pub layout: Layout,
    /// Subtracted from each channel (R, G, B), in units of 0..255. Unused for `nhwc-u8`.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Each channel is divided by this after the mean is taken off, in units of 0..255.
    #[serde(default = "ones")]
    pub std: [f32; 3],
}

const fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// What the network's output values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Already a probability in 0..1.
    Probability,
    /// A logit: the sigmoid is ours to apply.
    Logit,
}

/// How the matte is brought from the network's size to the photo's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatteResize {
    /// Bilinear with half-pixel centres, antialiased when shrinking (PIL's `BILINEAR`).
    #[default]
    Bilinear,
    /// Bilinear with corners aligned, not antialiased (`torch` `align_corners=True`).
    BilinearAlignCorners,
}

/// The network's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The graph's name for it.
    pub name: String,
    /// What the values mean.
    pub activation: Activation,
    /// Stretch each image's values to 0..1 by its own minimum and maximum.
    #[serde(default)]
    pub min_max: bool,
    /// How the matte grows back.
    #[serde(default)]
    pub resize: MatteResize,
}
