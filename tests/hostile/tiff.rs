//! TIFF: directories by hand (TIFF 6.0).

use super::MAX_FILE;
use super::bytes::{Attack, Expect, attack, zlib_zeros};
use super::jpeg;

const SHORT: u16 = 3;
const LONG: u16 = 4;

/// A directory at 8, and data behind it. Tags name their values as numbers, or, if those have
/// more than four bytes, their place counted from the data's start.
struct File {
    tags: Vec<(u16, u16, u32, Value)>,
    data: Vec<u8>,
    next: u32,
}

#[derive(Clone, Copy)]
enum Value {
    Is(u32),
    At(u32),
}
use Value::{At, Is};

impl File {
    /// A picture of one strip of grey bytes.
    fn grey(width: u32, height: u32, compression: u32, data: Vec<u8>) -> Self {
        Self {
            tags: vec![
                (256, LONG, 1, Is(width)),
                (257, LONG, 1, Is(height)),
                (258, SHORT, 1, Is(8)),
                (259, SHORT, 1, Is(compression)),
                (262, SHORT, 1, Is(1)),
                (273, LONG, 1, At(0)),
                (277, SHORT, 1, Is(1)),
                (278, LONG, 1, Is(height)),
                (279, LONG, 1, Is(data.len() as u32)),
            ],
            data,
            next: 0,
        }
    }

    fn set(mut self, tag: u16, kind: u16, count: u32, value: Value) -> Self {
        self.tags.retain(|known| known.0 != tag);
        self.tags.push((tag, kind, count, value));
        self
    }

    fn without(mut self, tags: &[u16]) -> Self {
        self.tags.retain(|known| !tags.contains(&known.0));
        self
    }

    fn with_data(mut self, more: &[u8]) -> (Self, u32) {
        let at = self.data.len() as u32;
        self.data.extend(more);
        (self, at)
    }

    fn bytes(mut self) -> Vec<u8> {
        self.tags.sort_by_key(|tag| tag.0);
        let start = 8 + 2 + 12 * self.tags.len() as u32 + 4;
        let mut file = b"II*\0\x08\0\0\0".to_vec();
        file.extend((self.tags.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in self.tags {
            file.extend(tag.to_le_bytes());
            file.extend(kind.to_le_bytes());
            file.extend(count.to_le_bytes());
            let value = match value {
                Is(value) => value,
                At(at) => start + at,
            };
            file.extend(value.to_le_bytes());
        }
        file.extend(self.next.to_le_bytes());
        file.extend(self.data);
        file
    }
}

/// One row a strip, all of which are the same bytes of the file.
fn overlapping(width: u32, rows: u32, compression: u32, strip: &[u8]) -> Vec<u8> {
    let start = 8 + 2 + 12 * 9 + 4;
    let offsets = start.to_le_bytes_times(rows);
    let counts = (strip.len() as u32).to_le_bytes_times(rows);
    let (file, at) = File::grey(width, rows, compression, strip.to_vec()).with_data(&offsets);
    let (file, counts_at) = file.with_data(&counts);
    file.set(278, LONG, 1, Is(1))
        .set(273, LONG, rows, At(at))
        .set(279, LONG, rows, At(counts_at))
        .bytes()
}

trait Times {
    fn to_le_bytes_times(self, times: u32) -> Vec<u8>;
}

impl Times for u32 {
    fn to_le_bytes_times(self, times: u32) -> Vec<u8> {
        self.to_le_bytes().repeat(times as usize)
    }
}

pub fn attacks() -> Vec<Attack> {
    use Expect::{Either, Header, Picture, Pixels};
    let plain = || File::grey(40, 30, 1, vec![7; 1200]);
    let empty = |width, height| File::grey(width, height, 1, Vec::new()).bytes();
    const DEFLATE: u32 = 8;
    const PACKBITS: u32 = 32_773;
    const LZW: u32 = 5;
    const JPEG: u32 = 7;
    let tiles = |side: u32| {
        plain()
            .without(&[273, 278, 279])
            .set(322, LONG, 1, Is(side))
            .set(323, LONG, 1, Is(side))
            .set(324, LONG, 1, At(0))
            .set(325, LONG, 1, Is(1200))
            .bytes()
    };
    let gib = 1_u64 << 30;
    vec![
        attack(
            "65535×65535",
            Header("image_too_large"),
            empty(65_535, 65_535),
        ),
        attack("4294967295×4294967295", Either, empty(u32::MAX, u32::MAX)),
        attack("0×9", Either, empty(0, 9)),
        attack(
            "50 MP without data",
            Pixels("image_corrupt"),
            empty(7064, 7064),
        ),
        attack(
            "a strip beyond the file",
            Pixels("image_corrupt"),
            plain().set(273, LONG, 1, Is(u32::MAX - 9)).bytes(),
        ),
        attack(
            "a strip of 4 GiB",
            Either,
            plain().set(279, LONG, 1, Is(u32::MAX)).bytes(),
        ),
        attack(
            "rows of 65535 bits a sample",
            Either,
            plain().set(258, SHORT, 1, Is(65_535)).bytes(),
        ),
        attack(
            "65535 samples a pixel",
            Either,
            plain().set(277, SHORT, 1, Is(65_535)).bytes(),
        ),
        attack(
            "no samples a pixel",
            Either,
            plain().set(277, SHORT, 1, Is(0)).bytes(),
        ),
        attack(
            "no rows a strip",
            Either,
            plain().set(278, LONG, 1, Is(0)).bytes(),
        ),
        attack(
            "4294967295 rows a strip",
            Either,
            plain().set(278, LONG, 1, Is(u32::MAX)).bytes(),
        ),
        attack(
            "photometry 9999",
            Either,
            plain().set(262, SHORT, 1, Is(9999)).bytes(),
        ),
        attack(
            "100 million strips",
            Header("image_corrupt"),
            plain().set(273, LONG, 100_000_000, At(0)).bytes(),
        ),
        attack(
            "a directory that is its own next",
            Header("image_corrupt"),
            File { next: 8, ..plain() }.bytes(),
        ),
        attack(
            "a directory that is the header",
            Either,
            [b"II*\0\0\0\0\0".to_vec(), vec![0; 99]].concat(),
        ),
        attack(
            "EXIF that is the directory",
            Either,
            plain().set(0x8769, LONG, 1, Is(8)).bytes(),
        ),
        attack(
            "orientation of 1 GB",
            Either,
            plain().set(274, SHORT, 500_000_000, At(0)).bytes(),
        ),
        attack(
            "profile of 4 GiB",
            Either,
            plain().set(34_675, 7, u32::MAX, At(0)).bytes(),
        ),
        attack("profile of 49 MiB", Either, {
            let (file, at) = plain().with_data(&vec![7; MAX_FILE - 10_000]);
            file.set(34_675, 7, MAX_FILE as u32 - 10_000, At(at))
                .bytes()
        }),
        attack("description of 49 MiB", Either, {
            let (file, at) = plain().with_data(&vec![b'x'; MAX_FILE - 10_000]);
            file.set(270, 2, MAX_FILE as u32 - 10_000, At(at)).bytes()
        }),
        attack("tiles of 2147483648×2147483648", Either, tiles(1 << 31)),
        attack("tiles of 65520×65520", Either, tiles(65_520)),
        attack("tiles of 0×0", Either, tiles(0)),
        attack(
            "50 MP deflated",
            Picture,
            File::grey(7064, 7064, DEFLATE, zlib_zeros(7064 * 7064)).bytes(),
        ),
        attack(
            "49 GiB deflated for 40×30",
            Either,
            File::grey(40, 30, DEFLATE, zlib_zeros(49 * gib)).bytes(),
        ),
        attack(
            "30,000 rows deflated in the same 40 MiB",
            Either,
            overlapping(1600, 30_000, DEFLATE, &zlib_zeros(40 * gib)),
        ),
        attack(
            "30,000 rows of LZW in the same 40 MiB",
            Either,
            overlapping(1600, 30_000, LZW, &vec![0x80; 40 << 20]),
        ),
        attack(
            "30,000 rows of packed bits in the same 40 MiB",
            Either,
            overlapping(1600, 30_000, PACKBITS, &[0x81, 7].repeat(20 << 20)),
        ),
        attack(
            "50 MP of packed bits",
            Either,
            File::grey(7064, 7064, PACKBITS, [0x81, 7].repeat(7064 * 7064 / 128)).bytes(),
        ),
        attack(
            "50 MP of LZW that is none",
            Either,
            File::grey(7064, 7064, LZW, vec![0x80; 9 << 20]).bytes(),
        ),
        attack("a JPEG of 16384×16384 in 40×30", Either, {
            File::grey(40, 30, JPEG, jpeg::flat(16_384, 16_384)).bytes()
        }),
        attack("a JPEG of 90 scans in 50 MP", Either, {
            File::grey(7064, 7064, JPEG, jpeg::progressive(7064, 1, 90, true)).bytes()
        }),
        attack(
            "a JPEG of 50 MP",
            Either,
            File::grey(7064, 7064, JPEG, jpeg::flat(7064, 7064)).bytes(),
        ),
        attack("30,000 rows that are the same JPEG of 7064×7064", Either, {
            overlapping(1600, 30_000, JPEG, &jpeg::flat(7064, 7064))
        }),
        attack("30,000 rows that are the same JPEG of 1600×1", Either, {
            overlapping(1600, 30_000, JPEG, &jpeg::flat(1600, 1))
        }),
    ]
}
