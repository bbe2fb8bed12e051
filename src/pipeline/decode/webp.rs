//! A look at a WebP's container before its decoder does: that makes room for whatever size a lossy
//! frame gives itself, up to 16383×16383, and for whatever length metadata claims, and compares
//! them with the container and the file afterwards.

mod lossless;

/// The decoder copies a profile and EXIF whole, which no budget has paid for. As much as other
/// decoders are allowed.
const MAX_METADATA_BYTES: usize = super::colour::WORKING_BYTES as usize / 2;

/// What would make the decoder allocate more than the file and its size justify; what is broken
/// otherwise is the decoder's to find. Only extended files (`VP8X`) can be meant: others hold
/// nothing but one frame.
/// <https://developers.google.com/speed/webp/docs/riff_container>
pub(super) fn false_claim(bytes: &[u8]) -> Option<&'static str> {
    let mut all = chunks(bytes.get(12..)?);
    let Chunk {
        name: b"VP8X",
        data,
        ..
    } = all.next()?
    else {
        return None;
    };
    let canvas = size_from_24_bits(data.get(4..))?;
    all.find_map(|chunk| match chunk.name {
        b"VP8 " => differs(&chunk, canvas),
        b"ANMF" => {
            let frame = size_from_24_bits(chunk.data.get(6..))?;
            let mut parts = chunks(chunk.data.get(16..)?);
            match parts.next()? {
                picture @ Chunk { name: b"VP8 ", .. } => differs(&picture, frame),
                // The decoder takes what follows for the picture, whatever its name.
                Chunk { name: b"ALPH", .. } => differs(&parts.next()?, frame),
                _ => None,
            }
        }
        b"ICCP" | b"EXIF" | b"XMP " if chunk.is_cut => {
            Some("it ends in the middle of its metadata")
        }
        b"ICCP" | b"EXIF" if chunk.data.len() > MAX_METADATA_BYTES => {
            Some("its profile or its EXIF has more than 8 MiB")
        }
        _ => None,
    })
}

/// Memory that the decoder takes for the codes of a lossless picture, or of lossless transparency,
/// beside the pixels of a canvas of this size. `None` if that cannot be known, as the file is broken.
pub(super) fn code_bytes(bytes: &[u8], canvas: (u32, u32)) -> Option<u64> {
    let mut found = [None, None];
    for chunk in chunks(bytes.get(12..)?) {
        match chunk.name {
            // The first frame is all that is decoded, and what is in it comes first.
            b"ANMF" => {
                let frame = size_from_24_bits(chunk.data.get(6..))?;
                let fits = frame.0 <= canvas.0 && frame.1 <= canvas.1;
                let picture = chunks(chunk.data.get(16..)?).next()?;
                return if fits {
                    of_picture(&picture, frame)
                } else {
                    Some(0)
                };
            }
            b"VP8L" | b"ALPH" => {
                // The first of each kind counts.
                let of_kind = &mut found[usize::from(chunk.name == b"ALPH")];
                if of_kind.is_none() {
                    *of_kind = Some(of_picture(&chunk, canvas)?);
                }
            }
            _ => {}
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    Some(found.into_iter().flatten().max().unwrap_or(0))
}

fn of_picture(chunk: &Chunk<'_>, expected: (u32, u32)) -> Option<u64> {
    match chunk.name {
        // The decoder compares sizes before it does anything else.
        b"VP8L" if lossless::size(chunk.data)? == expected => {
            lossless::code_bytes(chunk.data.get(lossless::HEADER..)?, expected)
        }
        b"ALPH" if chunk.data.first()? & 3 == 1 => {
            lossless::code_bytes(chunk.data.get(1..)?, expected)
        }
        _ => Some(0),
    }
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
        for (bytes, is_false) in [(MAX_METADATA_BYTES, false), (MAX_METADATA_BYTES + 1, true)] {
            let long = file(&[&frame(3, 2), &chunk(b"EXIF", &vec![0; bytes])]);
            assert_eq!(false_claim(&long).is_some(), is_false);
        }
    }

    fn encoded(picture: &image::DynamicImage) -> Vec<u8> {
        let mut file = std::io::Cursor::new(Vec::new());
        picture
            .write_to(&mut file, image::ImageFormat::WebP)
            .unwrap();
        file.into_inner()
    }

    #[test]
    fn a_lossless_picture_of_one_group_of_codes_announces_one() {
        let noise = |x: u32, y: u32| {
            (x * 31 + y * y * 17)
                .wrapping_mul(2_654_435_761)
                .to_be_bytes()
        };
        let picture = image::RgbaImage::from_fn(90, 70, |x, y| image::Rgba(noise(x, y)));
        let file = encoded(&picture.into());
        let one = code_bytes(&file, (90, 70)).unwrap();
        assert!((50_000..200_000).contains(&one), "{one}");
        // Of another size than the canvas it is not decoded.
        assert_eq!(code_bytes(&file, (90, 71)), Some(0));
        // Cut off before the codes are known.
        assert_eq!(code_bytes(&file[..24], (90, 70)), None);
        // The same as the picture of an animation.
        let place = [0, 0, 0, 0, 0, 0, 89, 0, 0, 69, 0, 0, 0, 0, 0, 0];
        let moving = chunk(b"ANMF", &[&place[..], &file[12..]].concat());
        let moving = [b"RIFF....WEBP", &moving[..], &moving[..40]].concat();
        assert_eq!(code_bytes(&moving, (90, 70)), Some(one));
        // As transparency it has no header.
        let alpha = chunk(
            b"ALPH",
            &[&[1], &file[12 + 8 + lossless::HEADER..]].concat(),
        );
        let still = [b"RIFF....WEBP", &alpha[..]].concat();
        assert_eq!(code_bytes(&still, (90, 70)), Some(one));
        assert_eq!(code_bytes(b"RIFF....WEBP", (90, 70)), Some(0));
    }

    /// Files by libwebp's encoder, whose transforms and groups must be stepped over exactly.
    #[test]
    fn libwebps_files_are_stepped_over_to_their_codes() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/decode");
        let mut known = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let file = std::fs::read(&path).unwrap();
            let Ok(whole) = image::load_from_memory_with_format(&file, image::ImageFormat::WebP)
            else {
                continue;
            };
            let found = code_bytes(&file, (whole.width(), whole.height()));
            let found = found.unwrap_or_else(|| panic!("{}", path.display()));
            assert!(found < 3 << 20, "{}: {found}", path.display());
            known += u32::from(found > 0);
        }
        assert!(known >= 4, "only {known} files");
    }
}
