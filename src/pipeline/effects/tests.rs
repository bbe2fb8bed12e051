use super::*;
use crate::pipeline::compose::Bounds;
use proptest::prelude::*;

/// A picture of smooth slopes, noise, hard edges, and of every alpha.
pub(super) fn cut(width: u32, height: u32, seed: u32) -> Picture {
    let seed = seed % 1000;
    let mut data = Vec::with_capacity((width * height * 4) as usize);
    for y in 0..height {
        for x in 0..width {
            let hash = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503))
                .wrapping_add(seed)
                .wrapping_mul(2_246_822_519);
            let noise = (hash >> 25) & 31;
            let block = if (x / 9 + y / 7 + seed).is_multiple_of(3) {
                120
            } else {
                0
            };
            let alpha = match (x + y + seed) % 5 {
                0 => 0,
                1 => (hash >> 8) as u8,
                _ => 255,
            };
            data.extend([
                (x * 2 + noise + block) as u8,
                (y * 3 + noise) as u8,
                (x + y + noise * 2 + block) as u8,
                alpha,
            ]);
        }
    }
    Picture {
        width,
        height,
        channels: Channels::Rgba,
        data,
        subject: Some(Bounds {
            left: 0,
            top: 0,
            width,
            height,
        }),
    }
}

fn applied(effect: Effect, picture: &Picture) -> Picture {
    apply(effect, &EffectParams::default(), picture).unwrap()
}

fn in_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(work)
}

#[test]
fn what_is_no_cut_out_is_a_defect_of_ours_and_no_panic() {
    let mut short = cut(3, 3, 0);
    short.data.pop();
    let rgb = Picture {
        channels: Channels::Rgb,
        data: vec![0; 27],
        ..cut(3, 3, 0)
    };
    for bad in [short, rgb] {
        for effect in Effect::ALL {
            let error = apply(effect, &EffectParams::default(), &bad).unwrap_err();
            assert_eq!(error.code(), Code::Internal);
        }
    }
}

#[test]
fn an_empty_picture_stays_empty() {
    for (width, height) in [(0, 0), (5, 0), (0, 5)] {
        for effect in Effect::ALL {
            let applied = applied(effect, &cut(width, height, 0));
            assert_eq!((applied.width, applied.height), (width, height));
            assert!(applied.data.is_empty());
        }
    }
}

#[test]
fn color_changes_nothing() {
    let picture = cut(20, 10, 1);
    assert_eq!(applied(Effect::Color, &picture), picture);
}

/// Taller than a band and wider than a strip, and whole cells of retro8bit.
fn large() -> Picture {
    cut(tile::STRIP as u32 + 40, tile::BAND as u32 + 32, 3)
}

#[test]
fn the_number_of_threads_makes_no_difference() {
    let picture = large();
    for effect in Effect::ALL {
        let alone = in_threads(1, || applied(effect, &picture));
        for threads in [2, 5] {
            let together = in_threads(threads, || applied(effect, &picture));
            assert!(alone == together, "{effect} with {threads} threads");
        }
    }
}

/// Each half of a wide (or high) picture must become what it becomes in the whole one, away from
/// where they were cut apart.
#[test]
fn strips_and_bands_join_without_a_seam() {
    const REACH: usize = 12;
    let whole = large();
    let params = EffectParams {
        // Grain follows from the whole picture's bytes.
        grain: 0.0,
        ..EffectParams::default()
    };
    // Errors of dithering run through the whole picture; cells of retro8bit start at its corner,
    // so the parts start at a whole cell.
    for effect in [
        Effect::EnhancedBlackWhite,
        Effect::PopArt,
        Effect::Retro8Bit,
    ] {
        let expected = apply(effect, &params, &whole).unwrap();
        let (left, top) = (tile::STRIP - 2 - 6 * 10, tile::BAND - 4 - 6 * 10);
        let (width, height) = (96, 84);
        let part = part(&whole, left, top, width, height);
        let ours = apply(effect, &params, &part).unwrap();
        for y in REACH..height - REACH {
            for x in REACH..width - REACH {
                let at = |picture: &Picture, x: usize, y: usize| {
                    let start = (y * picture.width as usize + x) * 4;
                    picture.data[start..start + 4].to_vec()
                };
                assert_eq!(
                    at(&ours, x, y),
                    at(&expected, left + x, top + y),
                    "{effect} at {x}, {y}"
                );
            }
        }
    }
}

fn part(whole: &Picture, left: usize, top: usize, width: usize, height: usize) -> Picture {
    let row = |y: usize| {
        let start = ((top + y) * whole.width as usize + left) * 4;
        &whole.data[start..start + width * 4]
    };
    Picture {
        width: width as u32,
        height: height as u32,
        channels: Channels::Rgba,
        data: (0..height).flat_map(row).copied().collect(),
        subject: None,
    }
}

#[test]
fn parameters_scale_what_they_are_named_for() {
    let picture = cut(80, 60, 5);
    let with = |contrast, grain, halation| {
        let params = EffectParams {
            contrast,
            grain,
            halation,
        };
        apply(Effect::EnhancedBlackWhite, &params, &picture)
            .unwrap()
            .data
    };
    let distance = |a: &[u8], b: &[u8]| -> u64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum()
    };
    let plain = with(0.0, 0.0, 0.0);
    for [weak, strong] in [
        [with(0.5, 0.0, 0.0), with(2.0, 0.0, 0.0)],
        [with(0.0, 0.5, 0.0), with(0.0, 2.0, 0.0)],
        [with(0.0, 0.0, 0.5), with(0.0, 0.0, 2.0)],
    ] {
        assert!(distance(&plain, &weak) > 0);
        assert!(distance(&plain, &strong) > distance(&plain, &weak));
    }
}

#[test]
fn another_photo_gets_another_grain_and_the_same_photo_the_same() {
    let grey = |last: u8| {
        let mut picture = cut(64, 64, 0);
        for pixel in picture.data.as_chunks_mut::<4>().0 {
            *pixel = [128, 128, 128, 255];
        }
        picture.data[4 * 64 * 64 - 4] = last;
        picture
    };
    let first = applied(Effect::EnhancedBlackWhite, &grey(128));
    assert_eq!(first, applied(Effect::EnhancedBlackWhite, &grey(128)));
    let other = applied(Effect::EnhancedBlackWhite, &grey(129));
    let differing = first
        .data
        .iter()
        .zip(&other.data)
        .filter(|(a, b)| a != b)
        .count();
    assert!(differing > first.data.len() / 2, "{differing}");
}

#[test]
fn grain_falls_only_on_what_shows() {
    let hidden = Picture {
        data: [0; 4].repeat(40 * 30),
        ..cut(40, 30, 0)
    };
    assert_eq!(applied(Effect::EnhancedBlackWhite, &hidden), hidden);
}

#[test]
fn memory_is_the_answer_and_a_little_more() {
    let (width, height) = (4032, 3024);
    let answer = 4 * u64::from(width) * u64::from(height);
    for effect in Effect::ALL {
        let bytes = in_threads(2, || working_bytes(effect, width, height));
        assert!(bytes >= answer, "{effect}");
        // Half of it again for the grid of dots, with 2 threads.
        assert!(bytes < answer * 8 / 5, "{effect}: {bytes}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_size_works_and_alpha_and_the_box_pass_through(
        size in prop_oneof![
            (1u32..40, 1u32..40),
            (1u32..4, 1u32..4),
            Just((1, 1)),
            Just((1, 1300)),
            Just((1300, 1)),
            Just((2, 600)),
            Just((600, 3)),
        ],
        seed in any::<u32>(),
        clear in any::<bool>(),
        effect in prop::sample::select(Effect::ALL.to_vec()),
    ) {
        let mut picture = cut(size.0, size.1, seed);
        if clear {
            picture.data.fill(0);
        }
        let applied = applied(effect, &picture);
        prop_assert_eq!(picture.data.len(), applied.data.len());
        prop_assert_eq!((picture.width, picture.height, picture.subject), (applied.width, applied.height, applied.subject));
        let alpha = |picture: &Picture| picture.data.iter().skip(3).step_by(4).copied().collect::<Vec<u8>>();
        prop_assert_eq!(alpha(&picture), alpha(&applied));
        let pixels = applied.data.as_chunks::<4>().0;
        match effect {
            Effect::EnhancedBlackWhite => prop_assert!(pixels.iter().all(|p| p[0] == p[1] && p[1] == p[2])),
            Effect::Dithering => {
                prop_assert!(pixels.iter().all(|p| [[0; 3], [255; 3]].contains(&[p[0], p[1], p[2]])));
                prop_assert!(!clear || pixels.iter().all(|p| p[0] == 255));
            }
            Effect::PopArt => {
                let mut colours: Vec<_> = pixels.iter().map(|p| [p[0], p[1], p[2]]).collect();
                colours.sort_unstable();
                colours.dedup();
                prop_assert!(colours.len() <= 7, "{}", colours.len());
            }
            // Averages of the palette's colours: grey pictures stay grey, as the palette's greys are.
            Effect::Retro8Bit => prop_assert!(!clear || pixels.iter().all(|p| p[..3] == [0; 3])),
            Effect::Color => prop_assert_eq!(&picture, &applied),
        }
    }
}
