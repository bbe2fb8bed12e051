//! HEIC and AVIF: one container (HEIF, ISO/IEC 23008-12) around pictures of HEVC or AV1.
//!
//! The container is read by `heifer-isobmff` once [`bounds`] has seen that this takes bounded memory;
//! [`still`] finds in it what is to be shown; [`hevc`] and [`av1`] decode its pictures.
//! What HEIF says of turning and mirroring counts, and EXIF's orientation does not (ISO/IEC 23008-12,
//! annex A.2.1): phones write both.

use std::borrow::Cow;

use heifer::heifer_isobmff::HeifFile;

use crate::error::{Code, Error, Result};
use crate::job::{Depth, KeepMetadata};

use super::{
    Carried, Deep, Header, Kept, Limits, Photo, SourceFormat, Wanted, code_points, colour, deep,
};

#[cfg(feature = "avif")]
mod av1;
mod bounds;
#[cfg(feature = "heic")]
mod hevc;
mod paint;
mod still;

use paint::Level;
use still::Still;

/// Why a file is not read.
#[derive(Debug)]
enum Failure {
    /// What is wrong with it.
    Damaged(String),
    /// What it has that is not read.
    Unread(String),
    /// Its size is over a limit.
    Limits(Error),
}

impl Failure {
    fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged(why.into())
    }

    fn unread(what: impl Into<String>) -> Self {
        Self::Unread(what.into())
    }

    fn told(self, format: SourceFormat) -> Error {
        match self {
            Self::Damaged(why) => Error::new(
                Code::ImageCorrupt,
                format!("the {format} is damaged: {why}; upload it again"),
            ),
            Self::Unread(what) => Error::new(
                Code::UnsupportedFormat,
                format!("the {format} is not read, because {what}; save it as JPEG or PNG"),
            ),
            Self::Limits(error) => error,
        }
    }
}

impl From<heifer::heifer_isobmff::Error> for Failure {
    fn from(error: heifer::heifer_isobmff::Error) -> Self {
        match error {
            heifer::heifer_isobmff::Error::Unimplemented(what) => {
                Self::Unread(format!("of its {what}"))
            }
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// The format that a file's brands announce, if it is one that is built in. Which pictures a file
/// really holds, [`header`] says.
pub(super) fn format_of(bytes: &[u8]) -> Option<SourceFormat> {
    let brands = bytes.get(8..).filter(|_| bytes[4..].starts_with(b"ftyp"))?;
    let end = u32::from_be_bytes(*bytes.first_chunk::<4>()?) as usize;
    let of = |brand: &[u8; 4]| match brand {
        b"avif" | b"avis" => Some(SourceFormat::Avif),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => Some(SourceFormat::Heic),
        _ => None,
    };
    let (brands, _) = brands[..brands.len().min(end.saturating_sub(8))].as_chunks::<4>();
    let (major, others) = brands.split_first()?;
    let found = of(major).or_else(|| match major {
        // Says only that it is HEIF: the others tell the codec, behind the minor version.
        b"mif1" | b"mif2" | b"msf1" | b"miaf" => Some(
            others
                .iter()
                .skip(1)
                .take(16)
                .find_map(of)
                .unwrap_or(SourceFormat::Heic),
        ),
        _ => None,
    })?;
    is_built_in(found).then_some(found)
}

fn is_built_in(format: SourceFormat) -> bool {
    format == SourceFormat::Heic && cfg!(feature = "heic")
        || format == SourceFormat::Avif && cfg!(feature = "avif")
}

/// The header alone; nothing is decoded.
///
/// Errors: `image_corrupt`, `unsupported_format`, `image_too_large` for any picture in it.
pub(super) fn header(bytes: &[u8], format: SourceFormat, limits: &Limits) -> Result<Header> {
    let still = Still::open(bytes, format, limits).map_err(|failure| failure.told(format))?;
    Ok(still.header(bytes.len()))
}

/// The stored pixels as sRGB or, if wanted, as they are; cropped, not yet turned upright.
pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    limits: &Limits,
    wanted: &Wanted,
) -> Result<Kept> {
    decode_still(bytes, header, limits, wanted).map_err(|failure| failure.told(header.format))
}

fn decode_still(
    bytes: &[u8],
    header: &Header,
    limits: &Limits,
    wanted: &Wanted,
) -> Result<Kept, Failure> {
    let still = Still::open(bytes, header.format, limits)?;
    if still.header(bytes.len()) != *header {
        return Err(Failure::damaged(
            "it is not the file whose header was checked",
        ));
    }
    let (deep, (rgb, alpha), profile) = if wanted.depth == Depth::Source && still.is_deep() {
        let stored = pixels::<u16>(&still)?;
        let icc = icc(&still, stored.in_stream)?;
        let icc = icc.as_deref();
        let (rgb, profile) = if stored.is_described_as_grey(icc) {
            (colour::deep_grey_to_srgb(stored.grey(), icc), None)
        } else {
            colour::deep_rgb(stored.rgb, icc, wanted.profile)
        };
        let alpha = stored.alpha;
        let deep = Deep { rgb, alpha };
        let shallow = deep::shallow(&deep);
        (Some(deep), shallow, profile)
    } else {
        let stored = pixels::<u8>(&still)?;
        let icc = icc(&still, stored.in_stream)?;
        let icc = icc.as_deref();
        let (rgb, profile) = if stored.is_described_as_grey(icc) {
            let grey: Vec<u8> = stored.grey().collect();
            drop(stored.rgb);
            (colour::grey_to_srgb(&grey, icc), None)
        } else {
            colour::rgb(stored.rgb, icc, wanted.profile)
        };
        (None, (rgb, stored.alpha), profile)
    };
    let exif = match wanted.metadata {
        KeepMetadata::None => None,
        _ => still.exif(),
    };
    Ok(Kept {
        photo: Photo {
            width: header.width,
            height: header.height,
            rgb,
            alpha,
        },
        deep,
        carried: Carried {
            profile,
            exif: wanted.exif(exif.as_deref()),
        },
    })
}

/// What is shown, in its own colours.
struct Stored<S> {
    /// Three samples a pixel.
    rgb: Vec<S>,
    /// A sample a pixel.
    alpha: Option<Vec<S>>,
    /// Whether it has luma alone, and so three times the same sample.
    is_grey: bool,
    /// What the first stream says of its colours.
    in_stream: Option<StreamColours>,
}

impl<S: Level> Stored<S> {
    /// Whether it is grey, and has a profile for grey.
    fn is_described_as_grey(&self, icc: Option<&[u8]>) -> bool {
        self.is_grey && icc.is_some_and(colour::is_of_grey)
    }

    /// One sample of each pixel.
    fn grey(&self) -> impl ExactSizeIterator<Item = S> {
        self.rgb.iter().step_by(3).copied()
    }
}

/// Decoded and cropped.
fn pixels<S: Level>(still: &Still<'_>) -> Result<Stored<S>, Failure> {
    // Alpha first: it leaves one sample a pixel, and colour is decoded beside that.
    let alpha = still.alpha.as_ref();
    let mut alpha = alpha
        .map(|a| paint::alpha::<S>(&still.file, a))
        .transpose()?;
    let mut stored = paint::colour::<S>(still)?;
    if let Some(alpha) = alpha.as_ref().filter(|_| still.is_premultiplied) {
        paint::unpremultiply(&mut stored.rgb, alpha);
    }
    let size = (still.colour.width, still.colour.height);
    still.crop.apply::<S, 3>(&mut stored.rgb, size);
    if let Some(alpha) = &mut alpha {
        still.crop.apply::<S, 1>(alpha, size);
    }
    Ok(Stored { alpha, ..stored })
}

/// The profile of the colours: the file's own, or one for its code points or else its stream's. `None` for sRGB.
fn icc<'s>(
    still: &'s Still<'_>,
    in_stream: Option<StreamColours>,
) -> Result<Option<Cow<'s, [u8]>>, Failure> {
    if let Some(icc) = still.icc() {
        return Ok(Some(Cow::Borrowed(icc)));
    }
    let told = still.code_points();
    let told = told.map(|nclx| (nclx.primaries, nclx.transfer));
    let Some((primaries, transfer)) = told.or(in_stream) else {
        return Ok(None);
    };
    still::is_shown_as_is(transfer)?;
    Ok(code_points::profile(primaries, transfer).map(Cow::Owned))
}

/// Primaries and transfer of a stream, code points of ITU-T H.273.
type StreamColours = (u16, u16);

/// A coded picture, and what its stream says of colours where the container does not.
struct Coded {
    frame: heifer::heifer_hevc_dec::recon::Frame,
    code_points: Option<StreamColours>,
}

/// Decodes one coded item of a codec.
fn coded(
    file: &HeifFile<'_>,
    codec: SourceFormat,
    id: u32,
    size: (u32, u32),
) -> Result<Coded, Failure> {
    match codec {
        #[cfg(feature = "heic")]
        SourceFormat::Heic => hevc::decode(file, id, size),
        #[cfg(feature = "avif")]
        SourceFormat::Avif => av1::decode(file, id, size),
        other => Err(Failure::Unread(format!("{other} is not built in"))),
    }
}
