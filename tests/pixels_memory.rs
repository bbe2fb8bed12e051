//! The memory that a job reserves from its header is held against what it really allocates.
//!
//! One test in a binary of its own, because the count is of the whole process.

use std::io::Cursor;

use cutout::engine::tensor::Matte;
use cutout::job::{ColourProfile, Depth, Fit, KeepMetadata, Kind, Output, Padding, Shadow, Size};
use cutout::model::manifest::{InputSpec, Layout as TensorLayout, MatteResize, Resize};
use cutout::pipeline::decode::{Limits, Photo, Wanted, decode, decode_keeping, sniff};
use cutout::pipeline::refine::{self, FullSize};
use cutout::pipeline::{compose, encode, foreground, preprocess};
use image::{DynamicImage, ImageFormat, RgbImage};

#[path = "support/memory.rs"]
mod memory;

fn is_image(output: &Output) -> bool {
    matches!(output.kind, Kind::Image(_))
}

fn walk(bytes: &[u8], output: &Output, matte: &Matte) -> encode::Encoded {
    let limits = Limits::default();
    let header = sniff(bytes, &limits).unwrap();
    let mut kept = decode_keeping(bytes, &header, &limits, &Wanted::of(output)).unwrap();
    let input = InputSpec::new(TensorLayout::NhwcU8);
    let resize = Resize::Static {
        width: 128,
        height: 128,
    };
    kept.in_srgb(|photo| preprocess::to_tensor(photo, &input, &resize))
        .unwrap();
    let full = FullSize::new(matte, &kept.photo, MatteResize::Bilinear, output);
    let alpha = full.bytes();
    let deep = kept.deep.is_some().then(|| full.deep());
    drop(full);
    // The same picture serves as its own background.
    let background = is_image(output).then(|| decode(bytes, &header, &limits).unwrap());
    let carried = kept.carried.clone();
    let picture = compose::compose_kept(kept, alpha, deep, output, background.as_ref()).unwrap();
    drop(background);
    encode::encode_with(&picture, output, &carried).unwrap()
}

/// A matte whose left part is nothing, whose right part is all, and a soft edge between them.
fn soft() -> Matte {
    Matte {
        width: 64,
        height: 64,
        values: (0..64 * 64).map(|i| f32::from(i % 64 > 20)).collect(),
    }
}

/// What estimating the subject's colours takes, and what it said.
fn estimating_takes_what_it_says(alpha: Vec<u8>, width: u32) {
    let height = alpha.len() as u32 / width;
    let mut rgb = vec![100; alpha.len() * 3];
    let announced = foreground::working_bytes(width, height);
    let (_, peak) = memory::peak_of(|| foreground::estimate(&mut rgb, &alpha, width).unwrap());
    println!("colours, {width}×{height}: {peak} of {announced} bytes");
    assert!(peak <= announced, "{width}×{height}: {peak} of {announced}");
    // A promise that is never nearly kept costs photos that could have been worked on.
    assert!(
        peak * 4 > announced * 3,
        "{width}×{height}: {peak} of {announced}"
    );
}

/// Of a network that answers [`unsure`].
const AS_A_NETWORK: Resize = Resize::Static {
    width: 1024,
    height: 1024,
};

/// A matte as large as a network's, and nowhere sure.
fn unsure() -> Matte {
    Matte {
        width: 1024,
        height: 1024,
        values: vec![0.5; 1 << 20],
    }
}

/// What the way to the photo's edges takes beside alpha, and what it said.
fn refining_takes_what_it_says(width: u32, height: u32) {
    let (matte, output) = (unsure(), refined());
    let photo = Photo {
        width,
        height,
        rgb: vec![100; width as usize * height as usize * 3],
        alpha: None,
    };
    let announced = refine::working_bytes((width, height), (matte.width, matte.height));
    let (alpha, peak) =
        memory::peak_of(|| FullSize::new(&matte, &photo, MatteResize::Bilinear, &output).bytes());
    println!("refining, {width}×{height}: {peak} of {announced} bytes");
    assert!(
        peak <= announced + alpha.len() as u64,
        "{peak} of {announced}"
    );
    assert!(peak * 4 > announced * 3, "{peak} of {announced}");
}

fn refined() -> Output {
    Output {
        refine: true,
        ..Output::default()
    }
}

/// Decoding alone: what comes behind it does not depend on the format.
fn decoding_takes_what_it_says(name: &str, bytes: &[u8]) {
    let limits = Limits::default();
    let header = sniff(bytes, &limits).unwrap();
    let all = Wanted {
        profile: ColourProfile::Source,
        depth: Depth::Source,
        metadata: KeepMetadata::ExifWithLocation,
        dpi: 300,
    };
    // A profile and EXIF are paid for whether a file has them or not, which hides what pixels take.
    let deep = Wanted {
        depth: Depth::Source,
        ..Wanted::default()
    };
    for wanted in [Wanted::default(), deep, all] {
        let announced = header.decode_bytes() + header.keeping_bytes(&wanted);
        let (kept, peak) =
            memory::peak_of(|| decode_keeping(bytes, &header, &limits, &wanted).unwrap());
        let bits = if kept.deep.is_some() { 16 } else { 8 };
        println!("{name}, {bits} bits: {peak} of {announced} bytes");
        assert_eq!(kept.photo.pixels() as u64, header.pixels());
        assert!(peak <= announced, "{name}: {peak} of {announced} bytes");
    }
}

#[test]
fn no_job_allocates_more_than_its_header_announced() {
    // Large enough for the share that does not depend on the size to hide nothing.
    let (width, height) = (3000, 1500);
    let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    let rgb = RgbImage::from_fn(width, height, |x, y| {
        let i = (y * width + x) * 3;
        image::Rgb([noise(i), noise(i + 1), noise(i + 2)])
    });
    let rgb = DynamicImage::ImageRgb8(rgb);
    let pictures = [
        ("rgb", rgb.clone()),
        ("rgba", rgb.to_rgba8().into()),
        ("grey", rgb.to_luma8().into()),
        ("rgba, 16 bits", rgb.to_rgba16().into()),
    ];
    let mut files = Vec::new();
    for (name, picture) in &pictures {
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
        ] {
            let mut file = Cursor::new(Vec::new());
            // Not every format takes every kind of pixels.
            if picture.write_to(&mut file, format).is_ok() {
                files.push((format!("{name} {format:?}"), file.into_inner()));
            }
        }
    }
    let whole = Output::default();
    let of = |kind: &str| Output {
        kind: kind.parse().unwrap(),
        ..Output::default()
    };
    let (blur, overlay, stretched) = (of("blur"), of("overlay"), of("image:same.png"));
    let covering = Output {
        background_fit: Fit::Cover,
        ..stretched.clone()
    };
    let smaller = Output {
        size: Some(Size::Longest(2990)),
        ..Output::default()
    };
    let cropped = Output {
        crop: true,
        padding: Padding::Percent(5.0),
        format: cutout::job::Format::Webp,
        ..Output::default()
    };
    let larger = Output {
        size: Some(Size::Longest(4000)),
        upscale: true,
        ..Output::default()
    };
    let matte = Matte {
        width: 64,
        height: 64,
        values: vec![1.0; 64 * 64],
    };
    let soft = soft();
    let white = of("white");
    // Threads and their scratch space are made before anything is counted.
    walk(&files[0].1, &whole, &soft);
    let edge = |width: usize, height: usize| {
        let level = |i| ((i % width) * 255 / width) as u8;
        (0..width * height).map(level).collect::<Vec<_>>()
    };
    estimating_takes_what_it_says(edge(700, 500), 700);
    estimating_takes_what_it_says(edge(8, 9000), 8);
    estimating_takes_what_it_says(edge(9000, 8), 9000);
    assert!(files.len() > 12, "{} files", files.len());
    files.push(("profile bomb".into(), profile_bomb()));
    let heif = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/heif/large");
    for entry in std::fs::read_dir(heif).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with("heic") && cfg!(feature = "heic")
            || name.ends_with("avif") && cfg!(feature = "avif")
        {
            decoding_takes_what_it_says(&name, &std::fs::read(path).unwrap());
        }
    }
    let takes_what_is_announced = |name: &str, bytes: &[u8], output: &Output, matte: &Matte| {
        let header = sniff(bytes, &Limits::default()).unwrap();
        let pictures = if is_image(output) { 2 } else { 1 };
        let announced = pictures * header.decode_bytes()
            + header.keeping_bytes(&Wanted::of(output))
            + refine::extra_bytes((header.width, header.height), &AS_A_NETWORK, output)
            + compose::extra_bytes(header.width, header.height, output);
        let (_, peak) = memory::peak_of(|| walk(bytes, output, matte));
        println!(
            "{name:20} {:14} size {:?}: {peak} of {announced} bytes",
            output.kind.to_string(),
            output.size,
        );
        assert!(
            peak <= announced,
            "{name} {output:?}: {peak} of {announced} bytes"
        );
    };
    // Where the matte is soft, colours are estimated.
    for output in [&whole, &white, &blur] {
        takes_what_is_announced("soft", &files[0].1, output, &soft);
    }
    refining_takes_what_it_says(1300, 1240);
    refining_takes_what_it_says(4000, 1024);
    let unsure = unsure();
    takes_what_is_announced("refined", &files[0].1, &refined(), &unsure);
    // A sharp shadow has a block for each pixel, which is most.
    let sharp = "x=9,blur=0".parse::<Shadow>().ok();
    let shadow = Output {
        shadow: sharp,
        ..of("white")
    };
    takes_what_is_announced("shadow", &files[0].1, &shadow, &soft);
    let deep = Output {
        depth: Depth::Source,
        profile: ColourProfile::Source,
        ..of("rgba")
    };
    let shaded = Output {
        shadow: sharp,
        ..deep.clone()
    };
    let resized = Output {
        size: Some(Size::Longest(2990)),
        ..deep.clone()
    };
    let of_name = |wanted: &str| {
        let found = files.iter().find(|(name, _)| name == wanted);
        in_p3(&found.unwrap().1)
    };
    let (png, tiff) = (of_name("rgba, 16 bits Png"), of_name("rgba, 16 bits Tiff"));
    takes_what_is_announced("16 bits, PNG", &png, &shaded, &soft);
    takes_what_is_announced("16 bits, PNG", &png, &resized, &soft);
    takes_what_is_announced("16 bits, TIFF", &tiff, &deep, &soft);
    for (i, (name, bytes)) in files.iter().enumerate() {
        let others = [
            &blur, &overlay, &stretched, &covering, &smaller, &cropped, &larger,
        ];
        // Outputs differ after decoding, where only transparency matters.
        let others = match (i, name.as_str()) {
            (0, _) | (_, "rgba Png") => &others[..],
            (_, "profile bomb") => &[],
            (_, name) if name.ends_with(" Png") => &[],
            _ => {
                decoding_takes_what_it_says(name, bytes);
                continue;
            }
        };
        for output in [&whole].iter().chain(others) {
            takes_what_is_announced(name, bytes, output, &matte);
        }
    }
}

/// A PNG with a profile of its own; other files as they are.
fn in_p3(file: &[u8]) -> Vec<u8> {
    const BEHIND_THE_HEADER: usize = 33;
    if !file.starts_with(b"\x89PNG") {
        return file.to_vec();
    }
    let donor = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/colour/deep-p3.png"
    ));
    let donor = donor.unwrap();
    let at = donor.windows(4).position(|name| name == b"iCCP").unwrap() - 4;
    let length = u32::from_be_bytes(donor[at..at + 4].try_into().unwrap()) as usize;
    let (head, rest) = file.split_at(BEHIND_THE_HEADER);
    [head, &donor[at..at + 12 + length], rest].concat()
}

/// A PNG of one pixel whose colour profile is 256 MB of zeros, some 250 KB of deflate.
fn profile_bomb() -> Vec<u8> {
    let mut file = Vec::new();
    let mut info = png::Info::with_size(1, 1);
    info.color_type = png::ColorType::Rgb;
    info.bit_depth = png::BitDepth::Eight;
    info.icc_profile = Some(vec![0; 256 << 20].into());
    let mut writer = png::Encoder::with_info(&mut file, info)
        .unwrap()
        .write_header()
        .unwrap();
    writer.write_image_data(&[1, 2, 3]).unwrap();
    writer.finish().unwrap();
    assert!(file.len() < 2 << 20);
    file
}
