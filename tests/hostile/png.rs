//! PNG: chunks by hand (<https://www.w3.org/TR/png/>).

use super::MAX_FILE;
use super::bytes::{Attack, Expect, attack, profiles, zlib_zeros};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

pub fn crc32(bytes: &[u8]) -> u32 {
    static TABLE: std::sync::LazyLock<[u32; 256]> = std::sync::LazyLock::new(|| {
        std::array::from_fn(|byte| {
            (0..8).fold(byte as u32, |sum, _| {
                (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1))
            })
        })
    });
    !bytes.iter().fold(!0, |sum: u32, &byte| {
        (sum >> 8) ^ TABLE[usize::from(sum as u8 ^ byte)]
    })
}

pub fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&name[..], data].concat();
    let length = (data.len() as u32).to_be_bytes();
    [&length[..], &body, &crc32(&body).to_be_bytes()].concat()
}

pub fn header(width: u32, height: u32, depth: u8, color: u8, interlaced: u8) -> Vec<u8> {
    let mut data = [width.to_be_bytes(), height.to_be_bytes()].concat();
    data.extend([depth, color, 0, 0, interlaced]);
    [SIGNATURE, &chunk(b"IHDR", &data)].concat()
}

/// A small grey picture with chunks before its pixels, and pixels by a zlib stream.
fn with(chunks: &[u8], pixels: &[u8]) -> Vec<u8> {
    let head = header(40, 30, 8, 0, 0);
    let (pixels, end) = (chunk(b"IDAT", pixels), chunk(b"IEND", b""));
    [&head[..], chunks, &pixels, &end].concat()
}

/// The pixels of that picture.
fn pixels() -> Vec<u8> {
    zlib_zeros(41 * 30 - 1)
}

/// A name, and zlib data that unpacks to that many bytes.
fn packed(name: &[u8], bytes: u64) -> Vec<u8> {
    [name, &zlib_zeros(bytes)[..]].concat()
}

pub fn attacks() -> Vec<Attack> {
    use Expect::{Either, Header, Picture, Pixels};
    let too_large = |width, height| [header(width, height, 8, 2, 0), chunk(b"IDAT", b"")].concat();
    let gib = 1_u64 << 30;
    let text = b"Comment\0\0";
    let mut frames = chunk(b"acTL", &[0, 0, 0x27, 0x10, 0, 0, 0, 0]);
    for number in 0..10_000_u32 {
        // Larger than the picture, outside of it, or without a size.
        let mut control = (2 * number).to_be_bytes().to_vec();
        for side in [65_535_u32, 0, 2_147_483_647, number] {
            control.extend(side.to_be_bytes());
        }
        control.extend([0, 1, 0, 1, 0, 0]);
        frames.extend(chunk(b"fcTL", &control));
        frames.extend(chunk(b"fdAT", &(2 * number + 1).to_be_bytes()));
    }
    let mut all = vec![
        attack(
            "65535×65535",
            Header("image_too_large"),
            too_large(65_535, 65_535),
        ),
        attack(
            "2147483647×2147483647",
            Header("image_too_large"),
            too_large(i32::MAX as u32, i32::MAX as u32),
        ),
        attack(
            "4294967295×1",
            Header("image_too_large"),
            too_large(u32::MAX, 1),
        ),
        attack("0×9", Header("image_corrupt"), too_large(0, 9)),
        attack(
            "50 MP without data",
            Pixels("image_corrupt"),
            too_large(7064, 7064),
        ),
        attack("50 MP of zeros, RGBA", Picture, {
            let pixels = zlib_zeros(7064 * (7064 * 4 + 1));
            [
                header(7064, 7064, 8, 6, 0),
                chunk(b"IDAT", &pixels),
                chunk(b"IEND", b""),
            ]
            .concat()
        }),
        attack("50 MP of zeros, RGBA, 16 bits, interlaced", Either, {
            let pixels = zlib_zeros(7064 * (7064 * 8 + 1) * 2);
            [
                header(7064, 7064, 16, 6, 1),
                chunk(b"IDAT", &pixels),
                chunk(b"IEND", b""),
            ]
            .concat()
        }),
        attack(
            "50 GiB of pixels for 40×30",
            Either,
            with(b"", &zlib_zeros(49 * gib)),
        ),
        attack(
            "50 MiB of empty pixel chunks",
            Header("unsupported_format"),
            {
                let none = chunk(b"IDAT", b"").repeat((MAX_FILE - 10_000) / 12);
                with(&none, &pixels())
            },
        ),
        attack(
            "profile of 1 GiB",
            Picture,
            with(&chunk(b"iCCP", &packed(b"x\0\0", gib)), &pixels()),
        ),
        attack(
            "profile of 49 GiB",
            Header("image_too_large"),
            with(&chunk(b"iCCP", &packed(b"x\0\0", 49 * gib)), &pixels()),
        ),
        attack(
            "text of 49 GiB, packed",
            Either,
            with(&chunk(b"zTXt", &packed(text, 49 * gib)), &pixels()),
        ),
        attack("EXIF as text of 49 GiB, packed", Either, {
            with(
                &chunk(b"zTXt", &packed(b"Raw profile type exif\0\0", 49 * gib)),
                &pixels(),
            )
        }),
        attack("international text of 49 GiB, packed", Either, {
            let name = b"XML:com.adobe.xmp\0\x01\0\0\0";
            with(&chunk(b"iTXt", &packed(name, 49 * gib)), &pixels())
        }),
        attack("text of 49 MiB", Either, {
            let mut data = b"Comment\0".to_vec();
            data.resize(MAX_FILE - 10_000, b'x');
            with(&chunk(b"tEXt", &data), &pixels())
        }),
        attack("32,000 empty pixel chunks", Picture, {
            let none = chunk(b"IDAT", b"").repeat(32_000);
            with(&none, &pixels())
        }),
        attack(
            "32,000 short texts",
            Picture,
            with(&chunk(b"tEXt", b"C\0x").repeat(32_000), &pixels()),
        ),
        attack(
            "2 million short texts",
            Header("unsupported_format"),
            with(&chunk(b"tEXt", b"C\0x").repeat(2_000_000), &pixels()),
        ),
        attack("EXIF of 49 MiB", Either, {
            let mut data = b"II*\0\x08\0\0\0\xff\xff".to_vec();
            data.resize(MAX_FILE - 10_000, 0);
            with(&chunk(b"eXIf", &data), &pixels())
        }),
        attack("EXIF that names itself", Picture, {
            let data = b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0";
            with(&chunk(b"eXIf", data), &pixels())
        }),
        attack("10,000 frames of 65535×0", Either, with(&frames, &pixels())),
        attack(
            "2,000 palettes",
            Either,
            with(&chunk(b"PLTE", &[0; 768]).repeat(2_000), &pixels()),
        ),
    ];
    for (name, profile) in profiles(false) {
        let mut data = b"x\0\0".to_vec();
        data.extend(stored(&profile));
        all.push(attack(
            format!("profile: {name}"),
            Picture,
            with(&chunk(b"iCCP", &data), &pixels()),
        ));
    }
    all
}

/// A zlib stream that packs nothing.
pub fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0x78, 0x01];
    let mut blocks = bytes.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        file.push(u8::from(blocks.peek().is_none()));
        file.extend(length.to_le_bytes());
        file.extend((!length).to_le_bytes());
        file.extend(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for &byte in bytes {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    file.extend((b << 16 | a).to_be_bytes());
    file
}
