//! From a picture to a file's bytes.

use bytes::Bytes;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::error::{Code, Error, Result};
use crate::job::{Format, Output};

use super::compose::{Channels, Picture};
use super::decode::Carried;

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
/// PNG carries the sRGB chunk and the resolution (`dpi`); WebP has no place for a resolution but EXIF, and
/// is sRGB where it says nothing.
///
/// Errors: `invalid_job` for a WebP with a side above 16383 pixels; `internal` when the picture
/// is empty or its buffer does not fit its size.
pub fn encode(picture: &Picture, output: &Output) -> Result<Encoded> {
    encode_with(picture, output, &Carried::default())
}

/// The same with the profile that the pixels are in, and EXIF.
///
/// Errors: as [`encode`].
pub fn encode_with(picture: &Picture, output: &Output, carried: &Carried) -> Result<Encoded> {
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
        Format::Png => png(picture, output.dpi, carried)
            .map_err(|error| failed(output.format, Box::new(error)))?,
        Format::Webp => webp(picture, carried)?,
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

fn png(picture: &Picture, dpi: u32, carried: &Carried) -> Result<Vec<u8>, png::EncodingError> {
    // fdeflate's longest code is 12 bits a byte. Pages that are not written to are never
    // resident, and a buffer that does not grow is never copied.
    let mut file = File(Vec::with_capacity(
        picture.data.len() / 2 * 3 + picture.height as usize * 2 + 4096,
    ));
    let mut info = png::Info::with_size(picture.width, picture.height);
    (info.color_type, info.bit_depth) = match picture.channels {
        Channels::Grey => (png::ColorType::Grayscale, png::BitDepth::Eight),
        Channels::Rgb => (png::ColorType::Rgb, png::BitDepth::Eight),
        Channels::Rgba => (png::ColorType::Rgba, png::BitDepth::Eight),
        Channels::Grey16 => (png::ColorType::Grayscale, png::BitDepth::Sixteen),
        Channels::Rgb16 => (png::ColorType::Rgb, png::BitDepth::Sixteen),
        Channels::Rgba16 => (png::ColorType::Rgba, png::BitDepth::Sixteen),
    };
    // A mask is coverage, not colour.
    let profile = carried
        .profile
        .as_ref()
        .filter(|_| picture.channels.have_colour());
    info.icc_profile = profile.map(|profile| profile.icc().to_vec().into());
    info.exif_metadata = carried.exif.as_ref().map(|exif| exif.to_vec().into());
    let mut encoder = png::Encoder::with_info(&mut file, info)?;
    if picture.channels.have_colour() && profile.is_none() {
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
    file.0.shrink_to_fit();
    Ok(file.0)
}

/// The file as it grows.
///
/// Called every 256 KiB, and on no account to be inlined there: the compressor's innermost function
/// is then too large to be inlined itself, and the whole takes a third longer.
struct File(Vec<u8>);

impl std::io::Write for File {
    #[inline(never)]
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Chosen by measuring a cut-out of 4032×3024 pixels (a photo with sensor noise, 11 % of it
/// transparent) on one core; `make bench-pixels`, docs/decisions/0010:
///
/// | deflate    | filter   | seconds | MB    |
/// |------------|----------|---------|-------|
/// | fdeflate   | Up       | 0.09    | 14.75 |
/// | fdeflate   | Paeth    | 0.10    | 13.25 |
/// | fdeflate   | Adaptive | 0.11    | 13.23 |
/// | level 1    | Up       | 0.24    | 14.40 |
/// | level 2    | Up       | 0.30    | 11.69 |
/// | level 4    | Paeth    | 0.81    | 11.93 |
/// | level 6    | Paeth    | 3.49    | 11.23 |
///
/// Two tenths of a second of a core for 12 % of the bytes is a bad trade while a GPU waits for work.
const DEFLATE: png::DeflateCompression = png::DeflateCompression::FdeflateUltraFast;
const FILTER: png::Filter = png::Filter::Paeth;

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

fn webp(picture: &Picture, carried: &Carried) -> Result<Vec<u8>> {
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
        Channels::Grey16 | Channels::Rgb16 | Channels::Rgba16 => {
            return Err(Error::new(
                Code::Internal,
                "a picture of 16 bits was to be written as WebP, which has 8",
            ));
        }
    };
    let mut file = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut file);
    let unsupported = |error: image::error::UnsupportedError| failed(Format::Webp, Box::new(error));
    if let Some(profile) = carried
        .profile
        .as_ref()
        .filter(|_| picture.channels.have_colour())
    {
        let icc = profile.icc().to_vec();
        encoder.set_icc_profile(icc).map_err(unsupported)?;
    }
    if let Some(exif) = &carried.exif {
        encoder
            .set_exif_metadata(exif.to_vec())
            .map_err(unsupported)?;
    }
    encoder
        .write_image(&picture.data, width, height, color)
        .map_err(|error| failed(Format::Webp, Box::new(error)))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picture(width: u32, height: u32, channels: Channels) -> Picture {
        let bytes = width as usize * height as usize * channels.count();
        Picture {
            width,
            height,
            channels,
            data: (0..bytes).map(|i| (i * i / 7 + i) as u8).collect(),
            subject: None,
        }
    }

    fn of(format: Format) -> Output {
        Output {
            format,
            ..Output::default()
        }
    }

    #[test]
    fn a_png_says_srgb_and_its_resolution() {
        let encoded = encode(&picture(4, 3, Channels::Rgba), &of(Format::Png)).unwrap();
        assert_eq!(encoded.content_type, "image/png");
        assert_eq!((encoded.width, encoded.height), (4, 3));
        let decoder = png::Decoder::new(std::io::Cursor::new(&encoded.bytes));
        let reader = decoder.read_info().unwrap();
        let info = reader.info();
        assert_eq!(info.srgb, Some(png::SrgbRenderingIntent::Perceptual));
        let dims = info.pixel_dims.unwrap();
        // 300 / 0.0254 = 11811.02
        assert_eq!((dims.xppu, dims.yppu), (11_811, 11_811));
        assert!(matches!(dims.unit, png::Unit::Meter));
    }

    #[test]
    fn noise_that_does_not_compress_stays_within_the_reserved_room() {
        let mut noise = picture(300, 300, Channels::Rgba);
        let mut state = 1u32;
        for byte in &mut noise.data {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        let encoded = encode(&noise, &of(Format::Png)).unwrap();
        assert!(
            encoded.bytes.len() <= noise.data.len() / 2 * 3,
            "{}",
            encoded.bytes.len()
        );
        let back = image::load_from_memory(&encoded.bytes)
            .unwrap()
            .into_rgba8();
        assert_eq!(back.into_raw(), noise.data);
    }

    #[test]
    fn a_webp_that_is_too_wide_is_the_jobs_mistake_and_a_png_of_that_size_is_not() {
        let wide = picture(WEBP_MAX_SIDE + 1, 1, Channels::Grey);
        let error = encode(&wide, &of(Format::Webp)).unwrap_err();
        assert_eq!(error.code(), Code::InvalidJob);
        assert!(error.message().contains("16383"), "{error}");
        encode(&wide, &of(Format::Png)).unwrap();
        encode(
            &picture(WEBP_MAX_SIDE, 1, Channels::Grey),
            &of(Format::Webp),
        )
        .unwrap();
    }

    #[test]
    fn an_empty_or_inconsistent_picture_is_an_error_and_no_panic() {
        let mut short = picture(2, 2, Channels::Rgb);
        short.data.pop();
        for bad in [
            picture(0, 0, Channels::Rgba),
            picture(5, 0, Channels::Rgb),
            short,
        ] {
            for format in [Format::Png, Format::Webp] {
                assert_eq!(
                    encode(&bad, &of(format)).unwrap_err().code(),
                    Code::Internal
                );
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same_pixels(
            width in 1u32..60, height in 1u32..60,
            channels in prop::sample::select(vec![
                Channels::Grey, Channels::Rgb, Channels::Rgba,
                Channels::Grey16, Channels::Rgb16, Channels::Rgba16,
            ]),
            format in prop::sample::select(vec![Format::Png, Format::Webp]),
        ) {
            let deep = matches!(channels, Channels::Grey16 | Channels::Rgb16 | Channels::Rgba16);
            // Such a job is not admitted.
            prop_assume!(format == Format::Png || !deep);
            let picture = picture(width, height, channels);
            let encoded = encode(&picture, &of(format)).unwrap();
            let back = image::load_from_memory(&encoded.bytes).unwrap();
            prop_assert_eq!((back.width(), back.height()), (width, height));
            let bytes = |samples: Vec<u16>| samples.into_iter().flat_map(u16::to_be_bytes).collect();
            let back: Vec<u8> = match channels {
                Channels::Grey16 => bytes(back.into_luma16().into_raw()),
                Channels::Rgb16 => bytes(back.into_rgb16().into_raw()),
                Channels::Rgba16 => bytes(back.into_rgba16().into_raw()),
                Channels::Grey => back.into_luma8().into_raw(),
                Channels::Rgb => back.into_rgb8().into_raw(),
                Channels::Rgba => back.into_rgba8().into_raw(),
            };
            prop_assert_eq!(back, picture.data);
        }
    }
}
