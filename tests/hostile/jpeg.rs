//! JPEG: segments by hand (ITU-T T.81), so that a few bytes can claim anything.

use super::bytes::{Attack, Expect, attack, profiles};
use super::{MAX_FILE, small};

pub fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    let length = (data.len() + 2) as u16;
    [&[0xff, marker], &length.to_be_bytes()[..], data].concat()
}

/// A Huffman table whose one code, a single bit, means `symbol`.
fn one_code(kind: u8, symbol: u8) -> Vec<u8> {
    let mut data = vec![kind, 1];
    data.resize(17, 0);
    data.push(symbol);
    segment(0xc4, &data)
}

fn frame(marker: u8, width: u16, height: u16, components: &[u8]) -> Vec<u8> {
    let mut data = vec![8];
    data.extend(height.to_be_bytes());
    data.extend(width.to_be_bytes());
    data.push(components.len() as u8);
    for (i, sampling) in components.iter().enumerate() {
        data.extend([1 + i as u8, *sampling, 0]);
    }
    segment(marker, &data)
}

fn scan(components: std::ops::Range<u8>, first: u8, last: u8, bits: u8) -> Vec<u8> {
    let mut data = vec![components.len() as u8];
    components.for_each(|i| data.extend([1 + i, 0]));
    data.extend([first, last, bits]);
    segment(0xda, &data)
}

const QUANTISERS: [u8; 65] = {
    let mut table = [1; 65];
    table[0] = 0;
    table
};

/// What stands before the frame: a table of quantisers, and one code each: "no difference" and
/// `ac`.
fn start(ac: u8) -> Vec<u8> {
    let tables = [one_code(0x00, 0x00), one_code(0x10, ac)].concat();
    [b"\xff\xd8", &segment(0xdb, &QUANTISERS)[..], &tables].concat()
}

/// Bits for "nothing more in this many blocks", 14 of which follow each one-bit code.
fn nothing_in(blocks: usize) -> Vec<u8> {
    let runs = blocks.div_ceil(32_767);
    let mut bits = String::new();
    for run in 0..runs {
        let length = blocks * (run + 1) / runs - blocks * run / runs;
        bits += &format!("0{:014b}", length - (1 << 14));
    }
    // Ones fill up the last byte; a byte of ones is followed by one of zeros.
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let byte = |at: usize| u8::from_str_radix(&bits[at..at + 8], 2).unwrap();
    (0..bits.len())
        .step_by(8)
        .map(byte)
        .flat_map(|byte| [byte].into_iter().chain((byte == 0xff).then_some(0)))
        .collect()
}

/// A progressive picture that is nearly nothing but scans, each of which passes over every block
/// of a component in a few bytes. With `refine` each looks at all coefficients of each block.
pub fn progressive(side: u16, components: u8, scans: usize, refine: bool) -> Vec<u8> {
    let blocks = usize::from(side / 8).pow(2);
    let mut file = start(0xe0);
    let sampling = vec![0x11; usize::from(components)];
    file.extend(frame(0xc2, side, side, &sampling));
    file.extend(scan(0..components, 0, 0, 0x01));
    file.resize(
        file.len() + (blocks * usize::from(components)).div_ceil(8),
        0,
    );
    let nothing = nothing_in(blocks);
    for i in 1..scans {
        let component = (i % usize::from(components)) as u8;
        let bits = if refine { 0x10 } else { 0x01 };
        file.extend(scan(component..component + 1, 1, 63, bits));
        file.extend(&nothing);
    }
    file.extend(b"\xff\xd9");
    file
}

/// A grey picture of one colour.
pub fn flat(width: u16, height: u16) -> Vec<u8> {
    let blocks = usize::from(width.div_ceil(8)) * usize::from(height.div_ceil(8));
    let head = [start(0x00), frame(0xc0, width, height, &[0x11])].concat();
    let mut file = [head, scan(0..1, 0, 63, 0)].concat();
    file.resize(file.len() + (2 * blocks).div_ceil(8), 0);
    [file, b"\xff\xd9".to_vec()].concat()
}

/// A sequential picture of three components in scans of their own, the first again and again.
fn sequential(side: u16, scans: usize) -> Vec<u8> {
    let blocks = usize::from(side / 8).pow(2);
    let mut file = start(0x00);
    file.extend(frame(0xc0, side, side, &[0x11; 3]));
    for i in 0..scans {
        let component = (i + 3).saturating_sub(scans) as u8;
        file.extend(scan(component..component + 1, 0, 63, 0));
        // Two bits a block: no difference, nothing more.
        file.resize(file.len() + (2 * blocks).div_ceil(8), 0);
    }
    file.extend(b"\xff\xd9");
    file
}

/// With segments between the first marker and the rest.
fn with(segments: &[u8]) -> Vec<u8> {
    let whole = small("jpg");
    [&whole[..2], segments, &whole[2..]].concat()
}

fn filled(marker: u8, name: &[u8]) -> Vec<u8> {
    let mut data = name.to_vec();
    data.resize(65_533, b'x');
    let one = segment(marker, &data);
    one.repeat((MAX_FILE - 100_000) / one.len())
}

/// Extended XMP in pieces of one byte, in their order.
fn pieces(count: u32) -> Vec<u8> {
    let name = [&b"http://ns.adobe.com/xmp/extension/\0"[..], &[b'7'; 32]].concat();
    let piece = |at: u32| {
        let numbers = [count.to_be_bytes(), at.to_be_bytes()].concat();
        segment(0xe1, &[&name[..], &numbers, b"x"].concat())
    };
    (0..count).flat_map(piece).collect()
}

/// EXIF whose directory names itself as the next, and as its own EXIF and GPS directory.
fn exif_cycle() -> Vec<u8> {
    let mut tiff = b"Exif\0\0II*\0\x08\0\0\0\x03\0".to_vec();
    for tag in [0x8769_u16, 0x8825, 0x0112] {
        tiff.extend(tag.to_le_bytes());
        tiff.extend(4_u16.to_le_bytes());
        tiff.extend(u32::from(tag == 0x0112).max(1).to_le_bytes());
        tiff.extend(8_u32.to_le_bytes());
    }
    tiff.extend(8_u32.to_le_bytes());
    segment(0xe1, &tiff)
}

fn icc(parts: &[(u8, u8)], data: &[u8]) -> Vec<u8> {
    let part = |&(number, of): &(u8, u8)| {
        segment(0xe2, &[b"ICC_PROFILE\0", &[number, of][..], data].concat())
    };
    parts.iter().flat_map(part).collect()
}

pub fn attacks() -> Vec<Attack> {
    use Expect::{Either, Header, Picture, Pixels};
    let whole = small("jpg");
    let claims = |width, height| {
        let head = start(0);
        [
            head,
            frame(0xc0, width, height, &[0x11; 3]),
            scan(0..3, 0, 63, 0),
        ]
        .concat()
    };
    let mut all = vec![
        attack(
            "65535×65535",
            Header("image_too_large"),
            claims(65535, 65535),
        ),
        attack("0×9", Header("image_corrupt"), claims(0, 9)),
        attack("9×0", Header("image_corrupt"), claims(9, 0)),
        attack(
            "50 MP in 300 bytes",
            Pixels("image_corrupt"),
            claims(7064, 7064),
        ),
        attack(
            "XMP of 50 MiB",
            Picture,
            with(&filled(0xe1, b"http://ns.adobe.com/xap/1.0/\0")),
        ),
        attack(
            "extended XMP of 50 MiB",
            Picture,
            with(&filled(0xe1, b"http://ns.adobe.com/xmp/extension/\0")),
        ),
        attack(
            "extended XMP in 600,000 pieces",
            Header("image_corrupt"),
            with(&pieces(600_000)),
        ),
        attack("EXIF of 50 MiB", Picture, with(&filled(0xe1, b"Exif\0\0"))),
        attack("comments of 50 MiB", Picture, with(&filled(0xfe, b""))),
        attack(
            "profile of 50 MiB",
            Picture,
            with(&filled(0xe2, b"ICC_PROFILE\0\x01\xff")),
        ),
        attack("EXIF that names itself", Picture, with(&exif_cycle())),
        attack(
            "profile in parts 2, 1 of 2",
            Picture,
            with(&icc(&[(2, 2), (1, 2)], &[7; 900])),
        ),
        attack(
            "profile's part 1 of 255 255 times",
            Picture,
            with(&icc(&[(1, 255); 255], &[7; 60_000])),
        ),
        attack(
            "profile's parts 0 of 0",
            Picture,
            with(&icc(&[(0, 0); 9], &[7; 900])),
        ),
        attack(
            "a million markers",
            Either,
            with(&b"\xff\xe3\0\x02".repeat(1_000_000)),
        ),
        attack(
            "fill bytes of 50 MiB",
            Either,
            with(&vec![0xff; MAX_FILE - 100_000]),
        ),
        attack("sampling 4×4 and 1×3", Either, {
            let mut file = start(0);
            file.extend(frame(0xc0, 7064, 7064, &[0x44, 0x13, 0x11]));
            file.extend(scan(0..3, 0, 63, 0));
            file.resize(file.len() + (1 << 20), 0);
            [file, b"\xff\xd9".to_vec()].concat()
        }),
        attack("sampling 0×0", Either, {
            let head = [start(0), frame(0xc0, 64, 64, &[0x00; 3])].concat();
            [head, scan(0..3, 0, 63, 0), vec![0; 99]].concat()
        }),
        attack("restarts after each block", Either, {
            let head = [
                start(0),
                segment(0xdd, &[0, 1]),
                frame(0xc0, 7064, 7064, &[0x11]),
            ]
            .concat();
            [
                head,
                scan(0..1, 0, 63, 0),
                vec![0; 1 << 20],
                b"\xff\xd9".to_vec(),
            ]
            .concat()
        }),
        attack("no tables", Pixels("image_corrupt"), {
            let head = [b"\xff\xd8".to_vec(), frame(0xc0, 64, 64, &[0x11])].concat();
            [
                head,
                scan(0..1, 0, 63, 0),
                vec![0; 99],
                b"\xff\xd9".to_vec(),
            ]
            .concat()
        }),
        attack("cut in its middle", Pixels("image_corrupt"), {
            let big = crate::big_jpeg();
            big[..big.len() / 2].to_vec()
        }),
        attack("20 scans, 50 MP", Picture, progressive(7064, 3, 20, false)),
        attack(
            "50 refining scans, 50 MP CMYK",
            Either,
            progressive(7064, 4, 50, true),
        ),
        attack(
            "100 scans, 50 MP",
            Pixels("unsupported_format"),
            progressive(7064, 3, 100, false),
        ),
        attack(
            "100 refining scans, 50 MP",
            Either,
            progressive(7064, 3, 100, true),
        ),
        attack(
            "100 refining scans, 50 MP CMYK",
            Either,
            progressive(7064, 4, 100, true),
        ),
        attack(
            "5000 scans, 50 MP",
            Either,
            progressive(7064, 1, 5000, true),
        ),
        attack("15 sequential scans, 50 MP", Picture, sequential(7064, 15)),
        attack(
            "a million sequential scans of nothing",
            Pixels("unsupported_format"),
            {
                let head = [start(0x00), frame(0xc0, 7064, 7064, &[0x11; 3])].concat();
                [
                    head,
                    scan(0..1, 0, 63, 0).repeat(1_000_000),
                    b"\xff\xd9".to_vec(),
                ]
                .concat()
            },
        ),
        attack("metadata of 49 MiB between scans", Either, {
            let head = [start(0xe0), frame(0xc2, 40, 24, &[0x11])].concat();
            let part = segment(0xe2, b"ICC_PROFILE\0\x01\x02x");
            let first = [scan(0..1, 0, 0, 0x01), vec![0; 2]].concat();
            [
                head,
                first,
                part.repeat(49 << 20 >> 5),
                scan(0..1, 0, 0, 0x10),
                vec![0; 2],
                b"\xff\xd9".to_vec(),
            ]
            .concat()
        }),
        attack(
            "250 sequential scans, 50 MP",
            Pixels("unsupported_format"),
            sequential(7064, 250),
        ),
    ];
    let mut twice = whole[..whole.len() - 2].to_vec();
    twice.extend(&whole[2..]);
    all.push(attack("a second picture behind the first", Either, twice));
    for (name, profile) in profiles(false) {
        if profile.len() < 65_000 {
            all.push(attack(
                format!("profile: {name}"),
                Picture,
                with(&icc(&[(1, 1)], &profile)),
            ));
        }
    }
    all
}
