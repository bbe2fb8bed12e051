//! What of a photo's EXIF goes into the pictures made of it.
//!
//! Written anew from the fields that are wanted, so that nothing goes along unseen: not the thumbnail,
//! which shows the background, not the maker's notes and XMP, which may say where it was.

use std::collections::HashSet;
use std::io::Cursor;

use bytes::Bytes;
use exif::experimental::Writer;
use exif::{Context, Exif, Field, In, Rational, Reader, Tag, Value};

use crate::job::KeepMetadata;

/// What a JPEG's segment holds at most. Cameras write no more, and what a field may take when it is
/// read is bounded by it.
const MAX_BYTES: usize = 64 << 10;

/// The EXIF block (a TIFF without a picture) for a picture of these dots an inch; `None` where there is
/// nothing to keep, or what there is cannot be read.
pub(super) fn kept(raw: &[u8], keep: KeepMetadata, dpi: u32) -> Option<Bytes> {
    if keep == KeepMetadata::None {
        return None;
    }
    if raw.len() > MAX_BYTES {
        tracing::debug!(bytes = raw.len(), "the EXIF is too large; not kept");
        return None;
    }
    let exif = read(raw)?;
    let mut fields = chosen(&exif, keep);
    if fields.is_empty() {
        return None;
    }
    let of = |tag, value| Field {
        tag,
        ifd_num: In::PRIMARY,
        value,
    };
    let resolution = || Value::Rational(vec![Rational { num: dpi, denom: 1 }]);
    // Pixels are turned upright, and of the resolution that was asked for; 2 is the inch.
    fields.push(of(Tag::Orientation, Value::Short(vec![1])));
    fields.push(of(Tag::XResolution, resolution()));
    fields.push(of(Tag::YResolution, resolution()));
    fields.push(of(Tag::ResolutionUnit, Value::Short(vec![2])));
    let mut writer = Writer::new();
    fields.iter().for_each(|field| writer.push_field(field));
    let mut file = Cursor::new(Vec::new());
    match writer.write(&mut file, exif.little_endian()) {
        Ok(()) => Some(file.into_inner().into()),
        Err(error) => {
            tracing::debug!(%error, "the EXIF cannot be written; not kept");
            None
        }
    }
}

/// As far as it can be read: cameras write fields that end behind the block's end.
fn read(raw: &[u8]) -> Option<Exif> {
    let mut reader = Reader::new();
    reader
        .continue_on_error(true)
        .read_raw(raw.to_vec())
        .or_else(|error| {
            error.distill_partial_result(|errors| {
                tracing::debug!(?errors, "parts of the EXIF cannot be read; not kept");
            })
        })
        .inspect_err(|error| tracing::debug!(%error, "the EXIF cannot be read; not kept"))
        .ok()
}

/// The fields that are wanted, each once. A value is not looked at before it is: any number of fields may
/// name the same bytes.
fn chosen(exif: &Exif, keep: KeepMetadata) -> Vec<Field> {
    let mut seen = HashSet::new();
    let mut room = MAX_BYTES;
    let mut chosen = Vec::new();
    for field in exif.fields() {
        let first = field.ifd_num == In::PRIMARY && seen.insert(field.tag);
        if !first || !is_wanted(field.tag, keep) {
            continue;
        }
        let Some(bytes) = size(&field.value) else {
            continue;
        };
        let Some(rest) = room.checked_sub(bytes) else {
            tracing::debug!("the EXIF unpacks to more than it is; the rest is not kept");
            break;
        };
        room = rest;
        chosen.push(field.clone());
    }
    chosen
}

fn is_wanted(tag: Tag, keep: KeepMetadata) -> bool {
    let is_authors = matches!(tag, Tag::Artist | Tag::Copyright);
    match (keep, tag.context()) {
        (KeepMetadata::None, _) => false,
        (KeepMetadata::Copyright, _) => is_authors,
        (KeepMetadata::ExifWithLocation, Context::Gps) => tag.description().is_some(),
        (_, Context::Tiff) => {
            is_authors
                || matches!(
                    tag,
                    Tag::ImageDescription | Tag::Make | Tag::Model | Tag::Software | Tag::DateTime
                )
        }
        // What describes the stored picture is not true of this one, and a number of a camera or a photo is a
        // person's.
        (_, Context::Exif) => {
            tag.description().is_some()
                && !matches!(
                    tag,
                    Tag::MakerNote
                        | Tag::SubjectArea
                        | Tag::SubjectLocation
                        | Tag::FocalPlaneXResolution
                        | Tag::FocalPlaneYResolution
                        | Tag::FocalPlaneResolutionUnit
                        | Tag::CameraOwnerName
                        | Tag::BodySerialNumber
                        | Tag::LensSerialNumber
                        | Tag::ImageUniqueID
                        | Tag::ColorSpace
                        | Tag::PixelXDimension
                        | Tag::PixelYDimension
                        | Tag::ComponentsConfiguration
                        | Tag::CompressedBitsPerPixel
                        | Tag::RelatedSoundFile
                )
        }
        _ => false,
    }
}

/// Bytes that a value takes in the file; `None` for one of no known type, or of none at all.
fn size(value: &Value) -> Option<usize> {
    let bytes = match value {
        Value::Byte(values) => values.len(),
        Value::Ascii(texts) => texts.iter().map(|text| text.len() + 1).sum(),
        Value::Short(values) => 2 * values.len(),
        Value::Long(values) => 4 * values.len(),
        Value::Rational(values) => 8 * values.len(),
        Value::SByte(values) => values.len(),
        Value::Undefined(values, _) => values.len(),
        Value::SShort(values) => 2 * values.len(),
        Value::SLong(values) => 4 * values.len(),
        Value::SRational(values) => 8 * values.len(),
        Value::Float(values) => 4 * values.len(),
        Value::Double(values) => 8 * values.len(),
        Value::Unknown(..) => return None,
    };
    (bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A block with a bit of everything, by its fields.
    fn block(more: &[(Tag, u16, Value)]) -> Vec<u8> {
        let text = |text: &str| Value::Ascii(vec![text.as_bytes().to_vec()]);
        let degrees = || {
            Value::Rational(vec![
                Rational { num: 52, denom: 1 },
                Rational { num: 31, denom: 1 },
                Rational { num: 0, denom: 1 },
            ])
        };
        let mut all = vec![
            (Tag::Artist, 0, text("Ada")),
            (Tag::Copyright, 0, text("Ada 2026")),
            (Tag::Make, 0, text("Camera")),
            (Tag::Orientation, 0, Value::Short(vec![6])),
            (Tag::DateTimeOriginal, 0, text("2026:11:29 20:00:00")),
            (Tag::MakerNote, 0, Value::Undefined(b"52.5 N".to_vec(), 0)),
            (Tag::PixelXDimension, 0, Value::Long(vec![4000])),
            (Tag::SubjectArea, 0, Value::Short(vec![10, 20])),
            (Tag::BodySerialNumber, 0, text("5512")),
            (Tag(Context::Exif, 0xfde8), 0, text("52.5 N, unknown")),
            (
                Tag(Context::Tiff, 0x02bc),
                0,
                Value::Byte(b"<x:xmpmeta/>".to_vec()),
            ),
            (Tag::GPSLatitudeRef, 0, text("N")),
            (Tag::GPSLatitude, 0, degrees()),
            (Tag::ImageDescription, 1, text("thumbnail")),
        ];
        all.extend_from_slice(more);
        let fields: Vec<_> = all
            .into_iter()
            .map(|(tag, ifd, value)| Field {
                tag,
                ifd_num: In(ifd),
                value,
            })
            .collect();
        let mut writer = Writer::new();
        fields.iter().for_each(|field| writer.push_field(field));
        let mut file = Cursor::new(Vec::new());
        writer.write(&mut file, true).unwrap();
        file.into_inner()
    }

    fn tags(block: &[u8]) -> Vec<Tag> {
        let exif = Reader::new().read_raw(block.to_vec()).unwrap();
        exif.fields().map(|field| field.tag).collect()
    }

    #[test]
    fn each_choice_keeps_what_it_says_and_only_one_of_them_the_location() {
        let raw = block(&[]);
        assert_eq!(kept(&raw, KeepMetadata::None, 300), None);
        let always = [
            Tag::Orientation,
            Tag::XResolution,
            Tag::YResolution,
            Tag::ResolutionUnit,
        ];
        let of = |keep| tags(&kept(&raw, keep, 300).unwrap());
        let copyright = of(KeepMetadata::Copyright);
        assert_eq!(copyright.len(), 2 + always.len());
        let exif = of(KeepMetadata::Exif);
        let located = of(KeepMetadata::ExifWithLocation);
        for tag in always {
            for found in [&copyright, &exif, &located] {
                assert!(found.contains(&tag), "{tag}");
            }
        }
        for tag in [
            Tag::Artist,
            Tag::Copyright,
            Tag::Make,
            Tag::DateTimeOriginal,
        ] {
            assert!(exif.contains(&tag) && located.contains(&tag), "{tag}");
        }
        assert_eq!(exif.len(), 4 + always.len(), "{exif:?}");
        assert_eq!(located.len(), exif.len() + 2, "{located:?}");
        let is_gps = |tag: &Tag| tag.context() == Context::Gps;
        assert!(!exif.iter().any(is_gps) && !copyright.iter().any(is_gps));
    }

    #[test]
    fn the_orientation_is_upright_and_the_resolution_the_pictures() {
        let written = kept(&block(&[]), KeepMetadata::Exif, 96).unwrap();
        let exif = Reader::new().read_raw(written.to_vec()).unwrap();
        let of = |tag| exif.get_field(tag, In::PRIMARY).unwrap().value.clone();
        assert_eq!(of(Tag::Orientation).get_uint(0), Some(1));
        assert_eq!(of(Tag::ResolutionUnit).get_uint(0), Some(2));
        let Value::Rational(dpi) = of(Tag::XResolution) else {
            panic!("a resolution is a fraction");
        };
        assert_eq!(dpi[0].to_f64(), 96.0);
    }

    #[test]
    fn what_is_broken_empty_or_too_large_is_not_kept() {
        for raw in [
            &b""[..],
            b"II*\0",
            b"MM\0*\0\0\0\x08\0\0\0\0\0\0",
            b"not exif at all",
        ] {
            assert_eq!(kept(raw, KeepMetadata::ExifWithLocation, 300), None);
        }
        let long = Value::Ascii(vec![vec![b'x'; MAX_BYTES]]);
        let raw = block(&[(Tag::Software, 0, long)]);
        assert_eq!(kept(&raw, KeepMetadata::Exif, 300), None);
    }

    #[test]
    fn fields_that_name_the_same_bytes_do_not_make_the_file_larger() {
        // Fields of 40,000 bytes each, all of them the same ones.
        let numbers = [0x9000_u16, 0x9003, 0x9004, 0x9286, 0x9290, 0x9291, 0xa420];
        let ifd = 8 + 2 + 12 + 4;
        let mut raw = b"II*\0\x08\0\0\0\x01\0".to_vec();
        raw.extend([0x69, 0x87, 4, 0, 1, 0, 0, 0]);
        raw.extend((ifd as u32).to_le_bytes());
        raw.extend([0; 4]);
        raw.extend((numbers.len() as u16).to_le_bytes());
        for number in numbers {
            raw.extend(number.to_le_bytes());
            raw.extend([2, 0]);
            raw.extend(40_000_u32.to_le_bytes());
            raw.extend(1000_u32.to_le_bytes());
        }
        raw.resize(41_100, b'y');
        let written = kept(&raw, KeepMetadata::Exif, 300).unwrap();
        assert!(written.len() < MAX_BYTES, "{}", written.len());
        assert!(written.len() > 40_000);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_grow(
            at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>(),
            junk in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut raw = block(&[]);
            let at = at.index(raw.len());
            raw[at] = value;
            raw.truncate(cut.index(raw.len()) + 1);
            for raw in [raw, [b"MM\0*\0\0\0\x08", &junk[..]].concat()] {
                let written = kept(&raw, KeepMetadata::Exif, 300).unwrap_or_default();
                prop_assert!(written.len() <= 2 * MAX_BYTES);
                if !written.is_empty() {
                    prop_assert!(!tags(&written).iter().any(|tag| tag.context() == Context::Gps));
                }
            }
        }
    }
}
