//! Alpha by the photo's own edges, next to a guided filter written down plainly (`tests/refine/make.py`) and
//! next to the true alpha where that is known; and what must hold for any photo and matte. With `--no-capture` the
//! differences are printed.

use std::path::Path;

use cutout::engine::tensor::Matte;
use cutout::job::{Output, Threshold};
use cutout::model::manifest::MatteResize;
use cutout::pipeline::decode::Photo;
use cutout::pipeline::matte::{to_full_size, to_full_size_deep};
use cutout::pipeline::refine::FullSize;
use image::DynamicImage;
use proptest::prelude::*;

fn open(name: &str) -> DynamicImage {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/refine");
    image::open(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn photo(picture: DynamicImage) -> Photo {
    let picture = picture.into_rgb8();
    Photo {
        width: picture.width(),
        height: picture.height(),
        rgb: picture.into_raw(),
        alpha: None,
    }
}

fn matte(width: u32, height: u32, levels: &[u8]) -> Matte {
    Matte {
        width,
        height,
        values: levels
            .iter()
            .map(|&level| f32::from(level) / 255.0)
            .collect(),
    }
}

fn case(name: &str) -> (Photo, Matte) {
    let small = open(&format!("{name}.matte.png")).into_luma8();
    (
        photo(open(&format!("{name}.photo.png"))),
        matte(small.width(), small.height(), small.as_raw()),
    )
}

fn refining() -> Output {
    Output {
        refine: true,
        ..Output::default()
    }
}

fn bytes(photo: &Photo, matte: &Matte, output: &Output) -> Vec<u8> {
    FullSize::new(matte, photo, MatteResize::Bilinear, output).bytes()
}

/// The mean difference, levels.
fn apart(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: u64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / a.len() as f64
}

#[test]
fn alpha_is_that_of_a_guided_filter() {
    for name in ["wheel", "plush", "noise", "strip"] {
        let (photo, matte) = case(name);
        let ours = bytes(&photo, &matte, &refining());
        let theirs = open(&format!("{name}.alpha.png")).into_luma8();
        let most = ours
            .iter()
            .zip(theirs.as_raw())
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        println!("{name}: {} levels apart at most", most.unwrap());
        assert!(most <= Some(1), "{name}: {most:?}");
    }
}

/// How far alpha is from the true one, levels: enlarged, and refined.
fn from_the_truth(name: &str) -> [f64; 2] {
    let (photo, matte) = case(name);
    let true_alpha = open(&format!("{name}.true.png")).into_luma8();
    let errors = [Output::default(), refining()]
        .map(|output| apart(&bytes(&photo, &matte, &output), true_alpha.as_raw()));
    let [plain, refined] = errors;
    println!("{name}: mean error of alpha {plain:.2} levels enlarged, {refined:.2} refined");
    errors
}

#[test]
fn edges_come_nearer_to_their_true_alpha() {
    let [plain, refined] = from_the_truth("wheel");
    assert!(refined < 0.33 * plain, "{refined} after {plain}");
}

#[test]
fn hair_in_the_background_s_colours_that_no_window_can_find_is_hardly_worse() {
    let [plain, refined] = from_the_truth("plush");
    assert!(refined < 1.02 * plain, "{refined} after {plain}");
}

#[test]
fn deep_alpha_is_the_same_in_more_bits() {
    let (photo, matte) = case("wheel");
    let output = refining();
    let full = FullSize::new(&matte, &photo, MatteResize::Bilinear, &output);
    for (byte, deep) in full.bytes().into_iter().zip(full.deep()) {
        let nearest = (f64::from(deep) / 257.0 - f64::from(byte)).abs();
        assert!(nearest <= 0.51, "{byte} and {deep}");
    }
}

#[test]
fn threshold_and_reverse_come_after_it() {
    let (photo, matte) = case("wheel");
    let soft = bytes(&photo, &matte, &refining());
    let with = |change: fn(&mut Output)| {
        let mut output = refining();
        change(&mut output);
        bytes(&photo, &matte, &output)
    };
    let hard = with(|output| output.threshold = Threshold::new(0.5).ok());
    assert!(soft.iter().zip(&hard).all(|(&soft, &hard)| match soft {
        127 | 128 => hard == 0 || hard == 255,
        soft => (soft > 128) == (hard == 255),
    }));
    let reverse = with(|output| output.reverse = true);
    assert!(
        soft.iter()
            .zip(&reverse)
            .all(|(&a, &b)| (254..=256).contains(&(u16::from(a) + u16::from(b))))
    );
    let both = Output {
        threshold: Threshold::new(0.5).ok(),
        reverse: true,
        ..refining()
    };
    let deep = FullSize::new(&matte, &photo, MatteResize::Bilinear, &both).deep();
    assert!(
        deep.iter()
            .zip(&hard)
            .all(|(&deep, &hard)| deep == (255 - u16::from(hard)) * 257)
    );
}

#[test]
fn what_is_not_much_larger_than_its_matte_or_has_transparency_of_its_own_is_enlarged_as_ever() {
    let (large, small) = case("noise");
    let plain = |photo: &Photo, matte: &Matte, resize| {
        let output = Output::default();
        to_full_size(matte, photo.width, photo.height, resize, &output)
    };
    let output = refining();
    for resize in [
        MatteResize::Bilinear,
        MatteResize::BilinearAlignCorners,
        MatteResize::Lanczos,
    ] {
        let as_ever = |photo: &Photo, matte: &Matte| {
            FullSize::new(matte, photo, resize, &output).bytes() == plain(photo, matte, resize)
        };
        assert!(!as_ever(&large, &small), "the case that does something");
        let mut seen_through = large.clone();
        seen_through.alpha = Some(vec![200; large.pixels()]);
        assert!(as_ever(&seen_through, &small));
        seen_through.alpha = Some(vec![255; large.pixels()]);
        assert!(!as_ever(&seen_through, &small), "alpha that says nothing");
        // One side larger, one smaller; both the same; and less than half as many pixels again.
        for (width, height) in [(60, 30), (53, 37), (44, 31)] {
            let levels: Vec<u8> = (0..width * height).map(|i| (i * 7 % 256) as u8).collect();
            assert!(as_ever(&large, &matte(width, height, &levels)));
        }
    }
}

fn of_any_size() -> impl Strategy<Value = (Photo, Matte)> {
    (1u32..9, 1u32..9, 0u32..30, 0u32..30).prop_flat_map(|(w, h, more_w, more_h)| {
        let (width, height) = (w + more_w, h + more_h);
        let pixels = (width * height * 3) as usize;
        let levels = prop::collection::vec(
            prop_oneof![Just(0), Just(255), any::<u8>()],
            (w * h) as usize,
        );
        (prop::collection::vec(any::<u8>(), pixels), levels).prop_map(move |(rgb, levels)| {
            let photo = Photo {
                width,
                height,
                rgb,
                alpha: None,
            };
            (photo, matte(w, h, &levels))
        })
    })
}

proptest! {
    #[test]
    fn a_matte_that_is_sure_everywhere_stays_as_it_is(
        (photo, matte) in of_any_size(), subject in any::<bool>(), corners in any::<bool>(),
    ) {
        let mut matte = matte;
        for value in &mut matte.values {
            *value = if subject { 1.0 - *value / 60.0 } else { *value / 60.0 };
        }
        let resize = match corners {
            true => MatteResize::BilinearAlignCorners,
            false => MatteResize::Bilinear,
        };
        let of = |output: &Output| FullSize::new(&matte, &photo, resize, output).bytes();
        prop_assert_eq!(of(&refining()), of(&Output::default()));
    }

    #[test]
    fn the_answer_does_not_depend_on_the_number_of_threads((photo, matte) in of_any_size()) {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bytes(&photo, &matte, &refining()))
        };
        prop_assert_eq!(on(1), on(3));
    }

    #[test]
    fn colours_that_are_the_same_everywhere_show_no_edges((photo, matte) in of_any_size(), level in any::<u8>()) {
        let mut photo = photo;
        photo.rgb.fill(level);
        let alpha = bytes(&photo, &matte, &refining());
        prop_assert_eq!(alpha.len(), photo.pixels());
        // Nothing is left but a blur of the matte: within what the matte has.
        let (least, most) = matte.values.iter().fold((255.0f32, 0.0f32), |(least, most), value| {
            (least.min(value * 255.0), most.max(value * 255.0))
        });
        let within = |a: &u8| f32::from(*a) >= least - 0.6 && f32::from(*a) <= most + 0.6;
        prop_assert!(alpha.iter().all(within), "{least} {most} {alpha:?}");
    }
}

#[test]
fn deep_alpha_without_edges_is_enlarged_as_ever() {
    let (photo, matte) = case("plush");
    let output = Output::default();
    let full = FullSize::new(&matte, &photo, MatteResize::Bilinear, &output);
    let plain = to_full_size_deep(
        &matte,
        photo.width,
        photo.height,
        MatteResize::Bilinear,
        &output,
    );
    assert_eq!(full.deep(), plain);
}
