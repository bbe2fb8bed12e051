//! Decoded tiles put together: planes to RGB, and transparency.

use heifer::Sample;
use heifer::color::{ColorParams, frame_to_rgba_sized};
use heifer::heifer_hevc_dec::recon::Frame;
use heifer::heifer_isobmff::HeifFile;

use super::still::{CodePoints, Picture, Still, code_points_of};
use super::{Coded, Failure, Stored, coded};

/// More bits than codecs have are not painted: the conversion's whole numbers have no room for them.
pub(super) const MAX_DEPTH: u8 = 12;

/// A sample as it is kept: a byte, or 16 bits for pictures of more than 8.
pub(super) trait Level: Sample {
    /// Full strength.
    const MOST: u32;

    /// What is nearest to `level` of `most`, which have 16 bits at most.
    fn nearest(level: u32, most: u32) -> Self {
        let nearest = (level * Self::MOST + most / 2) / most;
        Self::from_u16(nearest.min(Self::MOST) as u16)
    }
}

impl Level for u8 {
    const MOST: u32 = 255;
}

impl Level for u16 {
    const MOST: u32 = 65_535;
}

/// Colours as stored, of the whole picture before it is cropped, without its transparency.
pub(super) fn colour<S: Level>(still: &Still<'_>) -> Result<Stored<S>, Failure> {
    let picture = &still.colour;
    let of_whole = code_points_of(&still.file, still.file.primary_id);
    let mut whole = Stored {
        rgb: Vec::new(),
        alpha: None,
        is_grey: true,
        in_stream: None,
    };
    let stride = picture.width as usize * 3;
    for (i, &id) in picture.tiles.iter().enumerate() {
        let told = code_points_of(&still.file, id).or(of_whole);
        let coded = coded(&still.file, picture.codec, id, picture.tile)?;
        if i == 0 {
            whole.in_stream = coded.code_points;
        }
        whole.is_grey &= is_grey(&coded.frame);
        let rgb = rgb(coded, told, picture.tile)?;
        if picture.tiles.len() == 1 && picture.tile == (picture.width, picture.height) {
            return Ok(Stored { rgb, ..whole });
        }
        if whole.rgb.is_empty() {
            whole.rgb = vec![S::default(); stride * picture.height as usize];
        }
        place::<S, 3>(&mut whole.rgb, &rgb, picture, i);
    }
    Ok(whole)
}

/// Whether it has luma alone.
const fn is_grey(frame: &Frame) -> bool {
    frame.widths[1] == 0
}

/// Transparency, a sample a pixel. Samples have the full range whatever the stream says (ISO/IEC
/// 23000-22, 7.3.5.2).
pub(super) fn alpha<S: Level>(file: &HeifFile<'_>, picture: &Picture) -> Result<Vec<S>, Failure> {
    let mut whole = vec![S::default(); picture.width as usize * picture.height as usize];
    for (i, &id) in picture.tiles.iter().enumerate() {
        let Coded { frame, .. } = coded(file, picture.codec, id, picture.tile)?;
        let most = (1_u32 << frame.bit_depth[0]) - 1;
        let (width, height) = (picture.tile.0 as usize, picture.tile.1 as usize);
        let rows = frame.planes[0].chunks_exact(frame.widths[0] as usize);
        let mut tile = Vec::with_capacity(width * height);
        for row in rows.take(height) {
            tile.extend(row[..width].iter().map(|&s| S::nearest(u32::from(s), most)));
        }
        place::<S, 1>(&mut whole, &tile, picture, i);
    }
    Ok(whole)
}

/// Puts a tile of `N` samples a pixel to its place; what is beyond the picture's edge is left out.
fn place<S: Level, const N: usize>(whole: &mut [S], tile: &[S], picture: &Picture, index: usize) {
    let (width, height) = (picture.tile.0 as usize, picture.tile.1 as usize);
    let columns = picture.columns as usize;
    let (left, top) = (index % columns * width, index / columns * height);
    let seen = width.min(picture.width as usize - left) * N;
    let stride = picture.width as usize * N;
    let below = whole.chunks_exact_mut(stride).skip(top);
    for (row, tile) in below.zip(tile.chunks_exact(width * N)) {
        row[left * N..left * N + seen].copy_from_slice(&tile[..seen]);
    }
}

/// Planes to RGB, of the full range of their samples. Chroma between samples is interpolated.
fn rgb<S: Level>(
    coded: Coded,
    told: Option<CodePoints>,
    (width, height): (u32, u32),
) -> Result<Vec<S>, Failure> {
    let frame = coded.frame;
    if frame.bit_depth.iter().any(|&depth| depth > MAX_DEPTH) && S::MOST > u8::MOST {
        return Err(Failure::unread("it has more than 12 bits a channel"));
    }
    let params = told.map_or_else(
        || ColorParams::from_frame(&frame),
        |told| ColorParams {
            matrix: told.matrix,
            full_range: told.is_full_range,
        },
    );
    let is_grey = is_grey(&frame);
    // ITU-T H.273, table 4. Constant luminance, YCgCo, ICtCp and the rest are for video.
    if !is_grey && !matches!(params.matrix, 0 | 1 | 2 | 4 | 5 | 6 | 7 | 9) {
        return Err(Failure::Unread(format!(
            "its colours are coded by matrix {} of ITU-T H.273",
            params.matrix
        )));
    }
    let rgba = frame_to_rgba_sized::<S>(&frame, params, width, height);
    if (rgba.width, rgba.height) != (width, height) {
        return Err(Failure::damaged("a picture in it is smaller than it says"));
    }
    drop(frame);
    let most = (1_u32 << rgba.bit_depth) - 1;
    let mut pixels = rgba.data;
    for i in 0..width as usize * height as usize {
        pixels.copy_within(i * 4..i * 4 + 3, i * 3);
    }
    pixels.truncate(width as usize * height as usize * 3);
    pixels.shrink_to_fit();
    if is_grey && !params.full_range {
        // The conversion takes grey for full range. Black and white are levels 16 and 235 of 8 bits.
        let unit = (most + 1) >> 8;
        let (black, range) = (16 * unit, 219 * unit);
        pixels.iter_mut().for_each(|level| {
            let above = u32::from(level.to_u16()).saturating_sub(black);
            *level = S::nearest(above.min(range), range);
        });
    } else if most != S::MOST {
        for level in &mut pixels {
            *level = S::nearest(u32::from(level.to_u16()), most);
        }
    }
    Ok(pixels)
}

/// Colours that were multiplied by their alpha, divided by it.
pub(super) fn unpremultiply<S: Level>(rgb: &mut [S], alpha: &[S]) {
    for (pixel, &alpha) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(alpha) {
        let alpha = u32::from(alpha.to_u16());
        for channel in pixel {
            *channel = match alpha {
                0 => S::default(),
                most => S::nearest(u32::from(channel.to_u16()), most),
            };
        }
    }
}

/// Whether the planes have the size that their picture says.
pub(super) fn covers(frame: &Frame, (width, height): (u32, u32)) -> bool {
    frame.widths[0] >= width && frame.heights[0] >= height
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_reach_from_nothing_to_full_strength() {
        for most in [255, 1023, 4095, 65_535] {
            assert_eq!((u8::nearest(0, most), u8::nearest(most, most)), (0, 255));
            assert_eq!(
                (u16::nearest(0, most), u16::nearest(most, most)),
                (0, 65_535)
            );
        }
        assert_eq!(u16::nearest(512, 1023), 32_800);
        assert_eq!(u8::nearest(300, 255), 255);
    }

    #[test]
    fn colours_are_divided_by_their_alpha_in_either_depth() {
        let mut bytes = [100_u8, 50, 0, 9, 9, 9, 200, 1, 2];
        unpremultiply(&mut bytes, &[200, 0, 100]);
        assert_eq!(bytes, [128, 64, 0, 0, 0, 0, 255, 3, 5]);
        let mut deep = [10_000_u16, 50, 0, 60_000, 9, 9];
        unpremultiply(&mut deep, &[20_000, 0]);
        assert_eq!(deep, [32_768, 164, 0, 0, 0, 0]);
    }

    #[test]
    fn limited_grey_gets_the_full_range() {
        let coded = |bits: u8, levels: [u16; 4]| Coded {
            frame: Frame {
                widths: [4, 0, 0],
                heights: [1, 0, 0],
                planes: [levels.to_vec(), Vec::new(), Vec::new()],
                bit_depth: [bits; 2],
                chroma_format: 0,
                full_range: false,
                matrix_coeffs: 2,
            },
            code_points: None,
        };
        let of = |levels: [u16; 4]| levels.map(|level| [level; 3]).as_flattened().to_vec();
        let ten = coded(10, [64, 502, 940, 1023]);
        let deep = rgb::<u16>(ten, None, (4, 1)).unwrap_or_default();
        assert_eq!(deep, of([0, 32_768, 65_535, 65_535]));
        let eight = coded(8, [16, 126, 235, 255]);
        let shallow = rgb::<u8>(eight, None, (4, 1)).unwrap_or_default();
        let shallow: Vec<_> = shallow.into_iter().map(u16::from).collect();
        assert_eq!(shallow, of([0, 128, 255, 255]));
    }
}
