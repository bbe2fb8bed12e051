use proptest::prelude::*;

use super::*;
use crate::job::{Fit, Padding};
use crate::pipeline::fixtures;

/// With the photo's own colours; those that are estimated have tests of their own.
fn of(kind: &str) -> Output {
    Output {
        kind: kind.parse().unwrap(),
        decontaminate: false,
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
fn mixed_colours_are_cut_off_and_not_rounded() {
    // 86.9, 7.5 and 8.2.
    let data = bytes(&of("color:#0a0b0c"), [80, 0, 0]);
    assert_eq!(data[..3], [86, 7, 8]);
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
    assert_eq!(at(2, 2), [110, 177, 127]);
    let drawn: Vec<_> = (0..25).filter(|i| at(i % 5, i / 5) == GREEN).collect();
    assert_eq!(drawn, [2, 6, 8, 10, 13, 16, 17, 18]);
}

/// What OpenCV 5.0's `Canny(mask, 50, 100)` finds, a character a pixel.
#[test]
fn the_edge_is_the_one_that_canny_draws() {
    let pictures = [
        (
            vec![
                "..............#.",
                ".###............",
                ".####......###..",
                ".#####.....#.#..",
                ".######....###..",
                ".#######........",
                "..######.......#",
                "...#####......##",
                ".....###....####",
                ".......#........",
                "#...............",
                "##..........##..",
            ],
            vec![
                "..#..........###",
                ".#.##......##...",
                "#...##....##.#..",
                "#....##...#...#.",
                "#.....##..##.#..",
                ".#.....#....#...",
                ".##....#......##",
                "..##...#....###.",
                "....##.....#...#",
                "......#.....##..",
                "##..............",
                ".#..........##..",
            ],
        ),
        (vec!["##..#"], vec![".#..."]),
        (vec!["#", ".", "#", "#"], vec!["#", ".", "#", "."]),
        (vec!["#"], vec!["."]),
    ];
    for (mask, expected) in pictures {
        let width = mask[0].len();
        let alpha: Vec<u8> = mask
            .concat()
            .bytes()
            .map(|c| if c == b'#' { 128 } else { 127 })
            .collect();
        let expected = expected.concat();
        // Traced whole, and row by row as if each were a band of its own.
        for step in [mask.len(), 1] {
            let mut found = vec![b'.'; alpha.len()];
            for top in (0..mask.len()).step_by(step) {
                edges::trace(&alpha, width, top..top + step, |i| found[i] = b'#');
            }
            assert_eq!(String::from_utf8(found).unwrap(), expected, "{mask:#?}");
        }
    }
}

#[test]
fn blur_leaves_the_subject_sharp_and_blurs_the_rest() {
    let photo = fixtures::photo(90, 40);
    let sharp = photo.rgb.clone();
    let mut alpha = vec![0; photo.pixels()];
    alpha[0] = 255;
    let data = compose(photo, alpha, &of("blur"), None).unwrap().data;
    assert_eq!(data[..3], sharp[..3]);
    assert_eq!(data[3..], gaussian::blurred(&sharp, 90, 40)[3..]);
    assert!(fixtures::difference(&data, &sharp) > 10);
}

#[test]
fn another_picture_is_stretched_to_the_photo_unless_it_shall_cover() {
    // Left half black, right half white, three times as wide as needed.
    let wide = Photo {
        width: 60,
        height: 10,
        rgb: [[0u8; 90], [255; 90]].concat().repeat(10),
        alpha: None,
    };
    let photo = Photo {
        width: 20,
        height: 20,
        rgb: vec![7; 1200],
        alpha: None,
    };
    let output = of("image:gs://shop/beach.jpg");
    let stretch = compose(photo.clone(), vec![0; 400], &output, Some(&wide)).unwrap();
    // Two samples a side: the border between black and white stays hard.
    assert_eq!(stretch.data[..30], [0; 30]);
    assert_eq!(stretch.data[30..60], [255; 30]);
    let mut striped = wide.clone();
    for pixel in striped.rgb.as_chunks_mut::<3>().0.iter_mut().step_by(20) {
        *pixel = [90; 3];
    }
    // Columns 25 to 35 are shown: none of the stripes at 0, 20 and 40.
    let cover = Output {
        background_fit: Fit::Cover,
        ..output.clone()
    };
    let cover = compose(photo.clone(), vec![0; 400], &cover, Some(&striped)).unwrap();
    assert_eq!(cover.data[..27], [0; 27]);
    assert_eq!(cover.data[33..60], [255; 27]);
    let error = compose(photo, vec![0; 400], &output, None).unwrap_err();
    assert_eq!(error.code(), Code::InvalidJob);
    assert!(error.message().contains("beach.jpg"), "{error}");
}

/// `cv2.resize(picture, (w, h))` of OpenCV 5.0, first channel.
#[test]
fn stretching_gives_opencvs_numbers() {
    // What is enlarged, shrunk by more than two, and stretched to one pixel.
    let source: [u8; 15] = [0, 50, 255, 13, 200, 9, 255, 3, 77, 100, 255, 254, 128, 1, 0];
    let cases: [((u32, u32), &[u8]); 4] = [
        (
            (7, 4),
            &[
                0, 28, 108, 255, 82, 93, 200, 6, 104, 155, 97, 66, 89, 138, 101, 189, 196, 50, 49,
                54, 63, 255, 254, 218, 128, 37, 0, 0,
            ],
        ),
        ((2, 1), &[194, 83]),
        ((1, 1), &[3]),
        (
            (3, 5),
            &[
                17, 255, 138, 46, 154, 119, 91, 3, 92, 189, 78, 37, 254, 128, 0,
            ],
        ),
    ];
    let picture = Photo {
        width: 5,
        height: 3,
        rgb: source.iter().flat_map(|&v| [v; 3]).collect(),
        alpha: None,
    };
    for ((width, height), expected) in cases {
        let out = backdrop::fitted(&picture, width, height, Fit::Stretch).unwrap();
        let first: Vec<u8> = out.as_chunks::<3>().0.iter().map(|p| p[0]).collect();
        assert_eq!(first, expected, "{width}×{height}");
    }
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

/// A red subject on a green ground, with a soft edge of ten pixels between them: what a camera sees.
fn red_on_green() -> (Photo, Vec<u8>) {
    let (width, height) = (40, 20);
    let row = (0..width).map(|x| (255 * (x as i32 - 10).clamp(0, 10) / 10) as u8);
    let alpha = row.collect::<Vec<_>>().repeat(height);
    let mixed = alpha.iter().flat_map(|&a| [a, 255 - a, 0]);
    let photo = Photo {
        width,
        height: height as u32,
        rgb: mixed.collect(),
        alpha: None,
    };
    (photo, alpha)
}

fn made(kind: &str, decontaminate: bool) -> Picture {
    let (photo, alpha) = red_on_green();
    let background = Photo {
        rgb: vec![255; photo.rgb.len()],
        ..photo.clone()
    };
    let output = Output {
        decontaminate,
        ..of(kind)
    };
    compose(photo, alpha, &output, Some(&background)).unwrap()
}

#[test]
fn no_kind_that_shows_the_subject_before_something_keeps_the_old_background_in_its_edge() {
    let (_, alpha) = red_on_green();
    let blue = made("color:#0000ff", true);
    let most = blue
        .data
        .as_chunks::<3>()
        .0
        .iter()
        .map(|pixel| pixel[1])
        .max();
    assert!(most < Some(8), "green is left: {most:?}");
    let before = made("color:#0000ff", false);
    let most = before
        .data
        .as_chunks::<3>()
        .0
        .iter()
        .map(|pixel| pixel[1])
        .max();
    assert!(most > Some(50), "there was nothing to take out: {most:?}");
    let cut = made("rgba", true);
    for (pixel, &alpha) in cut.data.as_chunks::<4>().0.iter().zip(&alpha) {
        assert_eq!(pixel[3], alpha);
        let red = pixel[0] > 247 && pixel[1] < 8 && pixel[2] < 8;
        assert!(red || alpha == 0 && pixel == &[0; 4], "{pixel:?}");
    }
    for kind in ["white", "green", "blur", "image:x.jpg"] {
        assert_ne!(made(kind, true), made(kind, false), "{kind}");
    }
    for kind in ["mask", "overlay"] {
        assert_eq!(made(kind, true), made(kind, false), "{kind}");
    }
}

#[test]
fn what_is_blurred_behind_the_subject_is_the_photo() {
    let (_, alpha) = red_on_green();
    let pictures = [true, false].map(|decontaminate| made("blur", decontaminate));
    for (i, alpha) in alpha.into_iter().enumerate() {
        let [own, plain] = pictures
            .each_ref()
            .map(|picture| &picture.data[i * 3..][..3]);
        assert!(alpha > 0 && alpha < 255 || own == plain, "{i}");
    }
}

#[test]
fn colours_that_were_cut_out_before_are_left_alone() {
    let (photo, alpha) = red_on_green();
    let with = |source: u8| {
        let mut photo = photo.clone();
        let mut transparency = vec![255; alpha.len()];
        transparency[0] = source;
        photo.alpha = Some(transparency);
        let own = compose(photo, alpha.clone(), &Output::default(), None).unwrap();
        own.data[4..].to_vec()
    };
    let plain = made("rgba", false).data[4..].to_vec();
    assert_eq!(with(254), plain);
    // Alpha that says nothing is as good as none.
    assert_eq!(with(255), made("rgba", true).data[4..]);
}

#[test]
fn reversed_the_crop_goes_to_what_is_kept() {
    // The subject fills the right of the picture; with the matte reversed, the left is kept.
    let kept = Bounds {
        left: 0,
        top: 0,
        width: 5,
        height: 12,
    };
    let output = Output {
        crop: true,
        reverse: true,
        ..of("rgba")
    };
    let matte = crate::engine::tensor::Matte {
        width: 20,
        height: 12,
        values: (0..240).map(|i| f32::from(i % 20 >= 5)).collect(),
    };
    let resize = crate::model::manifest::MatteResize::Bilinear;
    let alpha = crate::pipeline::matte::to_full_size(&matte, 20, 12, resize, &output);
    let mut photo = fixtures::photo(20, 12);
    let picture = compose(photo.clone(), alpha.clone(), &output, None).unwrap();
    assert_eq!(picture.subject, Some(kept));
    assert_eq!((picture.width, picture.height), (5, 12));
    // Transparent in the source is transparent either way round.
    photo.alpha = Some((0..240).map(|i| if i % 20 < 2 { 0 } else { 255 }).collect());
    let picture = compose(photo, alpha, &output, None).unwrap();
    assert_eq!((picture.width, picture.height), (3, 12));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_kind_takes_any_size(
        size in prop_oneof![(1u32..40, 1u32..40), Just((1, 1)), Just((1, 5000)), Just((5000, 33)), Just((150, 140))],
        kind in prop::sample::select(vec!["rgba", "mask", "white", "green", "color:#123456", "blur", "overlay", "image:x.jpg"]),
        level in prop_oneof![Just(0), any::<u8>()], longest in 1u32..200, crop in any::<bool>(), upscale in any::<bool>(),
        background_fit in prop::sample::select(vec![Fit::Stretch, Fit::Cover]), decontaminate in any::<bool>(),
    ) {
        let photo = fixtures::photo(size.0, size.1);
        let pixels = photo.pixels();
        let background = fixtures::photo(7, 3);
        let output = Output { size: Some(Size::Longest(longest)), crop, upscale, background_fit, decontaminate, ..of(kind) };
        let picture = compose(photo, vec![level; pixels], &output, Some(&background)).unwrap();
        prop_assert_eq!(picture.data.len(), picture.width as usize * picture.height as usize * picture.channels.count());
        if picture.channels == Channels::Rgba {
            let clear = picture.data.as_chunks::<4>().0.iter().filter(|pixel| pixel[3] == 0);
            prop_assert!(clear.copied().all(|pixel| pixel == [0; 4]));
        }
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
