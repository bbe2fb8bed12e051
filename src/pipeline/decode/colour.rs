//! Embedded ICC profiles to sRGB.
//!
//! A profile that is broken, of another colour space than the pixels, or too odd for `moxcms` is
//! ignored with a debug log: the photo is then taken as sRGB, as browsers do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use moxcms::{
    ColorProfile, DataColorSpace, Layout, RenderingIntent, Transform8BitExecutor,
    Transform16BitExecutor, TransformExecutor, TransformOptions,
};
use rayon::prelude::*;

use crate::job::ColourProfile;

/// Press profiles have tables of up to some 3 MB; what is larger is not a profile.
pub(super) const MAX_PROFILE_BYTES: usize = 4 << 20;

/// The largest table of those has half a megabyte (17 steps of four inks, 16 bits).
const MAX_TAG_BYTES: usize = 2 << 20;

/// What a profile may take while it is used: itself, its tables as they are read, and the one
/// that is used, widened from bytes to floats.
pub(super) const WORKING_BYTES: u64 = (2 * MAX_PROFILE_BYTES + 4 * MAX_TAG_BYTES) as u64;

/// Pixels that one task converts: small enough to stay in the cache with its source.
const STRETCH: usize = 4096;

type Transform = Arc<Transform8BitExecutor>;

/// RGB pixels as they are, with their profile, where that is wanted and can be used; else in sRGB.
pub(super) fn rgb(
    rgb: Vec<u8>,
    icc: Option<&[u8]>,
    wanted: ColourProfile,
) -> (Vec<u8>, Option<Profile>) {
    match Profile::wanted(icc, wanted) {
        None => (rgb_to_srgb(rgb, icc), None),
        profile => (rgb, profile),
    }
}

/// The same in 16 bits.
pub(super) fn deep_rgb(
    mut rgb: Vec<u16>,
    icc: Option<&[u8]>,
    wanted: ColourProfile,
) -> (Vec<u16>, Option<Profile>) {
    let profile = Profile::wanted(icc, wanted);
    if profile.is_none() {
        deep_rgb_to_srgb(&mut rgb, icc);
    }
    (rgb, profile)
}

/// RGB pixels to sRGB, in place.
pub(super) fn rgb_to_srgb(rgb: Vec<u8>, icc: Option<&[u8]>) -> Vec<u8> {
    transformed(rgb, transform(icc, DataColorSpace::Rgb, Layout::Rgb))
}

fn transformed(mut rgb: Vec<u8>, transform: Option<Transform>) -> Vec<u8> {
    let Some(transform) = transform else {
        return rgb;
    };
    if is_identity(&*transform) {
        return rgb;
    }
    in_place(&*transform, &mut rgb);
    rgb
}

/// The same in 16 bits.
fn deep_rgb_to_srgb(rgb: &mut [u16], icc: Option<&[u8]>) {
    let shallow = transform(icc, DataColorSpace::Rgb, Layout::Rgb);
    if shallow.is_none_or(|transform| is_identity(&*transform)) {
        return;
    }
    if let Some(transform) = deep_transform(icc, DataColorSpace::Rgb, Layout::Rgb) {
        in_place(&*transform, rgb);
    }
}

/// Grey samples of 16 bits to sRGB.
pub(super) fn deep_grey_to_srgb(
    grey: impl ExactSizeIterator<Item = u16>,
    icc: Option<&[u8]>,
) -> Vec<u16> {
    let mut rgb = Vec::with_capacity(grey.len() * 3);
    match deep_transform(icc, DataColorSpace::Gray, Layout::Gray) {
        None => rgb.extend(grey.flat_map(|level| [level; 3])),
        Some(transform) => {
            let levels: Vec<u16> = (0..=u16::MAX).collect();
            let mut table = vec![0; levels.len() * 3];
            apply(&*transform, &levels, &mut table);
            let (table, _) = table.as_chunks::<3>();
            rgb.extend(grey.flat_map(|level| table[usize::from(level)]));
        }
    }
    rgb
}

/// Whether a profile is for grey samples (ICC.1:2022, 7.2.6).
pub(super) fn is_of_grey(icc: &[u8]) -> bool {
    icc.get(16..20) == Some(b"GRAY")
}

fn in_place<T: Copy + Default + Send + Sync>(
    transform: &(dyn TransformExecutor<T> + Send + Sync),
    rgb: &mut [T],
) {
    rgb.par_chunks_mut(STRETCH * 3)
        .for_each_init(Vec::new, |source, stretch| {
            source.clear();
            source.extend_from_slice(stretch);
            apply(transform, source, stretch);
        });
}

/// A photo's own RGB profile, which pixels can be brought from and to.
#[derive(Clone)]
pub struct Profile {
    icc: Bytes,
    to_srgb: Transform,
    from_srgb: Transform,
    from_srgb_deep: Arc<Transform16BitExecutor>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Profile({} bytes)", self.icc.len())
    }
}

impl Profile {
    /// The profile, where it is wanted and can be used. A table may be there for one direction alone, as
    /// scanners have it: then colours that a job names cannot be brought to it.
    pub(super) fn wanted(icc: Option<&[u8]>, wanted: ColourProfile) -> Option<Self> {
        if wanted == ColourProfile::Srgb {
            return None;
        }
        let icc = icc?;
        let profile = parsed(icc, DataColorSpace::Rgb)?;
        let srgb = ColorProfile::new_srgb();
        let (both, deep) = (options(&profile), deep_options(&profile));
        let (rgb, out) = (Layout::Rgb, Layout::Rgb);
        let made = || {
            Ok::<_, moxcms::CmsError>(Self {
                icc: Bytes::copy_from_slice(icc),
                to_srgb: profile.create_transform_8bit(rgb, &srgb, out, both)?,
                from_srgb: srgb.create_transform_8bit(rgb, &profile, out, both)?,
                from_srgb_deep: srgb.create_transform_16bit(rgb, &profile, out, deep)?,
            })
        };
        // It panics at some curves that it cannot turn round, which are no reason to refuse the photo.
        let made = catch_unwind(AssertUnwindSafe(made));
        let made = made.unwrap_or(Err(moxcms::CmsError::InvalidProfile));
        made.inspect_err(|error| {
                tracing::info!(%error, "pictures cannot be written in the photo's profile; they are sRGB");
            })
            .ok()
    }

    /// The profile's file.
    pub const fn icc(&self) -> &Bytes {
        &self.icc
    }

    /// Pixels in this profile, brought to sRGB.
    pub fn to_srgb(&self, rgb: &[u8]) -> Vec<u8> {
        let mut converted = vec![0; rgb.len()];
        converted
            .par_chunks_mut(STRETCH * 3)
            .zip(rgb.par_chunks(STRETCH * 3))
            .for_each(|(out, rgb)| apply(&*self.to_srgb, rgb, out));
        converted
    }

    /// sRGB pixels, brought to this profile in place.
    pub fn take_from_srgb(&self, rgb: &mut [u8]) {
        in_place(&*self.from_srgb, rgb);
    }

    /// A colour of sRGB in this profile, in 16 bits.
    pub fn deep_from_srgb(&self, colour: [u8; 3]) -> [u16; 3] {
        let mut converted = [0; 3];
        let colour = colour.map(|level| u16::from(level) * 257);
        apply(&*self.from_srgb_deep, &colour, &mut converted);
        converted
    }
}

/// Grey pixels to sRGB.
pub(super) fn grey_to_srgb(grey: &[u8], icc: Option<&[u8]>) -> Vec<u8> {
    let mut table: Vec<u8> = (0..=255).flat_map(|v| [v; 3]).collect();
    if let Some(transform) = transform(icc, DataColorSpace::Gray, Layout::Gray) {
        let levels: Vec<u8> = (0..=255).collect();
        apply(&*transform, &levels, &mut table);
    }
    let (table, _) = table.as_chunks::<3>();
    let mut rgb = vec![0; grey.len() * 3];
    rgb.as_chunks_mut::<3>()
        .0
        .par_iter_mut()
        .zip(grey)
        .with_min_len(STRETCH)
        .for_each(|(pixel, &v)| *pixel = table[usize::from(v)]);
    rgb
}

/// CMYK pixels as JPEG stores them (complemented: 255 is no ink) to sRGB.
///
/// Without a profile the plain product of the complements, which is what Pillow and browsers
/// show. Files without Adobe's marker are taken as complemented too, as Pillow does.
pub(super) fn cmyk_to_srgb(mut complement: Vec<u8>, icc: Option<&[u8]>) -> Vec<u8> {
    let mut rgb = vec![0; complement.len() / 4 * 3];
    match transform(icc, DataColorSpace::Cmyk, Layout::Rgba) {
        Some(transform) => {
            complement
                .par_chunks_mut(STRETCH * 4)
                .zip(rgb.par_chunks_mut(STRETCH * 3))
                .for_each(|(source, rgb)| {
                    source.iter_mut().for_each(|sample| *sample = 255 - *sample);
                    apply(&*transform, source, rgb);
                });
        }
        None => {
            let pixels = complement.as_chunks::<4>().0;
            rgb.as_chunks_mut::<3>()
                .0
                .par_iter_mut()
                .zip(pixels)
                .with_min_len(STRETCH)
                .for_each(|(rgb, &[c, m, y, k])| *rgb = [c, m, y].map(|ink| unprinted(ink, k)));
        }
    }
    rgb
}

/// `key - (255 - ink) × key / 255` with Pillow's rounding (`cmyk2rgb` in its Convert.c).
fn unprinted(ink: u8, key: u8) -> u8 {
    let product = u32::from(255 - ink) * u32::from(key) + 128;
    key - (((product >> 8) + product) >> 8) as u8
}

/// The way from an embedded profile to sRGB, if there is one to go.
fn transform(icc: Option<&[u8]>, space: DataColorSpace, layout: Layout) -> Option<Transform> {
    let profile = parsed(icc?, space)?;
    let (srgb, options) = (ColorProfile::new_srgb(), options(&profile));
    usable(profile.create_transform_8bit(layout, &srgb, Layout::Rgb, options))
}

/// The same for samples of 16 bits.
fn deep_transform(
    icc: Option<&[u8]>,
    space: DataColorSpace,
    layout: Layout,
) -> Option<Arc<Transform16BitExecutor>> {
    let profile = parsed(icc?, space)?;
    let (srgb, options) = (ColorProfile::new_srgb(), deep_options(&profile));
    usable(profile.create_transform_16bit(layout, &srgb, Layout::Rgb, options))
}

fn usable<T>(transform: Result<T, moxcms::CmsError>) -> Option<T> {
    transform
        .inspect_err(|error| tracing::debug!(%error, "the colour profile cannot be used; ignored"))
        .ok()
}

/// An embedded profile, if it is for pixels like these.
fn parsed(icc: &[u8], space: DataColorSpace) -> Option<ColorProfile> {
    if !is_bounded(icc) {
        tracing::debug!(
            bytes = icc.len(),
            "the colour profile is too large; ignored"
        );
        return None;
    }
    let mut profile = ColorProfile::new_from_slice(icc)
        .inspect_err(|error| tracing::debug!(%error, "the colour profile is broken; ignored"))
        .ok()?;
    if profile.color_space != space {
        tracing::debug!(profile = ?profile.color_space, pixels = ?space, "the colour profile is for other pixels; ignored");
        return None;
    }
    complete(&mut profile);
    Some(profile)
}

/// Where there is no table for the profile's intent, the perceptual one counts (ICC.1:2022, 9.2); `moxcms`
/// takes the whole profile for unusable then. Press and scanner profiles often have just that one.
fn complete(profile: &mut ColorProfile) {
    let (from, to) = match profile.rendering_intent {
        RenderingIntent::Perceptual => return,
        RenderingIntent::Saturation => (
            &mut profile.lut_a_to_b_saturation,
            &mut profile.lut_b_to_a_saturation,
        ),
        RenderingIntent::RelativeColorimetric | RenderingIntent::AbsoluteColorimetric => (
            &mut profile.lut_a_to_b_colorimetric,
            &mut profile.lut_b_to_a_colorimetric,
        ),
    };
    // Moved: no other is looked at.
    if from.is_none() {
        *from = profile.lut_a_to_b_perceptual.take();
    }
    if to.is_none() {
        *to = profile.lut_b_to_a_perceptual.take();
    }
}

/// Whether reading the profile takes bounded time and memory. Any number of tags may name the same
/// bytes, and each is read: so what counts is what they name together.
fn is_bounded(icc: &[u8]) -> bool {
    // ICC.1:2022, 7.2 and 7.3: a header of 128 bytes, the number of tags, and for each its
    // signature, offset and size.
    let tags = icc.get(132..).unwrap_or_default().as_chunks::<12>().0;
    let count = icc.get(128..132).map_or(0, |count| {
        u32::from_be_bytes([count[0], count[1], count[2], count[3]]) as usize
    });
    let mut named = 0;
    icc.len() <= MAX_PROFILE_BYTES
        && tags.iter().take(count).all(|tag| {
            let size = u32::from_be_bytes([tag[8], tag[9], tag[10], tag[11]]) as usize;
            named += size.min(MAX_PROFILE_BYTES);
            size <= MAX_TAG_BYTES && named <= MAX_PROFILE_BYTES
        })
}

fn options(profile: &ColorProfile) -> TransformOptions {
    TransformOptions {
        rendering_intent: profile.rendering_intent,
        ..TransformOptions::default()
    }
}

/// In fractions: its whole numbers have 13 bits, which 8 do not need and 16 miss.
fn deep_options(profile: &ColorProfile) -> TransformOptions {
    TransformOptions {
        prefer_fixed_point: false,
        ..options(profile)
    }
}

/// Whether the transform leaves colours as they are, give or take one level: then the profile is
/// one of the many spellings of sRGB, and the pixels need not be touched.
fn is_identity(transform: &Transform8BitExecutor) -> bool {
    const LEVELS: [u8; 6] = [0, 51, 102, 153, 204, 255];
    let mut probes = Vec::with_capacity(LEVELS.len().pow(3) * 3);
    for r in LEVELS {
        for g in LEVELS {
            for b in LEVELS {
                probes.extend([r, g, b]);
            }
        }
    }
    let mut moved = probes.clone();
    transform.transform(&probes, &mut moved).is_ok()
        && probes.iter().zip(&moved).all(|(a, b)| a.abs_diff(*b) <= 1)
}

fn apply<T: Copy + Default>(
    transform: &(dyn TransformExecutor<T> + Send + Sync),
    source: &[T],
    target: &mut [T],
) {
    if let Err(error) = transform.transform(source, target) {
        // The lengths match by construction, which is all that it can object to.
        tracing::debug!(%error, "a stretch of pixels could not be converted; left as it was");
    }
}
