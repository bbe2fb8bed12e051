//! Samples of 16 bits, for pictures that are to have them again.

use image::ColorType;

use crate::job::ColourProfile;

use super::Deep;
use super::colour::{self, Profile};

/// Whether pixels of this kind have samples of 16 bits.
pub(super) fn is(color: ColorType) -> bool {
    matches!(
        color,
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16
    )
}

/// Parts colour from alpha; colour comes out in sRGB or, if wanted and possible, in its own profile.
/// `native` are samples in the machine's own order of bytes.
pub(super) fn split(
    native: Vec<u8>,
    color: ColorType,
    icc: Option<&[u8]>,
    wanted: ColourProfile,
) -> (Deep, Option<Profile>) {
    let samples = native.as_chunks::<2>().0;
    let level = |bytes: &[u8; 2]| u16::from_ne_bytes(*bytes);
    let count = usize::from(color.channel_count());
    let alpha = color
        .has_alpha()
        .then(|| samples.iter().skip(count - 1).step_by(count).map(level));
    let alpha = alpha.map(|alpha| alpha.collect());
    if !color.has_color() {
        let grey = samples.iter().step_by(count).map(level);
        let rgb = colour::deep_grey_to_srgb(grey, icc);
        return (Deep { rgb, alpha }, None);
    }
    let mut rgb = Vec::with_capacity(samples.len() / count * 3);
    for pixel in samples.chunks_exact(count) {
        rgb.extend(pixel[..3].iter().map(level));
    }
    drop(native);
    let (rgb, profile) = colour::deep_rgb(rgb, icc, wanted);
    (Deep { rgb, alpha }, profile)
}

/// The same in 8 bits, rounded to nearest.
pub(super) fn shallow(deep: &Deep) -> (Vec<u8>, Option<Vec<u8>>) {
    let narrow = |samples: &[u16]| samples.iter().map(|&level| nearest(level)).collect();
    (narrow(&deep.rgb), deep.alpha.as_deref().map(narrow))
}

/// The nearest level of 8 bits.
pub(in crate::pipeline) fn nearest(level: u16) -> u8 {
    // 65535 = 255 × 257, so this is the exact rounding of level × 255 / 65535.
    ((u32::from(level) + 128) / 257) as u8
}
