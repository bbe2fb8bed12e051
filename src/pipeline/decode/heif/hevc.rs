//! One HEVC picture, by `heifer-hevc-dec`: safe code, intra pictures only.

use heifer::heifer_hevc_dec::decoder::{DecodeOptions, decode_picture};
use heifer::heifer_hevc_dec::nal::{NalUnit, split_annex_b};
use heifer::heifer_hevc_dec::params::ParameterSets;
use heifer::heifer_isobmff::{HeifFile, ItemId};

use super::still::PADDING;
use super::{Coded, Failure, StreamColours, paint};

/// Units of a stream. Cameras write one slice a tile and some five parameter sets; each slice could
/// make the decoder go over the whole picture again.
const MAX_UNITS: usize = 64;

/// Parameter sets of one picture, which are read again for each tile.
const MAX_CONFIG_BYTES: usize = 64 << 10;

impl From<heifer::heifer_hevc_dec::Error> for Failure {
    fn from(error: heifer::heifer_hevc_dec::Error) -> Self {
        match error {
            heifer::heifer_hevc_dec::Error::Unimplemented(what) => {
                Self::Unread(format!("of its HEVC: {what}"))
            }
            other => Self::Damaged(other.to_string()),
        }
    }
}

pub(super) fn decode(file: &HeifFile<'_>, id: ItemId, size: (u32, u32)) -> Result<Coded, Failure> {
    let config = file
        .hevc_config(id)?
        .ok_or_else(|| Failure::damaged("a picture in it has no configuration"))?;
    if config.nal_units.iter().map(Vec::len).sum::<usize>() > MAX_CONFIG_BYTES {
        return Err(Failure::damaged("its configuration is larger than 64 KiB"));
    }
    let stream = file.hevc_bitstream(id)?;
    let starts = stream.windows(3).filter(|window| *window == [0, 0, 1]);
    if starts.take(MAX_UNITS + 1).count() > MAX_UNITS {
        return Err(Failure::unread(
            "a picture in it is cut into more than 64 pieces",
        ));
    }
    let code_points = check_parameters(&stream, size, config.chroma_format)?;
    let most = |side: u32| u64::from(side) + u64::from(PADDING);
    let options = DecodeOptions {
        max_pixels: most(size.0) * most(size.1),
        ..DecodeOptions::default()
    };
    let frame = decode_picture(&stream, options)?;
    if !paint::covers(&frame, size) {
        return Err(Failure::damaged("a picture in it is smaller than it says"));
    }
    Ok(Coded { frame, code_points })
}

/// Holds what the stream says of itself against what the container said, for which memory has been
/// reserved. Primaries and transfer, if it has them.
fn check_parameters(
    stream: &[u8],
    (width, height): (u32, u32),
    chroma_format: u8,
) -> Result<Option<StreamColours>, Failure> {
    let mut sets = ParameterSets::default();
    for unit in split_annex_b(stream) {
        let unit = NalUnit::parse(unit)?;
        if unit.header.unit_type.is_slice() {
            break;
        }
        sets.add(&unit)?;
    }
    let mut code_points = None;
    for set in sets.sps.iter().flatten() {
        let (coded_width, coded_height) = (
            set.pic_width_in_luma_samples,
            set.pic_height_in_luma_samples,
        );
        if coded_width.saturating_sub(PADDING) > width
            || coded_height.saturating_sub(PADDING) > height
            || set.chroma_format_idc != chroma_format
        {
            return Err(Failure::Damaged(format!(
                "its stream is of {coded_width}×{coded_height} pixels where {width}×{height} were announced, or of other colours",
            )));
        }
        if let Some(vui) = &set.vui
            && vui.colour_primaries != 2
            && vui.transfer_characteristics != 2
        {
            code_points = Some((
                u16::from(vui.colour_primaries),
                u16::from(vui.transfer_characteristics),
            ));
        }
    }
    Ok(code_points)
}
