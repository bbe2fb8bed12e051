//! How much a lossless WebP's decoder needs for its codes, before it makes them.
//!
//! Such a picture may have codes of its own for each block of 4×4 pixels: up to 65,536 groups of five,
//! whose tables take kilobytes each where the file needs a few bytes. How many there are stands
//! behind the transforms, whose data can only be stepped over symbol by symbol; pixels need not be
//! kept for that.
//! <https://developers.google.com/speed/webp/docs/webp_lossless_bitstream_specification>

/// The alphabets of a group: green with lengths, red, blue, alpha, distances.
const ALPHABETS: [usize; 5] = [256 + 24, 256, 256, 256, 40];

/// `image-webp` has for each code a table of up to 1024 entries of four bytes, and two nodes of
/// 16 bytes for each symbol that does not fit it.
const TABLE_BYTES: u64 = 4 << 10;
const SYMBOL_BYTES: u64 = 32;

/// An upper bound of the memory for the codes of a picture of this size; `None` if the file ends
/// or breaks before they are known, as it will for the decoder.
pub(super) fn code_bytes(data: &[u8], (width, height): (u32, u32)) -> Option<u64> {
    let mut bits = Bits { data, at: 0 };
    let width = bits.transforms(width, height)?;
    let cache = bits.cache()?;
    let groups = if bits.number(1)? == 1 {
        let size = bits.number(3)? + 2;
        bits.groups_of_image(blocks(width, size), blocks(height, size))?
    } else {
        1
    };
    let symbols = ALPHABETS.iter().sum::<usize>() + cache;
    let group = ALPHABETS.len() as u64 * TABLE_BYTES + symbols as u64 * SYMBOL_BYTES;
    Some(groups * group)
}

/// Steps over the header of a picture that is not transparency: its size.
pub(super) fn size(data: &[u8]) -> Option<(u32, u32)> {
    const SIGNATURE: u32 = 0x2f;
    let mut bits = Bits { data, at: 0 };
    (bits.number(8)? == SIGNATURE).then_some(())?;
    Some((bits.number(14)? + 1, bits.number(14)? + 1))
}

/// Bytes of that header.
pub(super) const HEADER: usize = 5;

const fn blocks(side: u32, bits: u32) -> u32 {
    side.div_ceil(1 << bits)
}

/// A prefix code, by the number of codes of each length and their symbols in order.
enum Code {
    /// It takes no bits.
    One(usize),
    Many {
        counts: [usize; 16],
        symbols: Vec<usize>,
    },
}

impl Code {
    fn of(lengths: &[u32]) -> Option<Self> {
        let mut counts = [0; 16];
        lengths
            .iter()
            .for_each(|&length| counts[length as usize] += 1);
        counts[0] = 0;
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|&s| lengths[s] > 0).collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        match symbols[..] {
            [] => None,
            [only] => Some(Self::One(only)),
            _ => Some(Self::Many { counts, symbols }),
        }
    }

    /// The largest of its symbols below 256, which are colours.
    fn largest_colour(&self) -> usize {
        match self {
            Self::One(symbol) => (*symbol).min(255),
            Self::Many { symbols, .. } => {
                let colours = symbols.iter().filter(|&&symbol| symbol < 256);
                colours.copied().max().unwrap_or(0)
            }
        }
    }
}

/// Numbers of bits, the lowest bit of a byte first.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn number(&mut self, bits: u32) -> Option<u32> {
        let mut number = 0;
        for bit in 0..bits {
            let byte = *self.data.get(self.at / 8)?;
            number |= u32::from(byte >> (self.at % 8) & 1) << bit;
            self.at += 1;
        }
        Some(number)
    }

    fn symbol(&mut self, code: &Code) -> Option<usize> {
        let (counts, symbols) = match code {
            Code::One(symbol) => return Some(*symbol),
            Code::Many { counts, symbols } => (counts, symbols),
        };
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &counts[1..] {
            code |= self.number(1)? as usize;
            if code < first + count {
                return symbols.get(index + code - first).copied();
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }

    fn code(&mut self, alphabet: usize) -> Option<Code> {
        if self.number(1)? == 1 {
            let two = self.number(1)? == 1;
            let wide = self.number(1)?;
            let first = self.number(1 + 7 * wide)? as usize;
            if !two {
                return Some(Code::One(first));
            }
            let second = self.number(8)? as usize;
            let mut counts = [0; 16];
            counts[1] = 2;
            return Some(Code::Many {
                counts,
                symbols: vec![first, second],
            });
        }
        const ORDER: [usize; 19] = [
            17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
        ];
        let mut lengths = [0; 19];
        let count = 4 + self.number(4)? as usize;
        for &symbol in &ORDER[..count] {
            lengths[symbol] = self.number(3)?;
        }
        let of_lengths = Code::of(&lengths)?;
        let mut left = match self.number(1)? {
            1 => {
                let bits = 2 + 2 * self.number(3)?;
                2 + self.number(bits)? as usize
            }
            _ => alphabet,
        };
        let mut lengths = Vec::with_capacity(alphabet);
        let mut last = 8;
        while lengths.len() < alphabet && left > 0 {
            left -= 1;
            let (length, times) = match self.symbol(&of_lengths)? {
                16 => (last, 3 + self.number(2)?),
                17 => (0, 3 + self.number(3)?),
                18 => (0, 11 + self.number(7)?),
                length => (length as u32, 1),
            };
            if length != 0 {
                last = length;
            }
            lengths.extend(std::iter::repeat_n(length, times as usize));
        }
        (lengths.len() <= alphabet).then_some(())?;
        Code::of(&lengths)
    }

    /// Entries of the colour cache.
    fn cache(&mut self) -> Option<usize> {
        match self.number(1)? {
            1 => {
                let bits = self.number(4)?;
                (1..=11).contains(&bits).then_some(1 << bits)
            }
            _ => Some(0),
        }
    }

    /// Steps over the transforms; the width of the pixels that follow.
    fn transforms(&mut self, mut width: u32, height: u32) -> Option<u32> {
        let mut seen = [false; 4];
        while self.number(1)? == 1 {
            let kind = self.number(2)?;
            let seen = &mut seen[kind as usize];
            if std::mem::replace(seen, true) {
                return None;
            }
            match kind {
                // Predictors and colour correlation of blocks.
                0 | 1 => {
                    let size = self.number(3)? + 2;
                    self.groups_of_image(blocks(width, size), blocks(height, size))?;
                }
                // A palette: several pixels may share a byte.
                3 => {
                    let colours = self.number(8)? + 1;
                    self.groups_of_image(colours, 1)?;
                    let shared = match colours {
                        1..=2 => 3,
                        3..=4 => 2,
                        5..=16 => 1,
                        _ => 0,
                    };
                    width = blocks(width, shared);
                }
                _ => {}
            }
        }
        Some(width)
    }

    /// Steps over a picture within the picture. If its pixels are numbers of groups, there are no
    /// more of those than the answer.
    fn groups_of_image(&mut self, width: u32, height: u32) -> Option<u64> {
        let cache = self.cache()?;
        let mut codes = Vec::with_capacity(ALPHABETS.len());
        for (i, alphabet) in ALPHABETS.into_iter().enumerate() {
            codes.push(self.code(alphabet + if i == 0 { cache } else { 0 })?);
        }
        let [green, red, blue, alpha, distance] = &codes[..] else {
            return None;
        };
        let groups = (red.largest_colour() << 8 | green.largest_colour()) + 1;
        if let [Code::One(..256), Code::One(_), Code::One(_), Code::One(_)] = &codes[..4] {
            return Some(groups as u64);
        }
        let mut left = u64::from(width) * u64::from(height);
        while left > 0 {
            let pixels = match self.symbol(green)? {
                ..256 => {
                    for code in [red, blue, alpha] {
                        self.symbol(code)?;
                    }
                    1
                }
                length @ 256..280 => {
                    let pixels = self.distance(length - 256)?;
                    let symbol = self.symbol(distance)?;
                    self.distance(symbol)?;
                    pixels
                }
                _ => 1,
            };
            left = left.checked_sub(pixels)?;
        }
        // With a colour out of the cache, or a distance, come colours that were literal before.
        Some(groups as u64)
    }

    /// A length or a distance: a prefix, and the rest in bits.
    fn distance(&mut self, prefix: usize) -> Option<u64> {
        // A code of one symbol may name any of 256.
        if prefix >= 40 {
            return None;
        }
        if prefix < 4 {
            return Some(prefix as u64 + 1);
        }
        let extra = (prefix as u32 - 2) >> 1;
        let offset = (2 + (prefix as u64 & 1)) << extra;
        Some(offset + u64::from(self.number(extra)?) + 1)
    }
}
