//! From a file's bytes to upright sRGB pixels.
//!
//! [`sniff`] reads headers only and refuses what is too large, so that a job's memory can be
//! reserved before a pixel is allocated; [`decode`] then does the work: pixels, ICC profile,
//! orientation (EXIF's, or HEIF's own).

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Code, Error, Result};

mod chunks;
mod code_points;
mod colour;
mod deep;
mod exif;
mod header;
#[cfg(any(feature = "heic", feature = "avif"))]
mod heif;
#[cfg(not(any(feature = "heic", feature = "avif")))]
#[path = "heif/absent.rs"]
mod heif;
mod jpeg;
mod kept;
mod orient;
mod raster;
mod tiff;
mod webp;

pub use colour::Profile;
pub(in crate::pipeline) use deep::nearest;
pub use header::{Header, Limits, SPARE_BYTES, SourceFormat, sniff};
pub use kept::{Carried, Deep, Kept, Wanted};

/// A decoded photo: upright, sRGB, 8 bits a channel.
///
/// Colour and alpha lie apart because all but a few photos have no alpha, and the network takes
/// three channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Row by row, three bytes a pixel: R, G, B.
    pub rgb: Vec<u8>,
    /// The source's own transparency, one byte a pixel, straight (not premultiplied).
    pub alpha: Option<Vec<u8>>,
}

impl Photo {
    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }

    /// The colour put on a plain grey where the source is transparent; `None` when it is not
    /// transparent anywhere and `rgb` can be used as it is.
    pub fn flattened(&self, grey: u8) -> Option<Vec<u8>> {
        let alpha = self.alpha.as_ref()?;
        let flat = self.rgb.as_chunks::<3>().0.iter().zip(alpha);
        Some(
            flat.flat_map(|(rgb, &a)| rgb.map(|c| mix(c, grey, a)))
                .collect(),
        )
    }
}

/// `over` on `under` by `alpha`, rounded to nearest.
fn mix(over: u8, under: u8, alpha: u8) -> u8 {
    let (over, under, alpha) = (u32::from(over), u32::from(under), u32::from(alpha));
    ((over * alpha + under * (255 - alpha) + 127) / 255) as u8
}

/// Decodes a photo that [`sniff`] has accepted.
///
/// Animations give their first frame. A profile that cannot be used is ignored, as browsers do.
///
/// Errors: `image_corrupt` when the pixels are damaged or incomplete, `unsupported_format` for
/// an encoding that this build cannot read, `image_too_large` when the decoder would need more
/// memory than the header justifies.
pub fn decode(bytes: &[u8], header: &Header, limits: &Limits) -> Result<Photo> {
    decode_keeping(bytes, header, limits, &Wanted::default()).map(|kept| kept.photo)
}

/// The same, with what is wanted beside 8-bit sRGB pixels. Takes [`Header::keeping_bytes`] more.
///
/// Errors: as [`decode`].
pub fn decode_keeping(
    bytes: &[u8],
    header: &Header,
    limits: &Limits,
    wanted: &Wanted,
) -> Result<Kept> {
    // The decoders parse hostile input; a panic in one of them says that this file is broken,
    // which no other worker would see otherwise. They share nothing, so unwinding is safe.
    catch_unwind(AssertUnwindSafe(|| {
        decode_pixels(bytes, header, limits, wanted)
    }))
    .unwrap_or_else(|_| {
        Err(Error::new(
            Code::ImageCorrupt,
            format!(
                "the {} decoder gave up on this file; it is likely damaged",
                header.format
            ),
        ))
    })
}

fn decode_pixels(bytes: &[u8], header: &Header, limits: &Limits, wanted: &Wanted) -> Result<Kept> {
    limits.check(header.format, header.width, header.height)?;
    let stored = match header.format {
        SourceFormat::Jpeg => jpeg::decode(bytes, header, wanted)?,
        SourceFormat::Heic | SourceFormat::Avif => heif::decode(bytes, header, limits, wanted)?,
        _ => raster::decode(bytes, header, wanted)?,
    };
    Ok(orient::all_upright(stored, header.orientation))
}

#[cfg(test)]
mod tests;
