//! A look at a TIFF's first directory before its decoder does: that makes room for as many values
//! as a tag claims, up to 256 MB, before any limit can be given to it, and for whatever size a JPEG
//! in it gives itself.

use std::io::{Cursor, Read, Result, Seek, SeekFrom};

/// More values than any tag has that describes a picture: an offset for each of 32,768 rows of
/// four planes.
const MAX_VALUES: u64 = 1 << 17;

/// What the directory says that matters here. What is broken otherwise is the decoder's to find.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    /// The tag that claims too many values, with their number.
    pub(super) excess: Option<(u16, u64)>,
    /// Whether the pixels may be stored as JPEGs.
    pub(super) jpeg: bool,
    /// Largest width and height of a block (strip or tile) of pixels.
    block: (u64, u64),
}

impl Directory {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut file = Reader {
            big_endian: bytes.starts_with(b"MM"),
            cursor: Cursor::new(bytes),
        };
        let mut directory = Self::default();
        // An error is the file's end.
        let _ = file.fill(&mut directory);
        directory
    }

    /// The size of a JPEG that is larger than the block that it is said to be. Each block may be
    /// the same JPEG, so even one of a few megapixels would be decoded for hours.
    pub(super) fn oversized_jpeg(&self, bytes: &[u8]) -> Option<(u64, u64)> {
        // Padded to whole JPEG blocks.
        let (width, height) = (self.block.0 + 15, self.block.1 + 15);
        if !self.jpeg {
            return None;
        }
        frames(bytes).find(|frame| frame.0 > width || frame.1 > height)
    }
}

/// Widths and heights of what looks like JPEG frame headers: the marker, the length that fits the
/// number of components, 8 bits a sample. Chance would bring that about once in petabytes.
fn frames(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    bytes.windows(10).filter_map(|window| match *window {
        [0xff, 0xc0..=0xc2, 0, length, 8, h1, h0, w1, w0, components]
            if usize::from(length) == 8 + 3 * usize::from(components) =>
        {
            let side = |high, low| u64::from(u16::from_be_bytes([high, low]));
            Some((side(w1, w0), side(h1, h0)))
        }
        _ => None,
    })
}

/// Colour profiles, metadata and descriptions may be long: they are read with limits, or not at all.
const fn describes_the_picture(tag: u16) -> bool {
    // TIFF 6.0's from the size to the JPEG tables, and those of YCbCr; without its texts.
    matches!(tag, 254..=347 | 512..=532) && !matches!(tag, 269..=272 | 305 | 306 | 315 | 316)
}

struct Reader<'a> {
    big_endian: bool,
    cursor: Cursor<&'a [u8]>,
}

impl Reader<'_> {
    fn fill(&mut self, found: &mut Directory) -> Result<()> {
        const JPEG: u64 = 7;
        self.cursor.seek(SeekFrom::Start(2))?;
        // BigTIFF has longer offsets and counts.
        let big = self.number(2)? == 43;
        let wide = if big { 8 } else { 4 };
        self.cursor.seek(SeekFrom::Start(if big { 8 } else { 4 }))?;
        let directory = self.number(wide)?;
        self.cursor.seek(SeekFrom::Start(directory))?;
        let entries = self.number(if big { 8 } else { 2 })?;
        let (mut strip, mut tile) = ((None, None), (None, None));
        for _ in 0..entries {
            let tag = self.number(2)? as u16;
            let kind = self.number(2)?;
            let count = self.number(wide)?;
            let value = self.cursor.position();
            // A number as everybody writes it; any other spelling counts as 0.
            let number = match (kind, count) {
                (3, 1) => self.number(2)?,
                (4, 1) => self.number(4)?,
                _ => 0,
            };
            self.cursor.seek(SeekFrom::Start(value + wide as u64))?;
            if count > MAX_VALUES && describes_the_picture(tag) {
                found.excess = Some((tag, count));
            }
            // Of several the least: whichever the decoder takes, it is no less.
            let least = |known: &mut Option<u64>| {
                *known = Some(known.map_or(number, |known| known.min(number)));
            };
            match tag {
                256 => least(&mut strip.0),
                278 => least(&mut strip.1),
                322 => least(&mut tile.0),
                323 => least(&mut tile.1),
                259 => found.jpeg |= matches!(number, 0 | JPEG),
                _ => {}
            }
        }
        found.block = match tile {
            (None, None) => (strip.0.unwrap_or(0), strip.1.unwrap_or(u64::MAX >> 1)),
            (width, height) => (width.unwrap_or(0), height.unwrap_or(0)),
        };
        Ok(())
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
            let found = |tag, count| Directory::of(&file(big, big_endian, tag, count)).excess;
            assert_eq!(found(256, 1 << 20), Some((256, 1 << 20)));
            assert_eq!(found(273, MAX_VALUES), None);
            // A description, a colour profile.
            assert_eq!(found(270, 1 << 20), None);
            assert_eq!(found(34675, 1 << 20), None);
        }
        assert_eq!(Directory::of(b"II*\0"), Directory::default());
    }

    #[test]
    fn a_jpeg_must_not_be_larger_than_its_strip_or_tile() {
        let tags = |tags: &[(u16, u16)]| {
            let mut file = b"II*\0\x08\0\0\0".to_vec();
            file.extend((tags.len() as u16).to_le_bytes());
            for (tag, value) in tags {
                file.extend([tag.to_le_bytes(), [3, 0], [1, 0], [0, 0]].concat());
                file.extend([value.to_le_bytes(), [0, 0]].concat());
            }
            // A frame of 40×32 pixels, one component.
            file.extend([0xff, 0xc2, 0, 11, 8, 0, 32, 0, 40, 1]);
            Directory::of(&file).oversized_jpeg(&file)
        };
        let too_large = Some((40, 32));
        assert_eq!(tags(&[(256, 40), (278, 32), (259, 7)]), None);
        assert_eq!(tags(&[(256, 40), (278, 16), (259, 7)]), too_large);
        assert_eq!(tags(&[(256, 24), (278, 32), (259, 7)]), too_large);
        // One strip where no rows are given; tiles may be larger than the picture.
        assert_eq!(tags(&[(256, 40), (259, 7)]), None);
        assert_eq!(tags(&[(256, 9), (322, 48), (323, 32), (259, 7)]), None);
        assert_eq!(
            tags(&[(256, 99), (278, 99), (322, 16), (259, 7)]),
            too_large
        );
        // Said twice; and what only looks like a JPEG among other pixels.
        assert_eq!(tags(&[(256, 40), (256, 8), (259, 7)]), too_large);
        assert_eq!(tags(&[(256, 9), (278, 9), (259, 5)]), None);
    }
}
