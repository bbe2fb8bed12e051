//! Where the picture ends: the subject's box, cropping, and the size asked for.

use crate::error::Result;
use crate::job::{Padding, Size};
use crate::pipeline::resample::{self, Filter};

use super::{Channels, Picture};

/// Alpha above which a pixel belongs to the subject's box. Networks leave a veil of a few levels
/// over backgrounds, which must not stretch the box to the whole photo; 8 of 255 is invisible.
const SUBJECT_ALPHA: u8 = 8;

/// A box of whole pixels, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Column of the leftmost pixel.
    pub left: u32,
    /// Row of the topmost pixel.
    pub top: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl Bounds {
    /// The smallest box around all pixels with alpha above 8 of 255; `None` when there are none.
    pub(super) fn of_subject(alpha: &[u8], width: u32) -> Option<Self> {
        let shown = |&a: &u8| a > SUBJECT_ALPHA;
        let mut found: Option<(usize, usize, usize, usize)> = None;
        for (y, row) in alpha.chunks_exact(width as usize).enumerate() {
            let Some(left) = row.iter().position(shown) else {
                continue;
            };
            let right = row.iter().rposition(shown).unwrap_or(left);
            found = Some(match found {
                None => (left, right, y, y),
                Some((l, r, top, _)) => (l.min(left), r.max(right), top, y),
            });
        }
        found.map(|(left, right, top, bottom)| Self {
            left: left as u32,
            top: top as u32,
            width: (right - left + 1) as u32,
            height: (bottom - top + 1) as u32,
        })
    }

    /// The box with room around it, as far as a picture of this size has any.
    pub(super) fn padded(self, padding: Padding, width: u32, height: u32) -> Self {
        let room = match padding {
            Padding::Pixels(pixels) => pixels,
            Padding::Percent(percent) => {
                (self.width.max(self.height) as f32 * percent / 100.0).round() as u32
            }
        };
        let left = self.left.saturating_sub(room);
        let top = self.top.saturating_sub(room);
        let right = (self.left + self.width).saturating_add(room).min(width);
        let bottom = (self.top + self.height).saturating_add(room).min(height);
        Self {
            left,
            top,
            width: right - left,
            height: bottom - top,
        }
    }
}

/// Cuts the picture down to a box inside it, in place.
pub(super) fn crop(picture: &mut Picture, bounds: Bounds) {
    let channels = picture.channels.count();
    let stride = picture.width as usize * channels;
    let row = bounds.width as usize * channels;
    let start = bounds.top as usize * stride + bounds.left as usize * channels;
    for y in 0..bounds.height as usize {
        let from = start + y * stride;
        picture.data.copy_within(from..from + row, y * row);
    }
    picture.data.truncate(bounds.height as usize * row);
    picture.data.shrink_to_fit();
    (picture.width, picture.height) = (bounds.width, bounds.height);
}

/// Width and height after `size`: the aspect is kept, no side falls to zero, and nothing grows
/// unless `upscale` says so.
pub(super) fn scaled_size(width: u32, height: u32, size: Size, upscale: bool) -> (u32, u32) {
    let (box_width, box_height) = match size {
        Size::Longest(side) => (side, side),
        Size::Within(w, h) => (w, h),
    };
    let (w, h) = (u64::from(width), u64::from(height));
    let (bw, bh) = (u64::from(box_width), u64::from(box_height));
    // The side that fills the box is exact; the other is rounded to nearest.
    let along = |side: u64, limit: u64, of: u64| ((side * limit + of / 2) / of).max(1);
    let (to_w, to_h) = if w * bh >= h * bw {
        (bw, along(h, bw, w))
    } else {
        (along(w, bh, h), bh)
    };
    if to_w >= w && to_h >= h && !upscale {
        return (width, height);
    }
    (to_w as u32, to_h as u32)
}

/// The picture at the size asked for.
pub(super) fn scale(picture: Picture, size: Size, upscale: bool) -> Result<Picture> {
    let from = (picture.width, picture.height);
    let to = scaled_size(picture.width, picture.height, size, upscale);
    if from == to {
        return Ok(picture);
    }
    let data = match picture.channels {
        Channels::Grey => resample::grey(&picture.data, from, to)?,
        Channels::Rgb => resample::rgb(&picture.data, from, to, Filter::Lanczos)?,
        Channels::Rgba => resample::rgba(&picture.data, from, to)?,
        Channels::Grey16 => resample::deep_grey(&picture.data, from, to)?,
        Channels::Rgb16 => resample::deep_rgb(&picture.data, from, to)?,
        Channels::Rgba16 => resample::deep_rgba(&picture.data, from, to)?,
    };
    Ok(Picture {
        width: to.0,
        height: to.1,
        data,
        ..picture
    })
}
