//! What a JPEG's decoder gets to see of metadata: what somebody asks for, and nothing else.

use std::ops::Range;

use zune_jpeg::zune_core::bytestream::{ZByteIoError, ZByteReaderTrait, ZSeekFrom};

/// A file whose metadata reads as zeros but for some places.
///
/// The decoder looks at metadata without reading on, then keeps a copy of what it knows by its
/// name: as much as the file is large, which no budget has paid for. What is not shown it does not
/// know, and steps over. Pixels, and the tables and headers that they need, are read for good, and
/// are never hidden.
pub(super) struct Shown<'a> {
    bytes: &'a [u8],
    at: usize,
    metadata: Vec<Range<usize>>,
}

impl<'a> Shown<'a> {
    /// Shows the metadata at these places.
    pub fn new(bytes: &'a [u8], metadata: Vec<Range<usize>>) -> Self {
        Self {
            bytes,
            at: 0,
            metadata,
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn not_enough(&self, wanted: usize) -> ZByteIoError {
        ZByteIoError::NotEnoughBytes(self.rest().len(), wanted)
    }
}

impl ZByteReaderTrait for Shown<'_> {
    #[inline(always)]
    fn read_byte_no_error(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte.unwrap_or(0)
    }

    #[inline(always)]
    fn read_exact_bytes(&mut self, buf: &mut [u8]) -> Result<(), ZByteIoError> {
        match self.rest().get(..buf.len()) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                self.at += buf.len();
                Ok(())
            }
            None => Err(self.not_enough(buf.len())),
        }
    }

    #[inline(always)]
    fn read_bytes(&mut self, buf: &mut [u8]) -> Result<usize, ZByteIoError> {
        let count = self.rest().len().min(buf.len());
        buf[..count].copy_from_slice(&self.rest()[..count]);
        self.at += count;
        Ok(count)
    }

    fn peek_bytes(&mut self, buf: &mut [u8]) -> Result<usize, ZByteIoError> {
        let count = self.rest().len().min(buf.len());
        self.peek_exact_bytes(&mut buf[..count])?;
        Ok(count)
    }

    fn peek_exact_bytes(&mut self, buf: &mut [u8]) -> Result<(), ZByteIoError> {
        let Some(bytes) = self.rest().get(..buf.len()) else {
            return Err(self.not_enough(buf.len()));
        };
        if self.metadata.iter().any(|place| place.contains(&self.at)) {
            buf.copy_from_slice(bytes);
        } else {
            buf.fill(0);
        }
        Ok(())
    }

    fn z_seek(&mut self, from: ZSeekFrom) -> Result<u64, ZByteIoError> {
        let (start, by) = match from {
            ZSeekFrom::Start(at) => (0, i64::try_from(at)?),
            ZSeekFrom::End(by) => (self.bytes.len(), by),
            ZSeekFrom::Current(by) => (self.at, by),
        };
        // Beyond the end there is nothing to read, as in any file.
        self.at = isize::try_from(by)
            .ok()
            .and_then(|by| start.checked_add_signed(by))
            .ok_or(ZByteIoError::SeekError("before the beginning"))?;
        Ok(self.at as u64)
    }

    fn is_eof(&mut self) -> Result<bool, ZByteIoError> {
        Ok(self.at >= self.bytes.len())
    }

    fn z_position(&mut self) -> Result<u64, ZByteIoError> {
        Ok(self.at as u64)
    }

    fn read_remaining(&mut self, sink: &mut Vec<u8>) -> Result<usize, ZByteIoError> {
        let rest = self.rest();
        sink.extend_from_slice(rest);
        self.at += rest.len();
        Ok(rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_shown_where_it_is_asked_for_and_pixels_everywhere() {
        let shown = std::iter::once(2..4).collect();
        let mut file = Shown::new(b"abcdefgh", shown);
        let mut two = [9; 2];
        file.peek_exact_bytes(&mut two).unwrap();
        assert_eq!(two, [0, 0]);
        file.read_exact_bytes(&mut two).unwrap();
        assert_eq!(&two, b"ab");
        file.peek_exact_bytes(&mut two).unwrap();
        assert_eq!(&two, b"cd");
        file.z_seek(ZSeekFrom::Current(4)).unwrap();
        file.peek_exact_bytes(&mut two).unwrap();
        assert_eq!(two, [0, 0]);
        assert!(file.peek_exact_bytes(&mut [0; 3]).is_err());
        assert_eq!(file.read_bytes(&mut [0; 3]).unwrap(), 2);
        assert!(file.is_eof().unwrap());
        assert!(file.z_seek(ZSeekFrom::Current(-9)).is_err());
        file.z_seek(ZSeekFrom::Current(100)).unwrap();
        assert!(file.read_exact_bytes(&mut two).is_err());
        assert_eq!(file.read_byte_no_error(), 0);
    }
}
