//! What of a photo is kept beside its 8-bit sRGB pixels, for pictures that are to have it again.

use bytes::Bytes;

use crate::job::{ColourProfile, Depth, KeepMetadata, Kind, Output};

use super::colour::Profile;
use super::{Header, Photo, SPARE_BYTES, SourceFormat};

/// What is to be kept. By default nothing is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Pixels in the photo's own colours.
    pub profile: ColourProfile,
    /// All bits.
    pub depth: Depth,
    /// EXIF.
    pub metadata: KeepMetadata,
    /// Dots an inch of the picture, which EXIF says too.
    pub dpi: u32,
}

impl Wanted {
    /// What the picture that a job asks for needs.
    pub fn of(output: &Output) -> Self {
        Self {
            // A mask is coverage, not colour.
            profile: match output.effective_kind() {
                Kind::Mask => ColourProfile::Srgb,
                _ => output.profile,
            },
            depth: output.depth,
            metadata: output.keep_metadata,
            dpi: output.dpi,
        }
    }

    pub(super) fn exif(&self, raw: Option<&[u8]>) -> Option<Bytes> {
        // As JPEG has it; some write it into WebP too.
        const NAME: &[u8] = b"Exif\0\0";
        let raw = raw?;
        let block = raw.strip_prefix(NAME).unwrap_or(raw);
        super::exif::kept(block, self.metadata, self.dpi)
    }
}

/// A photo's pixels in 16 bits, in the order of [`Photo`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deep {
    /// Three samples a pixel.
    pub rgb: Vec<u16>,
    /// The source's own transparency, one sample a pixel, straight.
    pub alpha: Option<Vec<u16>>,
}

/// What goes from the photo's file into those of its pictures.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// The profile that the pixels are in; `None` for sRGB.
    pub profile: Option<Profile>,
    /// An EXIF block that is true of the picture.
    pub exif: Option<Bytes>,
}

/// A decoded photo with what was wanted of it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Upright, 8 bits a channel; sRGB, unless `carried` has a profile.
    pub photo: Photo,
    /// The same in 16 bits; `None` where it was not wanted or there are no more than 8. Each sample of
    /// `photo` is its own nearest level.
    pub deep: Option<Deep>,
    /// For the file.
    pub carried: Carried,
}

impl Kept {
    /// An 8-bit photo with nothing else.
    pub(super) fn plain(photo: Photo) -> Self {
        Self {
            photo,
            deep: None,
            carried: Carried::default(),
        }
    }

    /// Looks at the photo as networks do: in sRGB, whatever the picture will be in. Takes three bytes a
    /// pixel where that is another profile.
    pub fn in_srgb<T>(&mut self, look: impl FnOnce(&Photo) -> T) -> T {
        let Some(profile) = &self.carried.profile else {
            return look(&self.photo);
        };
        let rgb = profile.to_srgb(&self.photo.rgb);
        let seen = Photo {
            width: self.photo.width,
            height: self.photo.height,
            rgb,
            alpha: self.photo.alpha.take(),
        };
        let answer = look(&seen);
        self.photo.alpha = seen.alpha;
        answer
    }

    /// The photo once more, in sRGB.
    pub fn clone_in_srgb(&self) -> Photo {
        match &self.carried.profile {
            None => self.photo.clone(),
            Some(profile) => Photo {
                width: self.photo.width,
                height: self.photo.height,
                rgb: profile.to_srgb(&self.photo.rgb),
                alpha: self.photo.alpha.clone(),
            },
        }
    }
}

impl Header {
    /// Memory in bytes, on top of [`decode_bytes`](Self::decode_bytes), for what is to be kept and for the
    /// pictures made of it.
    pub fn keeping_bytes(&self, wanted: &Wanted) -> u64 {
        // Two more ways from and to the profile.
        let profile = match wanted.profile {
            ColourProfile::Srgb => 0,
            ColourProfile::Source => 2 * super::colour::WORKING_BYTES,
        };
        // Decoders hand out a copy of what they hold, however large. What we make of it is small.
        let metadata = match wanted.metadata {
            KeepMetadata::None => 0,
            _ => super::colour::WORKING_BYTES,
        };
        let constant = profile + metadata;
        if wanted.depth == Depth::Eight || !self.may_be_deep() {
            return constant;
        }
        let alpha = u64::from(self.alpha);
        // All samples in 16 bits, and beside them the photo in 8.
        let deep = 6 + 2 * alpha;
        let both = deep + 3 + alpha;
        // The decoder's samples, until ours are made of them.
        let split = u64::from(self.bytes_per_pixel) + deep;
        let orient = both + 6;
        // The copy in sRGB, and the copy put on grey.
        let tensor = both + 3 + 3 * alpha;
        // Both mattes, and 16-bit RGBA; or, before it, what is there while colours are estimated.
        let compose = both + 3 + 8;
        let estimate = both + 3 + SPARE_BYTES;
        // The picture and the resized one.
        let resize = 8 + 8;
        // The picture, and room for a file that does not compress at all.
        let encode = 8 + 12;
        let peak = split.max(orient).max(tensor).max(compose);
        let peak = peak.max(estimate).max(resize).max(encode);
        // What is reserved for 8 bits in any case.
        const SHALLOW: u64 = 12;
        self.pixels() * (peak - SHALLOW) + constant
    }

    /// Whether samples may have 16 bits. An 8-bit picture with alpha has as many bytes a pixel as a grey one
    /// with 16 bits; of those more is reserved than they need.
    fn may_be_deep(&self) -> bool {
        match (self.format, self.alpha, self.bytes_per_pixel) {
            // Grey and alpha; grey; RGB.
            (SourceFormat::Png | SourceFormat::Tiff, true, bytes) => bytes >= 4,
            (SourceFormat::Png | SourceFormat::Tiff, false, bytes) => bytes == 2 || bytes >= 6,
            // RGB always.
            (SourceFormat::Heic | SourceFormat::Avif, _, bytes) => bytes >= 6,
            _ => false,
        }
    }
}
