//! Colours, depth and metadata from file to file, against what LittleCMS and plain arithmetic make of them
//! (`tests/reference/make_colour.py`).

use std::io::Cursor;
use std::path::Path;

use cutout::job::{ColourProfile, Depth, Format, KeepMetadata, Kind, Output};
use cutout::pipeline::compose;
use cutout::pipeline::decode::{self, Kept, Limits, Wanted};
use cutout::pipeline::encode::{self, Encoded};
use exif::{Context, In, Reader, Tag};

fn read(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let path = match name.split_once('/') {
        Some(_) => folder.join(name),
        None => folder.join("colour").join(name),
    };
    std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn kept(name: &str, output: &Output) -> Kept {
    let bytes = read(name);
    let limits = Limits::default();
    let header = decode::sniff(&bytes, &limits).unwrap();
    decode::decode_keeping(&bytes, &header, &limits, &Wanted::of(output)).unwrap()
}

/// The file that a job makes of a photo whose matte is `alpha` everywhere.
fn made_with(name: &str, output: &Output, alpha: u8) -> Encoded {
    let kept = kept(name, output);
    let pixels = kept.photo.pixels();
    let carried = kept.carried.clone();
    let deep = kept
        .deep
        .as_ref()
        .map(|_| vec![u16::from(alpha) * 257; pixels]);
    let picture = compose::compose_kept(kept, vec![alpha; pixels], deep, output, None).unwrap();
    encode::encode_with(&picture, output, &carried).unwrap()
}

fn made(name: &str, output: &Output) -> Encoded {
    made_with(name, output, 255)
}

/// What a PNG says of itself, and its samples in 16 bits, 257 times those of 8.
fn opened(file: &[u8]) -> (png::Info<'static>, Vec<u16>) {
    let mut reader = png::Decoder::new(Cursor::new(file)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut bytes).unwrap();
    let info = reader.info();
    let samples = match info.bit_depth {
        png::BitDepth::Sixteen => {
            let (bytes, _) = bytes.as_chunks::<2>();
            bytes
                .iter()
                .map(|bytes| u16::from_be_bytes(*bytes))
                .collect()
        }
        _ => bytes.iter().map(|&byte| u16::from(byte) * 257).collect(),
    };
    let mut told = png::Info::with_size(info.width, info.height);
    told.bit_depth = info.bit_depth;
    told.color_type = info.color_type;
    told.srgb = info.srgb;
    told.icc_profile = info.icc_profile.clone().map(|icc| icc.into_owned().into());
    told.exif_metadata = info
        .exif_metadata
        .clone()
        .map(|exif| exif.into_owned().into());
    (told, samples)
}

/// The samples without their alpha.
fn colours(rgba: &[u16]) -> Vec<u16> {
    rgba.chunks_exact(4)
        .flat_map(|pixel| pixel[..3].to_vec())
        .collect()
}

/// Numbers as they stand in the file, upright, by the `image` crate, which manages no colours; and the
/// profile.
fn unmanaged(name: &str) -> (image::DynamicImage, Option<Vec<u8>>) {
    use image::ImageDecoder;
    let bytes = read(name);
    let reader = image::ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .unwrap();
    let mut decoder = reader.into_decoder().unwrap();
    let (icc, orientation) = (
        decoder.icc_profile().unwrap(),
        decoder.orientation().unwrap(),
    );
    let mut picture = image::DynamicImage::from_decoder(decoder).unwrap();
    picture.apply_orientation(orientation);
    (picture, icc)
}

/// Photos of tests/fixtures/heif in the formats that are built in.
fn heifs(names: &[&str]) -> Vec<String> {
    let of = |extension: &'static str| names.iter().map(move |n| format!("heif/{n}.{extension}"));
    let heic = of("heic").filter(|_| cfg!(feature = "heic"));
    heic.chain(of("avif").filter(|_| cfg!(feature = "avif")))
        .collect()
}

fn largest(a: &[u16], b: &[u16]) -> u16 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// A level of 8 bits.
const LEVEL: u16 = 257;

/// Samples of 8 bits in 16.
fn widened(samples: &[u8]) -> Vec<u16> {
    samples
        .iter()
        .map(|&level| u16::from(level) * LEVEL)
        .collect()
}

fn source() -> Output {
    Output {
        profile: ColourProfile::Source,
        ..Output::default()
    }
}

fn chunk<'a>(webp: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    let mut rest = &webp[12..];
    while rest.len() >= 8 {
        let size = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
        if &rest[..4] == name {
            return Some(&rest[8..8 + size]);
        }
        rest = rest.get(8 + size.next_multiple_of(2)..).unwrap_or_default();
    }
    None
}

#[test]
fn by_default_every_profile_becomes_srgb_as_littlecms_makes_it_and_the_file_says_so() {
    for (name, is_table) in [
        ("adobe.png", false),
        ("mft.png", true),
        ("mab.png", true),
        ("both.png", true),
    ] {
        let (info, samples) = opened(&made(name, &Output::default()).bytes);
        assert!(info.srgb.is_some() && info.icc_profile.is_none(), "{name}");
        let expected = format!("{}.srgb.png", name.split('.').next().unwrap());
        let expected = image::load_from_memory(&read(&expected)).unwrap();
        let expected = expected.to_rgb16().into_raw();
        let found = colours(&samples);
        let worst = largest(&found, &expected);
        let apart = |levels: u16| {
            let pairs = found.iter().zip(&expected);
            pairs
                .filter(|(a, b)| a.abs_diff(**b) > levels * LEVEL)
                .count()
        };
        let share = apart(4) as f64 / found.len() as f64;
        println!(
            "{name}: {} levels at most, {share:.4} by more than 4",
            worst / LEVEL
        );
        let (before, _) = unmanaged(name);
        assert!(
            largest(&before.to_rgb16().into_raw(), &expected) > 20 * LEVEL,
            "{name}: the fixture shows no difference"
        );
        if is_table {
            // Between the points of a table each library interpolates in its own way; at the rim of sRGB,
            // where the curve is steep, it shows.
            assert!(
                share < 0.02 && worst <= 24 * LEVEL,
                "{name}: {worst} {share}"
            );
        } else {
            assert!(worst <= 2 * LEVEL, "{name}: {worst}");
        }
    }
}

#[test]
fn the_sources_profile_keeps_its_numbers_and_stands_in_the_file() {
    for name in ["adobe.jpg", "p3.webp", "deep-p3.png", "both.png"] {
        let (picture, icc) = unmanaged(name);
        let expected = match name {
            "adobe.jpg" => {
                let kept = kept(name, &source());
                // JPEG decoders differ by rounding; ours without colour management is the same.
                let ours = widened(&kept.photo.rgb);
                assert!(largest(&ours, &picture.to_rgb16().into_raw()) <= 2 * LEVEL);
                ours
            }
            _ => widened(&picture.to_rgb8()),
        };
        let (info, samples) = opened(&made(name, &source()).bytes);
        assert_eq!(info.srgb, None, "{name}");
        assert_eq!(info.icc_profile.as_deref(), icc.as_deref(), "{name}");
        assert!(colours(&samples) == expected, "{name}");
        let webp = made(
            name,
            &Output {
                format: Format::Webp,
                ..source()
            },
        );
        assert_eq!(chunk(&webp.bytes, b"ICCP"), icc.as_deref(), "{name}");
        let again = image::load_from_memory(&webp.bytes).unwrap().to_rgb8();
        assert!(widened(&again) == expected, "{name}");
    }
}

#[test]
fn the_network_sees_srgb_whatever_the_picture_is_in() {
    for name in ["adobe.jpg", "p3.webp", "deep-p3.png", "both.png"] {
        let plain = kept(name, &Output::default()).photo;
        let mut other = kept(name, &source());
        assert_ne!(other.photo.rgb, plain.rgb, "{name}");
        let seen = other.in_srgb(|photo| photo.rgb.clone());
        assert!(seen == plain.rgb, "{name}");
    }
}

#[test]
fn heic_and_avif_keep_their_profile_too() {
    for name in heifs(&["display-p3-icc"]) {
        let (info, samples) = opened(&made(&name, &source()).bytes);
        assert_eq!(info.srgb, None, "{name}");
        let icc = info.icc_profile.unwrap();
        let file = read(&name);
        assert!(file.windows(icc.len()).any(|part| part == &*icc), "{name}");
        let mut wide = kept(&name, &source());
        assert!(colours(&samples) == widened(&wide.photo.rgb), "{name}");
        let plain = kept(&name, &Output::default()).photo;
        assert_ne!(wide.photo.rgb, plain.rgb, "{name}");
        assert!(
            wide.in_srgb(|photo| photo.rgb.clone()) == plain.rgb,
            "{name}"
        );
    }
}

#[cfg(feature = "heic")]
#[test]
fn code_points_become_the_profile_that_they_stand_for() {
    let name = "heif/display-p3-nclx.heic";
    let file = made(name, &source()).bytes;
    assert!(made(name, &source()).bytes == file);
    let icc = opened(&file).0.icc_profile.unwrap();
    let ours = moxcms::ColorProfile::new_from_slice(&icc).unwrap();
    // That of another file, written by hand.
    let theirs = opened(&made("heif/display-p3-icc.heic", &source()).bytes).0;
    let theirs = moxcms::ColorProfile::new_from_slice(&theirs.icc_profile.unwrap()).unwrap();
    for (ours, theirs) in [
        (ours.red_colorant, theirs.red_colorant),
        (ours.green_colorant, theirs.green_colorant),
        (ours.blue_colorant, theirs.blue_colorant),
    ] {
        for (ours, theirs) in [(ours.x, theirs.x), (ours.y, theirs.y), (ours.z, theirs.z)] {
            assert!((ours - theirs).abs() < 1e-3, "{ours} {theirs}");
        }
    }
    let mut wide = kept(name, &source());
    let plain = kept(name, &Output::default()).photo;
    assert_ne!(wide.photo.rgb, plain.rgb);
    assert!(wide.in_srgb(|photo| photo.rgb.clone()) == plain.rgb);
}

#[test]
fn heic_and_avif_of_more_than_8_bits_keep_them() {
    let deep = Output {
        depth: Depth::Source,
        ..source()
    };
    for name in heifs(&["10-bits", "12-bits", "deep-444"]) {
        let (info, samples) = opened(&made(&name, &deep).bytes);
        assert_eq!(info.bit_depth, png::BitDepth::Sixteen, "{name}");
        let samples = colours(&samples);
        let beyond = samples.iter().filter(|&&level| level % LEVEL != 0).count();
        assert!(beyond * 2 > samples.len(), "{name}: {beyond}");
        let shallow = widened(&kept(&name, &source()).photo.rgb);
        assert!(largest(&samples, &shallow) <= LEVEL, "{name}");
        assert_eq!(
            opened(&made(&name, &Output::default()).bytes).0.bit_depth,
            png::BitDepth::Eight
        );
    }
    for name in heifs(&["alpha", "photo", "grey"]) {
        let (info, _) = opened(&made(&name, &deep).bytes);
        assert_eq!(info.bit_depth, png::BitDepth::Eight, "{name}");
    }
    // What libheif and libavif make of ten bits whose every pixel has its own colour.
    const LEVEL_OF_10_BITS: u16 = 65;
    for name in heifs(&["deep-444"]) {
        let (_, samples) = opened(&made(&name, &deep).bytes);
        let expected = image::load_from_memory(&read(&format!("{name}.expected-16.png")));
        let worst = largest(&colours(&samples), &expected.unwrap().to_rgb16().into_raw());
        println!("{name}: {worst} of 65535");
        assert!(worst <= LEVEL_OF_10_BITS, "{name}: {worst}");
    }
    if cfg!(feature = "heic") {
        let name = "heif/deep-alpha.heic";
        let (_, samples) = opened(&made(name, &deep).bytes);
        let expected = image::load_from_memory(&read(&format!("{name}.expected-16.png")));
        let expected = expected.unwrap().to_rgba16();
        let mut soft = 0;
        for (ours, theirs) in samples.chunks_exact(4).zip(expected.pixels()) {
            assert!(
                ours[3].abs_diff(theirs[3]) <= LEVEL_OF_10_BITS,
                "{ours:?} {theirs:?}"
            );
            soft += u32::from(ours[3] % LEVEL != 0);
            if ours[3] > 0 {
                assert!(
                    largest(&ours[..3], &theirs.0[..3]) <= LEVEL_OF_10_BITS,
                    "{ours:?} {theirs:?}"
                );
            }
        }
        assert!(soft > 100, "{soft}");
    }
}

#[test]
fn exif_of_a_heif_that_is_not_where_it_says_is_not_kept() {
    let exif = Output {
        keep_metadata: KeepMetadata::Exif,
        ..Output::default()
    };
    for name in heifs(&["described"]) {
        let file = read(&name);
        let carried = |bytes: &[u8]| {
            let limits = Limits::default();
            let header = decode::sniff(bytes, &limits).unwrap();
            let kept = decode::decode_keeping(bytes, &header, &limits, &Wanted::of(&exif));
            kept.unwrap().carried.exif
        };
        assert!(carried(&file).is_some(), "{name}");
        // The block's own offset stands before it.
        let tiff = file
            .windows(4)
            .position(|b| b == b"MM\0*" || b == b"II*\0")
            .unwrap();
        let offset = if file[..tiff].ends_with(b"Exif\0\0") {
            10
        } else {
            4
        };
        for wrong in [[0xff; 4], [0, 0, 0xff, 0xff]] {
            let mut broken = file.clone();
            broken[tiff - offset..tiff - offset + 4].copy_from_slice(&wrong);
            assert_eq!(carried(&broken), None, "{name}");
        }
    }
}

#[test]
fn photos_without_an_rgb_profile_that_can_be_written_become_srgb() {
    for name in [
        "pixels/cmyk_icc.jpg",
        "images/grey8.jpg",
        "images/rgb.bmp",
        "mft.png",
        "mab.png",
    ] {
        let (plain, wished) = (made(name, &Output::default()), made(name, &source()));
        assert!(plain.bytes == wished.bytes, "{name}");
        assert!(opened(&wished.bytes).0.srgb.is_some(), "{name}");
    }
}

#[test]
fn colours_that_a_job_names_are_brought_to_the_profile_as_littlecms_does() {
    let all: serde_json::Value = serde_json::from_slice(&read("colours.json")).unwrap();
    for (profile, name, worst) in [
        ("p3", "deep-p3.png", 1),
        ("adobe", "adobe.jpg", 1),
        ("both", "both.png", 3),
    ] {
        for (colour, kind) in [
            ("green", "green"),
            ("rose", "color:#ff0080"),
            ("white", "white"),
        ] {
            for depth in [Depth::Eight, Depth::Source] {
                let output = Output {
                    kind: kind.parse().unwrap(),
                    depth,
                    ..source()
                };
                let (_, samples) = opened(&made_with(name, &output, 0).bytes);
                for (channel, sample) in samples[..3].iter().enumerate() {
                    let expected = all[profile][colour][channel].as_u64().unwrap() as u16 * LEVEL;
                    // Half a level for the rounding of those that are compared with.
                    let far = sample.abs_diff(expected);
                    assert!(
                        far <= worst * LEVEL + LEVEL / 2,
                        "{name} {kind} {channel}: {far}"
                    );
                }
            }
        }
    }
}

#[test]
fn sixteen_bits_stay_sixteen_in_either_profile() {
    let deep = |profile| Output {
        depth: Depth::Source,
        profile,
        ..Output::default()
    };
    let (picture, _) = unmanaged("deep-p3.png");
    let (info, samples) = opened(&made("deep-p3.png", &deep(ColourProfile::Source)).bytes);
    assert_eq!(
        (info.bit_depth, info.color_type),
        (png::BitDepth::Sixteen, png::ColorType::Rgba)
    );
    assert!(info.icc_profile.is_some());
    assert!(colours(&samples) == picture.to_rgb16().into_raw());

    let (info, samples) = opened(&made("deep-p3.png", &deep(ColourProfile::Srgb)).bytes);
    assert_eq!(info.bit_depth, png::BitDepth::Sixteen);
    assert!(info.srgb.is_some() && info.icc_profile.is_none());
    let expected = image::load_from_memory(&read("deep-p3.srgb.png")).unwrap();
    let expected = expected.rotate90().to_rgb16().into_raw();
    let found = colours(&samples);
    let worst = largest(&found, &expected);
    let beyond = found.iter().filter(|&&level| level % LEVEL != 0).count();
    let sum: f64 = found
        .iter()
        .zip(&expected)
        .map(|(a, b)| f64::from(a.abs_diff(*b)))
        .sum();
    let mean = sum / found.len() as f64;
    println!(
        "sRGB in 16 bits: {worst} at most and {mean:.2} on average of 65535 from double precision"
    );
    // At the rim of sRGB, where a channel is nearly nothing and the curve is steep, the fourth digit of the
    // primaries shows.
    assert!(worst < LEVEL && mean < 8.0, "{worst} {mean}");
    assert!(
        beyond * 2 > found.len(),
        "{beyond} of {} levels are more than 8 bits",
        found.len()
    );

    let (_, samples) = opened(&made("deep-p3-alpha.png", &deep(ColourProfile::Source)).bytes);
    let (picture, _) = unmanaged("deep-p3-alpha.png");
    for (ours, theirs) in samples.chunks_exact(4).zip(picture.to_rgba16().pixels()) {
        assert_eq!(ours[3], theirs.0[3]);
        if ours[3] > 0 {
            assert_eq!(ours, theirs.0);
        }
    }
    for name in [
        "images/rgb16.png",
        "images/rgb16.tiff",
        "images/rgba16.png",
        "images/grey16.png",
    ] {
        let (info, _) = opened(&made(name, &deep(ColourProfile::Srgb)).bytes);
        assert_eq!(info.bit_depth, png::BitDepth::Sixteen, "{name}");
        let (info, _) = opened(&made(name, &Output::default()).bytes);
        assert_eq!(info.bit_depth, png::BitDepth::Eight, "{name}");
    }
    for name in ["adobe.jpg", "p3.webp", "images/rgba.png", "images/la.png"] {
        let (info, _) = opened(&made(name, &deep(ColourProfile::Srgb)).bytes);
        assert_eq!(info.bit_depth, png::BitDepth::Eight, "{name}");
    }
    let mask = Output {
        kind: Kind::Mask,
        ..deep(ColourProfile::Source)
    };
    let (info, samples) = opened(&made_with("deep-p3.png", &mask, 77).bytes);
    assert_eq!(
        (info.bit_depth, info.color_type),
        (png::BitDepth::Sixteen, png::ColorType::Grayscale)
    );
    assert!(info.icc_profile.is_none() && samples.iter().all(|&a| a == 77 * LEVEL));
}

#[test]
fn where_a_photo_was_taken_is_in_no_file_unless_asked_for() {
    let choices = [
        KeepMetadata::None,
        KeepMetadata::Copyright,
        KeepMetadata::Exif,
        KeepMetadata::ExifWithLocation,
    ];
    let mut names = heifs(&["described"]);
    names.extend(["adobe.jpg", "deep-p3.png", "p3.webp"].map(String::from));
    for name in &names {
        // Its rationals stand in the file as they are read: 52°31′12″ N.
        let place = [52_u32, 1, 31, 1, 12, 1];
        let little: Vec<u8> = place.iter().flat_map(|n| n.to_le_bytes()).collect();
        let big: Vec<u8> = place.iter().flat_map(|n| n.to_be_bytes()).collect();
        let is_there = |file: &[u8]| {
            let found = |bytes: &[u8]| file.windows(bytes.len()).any(|window| window == bytes);
            found(&little) || found(&big)
        };
        assert!(is_there(&read(name)), "{name} says no place");
        for keep in choices {
            for format in [Format::Png, Format::Webp] {
                let output = Output {
                    keep_metadata: keep,
                    format,
                    dpi: 72,
                    ..Output::default()
                };
                let file = made(name, &output).bytes;
                let told = format!("{name} {keep:?} {format:?}");
                assert_eq!(
                    is_there(&file),
                    keep == KeepMetadata::ExifWithLocation,
                    "{told}"
                );
                let found = Reader::new().read_from_container(&mut Cursor::new(&file[..]));
                if keep == KeepMetadata::None {
                    assert!(found.is_err(), "{told}");
                    continue;
                }
                let found = found.unwrap_or_else(|error| panic!("{told}: {error}"));
                let of = |tag| {
                    found
                        .get_field(tag, In::PRIMARY)
                        .map(|field| field.display_value().to_string())
                };
                assert_eq!(
                    of(Tag::Artist).as_deref(),
                    Some("\"Ada Lovelace\""),
                    "{told}"
                );
                assert_eq!(of(Tag::XResolution).as_deref(), Some("72"), "{told}");
                let camera = keep != KeepMetadata::Copyright;
                assert_eq!(of(Tag::Make).is_some(), camera, "{told}");
                assert_eq!(of(Tag::DateTimeOriginal).is_some(), camera, "{told}");
                let gps = found
                    .fields()
                    .any(|field| field.tag.context() == Context::Gps);
                assert_eq!(gps, keep == KeepMetadata::ExifWithLocation, "{told}");
                assert_eq!(of(Tag::MakerNote), None, "{told}");
                assert!(!file.windows(5).any(|window| window == b"maker"), "{told}");
                // The pixels are upright, so that who reads it must not turn them again.
                let raw = found.buf();
                let orientation = image::metadata::Orientation::from_exif_chunk(raw);
                assert_eq!(
                    orientation,
                    Some(image::metadata::Orientation::NoTransforms),
                    "{told}"
                );
            }
        }
    }
}
