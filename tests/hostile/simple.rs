//! GIF and BMP: formats whose headers are short enough to be written in a line.

use super::bytes::{Attack, Expect, attack};
use super::{MAX_FILE, small};

fn screen(width: u16, height: u16) -> Vec<u8> {
    let sides = [width.to_le_bytes(), height.to_le_bytes()].concat();
    // Four colours for all frames.
    [b"GIF89a", &sides[..], &[0x81, 0, 0], &[0x40; 12]].concat()
}

fn frame(left: u16, top: u16, width: u16, height: u16, data: &[u8]) -> Vec<u8> {
    let place = [left, top, width, height].map(u16::to_le_bytes).concat();
    let mut frame = [&b","[..], &place, &[0, 2]].concat();
    for block in data.chunks(255) {
        frame.push(block.len() as u8);
        frame.extend(block);
    }
    frame.push(0);
    frame
}

/// LZW of that many zeros or a few more, some 1500:1: each code means one pixel more than the last.
fn lzw_zeros(pixels: usize) -> Vec<u8> {
    let (mut bytes, mut now, mut used) = (Vec::new(), 0_u32, 0);
    let mut put = |code: u32, width: u32| {
        now |= code << used;
        used += width;
        while used >= 8 {
            bytes.push(now as u8);
            now >>= 8;
            used -= 8;
        }
    };
    let mut written = 0;
    let mut width = 3;
    while written < pixels {
        put(4, width);
        put(0, 3);
        (written, width) = (written + 1, 3);
        for (length, code) in (6..4095).enumerate() {
            put(code, width);
            written += length + 2;
            if code + 1 == 1 << width && width < 12 {
                width += 1;
            }
            if written >= pixels {
                break;
            }
        }
    }
    put(5, width);
    put(0, 8);
    bytes
}

pub fn gifs() -> Vec<Attack> {
    use Expect::{Either, Header, Picture, Pixels};
    let one = lzw_zeros(1);
    let file = |width, height, frames: &[u8]| [&screen(width, height)[..], frames, b";"].concat();
    let comments = |bytes: usize| {
        let block = [&[255][..], &[b'x'; 255]].concat();
        [b"!\xfe", &block.repeat(bytes / 256)[..], &[0]].concat()
    };
    let pixel = frame(0, 0, 1, 1, &one);
    vec![
        attack(
            "65535×65535",
            Header("image_too_large"),
            file(65_535, 65_535, &pixel),
        ),
        attack("0×9", Header("image_corrupt"), file(0, 9, &pixel)),
        attack(
            "50 MP",
            Picture,
            file(
                7064,
                7064,
                &frame(0, 0, 7064, 7064, &lzw_zeros(7064 * 7064)),
            ),
        ),
        attack(
            "50 MP without data",
            Pixels("image_corrupt"),
            file(7064, 7064, &frame(0, 0, 7064, 7064, b"")),
        ),
        attack("one pixel of 50 MP", Picture, file(7064, 7064, &pixel)),
        attack(
            "a frame of 65535×65535 on 40×30",
            Either,
            file(40, 30, &frame(0, 0, 65_535, 65_535, &one)),
        ),
        attack(
            "a frame outside of 40×30",
            Either,
            file(40, 30, &frame(65_535, 65_535, 9, 9, &lzw_zeros(81))),
        ),
        attack(
            "a frame of no pixels",
            Either,
            file(40, 30, &frame(0, 0, 0, 0, &one)),
        ),
        attack(
            "100,000 frames",
            Picture,
            file(40, 30, &pixel.repeat(100_000)),
        ),
        attack(
            "49 GiB of pixels for 40×30",
            Either,
            file(
                40,
                30,
                &frame(0, 0, 40, 30, &lzw_zeros(1 << 27).repeat(380)),
            ),
        ),
        attack(
            "comments of 49 MiB",
            Picture,
            file(40, 30, &[comments(49 << 20), pixel.clone()].concat()),
        ),
        attack(
            "9 million empty extensions",
            Picture,
            file(
                40,
                30,
                &[b"!\xfe\0".repeat(9_000_000), pixel.clone()].concat(),
            ),
        ),
        attack("no frame", Header("image_corrupt"), file(40, 30, b"")),
        attack(
            "codes that nobody defined",
            Either,
            file(40, 30, &frame(0, 0, 40, 30, &[0xff; 999])),
        ),
    ]
}

fn bmp(width: i32, height: i32, bits: u16, compression: u32, colours: u32, data: &[u8]) -> Vec<u8> {
    let palette = if bits <= 8 { 4 << bits } else { 0 };
    let mut file = b"BM".to_vec();
    for number in [0, 0, 54 + palette, 40] {
        file.extend(u32::to_le_bytes(number));
    }
    file.extend(width.to_le_bytes());
    file.extend(height.to_le_bytes());
    file.extend([1, 0]);
    file.extend(bits.to_le_bytes());
    for number in [compression, 0, 2835, 2835, colours, 0] {
        file.extend(number.to_le_bytes());
    }
    file.resize(54 + palette as usize, 0x33);
    file.extend(data);
    file
}

pub fn bmps() -> Vec<Attack> {
    use Expect::{Either, Header, Pixels};
    const RLE8: u32 = 1;
    let zeros = [255, 7].repeat(7064 * 7064 / 255);
    let whole = small("bmp");
    let mut far = whole.clone();
    far[10..14].fill(0xff);
    vec![
        attack(
            "65535×65535",
            Header("image_too_large"),
            bmp(65_535, 65_535, 24, 0, 0, b""),
        ),
        attack(
            "2147483647×2147483647",
            Either,
            bmp(i32::MAX, i32::MAX, 24, 0, 0, b""),
        ),
        attack(
            "9×-2147483648",
            Header("image_corrupt"),
            bmp(9, i32::MIN, 24, 0, 0, b""),
        ),
        attack("-9×9", Header("image_corrupt"), bmp(-9, 9, 24, 0, 0, b"")),
        attack(
            "9×0",
            Header("unsupported_format"),
            bmp(9, 0, 24, 0, 0, b""),
        ),
        attack(
            "50 MP without data",
            Pixels("image_corrupt"),
            bmp(7064, 7064, 24, 0, 0, b""),
        ),
        attack(
            "50 MP of one run after the other",
            Either,
            bmp(7064, 7064, 8, RLE8, 0, &zeros),
        ),
        attack(
            "50 MP that end at once",
            Either,
            bmp(7064, 7064, 8, RLE8, 0, &[0, 1]),
        ),
        attack(
            "24 million jumps to where it is",
            Either,
            bmp(40, 30, 8, RLE8, 0, &[0, 2, 0, 0].repeat(12 << 20)),
        ),
        attack(
            "runs over the end of 40×30",
            Either,
            bmp(40, 30, 8, RLE8, 0, &[255, 9].repeat(24 << 20)),
        ),
        attack(
            "24 million ends of a row",
            Either,
            bmp(40, 30, 8, RLE8, 0, &[0, 0].repeat(24 << 20)),
        ),
        attack(
            "4294967295 colours",
            Either,
            bmp(40, 30, 8, 0, u32::MAX, &[0; 1200]),
        ),
        attack(
            "65535 bits a pixel",
            Either,
            bmp(40, 30, u16::MAX, 0, 0, &[0; 9999]),
        ),
        attack("pixels beyond the file", Either, far),
        attack("compression 99", Either, bmp(40, 30, 24, 99, 0, &[0; 9999])),
        attack(
            "49 MiB behind the pixels",
            Either,
            [whole, vec![7; MAX_FILE - 10_000]].concat(),
        ),
    ]
}
