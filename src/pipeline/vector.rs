//! Vectors of bytes, in what every processor of the family has (SSE2, NEON), by safe code.

use wide::{i16x8, i32x4, i32x8, u8x16};

/// Bytes that are computed together, one vector.
pub(super) const LANES: usize = 16;

/// Whole numbers as bytes, clamped to 0 to 255.
#[inline(always)]
pub(super) fn clamped(numbers: [i32x4; 4]) -> [u8; LANES] {
    let [a, b, c, d] = numbers.map(i32x4::to_array);
    // Both steps clamp.
    let narrow = |a: [i32; 4], b: [i32; 4]| {
        let both = std::array::from_fn(|i| if i < 4 { a[i] } else { b[i - 4] });
        i16x8::from_i32x8_saturate(i32x8::new(both))
    };
    u8x16::narrow_i16x8(narrow(a, b), narrow(c, d)).to_array()
}
