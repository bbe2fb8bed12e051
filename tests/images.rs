//! Odd inputs (`tests/fixtures/images/README.md`) against what Pillow and LittleCMS make of them.

use std::path::{Path, PathBuf};

use cutout::error::{Code, Error};
use cutout::pipeline::decode::{self, Limits, Photo};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn decode(name: &str) -> Result<Photo, Error> {
    decode_bytes(&read(name))
}

fn decode_bytes(bytes: &[u8]) -> Result<Photo, Error> {
    let limits = Limits::default();
    let header = decode::sniff(bytes, &limits)?;
    decode::decode(bytes, &header, &limits)
}

/// RGBA of a photo, opaque where the source has no alpha.
fn rgba(photo: &Photo) -> Vec<u8> {
    let alpha = |i: usize| photo.alpha.as_ref().map_or(255, |alpha| alpha[i]);
    photo
        .rgb
        .chunks_exact(3)
        .enumerate()
        .flat_map(|(i, rgb)| [rgb[0], rgb[1], rgb[2], alpha(i)])
        .collect()
}

/// Mean and largest difference, in levels, where the picture can be seen.
fn difference(ours: &[u8], theirs: &[u8]) -> (f64, u8) {
    assert_eq!(ours.len(), theirs.len());
    let (mut sum, mut largest, mut count) = (0_u64, 0, 0_u64);
    for (ours, theirs) in ours.chunks_exact(4).zip(theirs.chunks_exact(4)) {
        // The colour under full transparency is nobody's business.
        let channels = if theirs[3] == 0 { 3..4 } else { 0..4 };
        for channel in channels {
            let difference = ours[channel].abs_diff(theirs[channel]);
            sum += u64::from(difference);
            largest = largest.max(difference);
            count += 1;
        }
    }
    (sum as f64 / count as f64, largest)
}

#[test]
fn every_input_with_an_expected_picture_decodes_to_it() {
    let mut compared = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(input) = name.strip_suffix(".expected.png") else {
            continue;
        };
        // Lossy decoders differ in rounding and in how they enlarge colour channels; colour
        // management in rounding; 16-bit inputs may drop the low byte instead of rounding.
        let (mean, largest) =
            if input.ends_with(".jpg") && input != "png-named.jpg" || input == "lossy.webp" {
                (1.0, 24)
            } else if input.starts_with("display-p3") || input.contains("16") {
                (1.0, 2)
            } else if input == "cmyk.tiff" {
                // Pillow and we round the product of two channels at different places.
                (0.5, 1)
            } else {
                (0.0, 0)
            };
        let expected = image::open(folder().join(&name)).unwrap().to_rgba8();
        compared += 1;
        match decode(input) {
            Err(error) => wrong.push(format!("{input}: {}", error.chain())),
            Ok(photo) if (photo.width, photo.height) != expected.dimensions() => {
                wrong.push(format!("{input}: {}x{}", photo.width, photo.height));
            }
            Ok(photo) => {
                let found = difference(&rgba(&photo), expected.as_raw());
                if found.0 > mean || found.1 > largest {
                    wrong.push(format!(
                        "{input}: mean {:.3}, largest {} levels",
                        found.0, found.1
                    ));
                }
            }
        }
    }
    assert!(
        compared >= 25,
        "only {compared} expected pictures were found"
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn all_eight_orientations_stand_upright() {
    let upright = image::open(folder().join("orientation-reference.png"))
        .unwrap()
        .to_rgba8();
    for orientation in 1..=8 {
        let name = format!("orientation-{orientation}.jpg");
        let photo = decode(&name).unwrap();
        assert_eq!((photo.width, photo.height), upright.dimensions(), "{name}");
        let (mean, _) = difference(&rgba(&photo), upright.as_raw());
        assert!(mean < 6.0, "{name}: mean difference {mean:.2}");
    }
}

#[test]
fn each_broken_input_is_refused_by_its_own_code() {
    for (name, code) in [
        ("truncated.jpg", Code::ImageCorrupt),
        ("truncated.png", Code::ImageCorrupt),
        ("broken-crc.png", Code::ImageCorrupt),
        ("text.jpg", Code::UnsupportedFormat),
        (
            "heic-header.heic",
            if cfg!(feature = "heic") {
                Code::ImageCorrupt
            } else {
                Code::UnsupportedFormat
            },
        ),
        ("bomb-30000x30000.png", Code::ImageTooLarge),
        ("header-65535x65535.jpg", Code::ImageTooLarge),
    ] {
        match decode(name) {
            Err(error) => assert_eq!(error.code(), code, "{name}: {error}"),
            Ok(photo) => panic!("{name} became {}x{}", photo.width, photo.height),
        }
    }
    assert!(matches!(
        decode("empty.jpg").map(|_| ()).unwrap_err().code(),
        Code::UnsupportedFormat | Code::ImageCorrupt
    ));
}

/// Mean difference in luma and in all channels, and the largest in any channel, in levels, of pictures
/// put on black: the colour of what can hardly be seen hardly counts.
#[cfg(any(feature = "heic", feature = "avif"))]
fn differences_on_black(ours: &[u8], theirs: &[u8]) -> (f64, f64, f64) {
    let on_black = |p: &[u8]| [0, 1, 2].map(|c| f64::from(p[c]) * f64::from(p[3]) / 255.0);
    let luma = |[r, g, b]: [f64; 3]| 0.299 * r + 0.587 * g + 0.114 * b;
    let (mut in_luma, mut in_all, mut largest) = (0.0, 0.0, 0.0_f64);
    for (ours, theirs) in ours.chunks_exact(4).zip(theirs.chunks_exact(4)) {
        let alpha = f64::from(ours[3].abs_diff(theirs[3]));
        let (ours, theirs) = (on_black(ours), on_black(theirs));
        in_luma += (luma(ours) - luma(theirs)).abs() + alpha;
        for channel in 0..3 {
            let difference = (ours[channel] - theirs[channel]).abs();
            in_all += difference / 3.0;
            largest = largest.max(difference).max(alpha);
        }
    }
    let pixels = ours.len() as f64 / 4.0;
    (in_luma / pixels, in_all / pixels, largest)
}

/// The files of one extension in tests/fixtures/heif (its README tells of them) against what libheif or
/// libavif makes of them. Where each pixel has its own chroma, all must agree. Where not, each
/// decoder spreads chroma in its own way and only luma is nearly the same: pixels beyond the gamut are clipped, and
/// Display P3 changes it.
#[cfg(any(feature = "heic", feature = "avif"))]
fn heif_decodes_to_what_other_decoders_see(extension: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/heif");
    let (mut compared, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.extension().is_none_or(|e| e != extension) {
            continue;
        }
        compared += 1;
        let expected = image::open(folder.join(format!("{name}.expected.png")));
        let expected = expected.unwrap().to_rgba8();
        match decode_bytes(&std::fs::read(&path).unwrap()) {
            Err(error) => wrong.push(format!("{name}: {}", error.chain())),
            Ok(photo) if (photo.width, photo.height) != expected.dimensions() => {
                wrong.push(format!("{name}: {}×{}", photo.width, photo.height));
            }
            Ok(photo) => {
                let (luma, mean, largest) = differences_on_black(&rgba(&photo), expected.as_raw());
                let found = format!("{name}: luma {luma:.3}, mean {mean:.3}, largest {largest:.1}");
                println!("{found}");
                let is_right = if name.starts_with("444") || name.starts_with("grey") {
                    // With a profile, LittleCMS rounds in other places.
                    mean < 0.2 && largest <= if name.contains("icc") { 2.0 } else { 1.0 }
                } else {
                    luma < 0.8 && mean < 4.5
                };
                if !is_right {
                    wrong.push(found);
                }
            }
        }
    }
    assert!(compared >= 15, "only {compared} files");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[cfg(feature = "heic")]
#[test]
fn heic_photos_decode_to_what_libheif_sees() {
    heif_decodes_to_what_other_decoders_see("heic");
}

#[cfg(feature = "avif")]
#[test]
fn avif_photos_decode_to_what_libavif_sees() {
    heif_decodes_to_what_other_decoders_see("avif");
}
