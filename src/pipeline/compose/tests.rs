use proptest::prelude::*;

use super::*;
use crate::job::Padding;
use crate::pipeline::fixtures;

fn of(kind: &str) -> Output {
    Output {
        kind: kind.parse().unwrap(),
        ..Output::default()
    }
}

/// A photo of one red, one green and one blue pixel.
fn three() -> Photo {
    Photo {
        width: 3,
        height: 1,
        rgb: vec![255, 0, 0, 0, 255, 0, 0, 0, 255],
        alpha: None,
    }
}

fn bytes(output: &Output, alpha: [u8; 3]) -> Vec<u8> {
    compose(three(), alpha.to_vec(), output, None).unwrap().data
}

/// Alpha of a filled box in an empty picture.
fn boxed(width: u32, height: u32, bounds: Bounds) -> Vec<u8> {
    let mut alpha = vec![0; (width * height) as usize];
    for y in bounds.top..bounds.top + bounds.height {
        let row = (y * width + bounds.left) as usize;
        alpha[row..row + bounds.width as usize].fill(255);
    }
    alpha
}

#[test]
fn rgba_keeps_the_photos_colour_and_clears_what_is_invisible() {
    let data = bytes(&of("rgba"), [255, 1, 0]);
    assert_eq!(data, [255, 0, 0, 255, 0, 255, 0, 1, 0, 0, 0, 0]);
}

#[test]
fn plain_backgrounds_are_blended_by_alpha() {
    assert_eq!(bytes(&of("mask"), [9, 0, 255]), [9, 0, 255]);
    assert_eq!(
        bytes(&of("white"), [255, 0, 51]),
        [255, 0, 0, 255, 255, 255, 204, 204, 255]
    );
    assert_eq!(
        bytes(&of("green"), [0, 0, 255]),
        [120, 255, 155, 120, 255, 155, 0, 0, 255]
    );
    assert_eq!(
        bytes(&of("color:#0a0b0c"), [255, 0, 0]),
        [255, 0, 0, 10, 11, 12, 10, 11, 12]
    );
    let shorthand = Output {
        background: Some("#0a0b0c".parse().unwrap()),
        ..Output::default()
    };
    assert_eq!(bytes(&shorthand, [0, 0, 0]), [10, 11, 12].repeat(3));
}

#[test]
fn the_sources_own_transparency_is_never_lost() {
    let mut photo = three();
    photo.alpha = Some(vec![128, 255, 0]);
    let picture = compose(photo.clone(), vec![255, 100, 255], &of("rgba"), None).unwrap();
    let alpha: Vec<u8> = picture
        .data
        .as_chunks::<4>()
        .0
        .iter()
        .map(|p| p[3])
        .collect();
    assert_eq!(alpha, [128, 100, 0]);
    // Blur and overlay show the background: there the hidden blue is white.
    let picture = compose(photo, vec![0; 3], &of("overlay"), None).unwrap();
    assert_eq!(picture.data[6..], [255; 3]);
}

#[test]
fn overlay_tints_the_subject_and_traces_its_edge() {
    let photo = Photo {
        width: 5,
        height: 5,
        rgb: vec![100; 75],
        alpha: None,
    };
    let subject = Bounds {
        left: 1,
        top: 1,
        width: 3,
        height: 3,
    };
    let alpha = boxed(5, 5, subject);
    let data = compose(photo, alpha, &of("overlay"), None).unwrap().data;
    let at = |x: usize, y: usize| &data[(y * 5 + x) * 3..][..3];
    assert_eq!(at(0, 0), [100; 3]);
    assert_eq!(at(1, 1), GREEN);
    assert_eq!(at(2, 2), [110, 177, 127]);
}

#[test]
fn blur_leaves_the_subject_sharp_and_matches_a_gaussian_of_fifteen() {
    for (width, height) in [(200, 160), (90, 40)] {
        let photo = fixtures::photo(width, height);
        let picture = image::RgbImage::from_raw(width, height, photo.rgb.clone()).unwrap();
        let exact = image::imageops::blur(&picture, 15.0);
        let sharp = photo.rgb.clone();
        let mut alpha = vec![0; photo.pixels()];
        alpha[0] = 255;
        let data = compose(photo, alpha, &of("blur"), None).unwrap().data;
        assert_eq!(data[..3], sharp[..3]);
        for (x, y, exact) in exact.enumerate_pixels().skip(1) {
            let blurred = &data[(y * width + x) as usize * 3..][..3];
            // Edges are where small pictures are cut off and enlarged ones have less to go by.
            let inner = (12..width - 12).contains(&x) && (12..height - 12).contains(&y);
            let worst = fixtures::difference(blurred, &exact.0);
            assert!(
                worst <= if inner { 2 } else { 7 },
                "{width}×{height} at {x}, {y}: {worst}"
            );
        }
        assert!(fixtures::difference(&data, &sharp) > 10);
    }
}

#[test]
fn another_picture_covers_the_whole_background_without_distortion() {
    // Left half black, right half white, three times as wide as needed: the middle is shown.
    let wide = Photo {
        width: 60,
        height: 10,
        rgb: [[0u8; 90], [255; 90]].concat().repeat(10),
        alpha: None,
    };
    let photo = Photo {
        width: 20,
        height: 10,
        rgb: vec![7; 600],
        alpha: None,
    };
    let output = of("image:gs://shop/beach.jpg");
    let data = compose(photo.clone(), vec![0; 200], &output, Some(&wide))
        .unwrap()
        .data;
    assert_eq!(data[..15], [0; 15]);
    assert_eq!(data[45..60], [255; 15]);
    let error = compose(photo, vec![0; 200], &output, None).unwrap_err();
    assert_eq!(error.code(), Code::InvalidJob);
    assert!(error.message().contains("beach.jpg"), "{error}");
}

#[test]
fn cropping_goes_to_the_subjects_box_with_padding_inside_the_picture() {
    let subject = Bounds {
        left: 6,
        top: 2,
        width: 4,
        height: 8,
    };
    for (padding, expected) in [
        (Padding::Pixels(0), (4, 8)),
        (Padding::Pixels(2), (8, 12)),
        (Padding::Percent(25.0), (8, 12)),
        // Past the edges: the whole picture, no more.
        (Padding::Pixels(u32::MAX), (20, 12)),
    ] {
        let output = Output {
            crop: true,
            padding,
            ..of("mask")
        };
        let alpha = boxed(20, 12, subject);
        let picture = compose(fixtures::photo(20, 12), alpha, &output, None).unwrap();
        assert_eq!((picture.width, picture.height), expected, "{padding:?}");
        assert_eq!(
            picture.data.len(),
            (picture.width * picture.height) as usize
        );
        assert_eq!(picture.subject, Some(subject));
        assert_eq!(picture.data.iter().filter(|&&a| a == 255).count(), 32);
    }
}

#[test]
fn a_veil_of_a_few_levels_is_not_the_subject_and_an_empty_matte_keeps_the_picture() {
    let output = Output {
        crop: true,
        ..of("rgba")
    };
    let picture = compose(fixtures::photo(9, 7), vec![8; 63], &output, None).unwrap();
    assert_eq!(
        (picture.width, picture.height, picture.subject),
        (9, 7, None)
    );
    let mut alpha = vec![8; 63];
    alpha[10] = 9;
    let picture = compose(fixtures::photo(9, 7), alpha, &output, None).unwrap();
    assert_eq!((picture.width, picture.height), (1, 1));
}

#[test]
fn the_size_is_kept_in_aspect_and_only_enlarges_when_asked() {
    use Size::{Longest, Within};
    for (size, upscale, expected) in [
        (Longest(50), false, (50, 25)),
        (Longest(100), false, (100, 50)),
        (Longest(400), false, (100, 50)),
        (Longest(400), true, (400, 200)),
        (Within(50, 10), false, (20, 10)),
        (Within(50, 400), false, (50, 25)),
        (Longest(1), false, (1, 1)),
    ] {
        assert_eq!(
            frame::scaled_size(100, 50, size, upscale),
            expected,
            "{size} {upscale}"
        );
    }
}

#[test]
fn resizing_does_not_let_cleared_colour_bleed_into_the_edge() {
    let photo = Photo {
        width: 40,
        height: 40,
        rgb: vec![200; 4800],
        alpha: None,
    };
    let alpha = boxed(
        40,
        40,
        Bounds {
            left: 0,
            top: 0,
            width: 21,
            height: 40,
        },
    );
    let output = Output {
        size: Some(Size::Longest(13)),
        ..of("rgba")
    };
    let picture = compose(photo, alpha, &output, None).unwrap();
    assert_eq!((picture.width, picture.height), (13, 13));
    let pixels = picture.data.as_chunks::<4>().0;
    assert!(
        pixels.iter().any(|p| (20..235).contains(&p[3])),
        "no soft edge to look at"
    );
    for pixel in pixels.iter().filter(|p| p[3] > 20) {
        assert!(pixel[..3].iter().all(|c| c.abs_diff(200) <= 6), "{pixel:?}");
    }
}

#[test]
fn a_matte_of_another_size_is_refused() {
    let error = compose(three(), vec![0; 4], &of("rgba"), None).unwrap_err();
    assert_eq!(error.code(), Code::Internal);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_kind_takes_any_size(
        size in prop_oneof![(1u32..40, 1u32..40), Just((1, 5000)), Just((5000, 33)), Just((150, 140))],
        kind in prop::sample::select(vec!["rgba", "mask", "white", "green", "color:#123456", "blur", "overlay", "image:x.jpg"]),
        level in any::<u8>(), longest in 1u32..200, crop in any::<bool>(), upscale in any::<bool>(),
    ) {
        let photo = fixtures::photo(size.0, size.1);
        let pixels = photo.pixels();
        let background = fixtures::photo(7, 3);
        let output = Output { size: Some(Size::Longest(longest)), crop, upscale, ..of(kind) };
        let picture = compose(photo, vec![level; pixels], &output, Some(&background)).unwrap();
        prop_assert_eq!(picture.data.len(), picture.width as usize * picture.height as usize * picture.channels.count());
        let expected = if upscale { longest } else { longest.min(size.0.max(size.1)) };
        prop_assert_eq!(picture.width.max(picture.height), expected);
    }

    #[test]
    fn a_full_matte_shows_the_photo_and_an_empty_one_the_background(width in 1u32..30, height in 1u32..30) {
        let photo = fixtures::photo(width, height);
        let pixels = photo.pixels();
        let whole = compose(photo.clone(), vec![255; pixels], &of("white"), None).unwrap();
        prop_assert_eq!(&whole.data, &photo.rgb);
        let nothing = compose(photo, vec![0; pixels], &of("white"), None).unwrap();
        prop_assert!(nothing.data.iter().all(|&c| c == 255));
    }
}
