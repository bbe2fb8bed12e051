//! Decoded tiles put together: planes to RGB, and transparency.

use heifer::color::{ColorParams, frame_to_rgba_sized};
use heifer::heifer_hevc_dec::recon::Frame;
use heifer::heifer_isobmff::HeifFile;

use super::still::{CodePoints, Picture, Still, code_points_of};
use super::{Coded, Failure, StreamColours, coded};

/// Colours as stored, three bytes a pixel, of the whole picture before it is cropped; and what the
/// first stream says of their primaries and transfer.
pub(super) fn colour(still: &Still<'_>) -> Result<(Vec<u8>, Option<StreamColours>), Failure> {
    let picture = &still.colour;
    let of_whole = code_points_of(&still.file, still.file.primary_id);
    let mut in_stream = None;
    let mut whole = Vec::new();
    let stride = picture.width as usize * 3;
    for (i, &id) in picture.tiles.iter().enumerate() {
        let told = code_points_of(&still.file, id).or(of_whole);
        let coded = coded(&still.file, picture.codec, id, picture.tile)?;
        if i == 0 {
            in_stream = coded.code_points;
        }
        let rgb = rgb(coded, told, picture.tile)?;
        if picture.tiles.len() == 1 && picture.tile == (picture.width, picture.height) {
            return Ok((rgb, in_stream));
        }
        if whole.is_empty() {
            whole = vec![0; stride * picture.height as usize];
        }
        place::<3>(&mut whole, &rgb, picture, i);
    }
    Ok((whole, in_stream))
}

/// Transparency, a byte a pixel. Its samples have the full range whatever its stream says (ISO/IEC
/// 23000-22, 7.3.5.2).
pub(super) fn alpha(file: &HeifFile<'_>, picture: &Picture) -> Result<Vec<u8>, Failure> {
    let mut whole = vec![0; picture.width as usize * picture.height as usize];
    for (i, &id) in picture.tiles.iter().enumerate() {
        let Coded { frame, .. } = coded(file, picture.codec, id, picture.tile)?;
        let most = (1_u32 << frame.bit_depth[0]) - 1;
        let (width, height) = (picture.tile.0 as usize, picture.tile.1 as usize);
        let rows = frame.planes[0].chunks_exact(frame.widths[0] as usize);
        let tile: Vec<u8> = rows
            .take(height)
            .flat_map(|row| &row[..width])
            .map(|&sample| ((u32::from(sample) * 255 + most / 2) / most).min(255) as u8)
            .collect();
        place::<1>(&mut whole, &tile, picture, i);
    }
    Ok(whole)
}

/// Puts a tile of `N` bytes a pixel to its place; what is beyond the picture's edge is left out.
fn place<const N: usize>(whole: &mut [u8], tile: &[u8], picture: &Picture, index: usize) {
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

/// Planes to RGB of 8 bits. Chroma between samples is interpolated.
fn rgb(
    coded: Coded,
    told: Option<CodePoints>,
    (width, height): (u32, u32),
) -> Result<Vec<u8>, Failure> {
    let frame = coded.frame;
    let params = told.map_or_else(
        || ColorParams::from_frame(&frame),
        |told| ColorParams {
            matrix: told.matrix,
            full_range: told.is_full_range,
        },
    );
    let is_grey = frame.widths[1] == 0;
    // ITU-T H.273, table 4. Constant luminance, YCgCo, ICtCp and the rest are for video.
    if !is_grey && !matches!(params.matrix, 0 | 1 | 2 | 4 | 5 | 6 | 7 | 9) {
        return Err(Failure::Unread(format!(
            "its colours are coded by matrix {} of ITU-T H.273",
            params.matrix
        )));
    }
    let rgba = frame_to_rgba_sized::<u8>(&frame, params, width, height);
    if (rgba.width, rgba.height) != (width, height) {
        return Err(Failure::damaged("a picture in it is smaller than it says"));
    }
    drop(frame);
    let mut pixels = rgba.data;
    for i in 0..width as usize * height as usize {
        pixels.copy_within(i * 4..i * 4 + 3, i * 3);
    }
    pixels.truncate(width as usize * height as usize * 3);
    pixels.shrink_to_fit();
    if is_grey && !params.full_range {
        // The conversion takes grey for full range.
        pixels.iter_mut().for_each(|level| {
            let above = u32::from(level.saturating_sub(16).min(219));
            *level = ((above * 255 + 109) / 219) as u8;
        });
    }
    Ok(pixels)
}

/// Colours that were multiplied by their alpha, divided by it.
pub(super) fn unpremultiply(rgb: &mut [u8], alpha: &[u8]) {
    for (pixel, &alpha) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(alpha) {
        let alpha = u32::from(alpha);
        for channel in pixel {
            let level = (u32::from(*channel) * 255 + alpha / 2).checked_div(alpha);
            *channel = level.unwrap_or(0).min(255) as u8;
        }
    }
}

/// Whether the planes have the size that their picture says.
pub(super) fn covers(frame: &Frame, (width, height): (u32, u32)) -> bool {
    frame.widths[0] >= width && frame.heights[0] >= height
}
