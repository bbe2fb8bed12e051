//! One AV1 picture, by `re_rav1d`: dav1d in Rust, without its assembler, in the caller's thread.

use heifer::heifer_hevc_dec::recon::Frame;
use heifer::heifer_isobmff::{HeifFile, ItemId};
use re_rav1d::{Decoder, Error, Picture, PixelLayout, PlanarImageComponent, Settings};

use super::still::PADDING;
use super::{Coded, Failure, paint};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::UnsupportedBitstream => Self::unread("its AV1 is of a kind that is not decoded"),
            Error::Again => Self::damaged("a picture in it is incomplete"),
            other => Self::Damaged(format!("AV1: {other}")),
        }
    }
}

pub(super) fn decode(file: &HeifFile<'_>, id: ItemId, size: (u32, u32)) -> Result<Coded, Failure> {
    let data = file.item_data(id)?.into_owned();
    match frames(&data) {
        Some(1) => {}
        // Each frame that is not shown would be decoded too, and is not paid for.
        Some(2..) => return Err(Failure::unread("a picture in it has several layers")),
        _ => return Err(Failure::damaged("a picture in it is incomplete")),
    }
    let most = |side: u32| u64::from(side) + u64::from(PADDING);
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_all_layers(false);
    settings.set_frame_size_limit(u32::try_from(most(size.0) * most(size.1)).unwrap_or(u32::MAX));
    let mut decoder = Decoder::with_settings(&settings)?;
    decoder.send_data(data, None, None, None)?;
    let picture = decoder.get_picture()?;
    // It keeps a copy for the frames that might follow.
    drop(decoder);
    let code_points = (
        picture.color_primaries() as u16,
        picture.transfer_characteristic() as u16,
    );
    let frame = planes(&picture)?;
    if !paint::covers(&frame, size) {
        return Err(Failure::damaged("a picture in it is smaller than it says"));
    }
    Ok(Coded {
        frame,
        code_points: (code_points.0 != 2 && code_points.1 != 2).then_some(code_points),
    })
}

/// Frames in a sequence of OBUs (AV1 specification, 5.3), as far as it can be followed.
fn frames(data: &[u8]) -> Option<usize> {
    const FRAME_HEADER: u8 = 3;
    const FRAME: u8 = 6;
    // Where there is nothing that it repeats, the decoder takes it for a frame of its own.
    const REDUNDANT_FRAME_HEADER: u8 = 7;
    let (mut at, mut frames) = (0, 0);
    while at < data.len() {
        let header = data[at];
        at += 1 + usize::from(header >> 2 & 1);
        if matches!(
            header >> 3 & 15,
            FRAME_HEADER | FRAME | REDUNDANT_FRAME_HEADER
        ) {
            frames += 1;
        }
        let mut size = data.len().checked_sub(at)? as u64;
        if header >> 1 & 1 == 1 {
            size = 0;
            // A number of up to 8 bytes, seven bits each.
            for i in 0..8 {
                let byte = *data.get(at)?;
                at += 1;
                size |= u64::from(byte & 127) << (7 * i);
                if byte < 128 {
                    break;
                }
            }
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
    }
    Some(frames)
}

/// The decoder's planes in the form that is painted. An odd side is made even by repeating its last
/// samples: chroma is taken to have half of it exactly.
fn planes(picture: &Picture) -> Result<Frame, Failure> {
    let depth = picture
        .bits_per_component()
        .ok_or_else(|| Failure::damaged("a picture in it has no depth"))?
        .0;
    let (width, height) = (picture.width(), picture.height());
    let (chroma_format, across, down) = match picture.pixel_layout() {
        PixelLayout::I400 => (0, 1, 1),
        PixelLayout::I420 => (1, 2, 2),
        PixelLayout::I422 => (2, 2, 1),
        PixelLayout::I444 => (3, 1, 1),
    };
    let (width, height) = (
        width.next_multiple_of(across),
        height.next_multiple_of(down),
    );
    let (chroma_width, chroma_height) = match chroma_format {
        0 => (0, 0),
        _ => (width / across, height / down),
    };
    let plane = |component, width: u32, height: u32| {
        if width == 0 {
            return Vec::new();
        }
        let (stride, rows) = picture.plane_data_geometry(component);
        let plane = picture.plane(component);
        let stored = match component {
            PlanarImageComponent::Y => picture.width(),
            _ => width,
        };
        let mut samples = Vec::with_capacity(width as usize * height as usize);
        for y in 0..height.min(rows) {
            let row = &plane[y as usize * stride as usize..];
            if depth == 8 {
                samples.extend(row[..stored as usize].iter().map(|&s| u16::from(s)));
            } else {
                let row = row.as_chunks::<2>().0;
                samples.extend(
                    row[..stored as usize]
                        .iter()
                        .map(|&s| u16::from_ne_bytes(s)),
                );
            }
            if let Some(&last) = samples.last().filter(|_| stored < width) {
                samples.push(last);
            }
        }
        if rows < height {
            samples.extend_from_within(samples.len() - width as usize..);
        }
        samples
    };
    Ok(Frame {
        widths: [width, chroma_width, chroma_width],
        heights: [height, chroma_height, chroma_height],
        planes: [
            plane(PlanarImageComponent::Y, width, height),
            plane(PlanarImageComponent::U, chroma_width, chroma_height),
            plane(PlanarImageComponent::V, chroma_width, chroma_height),
        ],
        bit_depth: [depth as u8; 2],
        chroma_format,
        full_range: picture.color_range() as u8 == 1,
        matrix_coeffs: picture.matrix_coefficients() as u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_without_decoding() {
        // A temporal delimiter, a sequence header of two bytes, a frame of three.
        let one = [0x12, 0, 0x0a, 2, 9, 9, 0x32, 3, 1, 2, 3];
        assert_eq!(frames(&one), Some(1));
        let two = [&one[..], &one[6..]].concat();
        assert_eq!(frames(&two), Some(2));
        // A header that is called redundant, and a tile group, before the frame that is shown.
        let hidden = [&one[..6], &[0x3a, 1, 1, 0x22, 1, 1], &one[6..]].concat();
        assert_eq!(frames(&hidden), Some(2));
        // Without a size, to the end; with an extension; a size of two bytes.
        assert_eq!(frames(&[0x30, 1, 2, 3]), Some(1));
        assert_eq!(frames(&[0x36, 0, 1, 7, 0x1a, 0]), Some(2));
        let long = [&[0x32, 0x80, 0x01][..], &[0; 128], &[0x32, 0]].concat();
        assert_eq!(frames(&long), Some(2));
        assert_eq!(frames(&[0x32]), None);
        assert_eq!(frames(b""), Some(0));
    }
}
