//! A look at a PNG's chunks before its decoder does: that moves its whole window for each chunk of
//! pixels, however empty, and keeps every text.

/// libpng writes pixels in chunks of 8 KiB, so that 50 MiB have 6,400 of them; the decoder takes up to
/// 40 µs for each. No encoder that we know writes less than 1.6 KiB at a time.
const MAX_CHUNKS: usize = 1 << 15;

/// Whether the file has more chunks than a picture needs. What is broken otherwise is the decoder's
/// to find.
pub(super) fn has_too_many_chunks(bytes: &[u8]) -> bool {
    const SIGNATURE: usize = 8;
    // A length, a name, and a checksum behind the data.
    const AROUND_DATA: usize = 12;
    let mut at = SIGNATURE;
    for _ in 0..MAX_CHUNKS {
        let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
            return false;
        };
        if bytes.get(at + 4..at + 8) == Some(b"IEND") {
            return false;
        }
        at = at.saturating_add(u32::from_be_bytes(*length) as usize + AROUND_DATA);
    }
    at < bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_counted_up_to_the_end_of_the_picture() {
        let file = |chunks: usize, end: &[u8]| {
            [
                b"\x89PNG\r\n\x1a\n",
                &b"\0\0\0\x01IDATx...."[..].repeat(chunks)[..],
                end,
            ]
            .concat()
        };
        let end = b"\0\0\0\0IEND....";
        assert!(!has_too_many_chunks(&file(MAX_CHUNKS - 1, end)));
        assert!(!has_too_many_chunks(&file(
            9,
            &[&end[..], &file(MAX_CHUNKS, b"")].concat()
        )));
        assert!(has_too_many_chunks(&file(MAX_CHUNKS + 1, end)));
        assert!(!has_too_many_chunks(
            b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIDAT"
        ));
        assert!(!has_too_many_chunks(b""));
    }
}
