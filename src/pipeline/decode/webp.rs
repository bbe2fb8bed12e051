//! A look at a WebP's container before its decoder does: that makes room for whatever size a lossy
//! frame gives itself, up to 16383×16383, and for whatever length metadata claims, and compares
//! them with the container and the file afterwards. For a lossless frame it makes tables for as many
//! groups of codes as there are, some 21 KB for each of up to 65,536.

/// Beyond four bytes a pixel a lossless frame has room for its codes: what libwebp's encoder can
/// write of them (2,600 groups at most) takes less.
const ROOM_FOR_CODES: u64 = 256 << 10;

/// What would make the decoder allocate more than the file and its size justify; what is broken
/// otherwise is the decoder's to find. Files that are not extended (`VP8X`) hold nothing but one frame.
/// <https://developers.google.com/speed/webp/docs/riff_container>
pub(super) fn false_claim(bytes: &[u8]) -> Option<&'static str> {
    let mut all = chunks(bytes.get(12..)?);
    let first = all.next()?;
    let data = match first.name {
        b"VP8X" => first.data,
        b"VP8L" => return bloated(&first),
        _ => return None,
    };
    let canvas = size_from_24_bits(data.get(4..))?;
    all.find_map(|chunk| match chunk.name {
        b"VP8 " => differs(&chunk, canvas),
        b"VP8L" => bloated(&chunk),
        b"ANMF" => {
            let frame = size_from_24_bits(chunk.data.get(6..))?;
            let mut parts = chunks(chunk.data.get(16..)?);
            match parts.next()? {
                picture @ Chunk { name: b"VP8 ", .. } => differs(&picture, frame),
                picture @ Chunk { name: b"VP8L", .. } => bloated(&picture),
                // The decoder takes what follows for the picture, whatever its name.
                Chunk { name: b"ALPH", .. } => differs(&parts.next()?, frame),
                _ => None,
            }
        }
        b"ICCP" | b"EXIF" | b"XMP " if chunk.is_cut => {
            Some("it ends in the middle of its metadata")
        }
        _ => None,
    })
}

/// Width and height, each less one, in three bytes.
fn size_from_24_bits(bytes: Option<&[u8]>) -> Option<(u32, u32)> {
    let &[a, b, c, d, e, f] = bytes?.first_chunk::<6>()?;
    let side = |low, middle, high| u32::from_le_bytes([low, middle, high, 0]) + 1;
    Some((side(a, b, c), side(d, e, f)))
}

/// Whether the key frame's header gives another size; RFC 6386, 9.1.
fn differs(frame: &Chunk<'_>, (width, height): (u32, u32)) -> Option<&'static str> {
    let size = frame.data.get(6..10)?;
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    let same = (side(size[0], size[1]), side(size[2], size[3])) == (width, height);
    (!same).then_some("it holds a picture of another size than it says")
}

/// Whether a lossless frame has more data than its pixels could need. The file may still have more
/// groups of codes than an encoder would make, in proportion to its pixels.
/// <https://developers.google.com/speed/webp/docs/webp_lossless_bitstream_specification>
fn bloated(frame: &Chunk<'_>) -> Option<&'static str> {
    let &[_signature, a, b, c, d] = frame.data.first_chunk::<5>()?;
    let sides = u32::from_le_bytes([a, b, c, d]);
    let (width, height) = ((sides & 0x3fff) + 1, (sides >> 14 & 0x3fff) + 1);
    let most = u64::from(width) * u64::from(height) * 4 + ROOM_FOR_CODES;
    (frame.data.len() as u64 > most).then_some("it holds more data than its pixels could need")
}

struct Chunk<'a> {
    name: &'a [u8; 4],
    data: &'a [u8],
    /// Whether it claims more data than there is.
    is_cut: bool,
}

/// Chunks one after another.
fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    std::iter::from_fn(move || {
        let (name, rest) = bytes.split_first_chunk::<4>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size) as usize;
        let (data, rest) = rest.split_at(size.min(rest.len()));
        // Data of an odd length is followed by a byte that says nothing.
        bytes = rest.get(size % 2..).unwrap_or_default();
        Some(Chunk {
            name,
            data,
            is_cut: data.len() < size,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut chunk = name.to_vec();
        chunk.extend((data.len() as u32).to_le_bytes());
        chunk.extend(data);
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    }

    fn frame(width: u16, height: u16) -> Vec<u8> {
        let sides = [width, height].map(u16::to_le_bytes).concat();
        chunk(b"VP8 ", &[&[0, 0, 0, 0x9d, 1, 0x2a], &sides[..]].concat())
    }

    fn file(chunks: &[&[u8]]) -> Vec<u8> {
        // 3×2.
        let canvas = chunk(b"VP8X", &[0, 0, 0, 0, 2, 0, 0, 1, 0, 0]);
        [b"RIFF....WEBP", &canvas[..], &chunks.concat()].concat()
    }

    #[test]
    fn a_lossy_frame_must_have_the_size_that_its_container_says() {
        // A frame of the canvas' size at its top left.
        let place = [0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for ((width, height), is_false) in [((3, 2), false), ((16_383, 2), true), ((2, 3), true)] {
            let frame = frame(width, height);
            let still = file(&[&chunk(b"EXIF", b"odd"), &frame]);
            let animated =
                |parts: &[&[u8]]| file(&[&chunk(b"ANMF", &[&place, &parts.concat()[..]].concat())]);
            let mut renamed = frame.clone();
            renamed[0] = b'?';
            let alpha = chunk(b"ALPH", b"x");
            for file in [
                still,
                animated(&[&frame]),
                animated(&[&alpha, &frame]),
                animated(&[&alpha, &renamed]),
            ] {
                assert_eq!(false_claim(&file).is_some(), is_false, "{width}×{height}");
            }
            // What is not decoded as a lossy frame may hold anything.
            assert_eq!(
                false_claim(&animated(&[&chunk(b"VP8L", &frame), &renamed])),
                None
            );
        }
        assert_eq!(
            false_claim(&[b"RIFF....WEBP", &frame(9, 9)[..]].concat()),
            None
        );
        assert_eq!(false_claim(b"RIFF"), None);
    }

    #[test]
    fn metadata_cannot_be_longer_than_the_file() {
        let whole = file(&[&frame(3, 2), &chunk(b"EXIF", b"abcd")]);
        assert_eq!(false_claim(&whole), None);
        assert!(false_claim(&whole[..whole.len() - 1]).is_some());
    }
}
