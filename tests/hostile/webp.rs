//! WebP: a RIFF container around lossy (VP8) and lossless (VP8L) pictures
//! (<https://developers.google.com/speed/webp/docs/riff_container>).

use super::bytes::{Attack, Bits, Expect, attack};
use super::{MAX_FILE, encoded, small};

pub fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut chunk = name.to_vec();
    chunk.extend((data.len() as u32).to_le_bytes());
    chunk.extend(data);
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

fn riff(chunks: &[u8]) -> Vec<u8> {
    let size = (chunks.len() as u32 + 4).to_le_bytes();
    [b"RIFF", &size[..], b"WEBP", chunks].concat()
}

/// Sides from 1 to 16,777,216.
fn canvas(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let mut data = vec![flags, 0, 0, 0];
    data.extend(&(width - 1).to_le_bytes()[..3]);
    data.extend(&(height - 1).to_le_bytes()[..3]);
    chunk(b"VP8X", &data)
}

fn animation(frame: &[u8]) -> Vec<u8> {
    [chunk(b"ANIM", &[0; 6]), frame.to_vec()].concat()
}

/// A frame at a place, with a size.
fn frame(x: u32, y: u32, width: u32, height: u32, picture: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    for number in [x, y, width - 1, height - 1, 0] {
        data.extend(&number.to_le_bytes()[..3]);
    }
    data.push(0);
    data.extend(picture);
    chunk(b"ANMF", &data)
}

/// The chunk with the pixels of a small lossless file.
fn pixels() -> Vec<u8> {
    small("webp")[12..].to_vec()
}

fn start(width: u32, height: u32) -> Bits {
    let mut bits = Bits::default();
    bits.number(0x2f, 8);
    bits.number(width - 1, 14);
    bits.number(height - 1, 14);
    bits.number(0, 4);
    bits
}

/// A prefix code of one symbol below 256, which takes no bits to use.
fn one_symbol(bits: &mut Bits, symbol: u32) {
    bits.number(0b101, 3);
    bits.number(symbol, 8);
}

/// A prefix code whose codes have 1, 2, …, 15 and 15 bits, for an alphabet of `symbols`: the
/// decoder's table has thousands of entries, the file 18 bytes.
fn long_codes(bits: &mut Bits, symbols: u32) {
    bits.number(0, 1);
    bits.number(15, 4);
    // Four bits for each of the lengths 1 to 15, and for 18, "many zeros".
    let order = [
        17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
    ];
    for symbol in order {
        let used = symbol == 18 || (1..=15).contains(&symbol);
        bits.number(if used { 4 } else { 0 }, 3);
    }
    bits.number(0, 1);
    let code = |bits: &mut Bits, code: u8| {
        bits.code(&[code >> 3 & 1, code >> 2 & 1, code >> 1 & 1, code & 1]);
    };
    (1..=15).for_each(|length| code(bits, length - 1));
    code(bits, 14);
    let mut zeros = symbols - 16;
    while zeros > 0 {
        let run = zeros.min(138);
        code(bits, 15);
        bits.number(run - 11, 7);
        zeros -= run;
    }
}

/// So many groups of five codes each for 40×30 pixels.
fn many_groups(count: u32) -> Vec<u8> {
    let mut bits = start(40, 30);
    // Neither transform nor cache, but a group of codes for each 4×4 pixels.
    bits.number(0b100, 3);
    bits.number(0, 3);
    bits.number(0, 1);
    // All have the last number, in green and red.
    let last = count - 1;
    for symbol in [last & 255, last >> 8, 0, 0, 0] {
        one_symbol(&mut bits, symbol);
    }
    for _ in 0..count {
        for symbols in [280, 256, 256, 256, 40] {
            long_codes(&mut bits, symbols);
        }
    }
    bits.number(0, 32);
    bits.pad();
    riff(&chunk(b"VP8L", &bits.bytes))
}

/// Transforms upon transforms, each of which may stand there once.
fn transforms() -> Vec<u8> {
    let mut bits = start(40, 30);
    // "Subtract green", which has no data, again and again.
    (0..1 << 20).for_each(|_| bits.number(0b101, 3));
    bits.pad();
    riff(&chunk(b"VP8L", &bits.bytes))
}

pub fn attacks() -> Vec<Attack> {
    use Expect::{Either, Header, Picture};
    let flat = image::RgbImage::from_pixel(7064, 7064, image::Rgb([9, 99, 199]));
    let lossless = |width, height| {
        let mut bits = start(width, height);
        bits.pad();
        riff(&chunk(b"VP8L", &bits.bytes))
    };
    let lossy = |width: u16, height: u16| {
        let sides = [width, height].map(u16::to_le_bytes).concat();
        chunk(
            b"VP8 ",
            &[&[0x10, 0, 0, 0x9d, 1, 0x2a], &sides[..], &[0; 99]].concat(),
        )
    };
    let still =
        |flags, chunks: &[&[u8]]| riff(&[&canvas(flags, 40, 30)[..], &chunks.concat()].concat());
    let moving = |frames: &[u8]| riff(&[canvas(2, 40, 30), animation(frames)].concat());
    let large = vec![b'x'; MAX_FILE - 10_000];
    vec![
        attack(
            "16383×16383, lossless",
            Header("image_too_large"),
            lossless(16_383, 16_383),
        ),
        attack(
            "16383×16383, lossy",
            Header("image_too_large"),
            riff(&lossy(16_383, 16_383)),
        ),
        attack(
            "16777216×16777216",
            Either,
            riff(&[canvas(0, 1 << 24, 1 << 24), pixels()].concat()),
        ),
        attack(
            "65535×65535",
            Header("image_too_large"),
            riff(&[canvas(0, 65_535, 65_535), pixels()].concat()),
        ),
        attack("0×0, lossy", Either, riff(&lossy(0, 0))),
        attack(
            "50 MP of one colour",
            Picture,
            encoded(&flat, image::ImageFormat::WebP),
        ),
        attack("50 MP without data, lossless", Either, lossless(7064, 7064)),
        attack(
            "50 MP without data, lossy",
            Either,
            riff(&lossy(7064, 7064)),
        ),
        attack(
            "65,536 groups of long codes",
            Header("image_too_large"),
            many_groups(65_536),
        ),
        attack("9,000 groups of long codes", Either, many_groups(9_000)),
        attack("a million transforms", Either, transforms()),
        attack(
            "a canvas of 50 MP around 40×30",
            Either,
            riff(&[canvas(0, 7064, 7064), pixels()].concat()),
        ),
        attack(
            "a canvas of 40×30 around 50 MP",
            Either,
            still(0, &[&lossy(7064, 7064)]),
        ),
        attack(
            "4,000 frames",
            Either,
            moving(&frame(0, 0, 40, 30, &pixels()).repeat(4_000)),
        ),
        attack(
            "a frame of 16777216×16777216",
            Either,
            moving(&frame(0, 0, 1 << 24, 1 << 24, &pixels())),
        ),
        attack(
            "a frame outside",
            Either,
            moving(&frame(1 << 23, 1 << 23, 40, 30, &pixels())),
        ),
        attack("frames within a frame", Either, {
            let inner = (0..999).fold(pixels(), |inner, _| frame(0, 0, 40, 30, &inner));
            moving(&inner)
        }),
        attack("transparency of 50 MP for 40×30", Either, {
            let alpha = [&[1][..], &lossless(7064, 7064)[20..]].concat();
            still(0x10, &[&chunk(b"ALPH", &alpha), &lossy(40, 30)])
        }),
        attack("100,000 transparencies", Either, {
            still(
                0x10,
                &[&chunk(b"ALPH", &[0; 9]).repeat(100_000), &lossy(40, 30)],
            )
        }),
        attack(
            "profile of 50 MiB",
            Header("image_corrupt"),
            still(0x20, &[&chunk(b"ICCP", &large), &pixels()]),
        ),
        attack(
            "EXIF of 50 MiB",
            Header("image_corrupt"),
            still(0x08, &[&pixels(), &chunk(b"EXIF", &large)]),
        ),
        attack(
            "XMP of 50 MiB",
            Picture,
            still(0x04, &[&pixels(), &chunk(b"XMP ", &large)]),
        ),
        attack(
            "5 million empty chunks",
            Picture,
            still(0, &[&chunk(b"none", b"").repeat(5_000_000), &pixels()]),
        ),
        attack(
            "a chunk longer than 4 GiB",
            Either,
            still(0x20, &[b"ICCP\xff\xff\xff\xff", &pixels()]),
        ),
    ]
}
