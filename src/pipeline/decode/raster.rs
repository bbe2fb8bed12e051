//! PNG, WebP, GIF, BMP and TIFF, by the `image` crate's decoders.

use std::io::Cursor;

use image::error::ImageError;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use crate::error::{Code, Error, Result};

use super::{Carried, Header, Kept, Photo, SourceFormat, Wanted, chunks, colour, deep, tiff, webp};
use crate::job::{Depth, KeepMetadata};

/// What a decoder may allocate beside pixels: any profile that counts, text, rows. A profile is
/// held twice, by the decoder and by us, before its use begins.
const METADATA_BYTES: u64 = colour::WORKING_BYTES / 2;

fn open<'a>(
    bytes: &'a [u8],
    format: SourceFormat,
    max_alloc: u64,
) -> Result<impl ImageDecoder + 'a> {
    let known = match format {
        SourceFormat::Jpeg => ImageFormat::Jpeg,
        SourceFormat::Png => ImageFormat::Png,
        SourceFormat::WebP => ImageFormat::WebP,
        SourceFormat::Gif => ImageFormat::Gif,
        SourceFormat::Bmp => ImageFormat::Bmp,
        SourceFormat::Tiff => ImageFormat::Tiff,
        SourceFormat::Heic | SourceFormat::Avif => {
            return Err(Error::new(
                Code::Internal,
                format!("a {format} went to the wrong decoder; this is a mistake of the program"),
            ));
        }
    };
    if format == SourceFormat::Png && chunks::has_too_many_chunks(bytes) {
        return Err(Error::new(
            Code::UnsupportedFormat,
            "the PNG is cut into more pieces than any picture needs; save it again as a usual PNG",
        ));
    }
    if format == SourceFormat::WebP
        && let Some(claim) = webp::false_claim(bytes)
    {
        return Err(Error::new(
            Code::ImageCorrupt,
            format!("the WebP is damaged: {claim}; upload it again"),
        ));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), known);
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(max_alloc);
    reader.limits(limits);
    reader.into_decoder().map_err(|e| failed(e, format))
}

/// The header alone.
pub(super) fn header(bytes: &[u8], format: SourceFormat) -> Result<Header> {
    let in_jpeg = format == SourceFormat::Tiff && is_bounded_tiff_of_jpegs(bytes)?;
    let mut decoder = open(bytes, format, METADATA_BYTES)?;
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    // Broken EXIF is no reason to refuse a photo: it is shown as stored.
    let orientation = decoder.orientation().unwrap_or_else(|error| {
        tracing::debug!(%format, %error, "the orientation cannot be read; taken as upright");
        image::metadata::Orientation::NoTransforms
    });
    Ok(Header {
        format,
        width,
        height,
        orientation,
        bytes_per_pixel: u32::from(color.bytes_per_pixel()),
        alpha: color.has_alpha(),
        in_jpeg,
        code_bytes: 0,
    })
}

/// Whether a TIFF may hold its pixels as JPEGs; an error where its decoder would allocate more, or
/// take longer, than the picture justifies.
fn is_bounded_tiff_of_jpegs(bytes: &[u8]) -> Result<bool> {
    let corrupt = |damage: String| {
        let told = format!("the TIFF is damaged: its tag {damage}; upload it again");
        Error::new(Code::ImageCorrupt, told)
    };
    tiff::holds_jpegs(bytes).map_err(|refusal| match refusal {
        tiff::Refusal::TooManyValues(tag, count) => corrupt(format!("{tag} claims {count} values")),
        tiff::Refusal::Twice(tag) => corrupt(format!("{tag} is there twice")),
        tiff::Refusal::Jpeg(why) => Error::new(
            Code::UnsupportedFormat,
            format!("the TIFF is not read, because {why}; save it as JPEG or PNG"),
        ),
    })
}

/// The stored pixels as sRGB or, if wanted, as they are, not yet turned upright.
pub(super) fn decode(bytes: &[u8], header: &Header, wanted: &Wanted) -> Result<Kept> {
    let max_alloc = match header.format {
        // Decodes row by row into our buffer, so that what it allocates is metadata.
        SourceFormat::Png => METADATA_BYTES,
        // Only a frame apart from the picture is counted, and none may be larger than that (GIF89a, 20).
        SourceFormat::Gif => 4 * header.pixels(),
        _ => header.decode_bytes(),
    };
    let mut decoder = open(bytes, header.format, max_alloc)?;
    let size = decoder.total_bytes();
    if decoder.dimensions() != (header.width, header.height)
        || size != header.pixels() * u64::from(header.bytes_per_pixel)
    {
        return Err(Error::new(
            Code::ImageCorrupt,
            format!(
                "the {}'s size is not the one its header was checked for",
                header.format
            ),
        ));
    }
    let icc = decoder.icc_profile().unwrap_or_else(|error| {
        tracing::debug!(format = %header.format, %error, "the colour profile cannot be read; ignored");
        None
    });
    let exif = match wanted.metadata {
        KeepMetadata::None => None,
        _ => decoder.exif_metadata().unwrap_or_else(|error| {
            tracing::debug!(format = %header.format, %error, "the EXIF cannot be read; not kept");
            None
        }),
    };
    let exif = wanted.exif(exif.as_deref());
    let color = decoder.color_type();
    let mut native = vec![0; size as usize];
    decoder
        .read_image(&mut native)
        .map_err(|e| failed(e, header.format))?;
    let icc = icc.as_deref();
    let (deep, (rgb, alpha), profile) = if wanted.depth == Depth::Source && deep::is(color) {
        let (deep, profile) = deep::split(native, color, icc, wanted.profile);
        let shallow = deep::shallow(&deep);
        (Some(deep), shallow, profile)
    } else {
        let (native, color) = to_eight_bits(native, color, header)?;
        let profile = match color {
            ColorType::L8 | ColorType::La8 => None,
            _ => colour::Profile::wanted(icc, wanted.profile),
        };
        let icc = icc.filter(|_| profile.is_none());
        (None, split(native, color, icc), profile)
    };
    Ok(Kept {
        photo: Photo {
            width: header.width,
            height: header.height,
            rgb,
            alpha,
        },
        deep,
        carried: Carried { profile, exif },
    })
}

/// Brings 16-bit and floating-point samples to 8 bits, rounding to nearest, in place where the
/// element size allows it.
fn to_eight_bits(
    mut native: Vec<u8>,
    color: ColorType,
    header: &Header,
) -> Result<(Vec<u8>, ColorType)> {
    let narrow = match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => {
            return Ok((native, color));
        }
        ColorType::L16 => ColorType::L8,
        ColorType::La16 => ColorType::La8,
        ColorType::Rgb16 => ColorType::Rgb8,
        ColorType::Rgba16 => ColorType::Rgba8,
        ColorType::Rgb32F | ColorType::Rgba32F => return float_to_eight_bits(native, header),
        other => {
            return Err(Error::new(
                Code::UnsupportedFormat,
                format!(
                    "the {} stores pixels as {other:?}, which is not read",
                    header.format
                ),
            ));
        }
    };
    let samples = native.len() / 2;
    for i in 0..samples {
        let wide = u32::from(u16::from_ne_bytes([native[2 * i], native[2 * i + 1]]));
        // 65535 = 255 × 257, so this is the exact rounding of wide × 255 / 65535.
        native[i] = ((wide + 128) / 257) as u8;
    }
    native.truncate(samples);
    native.shrink_to_fit();
    Ok((native, narrow))
}

/// Floating-point TIFF: rare enough to leave to `image` (clamped to 0..1, scaled to 0..255).
fn float_to_eight_bits(native: Vec<u8>, header: &Header) -> Result<(Vec<u8>, ColorType)> {
    let floats: Vec<f32> = native
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&bytes| f32::from_ne_bytes(bytes))
        .collect();
    drop(native);
    let (width, height) = (header.width, header.height);
    let picture = if header.alpha {
        image::ImageBuffer::from_raw(width, height, floats).map(DynamicImage::ImageRgba32F)
    } else {
        image::ImageBuffer::from_raw(width, height, floats).map(DynamicImage::ImageRgb32F)
    };
    let picture = picture.ok_or_else(|| {
        Error::new(
            Code::ImageCorrupt,
            format!(
                "the {} holds fewer samples than its header says",
                header.format
            ),
        )
    })?;
    Ok(if header.alpha {
        (picture.into_rgba8().into_raw(), ColorType::Rgba8)
    } else {
        (picture.into_rgb8().into_raw(), ColorType::Rgb8)
    })
}

/// Parts colour from alpha and brings colour to sRGB.
fn split(mut native: Vec<u8>, color: ColorType, icc: Option<&[u8]>) -> (Vec<u8>, Option<Vec<u8>>) {
    match color {
        ColorType::L8 => (colour::grey_to_srgb(&native, icc), None),
        ColorType::La8 => {
            let alpha = take_alpha::<2>(&mut native);
            (colour::grey_to_srgb(&native, icc), Some(alpha))
        }
        ColorType::Rgba8 => {
            let alpha = take_alpha::<4>(&mut native);
            (colour::rgb_to_srgb(native, icc), Some(alpha))
        }
        _ => (colour::rgb_to_srgb(native, icc), None),
    }
}

/// Takes the last of every `N` bytes out and closes the gaps in place.
fn take_alpha<const N: usize>(native: &mut Vec<u8>) -> Vec<u8> {
    let alpha = native.as_chunks::<N>().0.iter().map(|p| p[N - 1]).collect();
    let pixels = native.len() / N;
    for i in 1..pixels {
        native.copy_within(i * N..i * N + N - 1, i * (N - 1));
    }
    native.truncate(pixels * (N - 1));
    native.shrink_to_fit();
    alpha
}

fn failed(error: ImageError, format: SourceFormat) -> Error {
    let truncated = |e: &std::io::Error| e.kind() == std::io::ErrorKind::UnexpectedEof;
    let (code, message) = match &error {
        ImageError::Unsupported(_) => (
            Code::UnsupportedFormat,
            format!("the {format} uses a variant that is not read; save it as JPEG or PNG"),
        ),
        ImageError::Limits(_) => (
            Code::ImageTooLarge,
            format!("the {format} needs more memory to decode than its size justifies"),
        ),
        ImageError::IoError(e) if truncated(e) => (
            Code::ImageCorrupt,
            format!("the {format} ends too early: it is truncated; upload it again"),
        ),
        _ => (
            Code::ImageCorrupt,
            format!("the {format} is damaged or incomplete; upload it again"),
        ),
    };
    Error::new(code, message).caused_by(error)
}
