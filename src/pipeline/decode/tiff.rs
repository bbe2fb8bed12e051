//! A look at a TIFF's first directory before its decoder does: that makes room for as many values
//! as a tag claims, up to 256 MB, before any limit can be given to it.

use std::io::{Cursor, Read, Result, Seek, SeekFrom};

/// More values than any tag has that describes a picture: an offset for each of 32,768 rows of
/// four planes.
const MAX_VALUES: u64 = 1 << 17;

/// The tag that claims too many values, with their number, if there is one. What is broken
/// otherwise is the decoder's to find.
pub(super) fn tag_with_too_many_values(bytes: &[u8]) -> Option<(u16, u64)> {
    let mut file = Reader {
        big_endian: bytes.starts_with(b"MM"),
        cursor: Cursor::new(bytes),
    };
    // An error is the file's end.
    file.worst().ok().flatten()
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
    fn worst(&mut self) -> Result<Option<(u16, u64)>> {
        self.cursor.seek(SeekFrom::Start(2))?;
        // BigTIFF has longer offsets and counts.
        let big = self.number(2)? == 43;
        let wide = if big { 8 } else { 4 };
        self.cursor.seek(SeekFrom::Start(if big { 8 } else { 4 }))?;
        let directory = self.number(wide)?;
        self.cursor.seek(SeekFrom::Start(directory))?;
        let entries = self.number(if big { 8 } else { 2 })?;
        for _ in 0..entries {
            let tag = self.number(2)? as u16;
            let _kind = self.number(2)?;
            let count = self.number(wide)?;
            let _value = self.number(wide)?;
            if count > MAX_VALUES && describes_the_picture(tag) {
                return Ok(Some((tag, count)));
            }
        }
        Ok(None)
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
            let found = |tag, count| tag_with_too_many_values(&file(big, big_endian, tag, count));
            assert_eq!(found(256, 1 << 20), Some((256, 1 << 20)));
            assert_eq!(found(273, MAX_VALUES), None);
            // A description, a colour profile.
            assert_eq!(found(270, 1 << 20), None);
            assert_eq!(found(34675, 1 << 20), None);
        }
        assert_eq!(tag_with_too_many_values(b"II*\0"), None);
    }
}
