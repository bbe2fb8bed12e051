//! From a picture to a file's bytes.

use bytes::Bytes;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::error::{Code, Error, Result};
use crate::job::{Format, Output};

use super::compose::{Channels, Picture};

/// WebP stores 14 bits a side
/// (<https://developers.google.com/speed/webp/docs/riff_container>, RFC 9649).
const WEBP_MAX_SIDE: u32 = 16_383;

/// An encoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The file.
    pub bytes: Bytes,
    /// MIME type.
    pub content_type: &'static str,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Encodes a picture in the format that the job asked for.
///
/// PNG carries the sRGB chunk and the resolution (`dpi`); WebP has no place for a resolution.
///
/// Errors: `invalid_job` for a WebP with a side above 16383 pixels; `internal` when the picture
/// is empty or its buffer does not fit its size.
pub fn encode(picture: &Picture, output: &Output) -> Result<Encoded> {
    let (width, height) = (picture.width, picture.height);
    let expected = width as usize * height as usize * picture.channels.count();
    if expected == 0 || picture.data.len() != expected {
        return Err(Error::new(
            Code::Internal,
            format!(
                "a picture of {width}×{height} pixels with {} bytes cannot be encoded",
                picture.data.len()
            ),
        ));
    }
    let bytes = match output.format {
        Format::Png => {
            png(picture, output.dpi).map_err(|error| failed(output.format, Box::new(error)))?
        }
        Format::Webp => webp(picture)?,
    };
    Ok(Encoded {
        bytes: bytes.into(),
        content_type: output.format.content_type(),
        width,
        height,
    })
}

fn failed(format: Format, cause: Box<dyn std::error::Error + Send + Sync>) -> Error {
    let name = format.extension();
    Error::new(
        Code::Internal,
        format!("the picture cannot be encoded as {name}"),
    )
    .caused_by(cause)
}

fn png(picture: &Picture, dpi: u32) -> Result<Vec<u8>, png::EncodingError> {
    // The worst case is the raw size; pages that are not written to are never resident, and a
    // buffer that does not grow is never copied.
    let mut file = Vec::with_capacity(picture.data.len() + picture.data.len() / 64 + 4096);
    let mut encoder = png::Encoder::new(&mut file, picture.width, picture.height);
    encoder.set_color(match picture.channels {
        Channels::Grey => png::ColorType::Grayscale,
        Channels::Rgb => png::ColorType::Rgb,
        Channels::Rgba => png::ColorType::Rgba,
    });
    encoder.set_depth(png::BitDepth::Eight);
    // A mask is coverage, not colour.
    if picture.channels != Channels::Grey {
        encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    }
    encoder.set_pixel_dims(Some(resolution(dpi)));
    encoder.set_deflate_compression(DEFLATE);
    encoder.set_filter(FILTER);
    let mut header = encoder.write_header()?;
    // Streamed, so that the compressed data is not held twice.
    let mut pixels = header.stream_writer_with_size(IDAT_BYTES)?;
    std::io::Write::write_all(&mut pixels, &picture.data)?;
    pixels.finish()?;
    header.finish()?;
    file.shrink_to_fit();
    Ok(file)
}

const DEFLATE: png::DeflateCompression = png::DeflateCompression::Level(2);
const FILTER: png::Filter = png::Filter::Up;

/// Size of the file's IDAT chunks: large enough that their headers do not count.
const IDAT_BYTES: usize = 256 << 10;

/// PNG counts pixels a metre; an inch is 0.0254 m.
fn resolution(dpi: u32) -> png::PixelDimensions {
    let per_metre = (f64::from(dpi) / 0.0254).round() as u32;
    png::PixelDimensions {
        xppu: per_metre,
        yppu: per_metre,
        unit: png::Unit::Meter,
    }
}

fn webp(picture: &Picture) -> Result<Vec<u8>> {
    let (width, height) = (picture.width, picture.height);
    if width.max(height) > WEBP_MAX_SIDE {
        return Err(Error::new(
            Code::InvalidJob,
            format!(
                "a WebP has at most {WEBP_MAX_SIDE} pixels a side, this picture has {width}×{height}: ask for png, or for a smaller size"
            ),
        ));
    }
    let color = match picture.channels {
        Channels::Grey => ExtendedColorType::L8,
        Channels::Rgb => ExtendedColorType::Rgb8,
        Channels::Rgba => ExtendedColorType::Rgba8,
    };
    let mut file = Vec::new();
    WebPEncoder::new_lossless(&mut file)
        .write_image(&picture.data, width, height, color)
        .map_err(|error| failed(Format::Webp, Box::new(error)))?;
    Ok(file)
}
