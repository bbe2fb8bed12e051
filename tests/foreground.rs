//! The subject's own colours against PyMatting's (`tests/fixtures/foreground/README.md`), against true ones
//! where these are known, and what must hold for any photo and matte. With `--no-capture` the
//! differences are printed.

use std::iter::zip;
use std::path::Path;

use cutout::error::Code;
use cutout::pipeline::foreground::estimate;
use image::DynamicImage;
use proptest::prelude::*;

fn open(name: &str) -> DynamicImage {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/foreground");
    image::open(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A photo and its matte.
#[derive(Debug)]
struct Seen {
    width: u32,
    rgb: Vec<u8>,
    alpha: Vec<u8>,
}

impl Seen {
    fn read(name: &str) -> Self {
        let seen = open(&format!("{name}.seen.png")).into_rgba8();
        let width = seen.width();
        Self {
            width,
            rgb: seen
                .pixels()
                .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
                .collect(),
            alpha: seen.pixels().map(|pixel| pixel[3]).collect(),
        }
    }

    fn estimated(&self) -> Vec<u8> {
        let mut rgb = self.rgb.clone();
        estimate(&mut rgb, &self.alpha, self.width).unwrap();
        rgb
    }

    /// Differences in levels, of the channels of pixels whose alpha is asked for.
    fn apart(&self, ours: &[u8], theirs: &[u8], wanted: impl Fn(u8) -> bool) -> Apart {
        assert_eq!(ours.len(), theirs.len());
        let pixels = zip(ours.chunks(3), theirs.chunks(3));
        let differences: Vec<u8> = zip(pixels, &self.alpha)
            .filter(|(_, alpha)| wanted(**alpha))
            .flat_map(|((a, b), _)| zip(a, b).map(|(a, b)| a.abs_diff(*b)))
            .collect();
        let sum: u64 = differences.iter().copied().map(u64::from).sum();
        Apart {
            mean: sum as f64 / differences.len().max(1) as f64,
            most: differences.into_iter().max().unwrap_or(0),
        }
    }
}

#[derive(Debug)]
struct Apart {
    mean: f64,
    most: u8,
}

#[test]
fn colours_are_pymattings() {
    println!("| photo | α > 0: mean | most | 0 < α < 1: mean | most |");
    println!("|---|---|---|---|---|");
    let mut wrong = Vec::new();
    for name in [
        "fur",
        "cat",
        "coffee",
        "cameraman",
        "strip",
        "line",
        "noise",
        "tiny",
    ] {
        let seen = Seen::read(name);
        let ours = seen.estimated();
        let theirs = open(&format!("{name}.pymatting.png")).into_rgb8();
        let shown = seen.apart(&ours, &theirs, |alpha| alpha > 0);
        let between = seen.apart(&ours, &theirs, |alpha| alpha > 0 && alpha < 255);
        println!(
            "| {name} | {:.3} | {} | {:.3} | {} |",
            shown.mean, shown.most, between.mean, between.most
        );
        // Where alpha is 255 PyMatting smoothes, and ours leaves the photo as it is.
        if shown.mean > 0.5 || between.mean > 0.05 || between.most > 1 {
            wrong.push(format!("{name}: {shown:?} {between:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Where alpha hardly changes, PyMatting's 32-bit floats are short of bits; ours are not.
#[test]
fn colours_are_those_of_pymattings_code_in_64_bits() {
    let seen = Seen::read("veil");
    let exact = open("veil.doubles.png").into_rgb8();
    let ours = seen.apart(&seen.estimated(), &exact, |_| true);
    let theirs = open("veil.pymatting.png").into_rgb8();
    let theirs = seen.apart(&theirs, &exact, |_| true);
    println!("levels from the answer in 64 bits: ours {ours:?}, PyMatting's {theirs:?}");
    assert!(ours.mean < 0.01 && ours.most <= 1, "{ours:?}");
    assert!(theirs.mean > 1.0, "the reason is gone: {theirs:?}");
}

#[test]
fn the_lawn_is_out_of_the_fur() {
    let seen = Seen::read("fur");
    let truth = open("fur.true.png").into_rgb8();
    let mixed = |alpha: u8| alpha > 0 && alpha < 255;
    let before = seen.apart(&seen.rgb, &truth, mixed);
    let after = seen.apart(&seen.estimated(), &truth, mixed);
    println!("levels from the true colours: {before:?} before, {after:?} after");
    assert!(after.mean * 4.0 < before.mean, "{before:?} {after:?}");
}

fn on_threads(threads: usize, seen: &Seen) -> Vec<u8> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap().install(|| seen.estimated())
}

#[test]
fn the_answer_does_not_depend_on_the_number_of_threads() {
    for name in ["cat", "fur", "noise"] {
        let seen = Seen::read(name);
        let alone = on_threads(1, &seen);
        for threads in [2, 3, 7] {
            assert!(
                on_threads(threads, &seen) == alone,
                "{name}, {threads} threads"
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for (rgb, alpha, width) in [(9, 2, 1), (9, 3, 2), (3, 1, 0)] {
        let error = estimate(&mut vec![0; rgb], &vec![128; alpha], width).unwrap_err();
        assert_eq!(error.code(), Code::Internal, "{rgb} {alpha} {width}");
    }
    estimate(&mut [], &[], 0).unwrap();
}

/// Any photo with a matte of flat parts, soft ones and noise.
fn seen() -> impl Strategy<Value = Seen> {
    let size = prop_oneof![
        (1usize..70, 1usize..300),
        Just((1, 1)),
        Just((1, 5000)),
        Just((5000, 1)),
        Just((2, 129)),
    ];
    let levels = prop_oneof![
        Just(vec![0]),
        Just(vec![255]),
        Just(vec![0, 255]),
        Just(vec![0, 0, 0, 1, 128, 254, 255, 255, 255]),
        prop::collection::vec(any::<u8>(), 1..9),
    ];
    (size, levels, any::<u64>(), 1usize..40).prop_map(|((width, height), levels, seed, run)| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut alpha = Vec::with_capacity(width * height);
        while alpha.len() < width * height {
            let level = levels[random.usize(..levels.len())];
            let run = random.usize(1..=run).min(width * height - alpha.len());
            alpha.extend(std::iter::repeat_n(level, run));
        }
        Seen {
            width: width as u32,
            rgb: (0..width * height * 3).map(|_| random.u8(..)).collect(),
            alpha,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn where_only_the_subject_is_seen_the_photo_stays_as_it_is(seen in seen()) {
        let after = seen.estimated();
        for (i, (before, after)) in zip(seen.rgb.chunks(3), after.chunks(3)).enumerate() {
            prop_assert!(seen.alpha[i] < 255 || before == after, "pixel {i}");
        }
        // And once it is done, the subject alone is seen.
        let whole = Seen { rgb: after.clone(), alpha: vec![255; seen.alpha.len()], ..seen };
        prop_assert_eq!(whole.estimated(), after);
    }

    #[test]
    fn a_plain_photo_stays_plain(seen in seen(), colour in any::<[u8; 3]>()) {
        let plain = Seen { rgb: colour.repeat(seen.alpha.len()), ..seen };
        let after = plain.estimated();
        // A matte that is nowhere sure leaves the mean at black, which is not forgotten at once.
        let sure = plain.alpha.iter().any(|&a| a > 230) && plain.alpha.iter().any(|&a| a < 25);
        for (pixel, &alpha) in zip(after.chunks(3), &plain.alpha).filter(|_| sure) {
            for (after, before) in zip(pixel, colour) {
                prop_assert!(alpha == 0 || after.abs_diff(before) <= 1, "{pixel:?} {colour:?}");
            }
        }
    }
}
