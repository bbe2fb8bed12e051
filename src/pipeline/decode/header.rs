//! What a file says of itself, read without allocating a pixel.

use std::fmt;

use image::ImageFormat;
use image::metadata::Orientation;

use crate::error::{Code, Error, Result};

use super::{colour, heif, jpeg, raster, webp};

/// A format that this build reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceFormat {
    /// JPEG: baseline and progressive; grey, YCbCr, RGB, CMYK and YCCK.
    Jpeg,
    /// PNG; of an APNG the default image.
    Png,
    /// WebP, lossy and lossless; of an animation the first frame.
    WebP,
    /// GIF, the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF, the first page.
    Tiff,
    /// HEIF of HEVC: the primary picture, 8 to 12 bits. Read with the feature `heic`.
    Heic,
    /// HEIF of AV1: the primary picture, 8 to 12 bits. Read with the feature `avif`.
    Avif,
}

/// What is read, for messages.
const READ: &str = if cfg!(all(feature = "heic", feature = "avif")) {
    "JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC and AVIF"
} else if cfg!(feature = "heic") {
    "JPEG, PNG, WebP, GIF, BMP, TIFF and HEIC"
} else if cfg!(feature = "avif") {
    "JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF"
} else {
    "JPEG, PNG, WebP, GIF, BMP and TIFF"
};

impl SourceFormat {
    /// The name that messages and metrics use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Heic => "HEIC",
            Self::Avif => "AVIF",
        }
    }

    /// Decides by content alone: names and content types of uploads are often wrong.
    fn of(bytes: &[u8]) -> Option<Self> {
        if let Some(format) = heif::format_of(bytes) {
            return Some(format);
        }
        Some(match image::guess_format(bytes).ok()? {
            ImageFormat::Jpeg => Self::Jpeg,
            ImageFormat::Png => Self::Png,
            ImageFormat::WebP => Self::WebP,
            ImageFormat::Gif => Self::Gif,
            ImageFormat::Bmp => Self::Bmp,
            ImageFormat::Tiff => Self::Tiff,
            _ => return None,
        })
    }
}

impl fmt::Display for SourceFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How large a photo may be, checked against the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Width times height.
    pub max_pixels: u64,
    /// Pixels of the longer side.
    pub max_side: u32,
}

impl Default for Limits {
    /// 50 MP (CONTRACT section "Limits"), and a side that any camera's panorama keeps to.
    fn default() -> Self {
        Self {
            max_pixels: 50_000_000,
            max_side: 32_768,
        }
    }
}

impl Limits {
    /// Refuses with `image_too_large`, naming the dimensions and the limit passed.
    pub(super) fn check(&self, format: SourceFormat, width: u32, height: u32) -> Result<()> {
        let pixels = u64::from(width) * u64::from(height);
        let limit = if width.max(height) > self.max_side {
            format!("longest side of {} pixels", self.max_side)
        } else if pixels > self.max_pixels {
            format!(
                "{} pixels ({:.1} megapixels)",
                self.max_pixels,
                self.max_pixels as f64 / 1e6
            )
        } else {
            return Ok(());
        };
        Err(Error::new(
            Code::ImageTooLarge,
            format!(
                "the {format} is {width}×{height} pixels ({:.1} megapixels), over the limit: {limit}",
                pixels as f64 / 1e6
            ),
        ))
    }
}

/// More than 4,000 groups of the largest codes. libwebp's encoder makes 2,600 at most
/// (`MAX_HUFF_IMAGE_SIZE` in `src/enc/vp8l_enc.c`), and joins nearly all of them.
const MAX_CODE_BYTES: u64 = 512 << 20;

/// Bytes a pixel that [`Header::decode_bytes`] always has beside a photo's colour, its alpha and its matte.
pub const SPARE_BYTES: u64 = 7;

/// What is known of a photo from its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format, decided by content.
    pub format: SourceFormat,
    /// Pixels, as stored (before the orientation is applied).
    pub width: u32,
    /// Pixels, as stored.
    pub height: u32,
    /// How the stored pixels must be turned to be upright.
    pub orientation: Orientation,
    /// Bytes a pixel in the decoder's own buffer, with all bits that the file has.
    pub bytes_per_pixel: u32,
    /// Whether the source has transparency.
    pub alpha: bool,
    /// Whether the pixels are, or may be, JPEGs: a TIFF may hold one in each strip or tile.
    pub in_jpeg: bool,
    /// Bytes that the decoder needs, for codes or for its own pictures, beyond those that are counted
    /// by the pixel.
    pub code_bytes: u64,
}

impl Header {
    /// Width and height of the decoded photo.
    pub fn upright_size(&self) -> (u32, u32) {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        match self.orientation {
            Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => (self.height, self.width),
            _ => (self.width, self.height),
        }
    }

    /// Number of pixels.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Upper bound of the memory, in bytes, that one job needs at any one time from decoding to
    /// encoding, at the photo's own size. Not in it: the file's bytes, the network's tensors
    /// (`Manifest::tensor_bytes`), a background picture (its own header's `decode_bytes`), what
    /// refining adds ([`extra_bytes`](crate::pipeline::refine::extra_bytes)) and what enlarging or a blur does
    /// ([`extra_bytes`](crate::pipeline::compose::extra_bytes)).
    pub fn decode_bytes(&self) -> u64 {
        // Row buffers, bands of the resampler, Huffman and profile tables: independent of the
        // size, but they rule for tiny pictures. A row is padded to whole JPEG blocks.
        const WORKING: u64 = 4 << 20;
        // A profile, however hostile, is unpacked and used within this.
        const PROFILE: u64 = colour::WORKING_BYTES;
        let peak = self.peak_bytes_per_pixel();
        let row_padding = 64 * 16 * (u64::from(self.width) + u64::from(self.height));
        self.pixels() * peak + row_padding + self.code_bytes + WORKING + PROFILE
    }

    /// The most bytes a pixel that a job has at any one time.
    pub(super) fn peak_bytes_per_pixel(&self) -> u64 {
        let alpha = u64::from(self.alpha);
        let native = u64::from(self.bytes_per_pixel);
        let decode = native + self.decoder_bytes_per_pixel();
        // Grey and CMYK grow or shrink into a second buffer; the others convert in place and
        // split their alpha off.
        let convert = native + 3 + alpha;
        // Stored and upright pixels side by side; alpha is turned after colour is done.
        let orient = 6 + alpha;
        // Colour, its alpha, and the copy put on grey for the network.
        let tensor = 3 + 4 * alpha;
        // Colour, both alphas, and RGBA beside them (a new background takes less).
        let compose = 3 + 1 + alpha + 4;
        // The picture and the smaller one; or, when that is tiny, all rows widened to 16 bits.
        let resize = 4 + 8;
        // What is there while the subject's colours are estimated.
        let spare = 3 + 1 + alpha + SPARE_BYTES;
        // RGBA, and room for a file that does not compress at all (12 bits a byte).
        let encode = 4 + 6;
        let peak = decode.max(convert).max(orient).max(tensor);
        peak.max(compose).max(resize).max(spare).max(encode)
    }

    /// What the decoder holds beside its output, in bytes a pixel.
    fn decoder_bytes_per_pixel(&self) -> u64 {
        match self.format {
            // Progressive and multi-scan files keep every coefficient, an i16 a sample.
            // The header does not tell multi-scan files apart, so all count as such.
            SourceFormat::Jpeg => 2 * u64::from(self.bytes_per_pixel),
            // Lossless: a u32 a pixel; an animation: canvas and frame as well.
            SourceFormat::WebP => 8,
            // A frame smaller than the screen is decoded apart.
            SourceFormat::Gif => 4,
            // The TIFF decoder fills its own buffer (CMYK: four samples) before ours.
            // A JPEG in it has samples of its own, and coefficients as above.
            SourceFormat::Tiff => {
                let jpeg = if self.in_jpeg { 4 } else { 0 };
                u64::from(self.bytes_per_pixel) * 4 / 3 + 1 + u64::from(self.bytes_per_pixel) * jpeg
            }
            // Row by row.
            SourceFormat::Png | SourceFormat::Bmp => 0,
            // Depends on the tiles: counted in `code_bytes`.
            SourceFormat::Heic | SourceFormat::Avif => 0,
        }
    }
}

/// Reads the header and holds it against the limits; allocates no pixels.
///
/// Errors: `unsupported_format` when it is not an image (the message says what it looks like),
/// `image_corrupt` when the file is empty or its header broken, `image_too_large`.
pub fn sniff(bytes: &[u8], limits: &Limits) -> Result<Header> {
    if bytes.is_empty() {
        return Err(Error::new(
            Code::ImageCorrupt,
            "the file is empty (0 bytes); upload it again",
        ));
    }
    let Some(format) = SourceFormat::of(bytes) else {
        return Err(Error::new(
            Code::UnsupportedFormat,
            format!(
                "the file is not a photo that can be read: it looks like {}; {READ} are read",
                describe(bytes)
            ),
        ));
    };
    let mut header = match format {
        SourceFormat::Jpeg => jpeg::header(bytes)?,
        SourceFormat::Heic | SourceFormat::Avif => heif::header(bytes, format, limits)?,
        _ => raster::header(bytes, format)?,
    };
    if header.width == 0 || header.height == 0 {
        return Err(Error::new(
            Code::ImageCorrupt,
            format!(
                "the {format} has no pixels: {}×{}",
                header.width, header.height
            ),
        ));
    }
    limits.check(format, header.width, header.height)?;
    if format == SourceFormat::WebP {
        let canvas = (header.width, header.height);
        // What ends or breaks before its codes is the decoder's to find, which then makes none.
        header.code_bytes = webp::code_bytes(bytes, canvas).unwrap_or(0);
        if header.code_bytes > MAX_CODE_BYTES {
            return Err(Error::new(
                Code::ImageTooLarge,
                format!(
                    "the WebP needs {} MiB for its codes alone, more than any encoder's; save it as PNG",
                    header.code_bytes >> 20
                ),
            ));
        }
    }
    Ok(header)
}

/// What bytes that are no readable photo look like, for the person who uploaded them.
fn describe(bytes: &[u8]) -> String {
    let is = |magic: &[u8]| bytes.starts_with(magic);
    // ISO base media files (HEIC, AVIF, MP4) name their brand behind `ftyp`.
    if let Some(brand) = bytes.get(8..12).filter(|_| bytes[4..].starts_with(b"ftyp")) {
        return match brand {
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
                "HEIC (not built in; the container and builds with the feature heic read it)".into()
            }
            b"avif" | b"avis" => {
                "AVIF (not built in; the container and builds with the feature avif read it)".into()
            }
            _ => "a video (MP4 or QuickTime)".into(),
        };
    }
    let known = if is(b"%PDF") {
        "PDF"
    } else if is(b"PK\x03\x04") {
        "a ZIP archive or office document"
    } else if is(b"8BPS") {
        "a Photoshop document (PSD)"
    } else if is(b"\x1f\x8b") {
        "a gzip archive"
    } else if is(b"\x00\x00\x00\x0cJXL ") || is(b"\xff\x0a") {
        "JPEG XL (not built in)"
    } else if is(b"\x00\x00\x00\x0cjP  ") {
        "JPEG 2000 (not built in)"
    } else if let Ok(format) = image::guess_format(bytes) {
        return format!("{format:?} (not built in)");
    } else if let Some(text) = as_text(bytes) {
        let text = text
            .trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n'])
            .to_ascii_lowercase();
        if text.starts_with("<svg") || (text.starts_with("<?xml") && text.contains("<svg")) {
            "SVG (not built in)"
        } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
            "an HTML page"
        } else {
            "text"
        }
    } else {
        let first = &bytes[..bytes.len().min(8)];
        return format!("an unknown format (first bytes {})", hex::encode(first));
    };
    known.into()
}

/// The file's beginning, if it is printable UTF-8.
fn as_text(bytes: &[u8]) -> Option<&str> {
    let start = &bytes[..bytes.len().min(512)];
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A character cut by the 512 bytes is no reason to call it binary.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let printable = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    (!text.is_empty() && text.chars().all(printable)).then_some(text)
}
