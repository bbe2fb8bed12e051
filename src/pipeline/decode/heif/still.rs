//! What is to be shown of a HEIF file: the primary item, its tiles, its transparency, its colours, and
//! how it is cropped and turned.

use std::collections::HashSet;

use heifer::heifer_isobmff::boxes::{ColorInfo, ConstructionMethod, Grid, Property};
use heifer::heifer_isobmff::{HeifFile, ItemId};
use image::metadata::Orientation;

use super::super::{Header, Limits, SourceFormat};
use super::paint::MAX_DEPTH;
use super::{Failure, bounds, is_built_in};

/// The content of `auxC` where an auxiliary picture is transparency: HEVC's name, and MPEG's.
const ALPHA: [&str; 2] = [
    "urn:mpeg:hevc:2015:auxid:1",
    "urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
];

/// Coded pictures are padded to whole blocks, of up to 64 pixels (HEVC) or 128 (AV1).
pub(super) const PADDING: u32 = 128;

/// Tiles of a grid. Samsung's photos of 200 megapixels have 768; each could be padded to much more than it shows, and
/// has a decoder and its parameter sets of its own.
const MAX_TILES: usize = 1024;

/// EXIF with what stands before it. What keeps it reads 64 KiB at most.
const MAX_EXIF_BYTES: u64 = 128 << 10;

/// Code points of ITU-T H.273.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodePoints {
    pub primaries: u16,
    pub transfer: u16,
    pub matrix: u16,
    pub is_full_range: bool,
}

/// A picture of one coded item, or of a grid of them.
pub(super) struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    pub codec: SourceFormat,
    /// Tiles a row.
    pub columns: u32,
    /// Width and height of each tile, pixels.
    pub tile: (u32, u32),
    /// Coded items, row by row. A coded picture is its own only tile.
    pub tiles: Vec<ItemId>,
    /// Bits a sample, of the tile that says to have most.
    bits: u8,
    /// Bytes a pixel of a tile that the decoder needs at its peak.
    decoder_bytes_per_pixel: u64,
}

/// A part of the stored picture, pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crop {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

/// What a file shows.
pub(super) struct Still<'a> {
    pub file: HeifFile<'a>,
    pub colour: Picture,
    pub alpha: Option<Picture>,
    /// Whether colour has been multiplied by alpha.
    pub is_premultiplied: bool,
    pub crop: Crop,
    orientation: Orientation,
}

impl<'a> Still<'a> {
    pub fn open(bytes: &'a [u8], format: SourceFormat, limits: &Limits) -> Result<Self, Failure> {
        if let Some(excess) = bounds::excess(bytes) {
            return Err(Failure::damaged(excess));
        }
        let file = HeifFile::parse(bytes)?;
        let primary = file.primary_id;
        let colour = Picture::of(&file, primary, format, limits)?;
        let alpha_id = file
            .referencing_items(primary, b"auxl")
            .into_iter()
            .find(|&id| is_alpha(&file, id));
        let alpha = alpha_id
            .map(|id| Picture::of(&file, id, format, limits))
            .transpose()?;
        if let Some(alpha) = &alpha
            && (alpha.width, alpha.height) != (colour.width, colour.height)
        {
            return Err(Failure::unread(
                "its transparency has another size than its colours",
            ));
        }
        let coded = colour
            .tiles
            .iter()
            .chain(alpha.iter().flat_map(|a| &a.tiles));
        check_lengths(&file, bytes.len(), coded)?;
        let (crop, orientation) = crop_and_turn(&file, &colour)?;
        let is_premultiplied =
            alpha_id.is_some_and(|id| file.referenced_items(primary, b"prem").contains(&id));
        let still = Self {
            is_premultiplied,
            file,
            colour,
            alpha,
            crop,
            orientation,
        };
        if let Some(nclx) = still.code_points()
            && still.icc().is_none()
        {
            is_shown_as_is(nclx.transfer)?;
        }
        Ok(still)
    }

    /// Whether colours have more than 8 bits, and no more than are painted.
    pub fn is_deep(&self) -> bool {
        (9..=MAX_DEPTH).contains(&self.colour.bits)
    }

    /// `file_bytes`: the whole file's.
    pub fn header(&self, file_bytes: usize) -> Header {
        let (width, height) = (self.crop.width, self.crop.height);
        let alpha = self.alpha.is_some();
        // As much as is needed where all bits are wanted.
        let samples = (3 + u64::from(alpha)) * if self.is_deep() { 2 } else { 1 };
        let stored = u64::from(self.colour.width) * u64::from(self.colour.height);
        let pictures = [Some(&self.colour), self.alpha.as_ref()];
        let decoder = pictures.into_iter().flatten().map(Picture::decoder_bytes);
        // A tile is decoded beside the finished transparency and the colours that it goes into. Its
        // bytes are copied up to three times: out of their pieces, into a stream, out of that.
        let decode = stored * samples + decoder.max().unwrap_or(0) + 3 * file_bytes as u64;
        let header = Header {
            format: self.colour.codec,
            width,
            height,
            orientation: self.orientation,
            bytes_per_pixel: samples as u32,
            alpha,
            in_jpeg: false,
            code_bytes: 0,
        };
        // What every photo of the size has anyway.
        let code_bytes = decode.saturating_sub(header.peak_bytes_per_pixel() * header.pixels());
        Header {
            code_bytes,
            ..header
        }
    }

    /// The colour profile, of the whole or else of its first tile.
    pub fn icc(&self) -> Option<&[u8]> {
        self.described_by(|property| match property {
            Property::Color(ColorInfo::Icc(icc)) if !icc.is_empty() => Some(icc.as_slice()),
            _ => None,
        })
    }

    /// The colours' code points, of the whole or else of its first tile.
    pub fn code_points(&self) -> Option<CodePoints> {
        self.described_by(nclx)
    }

    /// EXIF of the whole or else of its first tile: a TIFF, which some write after JPEG's `Exif\0\0` (ISO/IEC 23008-12,
    /// annex A.2.1). `None` also where it is longer than any that is kept, or does
    /// not say how long it is.
    pub fn exif(&self) -> Option<Vec<u8>> {
        let is_exif = |&id: &ItemId| self.file.item(id).is_ok_and(|i| i.item_type.0 == *b"Exif");
        let describing = |id| self.file.referencing_items(id, b"cdsc");
        let id = self
            .whole_and_first_tile()
            .find_map(|id| describing(id).into_iter().find(is_exif))?;
        is_in_the_file(&self.file, id).ok()?;
        let extents = &self.file.item(id).ok()?.location.as_ref()?.extents;
        let length = extents.iter().try_fold(0_u64, |sum, extent| {
            sum.checked_add(extent.length).filter(|_| extent.length > 0)
        });
        if length.is_none_or(|length| length > MAX_EXIF_BYTES) {
            tracing::debug!(
                ?length,
                "the EXIF is too large, or does not say how large; not kept"
            );
            return None;
        }
        let data = self.file.item_data(id).ok()?;
        let (offset, rest) = data.split_first_chunk::<4>()?;
        let exif = rest.get(u32::from_be_bytes(*offset) as usize..);
        if exif.is_none() {
            tracing::debug!("the EXIF is not where it says; not kept");
        }
        exif.map(<[u8]>::to_vec)
    }

    fn described_by<'s, T>(&'s self, told: impl Fn(&'s Property) -> Option<T>) -> Option<T> {
        self.whole_and_first_tile()
            .find_map(|id| self.file.item_properties(id).ok()?.find_map(&told))
    }

    fn whole_and_first_tile(&self) -> impl Iterator<Item = ItemId> {
        let first = self.colour.tiles.first().copied();
        std::iter::once(self.file.primary_id).chain(first)
    }
}

/// The code points that an item says of itself.
pub(super) fn code_points_of(file: &HeifFile<'_>, id: ItemId) -> Option<CodePoints> {
    file.item_properties(id).ok()?.find_map(nclx)
}

fn nclx(property: &Property) -> Option<CodePoints> {
    match *property {
        Property::Color(ColorInfo::Nclx {
            primaries,
            transfer,
            matrix,
            full_range,
        }) => Some(CodePoints {
            primaries,
            transfer,
            matrix,
            is_full_range: full_range,
        }),
        _ => None,
    }
}

/// Refuses HDR: levels of PQ (16) and HLG (18) say how bright a screen is to be, and have no one
/// place on paper.
pub(super) fn is_shown_as_is(transfer: u16) -> Result<(), Failure> {
    match transfer {
        16 => Err(Failure::unread("it is HDR (PQ)")),
        18 => Err(Failure::unread("it is HDR (HLG)")),
        _ => Ok(()),
    }
}

fn is_alpha(file: &HeifFile<'_>, id: ItemId) -> bool {
    file.item_properties(id).is_ok_and(|mut properties| {
        properties.any(
            |property| matches!(property, Property::AuxiliaryType(t) if ALPHA.contains(&t.as_str())),
        )
    })
}

impl Picture {
    fn of(
        file: &HeifFile<'_>,
        id: ItemId,
        format: SourceFormat,
        limits: &Limits,
    ) -> Result<Self, Failure> {
        let item = file.item(id)?;
        if item.item_type.0 != *b"grid" {
            let codec = codec_of(item.item_type.0)?;
            let size = size_of(file, id, codec, limits)?;
            let bits = bits(file, id, codec);
            return Ok(Self {
                width: size.0,
                height: size.1,
                codec,
                columns: 1,
                tile: size,
                tiles: vec![id],
                bits,
                decoder_bytes_per_pixel: decoder_bytes_per_pixel(file, id, codec, bits),
            });
        }
        is_in_the_file(file, id)?;
        let grid = Grid::parse(&file.item_data(id)?)?;
        let (width, height) = (grid.output_width, grid.output_height);
        let is_of_size = |size: (u32, u32)| check_size(size, format, limits);
        is_of_size((width, height))?;
        let tiles = file.referenced_items(id, b"dimg").to_vec();
        let (columns, rows) = (u32::from(grid.columns), u32::from(grid.rows));
        if tiles.len() as u64 != u64::from(columns) * u64::from(rows) {
            return Err(Failure::damaged(format!(
                "its grid of {columns}×{rows} tiles has {}",
                tiles.len()
            )));
        }
        if tiles.len() > MAX_TILES {
            return Err(Failure::unread("its grid has more than 1024 tiles"));
        }
        if tiles.iter().collect::<HashSet<_>>().len() < tiles.len() {
            return Err(Failure::damaged("its grid has one tile more than once"));
        }
        let first = *tiles.first().expect("a grid has a row and a column");
        let codec = codec_of(file.item(first)?.item_type.0)?;
        let tile = size_of(file, first, codec, limits)?;
        let (mut most_bits, mut decoder) = (0, 0);
        for &id in &tiles {
            if codec_of(file.item(id)?.item_type.0)? != codec || file.image_size(id)? != Some(tile)
            {
                return Err(Failure::unread("the tiles of its grid are not alike"));
            }
            let bits = bits(file, id, codec);
            most_bits = most_bits.max(bits);
            decoder = decoder.max(decoder_bytes_per_pixel(file, id, codec, bits));
        }
        // The tiles cover the picture, and none lies outside of it.
        let fits = |tile: u32, count: u32, whole: u32| {
            let (tile, count, whole) = (u64::from(tile), u64::from(count), u64::from(whole));
            tile * count >= whole && tile * (count - 1) < whole
        };
        if !fits(tile.0, columns, width) || !fits(tile.1, rows, height) {
            return Err(Failure::damaged(format!(
                "a grid of {columns}×{rows} tiles of {}×{} pixels is not one of {width}×{height}",
                tile.0, tile.1
            )));
        }
        Ok(Self {
            width,
            height,
            codec,
            columns,
            tile,
            tiles,
            bits: most_bits,
            decoder_bytes_per_pixel: decoder,
        })
    }

    /// What the decoder needs for one tile, with its pixels as RGBA of all their bits.
    fn decoder_bytes(&self) -> u64 {
        let padded = |side: u32| u64::from(side) + u64::from(PADDING);
        padded(self.tile.0) * padded(self.tile.1) * self.decoder_bytes_per_pixel
    }
}

fn codec_of(item_type: [u8; 4]) -> Result<SourceFormat, Failure> {
    let codec = match &item_type {
        b"hvc1" => SourceFormat::Heic,
        b"av01" => SourceFormat::Avif,
        other => {
            return Err(Failure::Unread(format!(
                "it holds an item of type {:?} where HEVC, AV1 or a grid of them is read",
                String::from_utf8_lossy(other)
            )));
        }
    };
    if !is_built_in(codec) {
        return Err(Failure::Unread(format!(
            "it holds {codec}, which is not built in"
        )));
    }
    Ok(codec)
}

fn size_of(
    file: &HeifFile<'_>,
    id: ItemId,
    format: SourceFormat,
    limits: &Limits,
) -> Result<(u32, u32), Failure> {
    let size = file
        .image_size(id)?
        .ok_or_else(|| Failure::damaged("a picture in it has no size"))?;
    check_size(size, format, limits)?;
    Ok(size)
}

fn check_size(
    (width, height): (u32, u32),
    format: SourceFormat,
    limits: &Limits,
) -> Result<(), Failure> {
    if width == 0 || height == 0 {
        return Err(Failure::Damaged(format!(
            "a picture in it has no pixels: {width}×{height}"
        )));
    }
    limits.check(format, width, height).map_err(Failure::Limits)
}

/// Bits a sample, as the configuration says; 0 where there is none.
fn bits(file: &HeifFile<'_>, id: ItemId, codec: SourceFormat) -> u8 {
    if codec == SourceFormat::Heic {
        let config = file.hevc_config(id).ok().flatten();
        return config.map_or(0, |c| c.bit_depth_luma.max(c.bit_depth_chroma));
    }
    // AV1 Codec ISO Media File Format Binding, 2.3: the third byte's second and third bit.
    let flags = file.item_properties(id).ok().and_then(|mut properties| {
        properties.find_map(|property| match property {
            Property::Unknown(name, config) if name.0 == *b"av1C" => config.get(2).copied(),
            _ => None,
        })
    });
    match flags.map(|flags| (flags & 0x40 != 0, flags & 0x20 != 0)) {
        None => 0,
        Some((false, _)) => 8,
        Some((true, false)) => 10,
        Some((true, true)) => 12,
    }
}

/// At its peak, the decoder of a tile holds planes of 16 bits a sample, a copy of them, and some 2
/// bytes of notes; then the planes and RGBA.
fn decoder_bytes_per_pixel(file: &HeifFile<'_>, id: ItemId, codec: SourceFormat, bits: u8) -> u64 {
    let rgba = if bits > 8 { 8 } else { 4 };
    let of_planes = |planes: u64| (2 * planes + 2).max(planes + rgba);
    match codec {
        // The stream is held to what its configuration says before it is decoded.
        SourceFormat::Heic => match file.hevc_config(id) {
            Ok(Some(config)) => of_planes(match config.chroma_format {
                0 => 2,
                1 => 3,
                2 => 4,
                _ => 6,
            }),
            _ => 0,
        },
        // What AV1 says of itself is not looked at before it is decoded.
        _ => of_planes(6),
    }
}

/// Each item's bytes count, as often as they are named: a small file could make much work else.
fn check_lengths<'i>(
    file: &HeifFile<'_>,
    whole: usize,
    coded: impl Iterator<Item = &'i ItemId>,
) -> Result<(), Failure> {
    let mut named = 0_u64;
    for &id in coded {
        is_in_the_file(file, id)?;
        let location = file.item(id)?.location.iter();
        for extent in location.flat_map(|location| &location.extents) {
            named = named.saturating_add(match extent.length {
                // To the end.
                0 => whole as u64,
                length => length,
            });
            if named > 2 * whole as u64 {
                return Err(Failure::damaged("its items overlap"));
            }
        }
    }
    Ok(())
}

fn is_in_the_file(file: &HeifFile<'_>, id: ItemId) -> Result<(), Failure> {
    match &file.item(id)?.location {
        Some(location) if location.construction_method == ConstructionMethod::Item => {
            Err(Failure::unread("its items are made of other items"))
        }
        _ => Ok(()),
    }
}

/// Crop, turn and mirror, in the order in which they are to be done.
fn crop_and_turn(file: &HeifFile<'_>, picture: &Picture) -> Result<(Crop, Orientation), Failure> {
    let mut crop = Crop {
        left: 0,
        top: 0,
        width: picture.width,
        height: picture.height,
    };
    // Quarters clockwise, and then whether left and right change places.
    let (mut quarters, mut is_mirrored) = (0, false);
    for property in file.item_properties(file.primary_id)? {
        match *property {
            Property::CleanAperture {
                width,
                height,
                horiz_offset,
                vert_offset,
            } => {
                if (quarters, is_mirrored) != (0, false) {
                    return Err(Failure::unread("it is cropped after it is turned"));
                }
                let inner = |whole, size, offset| {
                    aperture(whole, size, offset)
                        .ok_or_else(|| Failure::damaged("its crop is not within it"))
                };
                (crop.left, crop.width) = inner(crop.width, width, horiz_offset)?;
                (crop.top, crop.height) = inner(crop.height, height, vert_offset)?;
            }
            // Anticlockwise. A turn after a mirror is the mirror after the opposite turn.
            Property::Rotation(turn) if is_mirrored => quarters = (quarters + turn) % 4,
            Property::Rotation(turn) => quarters = (quarters + 4 - turn) % 4,
            Property::Mirror(is_top_to_bottom) => {
                is_mirrored = !is_mirrored;
                if is_top_to_bottom {
                    quarters = (quarters + 2) % 4;
                }
            }
            _ => {}
        }
    }
    let orientation = match (quarters, is_mirrored) {
        (0, false) => Orientation::NoTransforms,
        (1, false) => Orientation::Rotate90,
        (2, false) => Orientation::Rotate180,
        (_, false) => Orientation::Rotate270,
        (0, true) => Orientation::FlipHorizontal,
        (1, true) => Orientation::Rotate90FlipH,
        (2, true) => Orientation::FlipVertical,
        (_, true) => Orientation::Rotate270FlipH,
    };
    Ok((crop, orientation))
}

/// First pixel and length of a clean aperture along one side of `whole` pixels: a size, and how far
/// its middle is from the picture's (ISO/IEC 14496-12, 12.1.4). Whole pixels only.
fn aperture(whole: u32, size: (u32, u32), offset: (i32, u32)) -> Option<(u32, u32)> {
    let length = size.0.checked_div(size.1)?;
    if length == 0 || length > whole || length * size.1 != size.0 || offset.1 == 0 {
        return None;
    }
    // (whole - length) / 2 + offset, over a common denominator.
    let (margin, denominator) = (i64::from(whole - length), i64::from(offset.1));
    let doubled = margin * denominator + 2 * i64::from(offset.0);
    let first = doubled.checked_div(2 * denominator)?;
    let first = u32::try_from(first).ok().filter(|_| doubled >= 0)?;
    (first <= whole - length).then_some((first, length))
}

impl Crop {
    /// Leaves the part, of a picture of `stored` size and `N` samples a pixel.
    pub fn apply<S: Copy, const N: usize>(&self, pixels: &mut Vec<S>, stored: (u32, u32)) {
        if (self.width, self.height) == stored {
            return;
        }
        let row = self.width as usize * N;
        let stride = stored.0 as usize * N;
        for y in 0..self.height as usize {
            let from = (self.top as usize + y) * stride + self.left as usize * N;
            pixels.copy_within(from..from + row, y * row);
        }
        pixels.truncate(row * self.height as usize);
        pixels.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_aperture_is_whole_and_inside() {
        assert_eq!(aperture(10, (4, 1), (0, 1)), Some((3, 4)));
        assert_eq!(aperture(10, (8, 2), (-3, 1)), Some((0, 4)));
        // What libavif writes for a crop at the top left of an odd margin.
        assert_eq!(aperture(99, (96, 1), (-3, 2)), Some((0, 96)));
        assert_eq!(aperture(10, (4, 1), (4, 1)), None);
        assert_eq!(aperture(10, (4, 1), (-4, 1)), None);
        assert_eq!(aperture(10, (11, 1), (0, 1)), None);
        assert_eq!(aperture(10, (5, 2), (0, 1)), None);
        assert_eq!(aperture(10, (0, 1), (0, 1)), None);
        assert_eq!(aperture(10, (4, 0), (0, 1)), None);
        assert_eq!(aperture(10, (4, 1), (0, 0)), None);
        assert_eq!(
            aperture(u32::MAX, (u32::MAX, 1), (i32::MIN, u32::MAX)),
            None
        );
    }

    #[test]
    fn a_crop_leaves_its_part() {
        let crop = Crop {
            left: 1,
            top: 1,
            width: 2,
            height: 2,
        };
        let mut pixels = (0..24).collect();
        crop.apply::<u8, 2>(&mut pixels, (4, 3));
        assert_eq!(pixels, [10, 11, 12, 13, 18, 19, 20, 21]);
    }
}
