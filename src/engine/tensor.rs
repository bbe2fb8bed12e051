//! What goes into the network and what comes out, for one image.

/// Pixels as the network wants them, in the manifest's layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The elements.
    pub data: TensorData,
}

/// The elements of a [`Tensor`], one image, no batch axis.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// `[3, H, W]`, normalised.
    NchwF32(Vec<f32>),
    /// `[H, W, 3]`, RGB.
    NhwcU8(Vec<u8>),
}

/// The network's answer for one image, at the network's size.
#[derive(Clone, Debug, PartialEq)]
pub struct Matte {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Row by row, 0 (background) to 1 (subject); always finite.
    pub values: Vec<f32>,
}
