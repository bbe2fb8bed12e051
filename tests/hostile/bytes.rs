//! Pieces that several formats are made of.

/// What must become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Refused by its header, with this code, for next to no memory.
    Header(&'static str),
    /// Accepted by its header, refused by its pixels.
    Pixels(&'static str),
    /// A picture of the size that the header says.
    Picture,
    /// A picture, or refused for good: what exactly is the decoder's business.
    Either,
}

/// A hostile file.
pub struct Attack {
    pub name: String,
    pub bytes: Vec<u8>,
    pub expect: Expect,
}

pub fn attack(name: impl Into<String>, expect: Expect, bytes: Vec<u8>) -> Attack {
    Attack {
        name: name.into(),
        bytes,
        expect,
    }
}

/// The same beginning of a file at some 40 places, and at every place of its first 64 bytes.
pub fn cuts(whole: &[u8]) -> impl Iterator<Item = &[u8]> {
    let step = (whole.len() / 40).max(1);
    let early = 1..whole.len().min(64);
    early
        .chain((64..whole.len()).step_by(step))
        .map(|end| &whole[..end])
}

/// Zeros, as many as asked for rounded up to a match, deflated 1032:1, which is the most that the
/// format can do: a zlib stream of one block with a Huffman code of one bit for "258 bytes more".
pub fn zlib_zeros(bytes: u64) -> Vec<u8> {
    let matches = bytes.div_ceil(258);
    let mut bits = Bits::default();
    // The last block, with codes of its own: 286 for lengths, 1 for distances, 18 code lengths.
    bits.number(1, 1);
    bits.number(2, 2);
    bits.number(29, 5);
    bits.number(0, 5);
    bits.number(15, 4);
    // Code lengths of 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15.
    for length in [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 0] {
        bits.number(length, 3);
    }
    let (one, two) = ([1, 0], [1, 1]);
    let zeros = |bits: &mut Bits, count: u32| {
        bits.code(&[0]);
        bits.number(count - 11, 7);
    };
    bits.code(&two); // "0"
    zeros(&mut bits, 138);
    zeros(&mut bits, 117);
    bits.code(&two); // the end
    zeros(&mut bits, 28);
    bits.code(&one); // 258 bytes
    bits.code(&one); // from one byte before
    bits.code(&[1, 0]);
    // Both codes of a match are a zero bit: four matches a byte.
    let mut whole = vec![0x78, 0xda];
    let lead = (8 - bits.used) / 2;
    assert_eq!((8 - bits.used) % 2, 0, "a match never straddles two bytes");
    let lead = u64::from(lead % 4).min(matches);
    (0..lead).for_each(|_| bits.number(0, 2));
    let rest = matches - lead;
    bits.flush_whole();
    bits.bytes.resize(bits.bytes.len() + (rest / 4) as usize, 0);
    (0..rest % 4).for_each(|_| bits.number(0, 2));
    bits.code(&[1, 1]);
    bits.pad();
    whole.append(&mut bits.bytes);
    let count = 1 + matches * 258;
    whole.extend((((count % 65521) as u32) << 16 | 1).to_be_bytes());
    whole
}

/// Deflate's order of bits: the lowest of a byte first.
#[derive(Default)]
pub struct Bits {
    pub bytes: Vec<u8>,
    now: u8,
    used: u32,
}

impl Bits {
    pub fn number(&mut self, number: u32, bits: u32) {
        for bit in 0..bits {
            self.bit((number >> bit) as u8 & 1);
        }
    }

    pub fn code(&mut self, code: &[u8]) {
        code.iter().for_each(|&bit| self.bit(bit));
    }

    fn bit(&mut self, bit: u8) {
        self.now |= bit << self.used;
        self.used += 1;
        self.flush_whole();
    }

    fn flush_whole(&mut self) {
        if self.used == 8 {
            self.bytes.push(self.now);
            (self.now, self.used) = (0, 0);
        }
    }

    pub fn pad(&mut self) {
        while self.used != 0 {
            self.bit(0);
        }
    }
}

/// A colour profile: a valid header for `space` to XYZ or Lab, and tags as given.
pub fn profile(space: &[u8; 4], count: u32, tags: &[(&[u8; 4], u32, u32)], data: &[u8]) -> Vec<u8> {
    let mut icc = vec![0; 128];
    icc[4..8].copy_from_slice(b"lcms");
    icc[8..12].copy_from_slice(&0x0240_0000_u32.to_be_bytes());
    icc[12..16].copy_from_slice(b"prtr");
    icc[16..20].copy_from_slice(space);
    icc[20..24].copy_from_slice(b"Lab ");
    icc[36..40].copy_from_slice(b"acsp");
    for (at, number) in [(68, 0xf6d6_u32), (72, 0x1_0000), (76, 0xd32d)] {
        icc[at..at + 4].copy_from_slice(&number.to_be_bytes());
    }
    icc.extend(count.to_be_bytes());
    for (name, offset, size) in tags {
        icc.extend(*name);
        icc.extend(offset.to_be_bytes());
        icc.extend(size.to_be_bytes());
    }
    icc.extend(data);
    let size = icc.len() as u32;
    icc[..4].copy_from_slice(&size.to_be_bytes());
    icc
}

/// A table of `grid` steps for each of `inputs` colours (`mft1`), with `data` bytes behind.
pub fn table(inputs: u8, grid: u8, data: usize) -> Vec<u8> {
    let mut tag = b"mft1\0\0\0\0".to_vec();
    tag.extend([inputs, 3, grid, 0]);
    for one in [1_u32, 0, 0, 0, 1, 0, 0, 0, 1] {
        tag.extend((one << 16).to_be_bytes());
    }
    tag.resize(tag.len() + data, 0x55);
    tag
}

/// Hostile profiles for RGB (or CMYK) pixels; none makes a photo unreadable.
pub fn profiles(cmyk: bool) -> Vec<(&'static str, Vec<u8>)> {
    let (space, inputs) = if cmyk { (b"CMYK", 4) } else { (b"RGB ", 3) };
    let body = 132 + 12;
    let many: Vec<(&[u8; 4], u32, u32)> = (0..30_000).map(|_| (b"A2B0", 132, 1 << 20)).collect();
    let grid: usize = if cmyk { 17 } else { 33 };
    let size = grid.pow(inputs.into()) * 3 + 256 * (usize::from(inputs) + 3);
    let whole = table(inputs, grid as u8, size);
    vec![
        (
            "4294967295 tags",
            profile(space, u32::MAX, &[(b"A2B0", 144, 64)], &[0; 64]),
        ),
        (
            "30,000 tags that name each other",
            profile(space, 30_000, &many, &[0; 64]),
        ),
        (
            "a tag that is the profile itself",
            profile(space, 1, &[(b"A2B0", 0, body)], &[]),
        ),
        (
            "a tag beyond 4 GiB",
            profile(space, 1, &[(b"A2B0", u32::MAX - 3, u32::MAX)], &[0; 64]),
        ),
        (
            "a grid of 255 steps a colour",
            profile(
                space,
                1,
                &[(b"A2B0", body, 2048)],
                &table(inputs, 255, 2000),
            ),
        ),
        (
            "a curve of 4294967295 points",
            profile(
                space,
                1,
                &[(b"rTRC", body, 64)],
                &[&b"curv\0\0\0\0\xff\xff\xff\xff"[..], &[0; 52]].concat(),
            ),
        ),
        (
            "a profile inside a profile",
            profile(
                space,
                1,
                &[(b"A2B0", body, 200)],
                &profile(space, 1, &[(b"A2B0", body, 200)], &[0; 200]),
            ),
        ),
        (
            "the largest table that counts",
            profile(space, 1, &[(b"A2B0", body, whole.len() as u32)], &whole),
        ),
    ]
}
