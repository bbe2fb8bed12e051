//! The picture in 16 bits, for photos that have them: cut-out, mask, or the subject on a plain colour.

use rayon::prelude::*;

use crate::error::{Code, Error, Result};
use crate::job::{Kind, Output};
use crate::pipeline::decode::{Deep, Photo, Profile};
use crate::pipeline::foreground;

use super::shadow::Cast;
use super::{
    Bounds, Channels, GREEN, Picture, STRETCH, WHITE, framed, is_transparent, with_source_alpha,
};

/// A photo in both depths, and its matte in both, all of one size.
pub(super) struct Whole {
    /// 8 bits; each sample is the nearest level of that in 16.
    pub photo: Photo,
    pub samples: Deep,
    pub alpha: Vec<u8>,
    pub matte: Vec<u16>,
}

/// What [`compose`](super::compose) does, in 16 bits.
pub(super) fn compose(whole: Whole, output: &Output, profile: Option<&Profile>) -> Result<Picture> {
    let Whole {
        photo,
        samples,
        alpha,
        mut matte,
    } = whole;
    let (width, height) = (photo.width, photo.height);
    let pixels = photo.pixels();
    if [alpha.len(), matte.len(), samples.rgb.len() / 3] != [pixels; 3] {
        return Err(Error::new(
            Code::Internal,
            format!("mattes or samples do not fit a {width}×{height} photo"),
        ));
    }
    let kind = output.effective_kind();
    let decontaminate = output.decontaminates(kind) && !is_transparent(&photo);
    let alpha = with_source_alpha(alpha, photo.alpha.as_deref());
    let subject = Bounds::of_subject(&alpha, width);
    if let Some(source) = &samples.alpha {
        for (a, &s) in matte.iter_mut().zip(source) {
            *a = ((u32::from(*a) * u32::from(s) + 32_767) / 65_535) as u16;
        }
    }
    let mut rgb = samples.rgb;
    if decontaminate {
        let mut own = photo.rgb;
        foreground::estimate(&mut own, &alpha, width)?;
        move_as(&mut rgb, &own);
    } else {
        drop(photo);
    }
    let colour = |srgb: [u8; 3]| match profile {
        Some(profile) => profile.deep_from_srgb(srgb),
        None => srgb.map(|level| u16::from(level) * 257),
    };
    let cast = output.shadow.and_then(|shadow| {
        let colour = super::in_profile(shadow.color, profile);
        Cast::of(output, &alpha, (width, height), subject, colour)
    });
    drop(alpha);
    let plain = |rgb: &[u16], under: [u8; 3]| {
        let cast = cast.as_ref();
        (
            Channels::Rgb16,
            on_colour(rgb, &matte, colour(under), cast, width),
        )
    };
    let (channels, data) = match kind {
        Kind::Rgba => (
            Channels::Rgba16,
            cut_out(&rgb, &matte, cast.as_ref(), width),
        ),
        Kind::Mask => {
            let bytes = matte.par_iter().flat_map_iter(|a| a.to_be_bytes());
            (Channels::Grey16, bytes.collect())
        }
        Kind::White => plain(&rgb, WHITE),
        Kind::Green => plain(&rgb, GREEN),
        Kind::Color(under) => plain(&rgb, *under),
        Kind::Blur | Kind::Overlay | Kind::Image(_) => {
            return Err(Error::new(
                Code::InvalidJob,
                format!("{kind} is not made with 16 bits: leave output.depth out"),
            ));
        }
    };
    drop((rgb, matte));
    let picture = Picture {
        width,
        height,
        channels,
        data,
        subject,
    };
    framed(picture, output)
}

/// Moves samples by as many levels of 8 bits as the estimate moved theirs; what it left alone stays as it
/// was, to the last bit.
fn move_as(rgb: &mut [u16], own: &[u8]) {
    rgb.par_chunks_mut(STRETCH)
        .zip(own.par_chunks(STRETCH))
        .for_each(|(rgb, own)| {
            for (level, &to) in rgb.iter_mut().zip(own) {
                let from = crate::pipeline::decode::nearest(*level);
                let by = (i32::from(to) - i32::from(from)) * 257;
                *level = (i32::from(*level) + by).clamp(0, 65_535) as u16;
            }
        });
}

/// Rows that one task works on.
const BAND: usize = 16;

/// Works on rows in parallel: `row` makes the bytes of one from its number, its samples and its matte.
fn rows(
    rgb: &[u16],
    matte: &[u16],
    width: u32,
    channels: Channels,
    row: impl Fn(usize, &[[u16; 3]], &[u16], &mut [u8]) + Sync,
) -> Vec<u8> {
    let (width, count) = (width as usize, channels.count());
    let mut out = vec![0; matte.len() * count];
    out.par_chunks_mut(BAND * width * count)
        .enumerate()
        .for_each(|(band, out)| {
            for (n, out) in out.chunks_exact_mut(width * count).enumerate() {
                let y = band * BAND + n;
                let rgb = &rgb.as_chunks::<3>().0[y * width..][..width];
                row(y, rgb, &matte[y * width..][..width], out);
            }
        });
    out
}

/// Straight-alpha RGBA; colour under full transparency is cleared, as in 8 bits.
fn cut_out(rgb: &[u16], matte: &[u16], cast: Option<&Cast>, width: u32) -> Vec<u8> {
    rows(rgb, matte, width, Channels::Rgba16, |y, rgb, matte, out| {
        let mut shade = vec![0.0; rgb.len()];
        if let Some(cast) = cast {
            cast.row(y, &mut shade);
        }
        let pixels = rgb.iter().zip(matte).zip(&shade);
        for (out, ((&pixel, &a), &shade)) in out.as_chunks_mut::<8>().0.iter_mut().zip(pixels) {
            let [r, g, b, a] = match (cast, a) {
                (_, u16::MAX) => [pixel[0], pixel[1], pixel[2], a],
                (Some(cast), _) if shade > 0.0 => {
                    let (colour, alpha) = cast.under_pixel(pixel, a, shade);
                    [colour[0], colour[1], colour[2], alpha]
                }
                (_, 0) => [0; 4],
                _ => [pixel[0], pixel[1], pixel[2], a],
            };
            for (out, level) in out.as_chunks_mut::<2>().0.iter_mut().zip([r, g, b, a]) {
                *out = level.to_be_bytes();
            }
        }
    })
}

/// The subject on a plain colour, rounded to nearest.
fn on_colour(
    rgb: &[u16],
    matte: &[u16],
    under: [u16; 3],
    cast: Option<&Cast>,
    width: u32,
) -> Vec<u8> {
    rows(rgb, matte, width, Channels::Rgb16, |y, rgb, matte, out| {
        let mut shade = vec![0.0; rgb.len()];
        if let Some(cast) = cast {
            cast.row(y, &mut shade);
        }
        let pixels = rgb.iter().zip(matte).zip(&shade);
        for (out, ((&pixel, &a), &shade)) in out.as_chunks_mut::<6>().0.iter_mut().zip(pixels) {
            let under = match cast {
                Some(cast) => cast.on_pixel(under, shade),
                None => under,
            };
            let alpha = u64::from(a);
            let mixed: [u16; 3] = std::array::from_fn(|c| {
                let sum = u64::from(pixel[c]) * alpha + u64::from(under[c]) * (65_535 - alpha);
                ((sum + 32_767) / 65_535) as u16
            });
            for (out, level) in out.as_chunks_mut::<2>().0.iter_mut().zip(mixed) {
                *out = level.to_be_bytes();
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::compose::compose_kept;
    use crate::pipeline::decode::{Carried, Kept};

    fn kept(rgb: Vec<u16>, alpha: Option<Vec<u16>>, width: u32) -> Kept {
        let narrow = |levels: &[u16]| {
            levels
                .iter()
                .map(|&l| crate::pipeline::decode::nearest(l))
                .collect()
        };
        Kept {
            photo: Photo {
                width,
                height: rgb.len() as u32 / 3 / width,
                rgb: narrow(&rgb),
                alpha: alpha.as_deref().map(narrow),
            },
            deep: Some(Deep { rgb, alpha }),
            carried: Carried::default(),
        }
    }

    fn samples(picture: &Picture) -> Vec<u16> {
        let (bytes, _) = picture.data.as_chunks::<2>();
        bytes
            .iter()
            .map(|bytes| u16::from_be_bytes(*bytes))
            .collect()
    }

    fn of(kind: &str) -> Output {
        Output {
            kind: kind.parse().unwrap(),
            ..Output::default()
        }
    }

    #[test]
    fn what_is_opaque_keeps_every_bit_and_what_is_not_there_is_cleared() {
        let rgb: Vec<u16> = (0..9).map(|i| 1001 * i + 3).collect();
        let photo = kept(rgb.clone(), None, 3);
        let (alpha, deep) = (vec![255, 0, 255], vec![65_535, 0, 65_535]);
        let picture = compose_kept(photo, alpha, Some(deep), &of("rgba"), None).unwrap();
        assert_eq!(picture.channels, Channels::Rgba16);
        let out = samples(&picture);
        assert_eq!(out[..4], [rgb[0], rgb[1], rgb[2], 65_535]);
        assert_eq!(out[4..8], [0; 4]);
        assert_eq!(out[8..], [rgb[6], rgb[7], rgb[8], 65_535]);
    }

    #[test]
    fn mattes_multiply_and_colours_mix_in_sixteen_bits() {
        let photo = || kept(vec![30_000, 40_001, 50_002], Some(vec![40_000]), 1);
        let deep = 20_000_u16;
        let both = (40_000.0_f64 * 20_000.0 / 65_535.0).round() as u16;
        let mask = compose_kept(photo(), vec![78], Some(vec![deep]), &of("mask"), None).unwrap();
        assert_eq!(samples(&mask), [both]);
        let white = compose_kept(photo(), vec![78], Some(vec![deep]), &of("white"), None).unwrap();
        let share = f64::from(both) / 65_535.0;
        for (level, source) in samples(&white)
            .into_iter()
            .zip([30_000.0, 40_001.0, 50_002.0])
        {
            let expected = source * share + 65_535.0 * (1.0 - share);
            assert!(
                (f64::from(level) - expected).abs() <= 0.5 + 1e-6,
                "{level} {expected}"
            );
        }
    }

    #[test]
    fn estimated_colours_move_the_samples_as_far_as_they_moved_the_bytes() {
        // Blue behind, red before, and mixed pixels between.
        let width = 48_u32;
        let levels: Vec<u16> = (0..width * 12)
            .map(|i| ((i % width) * 65_535 / (width - 1)) as u16)
            .collect();
        let rgb: Vec<u16> = levels
            .iter()
            .flat_map(|&a| [a / 2 + 77, 0, 65_535 - a])
            .collect();
        let alpha: Vec<u8> = levels
            .iter()
            .map(|&l| crate::pipeline::decode::nearest(l))
            .collect();
        let photo = kept(rgb.clone(), None, width);
        let shallow =
            super::super::compose(photo.photo.clone(), alpha.clone(), &of("rgba"), None).unwrap();
        let plain = samples(
            &compose_kept(
                photo.clone(),
                alpha.clone(),
                Some(levels.clone()),
                &Output {
                    decontaminate: false,
                    ..of("rgba")
                },
                None,
            )
            .unwrap(),
        );
        let picture = compose_kept(photo, alpha, Some(levels), &of("rgba"), None).unwrap();
        let out = samples(&picture);
        let mut moved = 0;
        for ((deep, before), byte) in out.iter().zip(&plain).zip(&shallow.data) {
            assert!(
                (f64::from(*deep) / 257.0 - f64::from(*byte)).abs() <= 0.51,
                "{deep} {byte}"
            );
            moved += usize::from(deep != before);
        }
        assert!(moved > 500, "{moved}");
    }

    #[test]
    fn resizing_keeps_more_than_eight_bits() {
        let photo = kept([10_001, 20_003, 30_007].repeat(40 * 40), None, 40);
        for (kind, channels) in [("rgba", 4), ("white", 3)] {
            let output = Output {
                size: Some(crate::job::Size::Longest(17)),
                ..of(kind)
            };
            let (alpha, deep) = (vec![255; 1600], vec![65_535; 1600]);
            let picture = compose_kept(photo.clone(), alpha, Some(deep), &output, None).unwrap();
            assert_eq!((picture.width, picture.height), (17, 17));
            for pixel in samples(&picture).chunks_exact(channels) {
                for (level, expected) in pixel.iter().zip([10_001, 20_003, 30_007, 65_535]) {
                    // Two units of 15 bits.
                    assert!(level.abs_diff(expected) <= 4, "{kind}: {level} {expected}");
                }
            }
        }
    }

    #[test]
    fn kinds_that_are_not_made_so_are_refused() {
        for kind in ["blur", "overlay", "image:gs://perkie/b.jpg"] {
            let photo = kept(vec![1, 2, 3], None, 1);
            let error = compose_kept(photo, vec![255], Some(vec![65_535]), &of(kind), None);
            assert_eq!(error.unwrap_err().code(), Code::InvalidJob, "{kind}");
        }
    }
}
