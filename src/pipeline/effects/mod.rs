//! Looks for a cut-out: each a function of its pixels and of nothing else.
//!
//! All work in bands of rows, side by side, and hold rows in small windows instead of whole planes:
//! beside the answer a few MiB a thread. What a pixel becomes depends on the picture alone, never on
//! the number of threads. `docs/effects.md` tells what each does, and how near it is to the same
//! arithmetic in OpenCV and NumPy (`tests/effects/reference.py`).

use crate::effect::{Effect, EffectParams};
use crate::error::{Code, Error, Result};

use super::compose::{Channels, Picture};
use tile::Source;

mod area;
mod dither;
mod film;
mod grain;
mod kernel;
mod popart;
mod retro;
mod sheet;
mod tile;

#[cfg(test)]
mod tests;

pub use sheet::contact_sheet;

/// Gives a cut-out a look. Size, alpha and the subject's box stay.
///
/// Errors: `internal` when the picture is no cut-out (straight-alpha RGBA), or when its buffer does not
/// fit its size.
pub fn apply(effect: Effect, params: &EffectParams, picture: &Picture) -> Result<Picture> {
    let source = Source::of(picture)?;
    let data = match effect {
        Effect::Color => source.copied(),
        Effect::EnhancedBlackWhite => film::developed(&source, params),
        Effect::PopArt => popart::painted(&source),
        Effect::Dithering => dither::dotted(&source),
        Effect::Retro8Bit => retro::pixelated(&source),
    };
    Ok(Picture {
        data,
        ..dimensions_of(picture)
    })
}

/// What a thread touches of its stack, and allocators round up, on top of what is asked for: two
/// thirds of it were measured.
const SLACK: usize = 1 << 19;

/// Memory in bytes that [`apply`] takes at most, its answer included, for a picture of a size.
pub fn working_bytes(effect: Effect, width: u32, height: u32) -> u64 {
    let answer = 4 * u64::from(width) * u64::from(height);
    answer
        + for_all_threads(SLACK)
        + match effect {
            Effect::Color => 0,
            Effect::EnhancedBlackWhite => film::scratch_bytes(),
            Effect::PopArt => popart::scratch_bytes(),
            Effect::Dithering => dither::scratch_bytes(width, height),
            Effect::Retro8Bit => retro::scratch_bytes(width, height),
        }
}

/// A picture's description without its pixels.
fn dimensions_of(picture: &Picture) -> Picture {
    Picture {
        width: picture.width,
        height: picture.height,
        channels: picture.channels,
        data: Vec::new(),
        subject: picture.subject,
    }
}

/// What one thread's scratch takes when every thread has one.
fn for_all_threads(bytes: usize) -> u64 {
    (rayon::current_num_threads() * bytes) as u64
}

fn no_cut_out(picture: &Picture) -> Error {
    Error::new(
        Code::Internal,
        format!(
            "effects work on cut-outs, not on {}×{} pixels of {:?} in {} bytes",
            picture.width,
            picture.height,
            picture.channels,
            picture.data.len()
        ),
    )
}

/// Errors: see [`apply`].
fn check(picture: &Picture) -> Result<()> {
    let pixels = picture.width as usize * picture.height as usize;
    if picture.channels != Channels::Rgba || picture.data.len() != pixels * 4 {
        return Err(no_cut_out(picture));
    }
    Ok(())
}
