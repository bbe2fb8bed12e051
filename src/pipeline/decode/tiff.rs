//! A look at a TIFF's first directory before its decoder does: that makes room for as many values
//! as a tag claims, up to 256 MB, before any limit can be given to it, and for as many pixels as a
//! JPEG within it claims, which no limit reaches.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Result, Seek, SeekFrom};

use super::jpeg::segments::Segments;

/// More values than any tag has that describes a picture: an offset for each of 32,768 rows of
/// four planes.
const MAX_VALUES: u64 = 1 << 17;

/// Why a file is not worth decoding. What is broken otherwise is the decoder's to find.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The tag that claims too many values, with their number.
    TooManyValues(u16, u64),
    /// The tag of the picture that is there twice: the decoder might believe the other one.
    Twice(u16),
    /// Its strips or tiles are JPEGs that would cost more than the picture justifies.
    Jpeg(&'static str),
}

/// Looks at the first directory, which is the one that is decoded; whether the pixels may be
/// stored as JPEGs.
pub(super) fn holds_jpegs(bytes: &[u8]) -> std::result::Result<bool, Refusal> {
    let mut file = Reader {
        big_endian: bytes.starts_with(b"MM"),
        big: false,
        cursor: Cursor::new(bytes),
    };
    // An error is the file's end, here and below.
    let Ok(directory) = file.directory() else {
        return Ok(false);
    };
    let directory = directory?;
    // What cannot be read here may be readable to the decoder.
    let jpegs = directory.contains_key(&tag::COMPRESSION)
        && !matches!(file.first(&directory, tag::COMPRESSION), Ok(Some(other)) if other != JPEG);
    if jpegs && let Some(why) = file.hostile_jpeg(&directory, bytes).ok().flatten() {
        return Err(Refusal::Jpeg(why));
    }
    Ok(jpegs)
}

/// Colour profiles, metadata and descriptions may be long: they are read with limits, or not at all.
const fn describes_the_picture(tag: u16) -> bool {
    // TIFF 6.0's from the size to the JPEG tables, and those of YCbCr; without its texts.
    matches!(tag, 254..=347 | 512..=532) && !matches!(tag, 269..=272 | 305 | 306 | 315 | 316)
}

/// A tag of the first directory.
#[derive(Clone, Copy)]
struct Entry {
    kind: u64,
    count: u64,
    /// Where its value stands, or the place of it.
    at: u64,
}

type Directory = BTreeMap<u16, Entry>;

struct Reader<'a> {
    big_endian: bool,
    /// BigTIFF has longer offsets and counts.
    big: bool,
    cursor: Cursor<&'a [u8]>,
}

mod tag {
    pub const WIDTH: u16 = 256;
    pub const LENGTH: u16 = 257;
    pub const COMPRESSION: u16 = 259;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_BYTES: u16 = 279;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_LENGTH: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_BYTES: u16 = 325;
    pub const JPEG_TABLES: u16 = 347;
}

/// What `COMPRESSION` says of strips that are JPEGs (TIFF Technical Note 2).
const JPEG: u64 = 7;

impl Reader<'_> {
    const fn wide(&self) -> usize {
        if self.big { 8 } else { 4 }
    }

    /// The tags, or what is wrong with one.
    fn directory(&mut self) -> Result<std::result::Result<Directory, Refusal>> {
        self.cursor.seek(SeekFrom::Start(2))?;
        self.big = self.number(2)? == 43;
        let wide = self.wide();
        self.cursor
            .seek(SeekFrom::Start(if self.big { 8 } else { 4 }))?;
        let directory = self.number(wide)?;
        self.cursor.seek(SeekFrom::Start(directory))?;
        let entries = self.number(if self.big { 8 } else { 2 })?;
        let mut found = Directory::new();
        for _ in 0..entries {
            let tag = self.number(2)? as u16;
            let kind = self.number(2)?;
            let count = self.number(wide)?;
            let at = self.cursor.position();
            let _value = self.number(wide)?;
            if count > MAX_VALUES && describes_the_picture(tag) {
                return Ok(Err(Refusal::TooManyValues(tag, count)));
            }
            let former = found.insert(tag, Entry { kind, count, at });
            if former.is_some() && describes_the_picture(tag) {
                return Ok(Err(Refusal::Twice(tag)));
            }
        }
        Ok(Ok(found))
    }

    /// The decoder hands each strip to a JPEG decoder that makes room for whatever size and however
    /// many scans that JPEG gives itself, and compares with the TIFF's own afterwards.
    fn hostile_jpeg(&mut self, directory: &Directory, file: &[u8]) -> Result<Option<&'static str>> {
        let width = self.first(directory, tag::WIDTH)?.unwrap_or(0);
        let length = self.first(directory, tag::LENGTH)?.unwrap_or(0);
        let tiled = directory.contains_key(&tag::TILE_WIDTH);
        let (size, offsets, counts) = if tiled {
            let side = [tag::TILE_WIDTH, tag::TILE_LENGTH]
                .map(|tag| self.first(directory, tag).map(|side| side.unwrap_or(0)));
            let [width, length] = side;
            ((width?, length?), tag::TILE_OFFSETS, tag::TILE_BYTES)
        } else {
            let rows = self.first(directory, tag::ROWS_PER_STRIP)?;
            let rows = rows.unwrap_or(length).min(length);
            ((width, rows), tag::STRIP_OFFSETS, tag::STRIP_BYTES)
        };
        if let Some(tables) = directory.get(&tag::JPEG_TABLES) {
            let start = self.place(tables, tables.count)?;
            let tables = slice(file, start, tables.count);
            if !Segments::of(tables).is_ok_and(|tables| tables.frames.is_empty()) {
                return Ok(Some("its JPEG tables hold more than tables"));
            }
        }
        let offsets = self.numbers(directory, offsets)?;
        let counts = self.numbers(directory, counts)?;
        // Each is copied before it is decoded.
        if counts.iter().fold(0, |sum: u64, n| sum.saturating_add(*n)) > file.len() as u64 {
            return Ok(Some("its parts overlap"));
        }
        for (&offset, &count) in offsets.iter().zip(&counts) {
            let part = slice(file, offset, count);
            let Ok(segments) = Segments::of(part) else {
                return Ok(Some("one of its parts has an absurd header"));
            };
            for frame in &segments.frames {
                // libtiff refuses what exceeds the strip as well, and only what is larger.
                if u64::from(frame.width) > size.0 || u64::from(frame.height) > size.1 {
                    return Ok(Some("one of its parts is larger than the TIFF says"));
                }
                if frame.kind > 1 || segments.is_sequential_in_parts(part) {
                    return Ok(Some("one of its parts is no baseline JPEG"));
                }
            }
        }
        Ok(None)
    }

    /// The first value of a tag.
    fn first(&mut self, directory: &Directory, tag: u16) -> Result<Option<u64>> {
        Ok(match directory.get(&tag) {
            Some(&entry) => self
                .values(Entry {
                    count: entry.count.min(1),
                    ..entry
                })?
                .first()
                .copied(),
            None => None,
        })
    }

    fn numbers(&mut self, directory: &Directory, tag: u16) -> Result<Vec<u64>> {
        match directory.get(&tag) {
            Some(&entry) => self.values(entry),
            None => Ok(Vec::new()),
        }
    }

    /// Whole numbers of 1, 2, 4 or 8 bytes; none of any other kind. There are not too many.
    fn values(&mut self, entry: Entry) -> Result<Vec<u64>> {
        let bytes = match entry.kind {
            1 | 7 => 1,
            3 => 2,
            4 | 13 => 4,
            16 | 18 => 8,
            _ => return Ok(Vec::new()),
        };
        let start = self.place(&entry, entry.count.saturating_mul(bytes))?;
        self.cursor.seek(SeekFrom::Start(start))?;
        (0..entry.count)
            .map(|_| self.number(bytes as usize))
            .collect()
    }

    /// Where so many bytes of a tag's values are: in the directory if they fit.
    fn place(&mut self, entry: &Entry, bytes: u64) -> Result<u64> {
        if bytes <= self.wide() as u64 {
            return Ok(entry.at);
        }
        self.cursor.seek(SeekFrom::Start(entry.at))?;
        self.number(self.wide())
    }

    fn number(&mut self, bytes: usize) -> Result<u64> {
        let mut number = [0; 8];
        if self.big_endian {
            self.cursor.read_exact(&mut number[8 - bytes..])?;
            Ok(u64::from_be_bytes(number))
        } else {
            self.cursor.read_exact(&mut number[..bytes])?;
            Ok(u64::from_le_bytes(number))
        }
    }
}

/// As much of it as there is.
fn slice(file: &[u8], offset: u64, count: u64) -> &[u8] {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(file.len());
    &file[place(offset)..place(offset.saturating_add(count))]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One directory with a short text, and `tag` with `count` values.
    fn file(big: bool, big_endian: bool, tag: u16, count: u64) -> Vec<u8> {
        let mut file = Vec::new();
        let mut put = |number: u64, bytes: usize| {
            if big_endian {
                file.extend_from_slice(&number.to_be_bytes()[8 - bytes..]);
            } else {
                file.extend_from_slice(&number.to_le_bytes()[..bytes]);
            }
        };
        let wide = if big { 8 } else { 4 };
        put(if big_endian { 0x4d4d } else { 0x4949 }, 2);
        put(if big { 43 } else { 42 }, 2);
        if big {
            put(8, 2);
            put(0, 2);
        }
        put(if big { 16 } else { 8 }, wide);
        put(2, if big { 8 } else { 2 });
        for (tag, count) in [(270, 1), (tag, count)] {
            put(u64::from(tag), 2);
            put(4, 2);
            put(count, wide);
            put(0, wide);
        }
        file
    }

    #[test]
    fn a_tag_with_too_many_values_is_found_in_every_kind_of_tiff() {
        for (big, big_endian) in [(false, false), (false, true), (true, false), (true, true)] {
            let found = |tag, count| match holds_jpegs(&file(big, big_endian, tag, count)) {
                Err(Refusal::TooManyValues(tag, count)) => Some((tag, count)),
                _ => None,
            };
            assert_eq!(found(256, 1 << 20), Some((256, 1 << 20)));
            assert_eq!(found(273, MAX_VALUES), None);
            // A description, a colour profile.
            assert_eq!(found(270, 1 << 20), None);
            assert_eq!(found(34675, 1 << 20), None);
        }
        assert_eq!(holds_jpegs(b"II*\0"), Ok(false));
    }

    #[test]
    fn a_jpeg_must_not_be_larger_than_its_strip_or_tile() {
        let tags = |tags: &[(u16, u16)]| {
            let mut file = b"II*\0\x08\0\0\0".to_vec();
            let jpeg = [
                0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0, 32, 0, 40, 1, 1, 0x11, 0,
            ];
            let behind = 8 + 2 + 12 * (tags.len() as u16 + 2);
            let place = [
                (tag::STRIP_OFFSETS, behind),
                (tag::STRIP_BYTES, jpeg.len() as u16),
            ];
            file.extend((tags.len() as u16 + 2).to_le_bytes());
            for (tag, value) in tags.iter().chain(&place) {
                file.extend([tag.to_le_bytes(), [3, 0], [1, 0], [0, 0]].concat());
                file.extend([value.to_le_bytes(), [0, 0]].concat());
            }
            file.extend(jpeg);
            holds_jpegs(&file)
        };
        let too_large = Err(Refusal::Jpeg(
            "one of its parts is larger than the TIFF says",
        ));
        assert_eq!(tags(&[(256, 40), (257, 99), (278, 32), (259, 7)]), Ok(true));
        assert_eq!(
            tags(&[(256, 40), (257, 99), (278, 16), (259, 7)]),
            too_large
        );
        assert_eq!(
            tags(&[(256, 24), (257, 99), (278, 32), (259, 7)]),
            too_large
        );
        // One strip where no rows are given.
        assert_eq!(tags(&[(256, 40), (257, 32), (259, 7)]), Ok(true));
        assert_eq!(tags(&[(256, 40), (257, 31), (259, 7)]), too_large);
        // Said twice; and what only looks like a JPEG among other pixels.
        assert_eq!(
            tags(&[(256, 40), (256, 8), (259, 7)]),
            Err(Refusal::Twice(256))
        );
        assert_eq!(tags(&[(256, 9), (257, 9), (278, 9), (259, 5)]), Ok(false));
    }
}
