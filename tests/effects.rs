//! The effects against an independent implementation in NumPy and OpenCV
//! (`tests/effects/reference.py`, `tests/fixtures/effects/README.md`), and what must hold for any of
//! them on a photo. With `--no-capture` the differences are printed.

use std::path::Path;

use cutout::effect::{Effect, EffectParams};
use cutout::pipeline::compose::{Channels, Picture};
use cutout::pipeline::effects::{apply, contact_sheet};

const CUT_OUTS: [&str; 3] = ["astronaut", "cat", "coffee"];

fn read(name: &str) -> Picture {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/effects");
    let picture = image::open(folder.join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
        .into_rgba8();
    Picture {
        width: picture.width(),
        height: picture.height(),
        channels: Channels::Rgba,
        data: picture.into_raw(),
        subject: None,
    }
}

/// The noise is ours alone and cannot be compared.
const WITHOUT_GRAIN: EffectParams = EffectParams {
    contrast: 1.0,
    grain: 0.0,
    halation: 1.0,
};

/// What we and the reference make of each cut-out.
fn both(effect: Effect) -> impl Iterator<Item = (&'static str, Picture, Picture)> {
    CUT_OUTS.into_iter().map(move |name| {
        let cut = read(&format!("{name}.cut.png"));
        let ours = apply(effect, &WITHOUT_GRAIN, &cut).unwrap();
        let theirs = match effect {
            Effect::Color => cut,
            _ => read(&format!("{name}.{effect}.png")),
        };
        assert_eq!(
            (ours.width, ours.height),
            (theirs.width, theirs.height),
            "{name}"
        );
        (name, ours, theirs)
    })
}

fn pixels(picture: &Picture) -> &[[u8; 4]] {
    picture.data.as_chunks().0
}

/// Share of the pixels that are the same.
fn equal(ours: &Picture, theirs: &Picture) -> f64 {
    let same = pixels(ours)
        .iter()
        .zip(pixels(theirs))
        .filter(|(a, b)| a == b)
        .count();
    same as f64 / pixels(ours).len() as f64
}

#[test]
fn color_popart_and_retro8bit_are_the_references_pixels() {
    for (effect, least) in [
        (Effect::Color, 1.0),
        (Effect::PopArt, 0.995),
        (Effect::Retro8Bit, 0.995),
    ] {
        for (name, ours, theirs) in both(effect) {
            let equal = equal(&ours, &theirs);
            println!(
                "{effect}, {name}: {:.3} % of the pixels equal",
                equal * 100.0
            );
            assert!(equal >= least, "{effect}, {name}: {equal}");
        }
    }
}

#[test]
fn enhancedblackwhite_without_grain_is_within_two_levels_of_the_references() {
    for (name, ours, theirs) in both(Effect::EnhancedBlackWhite) {
        let differences = ours
            .data
            .iter()
            .zip(&theirs.data)
            .map(|(a, b)| a.abs_diff(*b));
        let sum: u64 = differences.clone().map(u64::from).sum();
        let mean = sum as f64 / ours.data.len() as f64;
        let largest = differences.max().unwrap();
        println!(
            "enhancedblackwhite, {name}: {mean:.5} levels apart on average, {largest} at most"
        );
        // The rule allows 2 on average; ours differ by how a float is rounded, and nothing else.
        assert!(mean < 0.01 && largest <= 1, "{name}: {mean}, {largest}");
    }
}

/// Share of black in a block.
fn density(picture: &Picture, left: u32, top: u32, side: u32) -> f64 {
    let (right, bottom) = (left + side, top + side);
    let rows = top..bottom.min(picture.height);
    let (mut black, mut count) = (0, 0);
    for y in rows {
        for x in left..right.min(picture.width) {
            let pixel = pixels(picture)[(y * picture.width + x) as usize];
            black += u32::from(pixel[0] == 0);
            count += 1;
        }
    }
    f64::from(black) / f64::from(count)
}

#[test]
fn dithering_has_as_many_dots_in_each_block_as_the_reference() {
    const SIDE: u32 = 32;
    for (name, ours, theirs) in both(Effect::Dithering) {
        let (mut sum, mut largest, mut blocks, mut black) = (0.0, 0.0_f64, 0, 0.0);
        for top in (0..ours.height).step_by(SIDE as usize) {
            for left in (0..ours.width).step_by(SIDE as usize) {
                let [a, b] = [&ours, &theirs].map(|picture| density(picture, left, top, SIDE));
                sum += (a - b).abs();
                largest = largest.max((a - b).abs());
                black += b;
                blocks += 1;
            }
        }
        let blocks = f64::from(blocks);
        println!(
            "dithering, {name}: density of {:.3} differs by {:.5} on average, {largest:.5} at most; {:.2} % of the pixels equal",
            black / blocks,
            sum / blocks,
            equal(&ours, &theirs) * 100.0
        );
        assert!(black / blocks > 0.02, "{name}: a blank picture would agree");
        assert!(sum / blocks < 0.002 && largest < 0.02, "{name}");
    }
}

#[test]
fn alpha_passes_through_every_effect() {
    for name in CUT_OUTS {
        let cut = read(&format!("{name}.cut.png"));
        for effect in Effect::ALL {
            let applied = apply(effect, &EffectParams::default(), &cut).unwrap();
            let same = pixels(&cut)
                .iter()
                .zip(pixels(&applied))
                .all(|(a, b)| a[3] == b[3]);
            assert!(same, "{effect}, {name}");
        }
    }
}

#[test]
fn the_same_photo_gives_the_same_pixels_on_any_number_of_threads() {
    let cut = read("cat.cut.png");
    for effect in Effect::ALL {
        let once = apply(effect, &EffectParams::default(), &cut).unwrap();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let again = pool.install(|| apply(effect, &EffectParams::default(), &cut).unwrap());
            assert!(once == again, "{effect} with {threads} threads");
        }
    }
}

#[test]
fn an_alias_is_the_effect_that_it_stands_for() {
    for (alias, effect) in [
        ("none", Effect::Color),
        ("optimized_popart", Effect::PopArt),
    ] {
        assert_eq!(alias.parse::<Effect>().unwrap(), effect);
    }
}

#[test]
fn a_contact_sheet_shows_every_effect() {
    let sheet = contact_sheet(&read("astronaut.cut.png"), &EffectParams::default(), 288).unwrap();
    assert_eq!(sheet.channels, Channels::Rgb);
    // To look at; docs/images/effects.png is one.
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contact-sheet.png");
    image::save_buffer(
        &path,
        &sheet.data,
        sheet.width,
        sheet.height,
        image::ExtendedColorType::Rgb8,
    )
    .unwrap();
    println!("{}", path.display());
    let mut colours: Vec<&[u8]> = sheet.data.chunks_exact(3).collect();
    colours.sort_unstable();
    colours.dedup();
    for loud in [[0xff, 0x14, 0x93], [0xff, 0x45, 0x00]] {
        assert!(
            colours.contains(&loud.as_slice()),
            "no pop art on the sheet"
        );
    }
}
