//! From a photo and its matte to the picture that a job asked for.

use rayon::prelude::*;

use crate::error::{Code, Error, Result};
use crate::job::{Depth, Format, Kind, Output, Size};

use super::decode::{Kept, Photo, Profile, SPARE_BYTES};
use super::foreground;

mod backdrop;
mod deep;
mod edges;
mod frame;
mod gaussian;
mod shadow;

pub use frame::Bounds;
pub(super) use gaussian::mirrored;

/// What a pixel of a [`Picture`] is made of, in the order of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One byte.
    Grey,
    /// Three bytes, sRGB.
    Rgb,
    /// Three bytes of sRGB and straight alpha.
    Rgba,
    /// One sample of 16 bits, the larger byte first, as PNG has it.
    Grey16,
    /// Three of them.
    Rgb16,
    /// Three of them and straight alpha.
    Rgba16,
}

impl Channels {
    /// Bytes a pixel.
    pub const fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
            Self::Grey16 => 2,
            Self::Rgb16 => 6,
            Self::Rgba16 => 8,
        }
    }

    /// Whether it is more than coverage.
    pub const fn have_colour(self) -> bool {
        !matches!(self, Self::Grey | Self::Grey16)
    }
}

/// A picture ready to be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// What the bytes mean.
    pub channels: Channels,
    /// Row by row, without padding.
    pub data: Vec<u8>,
    /// The subject's box in the upright photo, before cropping and resizing; `None` when the
    /// network found nothing.
    pub subject: Option<Bounds>,
}

/// The green that transparent-background puts behind (and over) a subject.
const GREEN: [u8; 3] = [120, 255, 155];

const WHITE: [u8; 3] = [255; 3];

/// Pixels that one task works on.
const STRETCH: usize = 1 << 14;

/// Makes the picture: the subject's own colours in place of the photo's (`output.decontaminate`), new
/// transparency or background, then crop, then size.
///
/// `alpha` is the matte at the photo's size, one byte a pixel, with the job's threshold and reverse
/// already in it ([`to_full_size`](super::matte::to_full_size)). The final alpha is matte times the
/// source's own, and what it shows is the subject: reversed, the crop goes to the background's box.
/// `background` is the decoded picture of `Kind::Image`, and only of that.
///
/// Colours are left alone where the source has transparency of its own: they are what was cut out
/// there already, and what its hidden pixels hold is anybody's guess.
///
/// Errors: `invalid_job` when `Kind::Image` comes without its picture; `internal` when the matte
/// is not of the photo's size.
pub fn compose(
    photo: Photo,
    alpha: Vec<u8>,
    output: &Output,
    background: Option<&Photo>,
) -> Result<Picture> {
    compose_in(photo, alpha, output, background, None)
}

/// The same of a photo of which more was kept: its picture is in the photo's own profile where it has one.
/// `deep` is the matte in 16 bits, for a photo that has them.
///
/// Errors: as [`compose`]; `invalid_job` too for a kind that is not made with 16 bits.
pub fn compose_kept(
    kept: Kept,
    alpha: Vec<u8>,
    deep: Option<Vec<u16>>,
    output: &Output,
    background: Option<&Photo>,
) -> Result<Picture> {
    let profile = kept.carried.profile.as_ref();
    match (kept.deep, deep) {
        (Some(samples), Some(matte)) => {
            let whole = deep::Whole {
                photo: kept.photo,
                samples,
                alpha,
                matte,
            };
            deep::compose(whole, output, profile)
        }
        _ => compose_in(kept.photo, alpha, output, background, profile),
    }
}

fn compose_in(
    photo: Photo,
    alpha: Vec<u8>,
    output: &Output,
    background: Option<&Photo>,
    profile: Option<&Profile>,
) -> Result<Picture> {
    if alpha.len() != photo.pixels() || photo.rgb.len() != photo.pixels() * 3 {
        return Err(Error::new(
            Code::Internal,
            format!(
                "a matte of {} pixels does not fit a {}×{} photo",
                alpha.len(),
                photo.width,
                photo.height
            ),
        ));
    }
    let kind = output.effective_kind();
    let decontaminate = output.decontaminates(kind) && !is_transparent(&photo);
    let alpha = with_source_alpha(alpha, photo.alpha.as_deref());
    let (width, height) = (photo.width, photo.height);
    let subject = Bounds::of_subject(&alpha, width);
    let own = |mut rgb: Vec<u8>| {
        if decontaminate {
            foreground::estimate(&mut rgb, &alpha, width)?;
        }
        Ok(rgb)
    };
    let colour = |srgb: [u8; 3]| in_profile(srgb, profile);
    let shade = |colour| shadow::Cast::of(output, &alpha, (width, height), subject, colour);
    let shadow = output.shadow.map(|shadow| shadow.color);
    let on_colour = |rgb: Vec<u8>, under: [u8; 3]| match shadow.and_then(|c| shade(colour(c))) {
        Some(cast) => cast.on_colour(rgb, &alpha, colour(under)),
        None => on_colour(rgb, &alpha, colour(under)),
    };
    let on_pixels = |rgb: Vec<u8>, mut under: Vec<u8>| {
        if let Some(cast) = shadow.and_then(|c| shade(colour(c))) {
            cast.darken(&mut under);
        }
        on_pixels(rgb, &alpha, &under)
    };
    let (channels, data) = match kind {
        Kind::Rgba => {
            let rgb = own(photo.rgb)?;
            let data = match shadow.and_then(|c| shade(colour(c))) {
                Some(cast) => cast.under(rgb, &alpha),
                None => cut_out(rgb, &alpha),
            };
            (Channels::Rgba, data)
        }
        Kind::Mask => (Channels::Grey, alpha),
        Kind::White => (Channels::Rgb, on_colour(own(photo.rgb)?, WHITE)),
        Kind::Green => (Channels::Rgb, on_colour(own(photo.rgb)?, GREEN)),
        Kind::Color(plain) => (Channels::Rgb, on_colour(own(photo.rgb)?, *plain)),
        Kind::Blur => {
            let rgb = opaque(photo);
            let blurred = gaussian::blurred(&rgb, width, height);
            (Channels::Rgb, on_pixels(own(rgb)?, blurred))
        }
        Kind::Overlay => {
            let rgb = opaque(photo);
            let data = tinted(rgb, &alpha, width as usize, colour(GREEN));
            (Channels::Rgb, data)
        }
        Kind::Image(object) => {
            let picture = background.ok_or_else(|| {
                Error::new(
                    Code::InvalidJob,
                    format!("the background picture {object} was not loaded"),
                )
            })?;
            let mut under = backdrop::fitted(picture, width, height, output.background_fit)?;
            if let Some(profile) = profile {
                profile.take_from_srgb(&mut under);
            }
            (Channels::Rgb, on_pixels(own(photo.rgb)?, under))
        }
    };
    let picture = Picture {
        width,
        height,
        channels,
        data,
        subject,
    };
    framed(picture, output)
}

/// Cut to the subject, and of the size asked for.
fn framed(mut picture: Picture, output: &Output) -> Result<Picture> {
    let (width, height) = (picture.width, picture.height);
    if let (true, Some(subject)) = (output.crop, picture.subject) {
        frame::crop(&mut picture, subject.padded(output.padding, width, height));
    }
    match output.size {
        Some(size) => frame::scale(picture, size, output.upscale),
        None => Ok(picture),
    }
}

/// A colour of sRGB as the picture has it.
fn in_profile(mut colour: [u8; 3], profile: Option<&Profile>) -> [u8; 3] {
    if let Some(profile) = profile {
        profile.take_from_srgb(&mut colour);
    }
    colour
}

/// Memory in bytes that a job needs on top of
/// [`Header::decode_bytes`](super::decode::Header::decode_bytes) and
/// [`Header::keeping_bytes`](super::decode::Header::keeping_bytes) for what it asks for: a picture
/// larger than the photo (`width`×`height` pixels, upright), WebP, whose encoder transforms a
/// copy, a shadow, a blur, whose threads hold a window each, or the subject's own colours, where these take more
/// than there is room for beside the photo.
pub fn extra_bytes(width: u32, height: u32, output: &Output) -> u64 {
    let enlarged = output.size.filter(|_| output.upscale);
    let (w, h) = largest_size(width, height, output);
    let enlarging = match enlarged {
        // The resampler's intermediate rows (as wide as the result, at most as high), the
        // result, and its file.
        Some(_) if output.depth == Depth::Source => 8 + 8 + 12,
        Some(_) => 4 + 4 + 4,
        None => 0,
    };
    let webp = match output.format {
        Format::Png => 0,
        Format::Webp => 4,
    };
    let blur = match output.effective_kind() {
        Kind::Blur => gaussian::scratch_bytes(),
        _ => 0,
    };
    let pixels = u64::from(width) * u64::from(height);
    let foreground = if output.decontaminates(output.effective_kind()) {
        let spare = match output.effective_kind() {
            // The blurred picture is there already.
            Kind::Blur => SPARE_BYTES - 3,
            _ => SPARE_BYTES,
        };
        foreground::working_bytes(width, height).saturating_sub(spare * pixels)
    } else {
        0
    };
    let shadow = match output.shadow {
        Some(_) => shadow::working_bytes(width, height),
        None => 0,
    };
    (enlarging + webp) * u64::from(w) * u64::from(h) + blur + foreground + shadow
}

/// The size in pixels that the picture of a photo of `width`×`height` has, or more where cropping
/// makes its aspect unknown.
pub fn largest_size(width: u32, height: u32, output: &Output) -> (u32, u32) {
    match output.size.filter(|_| output.upscale) {
        None => (width, height),
        // Then the whole box counts.
        Some(Size::Longest(side)) if output.crop => (side, side),
        Some(Size::Within(w, h)) if output.crop => (w, h),
        Some(size) => frame::scaled_size(width, height, size, true),
    }
}

/// Whether the source has pixels that are not opaque. Many have alpha and make no use of it.
pub(super) fn is_transparent(photo: &Photo) -> bool {
    let alpha = photo.alpha.as_deref().unwrap_or_default();
    alpha.iter().any(|&a| a < u8::MAX)
}

/// The matte times the source's own transparency.
fn with_source_alpha(mut alpha: Vec<u8>, source: Option<&[u8]>) -> Vec<u8> {
    if let Some(source) = source {
        for (a, &s) in alpha.iter_mut().zip(source) {
            *a = times(*a, s);
        }
    }
    alpha
}

/// The product of two fractions of 255, rounded to nearest.
fn times(a: u8, b: u8) -> u8 {
    ((u32::from(a) * u32::from(b) + 127) / 255) as u8
}

/// The photo's colours without its own transparency, for the kinds that show its background:
/// on white, as a page would show it.
fn opaque(photo: Photo) -> Vec<u8> {
    photo.flattened(WHITE[0]).unwrap_or(photo.rgb)
}

/// Straight-alpha RGBA. Colour under full transparency is cleared: it would show in careless
/// viewers, and does not compress. Takes the photo's buffer, so that it is freed before resizing.
fn cut_out(rgb: Vec<u8>, alpha: &[u8]) -> Vec<u8> {
    let mut rgba = vec![0; alpha.len() * 4];
    rgba.par_chunks_mut(STRETCH * 4)
        .zip(rgb.par_chunks(STRETCH * 3))
        .zip(alpha.par_chunks(STRETCH))
        .for_each(|((rgba, rgb), alpha)| {
            let pixels = rgba.as_chunks_mut::<4>().0.iter_mut();
            for ((pixel, &[r, g, b]), &a) in pixels.zip(rgb.as_chunks::<3>().0).zip(alpha) {
                if a > 0 {
                    *pixel = [r, g, b, a];
                }
            }
        });
    rgba
}

/// The subject on a plain colour.
fn on_colour(mut rgb: Vec<u8>, alpha: &[u8], colour: [u8; 3]) -> Vec<u8> {
    rgb.par_chunks_mut(STRETCH * 3)
        .zip(alpha.par_chunks(STRETCH))
        .for_each(|(rgb, alpha)| {
            for (pixel, &a) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(alpha) {
                blend(pixel, &colour, a);
            }
        });
    rgb
}

/// The subject on another picture of the same size.
fn on_pixels(mut rgb: Vec<u8>, alpha: &[u8], under: &[u8]) -> Vec<u8> {
    rgb.par_chunks_mut(STRETCH * 3)
        .zip(under.par_chunks(STRETCH * 3))
        .zip(alpha.par_chunks(STRETCH))
        .for_each(|((rgb, under), alpha)| {
            let pixels = rgb.as_chunks_mut::<3>().0.iter_mut();
            for ((pixel, under), &a) in pixels.zip(under.as_chunks::<3>().0).zip(alpha) {
                blend(pixel, under, a);
            }
        });
    rgb
}

/// transparent-background's `overlay`: half the green over the subject, its edge drawn in full
/// green.
fn tinted(mut rgb: Vec<u8>, alpha: &[u8], width: usize, green: [u8; 3]) -> Vec<u8> {
    // Each band looks at a row of slopes more above and below.
    const BAND: usize = 64;
    rgb.par_chunks_mut(BAND * width * 3)
        .enumerate()
        .for_each(|(band, rgb)| {
            let pixels = rgb.as_chunks_mut::<3>().0;
            let start = band * BAND * width;
            for (pixel, &a) in pixels.iter_mut().zip(&alpha[start..]) {
                let mut tint = *pixel;
                for (c, green) in tint.iter_mut().zip(green) {
                    *c = ((u16::from(*c) + u16::from(green)) / 2) as u8;
                }
                blend(&mut tint, pixel, a);
                *pixel = tint;
            }
            let top = band * BAND;
            let rows = top..top + pixels.len() / width;
            edges::trace(alpha, width, rows, |i| pixels[i - start] = green);
        });
    rgb
}

/// `over` on `under` by `alpha`. Cut off, not rounded, as transparent-background does
/// (`astype(uint8)` of the sum): half a level darker on average where two colours mix, and exact
/// where they do not, be it that alpha is 0 or 255 or that the colours are equal.
fn blend(over: &mut [u8; 3], under: &[u8; 3], alpha: u8) {
    let alpha = u32::from(alpha);
    for (over, &under) in over.iter_mut().zip(under) {
        let sum = u32::from(*over) * alpha + u32::from(under) * (255 - alpha);
        *over = (sum / 255) as u8;
    }
}

#[cfg(test)]
mod tests;
