//! JPEG, by `zune-jpeg` directly.
//!
//! `image`'s wrapper always decodes leniently, so a file cut in half would come out as a photo
//! with a grey bottom; it also copies the file, and converts CMYK without its profile.

use std::ops::Range;

use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::{Code, Error, Result};

use super::{Carried, Header, Kept, Photo, SourceFormat, Wanted, colour};
use reader::Shown;
use segments::Segments;

mod reader;
pub(super) mod segments;

type Decoder<'a> = JpegDecoder<Shown<'a>>;

/// Each scan of a progressive JPEG passes over the whole picture, though it may be a few bytes long
/// ("Two Issues with the JPEG Standard", LJT-01-003, from libjpeg-turbo's authors, who advise a
/// limit). Chromium's Skia gives up at 100 as well (`SkJpegDecoderMgr.cpp`), DALI at 500; libjpeg
/// writes 10, for CMYK 18.
const MAX_SCANS: u64 = 100;

/// Pixels that all scans together may pass over: 50 scans of 50 megapixels, which take some 2.5 s of
/// a core if made for it (`tests/hostile.rs`).
const MAX_SCANNED_PIXELS: u64 = 2_500_000_000;

/// Scans that a picture may have however large it is: what encoders write.
const MIN_SCANS: u64 = 20;

/// A sequential JPEG has one scan for each component at most, four. Their marks are counted without
/// regard to what they stand in, so that nothing can hide one: a few of what follows the picture may
/// look like one by chance.
const MAX_SEQUENTIAL_SCANS: usize = 16;

/// How the samples are stored, which is also how we ask for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Samples {
    Grey,
    Rgb,
    Cmyk,
    Ycck,
}

impl Samples {
    fn of(decoder: &Decoder<'_>) -> Result<Self> {
        let components = decoder.info().map_or(0, |info| info.components);
        match (components, decoder.input_colorspace()) {
            (1, _) => Ok(Self::Grey),
            // An Adobe marker may claim CMYK of three components: then they are RGB, which the
            // decoder finds out by itself.
            (3, _) => Ok(Self::Rgb),
            (4, Some(ColorSpace::YCCK)) => Ok(Self::Ycck),
            (4, Some(ColorSpace::CMYK)) => Ok(Self::Cmyk),
            (n, _) => Err(Error::new(
                Code::UnsupportedFormat,
                format!(
                    "the JPEG has {n} components a pixel in an unknown colour space; 1, 3 and 4 (CMYK) are read"
                ),
            )),
        }
    }

    const fn channels(self) -> u32 {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Cmyk | Self::Ycck => 4,
        }
    }

    const fn requested(self) -> ColorSpace {
        match self {
            Self::Grey => ColorSpace::Luma,
            Self::Rgb => ColorSpace::RGB,
            // Unconverted, so that an embedded profile can do it.
            Self::Cmyk => ColorSpace::CMYK,
            Self::Ycck => ColorSpace::YCCK,
        }
    }
}

/// Reads the markers up to the first scan, and of the metadata what is shown. Lenient, as every
/// viewer is: cameras leave odd bytes between markers.
fn open(bytes: &[u8], metadata: Vec<Range<usize>>) -> Result<Decoder<'_>> {
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        // Ours are the limits that count, with messages of their own.
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(Shown::new(bytes, metadata), options);
    decoder.decode_headers().map_err(|e| failed(e, "header"))?;
    Ok(decoder)
}

fn segments(bytes: &[u8]) -> Result<Segments> {
    Segments::of(bytes).map_err(|absurd| {
        Error::new(
            Code::ImageCorrupt,
            format!("the JPEG is damaged: {absurd}; save it again as a usual JPEG"),
        )
    })
}

/// The header alone.
pub(super) fn header(bytes: &[u8]) -> Result<Header> {
    let decoder = open(bytes, segments(bytes)?.small_metadata())?;
    let samples = Samples::of(&decoder)?;
    let (width, height) = decoder.dimensions().unwrap_or((0, 0));
    let orientation = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif))
        .unwrap_or(Orientation::NoTransforms);
    Ok(Header {
        format: SourceFormat::Jpeg,
        // At most 65535 each: JPEG stores 16 bits.
        width: width as u32,
        height: height as u32,
        orientation,
        bytes_per_pixel: samples.channels(),
        alpha: false,
        in_jpeg: true,
        code_bytes: 0,
    })
}

/// The stored pixels as sRGB or, if wanted, as they are, not yet turned upright.
pub(super) fn decode(bytes: &[u8], header: &Header, wanted: &Wanted) -> Result<Kept> {
    let segments = segments(bytes)?;
    check_scans(bytes, &segments)?;
    let mut decoder = open(bytes, segments.metadata(colour::MAX_PROFILE_BYTES))?;
    let samples = Samples::of(&decoder)?;
    let icc = decoder.icc_profile();
    let max_scans = (MAX_SCANNED_PIXELS / header.pixels().max(1)).clamp(MIN_SCANS, MAX_SCANS);
    // Strict from here on: a lenient decoder fills what is missing with grey and calls it done.
    let options = decoder
        .options()
        .set_strict_mode(true)
        .jpeg_set_max_scans(max_scans as usize)
        .jpeg_set_out_colorspace(samples.requested());
    decoder.set_options(options);
    let size = decoder.output_buffer_size().unwrap_or(0);
    if size as u64 != header.pixels() * u64::from(samples.channels()) {
        return Err(Error::new(
            Code::ImageCorrupt,
            "the JPEG's size is not the one its header was checked for",
        ));
    }
    let mut native = vec![0; size];
    decoder
        .decode_into(&mut native)
        .map_err(|e| failed(e, "picture"))?;
    // It has a copy of the profile, and the coefficients.
    drop(decoder);
    // Even a strict decoder makes up what is missing within the last row of blocks.
    if !reaches_its_end(bytes, &segments) {
        return Err(failed(DecodeErrors::ExhaustedData, "picture"));
    }
    let icc = icc.as_deref();
    let (rgb, profile) = match samples {
        Samples::Grey => (colour::grey_to_srgb(&native, icc), None),
        Samples::Rgb => colour::rgb(native, icc, wanted.profile),
        Samples::Cmyk => (colour::cmyk_to_srgb(native, icc), None),
        Samples::Ycck => {
            ycck_to_cmyk(&mut native);
            (colour::cmyk_to_srgb(native, icc), None)
        }
    };
    let exif = segments.exif.clone().and_then(|exif| bytes.get(exif));
    Ok(Kept {
        carried: Carried {
            profile,
            exif: wanted.exif(exif),
        },
        ..Kept::plain(Photo {
            width: header.width,
            height: header.height,
            rgb,
            alpha: None,
        })
    })
}

/// Refuses a sequential JPEG whose components come in ever more scans: the decoder would work on
/// each, the last one counts.
fn check_scans(bytes: &[u8], segments: &Segments) -> Result<()> {
    const START_OF_SCAN: [u8; 2] = [0xff, 0xda];
    if !segments.is_sequential_in_parts(bytes) {
        return Ok(());
    }
    let rest = segments.behind_first_scan_header(bytes);
    let more = rest.windows(2).filter(|pair| *pair == START_OF_SCAN);
    if more.count() < MAX_SEQUENTIAL_SCANS {
        return Ok(());
    }
    Err(too_many_scans())
}

fn too_many_scans() -> Error {
    Error::new(
        Code::UnsupportedFormat,
        "the JPEG is made of more scans than any photo needs; save it as a usual JPEG",
    )
}

/// Whether an end-of-image marker follows the first scan's start. Entropy-coded data cannot hold
/// its bytes, thumbnails in metadata can: so the segments before the scan are stepped over.
/// Pillow too calls a JPEG without this marker truncated.
fn reaches_its_end(bytes: &[u8], segments: &Segments) -> bool {
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    // From the back, where it is in all but files that carry a video behind their picture.
    let scans = segments.behind_first_scan_header(bytes);
    scans.windows(2).rev().any(|pair| pair == END_OF_IMAGE)
}

/// YCbCr to RGB in 16-bit fixed point as libjpeg does it; the complement of RGB is CMY.
fn ycck_to_cmyk(pixels: &mut [u8]) {
    const HALF: i32 = 1 << 15;
    for [y, cb, cr, _k] in pixels.as_chunks_mut::<4>().0 {
        let (luma, b, r) = (i32::from(*y), i32::from(*cb) - 128, i32::from(*cr) - 128);
        let red = luma + ((91_881 * r + HALF) >> 16);
        let green = luma + ((-22_554 * b - 46_802 * r + HALF) >> 16);
        let blue = luma + ((116_130 * b + HALF) >> 16);
        [*y, *cb, *cr] = [red, green, blue].map(|c| 255 - c.clamp(0, 255) as u8);
    }
}

fn failed(error: DecodeErrors, part: &str) -> Error {
    // Its own words, which a test holds it to.
    if matches!(&error, DecodeErrors::Format(why) if why.starts_with("Too many scans")) {
        return too_many_scans().caused_by(error.to_string());
    }
    let (code, message) = match &error {
        DecodeErrors::Unsupported(_) => (
            Code::UnsupportedFormat,
            "the JPEG uses a rare encoding (lossless or arithmetic) that is not read; save it as a usual JPEG".to_owned(),
        ),
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => (
            Code::ImageCorrupt,
            format!("the JPEG ends in the middle of its {part}: it is truncated; upload it again"),
        ),
        _ => (
            Code::ImageCorrupt,
            format!("the JPEG's {part} is damaged or incomplete; upload it again"),
        ),
    };
    // `DecodeErrors` holds text only; its Debug form is its message.
    Error::new(code, message).caused_by(error.to_string())
}
