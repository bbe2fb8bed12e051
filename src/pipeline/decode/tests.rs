use image::metadata::Orientation;
use image::{
    DynamicImage, GrayAlphaImage, GrayImage, ImageBuffer, ImageFormat, RgbImage, RgbaImage,
};
use proptest::prelude::*;

use super::*;
use crate::job::{ColourProfile, Depth, KeepMetadata};
use crate::pipeline::fixtures::{self, difference, file};

fn open(bytes: &[u8]) -> Result<Photo> {
    let limits = Limits::default();
    let header = sniff(bytes, &limits)?;
    // Not through the net that catches panics: the tests want to see them.
    decode_pixels(bytes, &header, &limits, &Wanted::default()).map(|kept| kept.photo)
}

fn code<T>(result: Result<T>) -> (Code, String) {
    let error = result.err().expect("this must not be accepted");
    (error.code(), error.message().to_owned())
}

fn rgb_picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_raw(width, height, fixtures::photo(width, height).rgb).unwrap()
}

/// A PNG by the `png` crate, for the variants that `image` does not write.
fn png(
    color: png::ColorType,
    depth: png::BitDepth,
    size: (u32, u32),
    data: &[u8],
    prepare: impl Fn(&mut png::Info<'_>),
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut info = png::Info::with_size(size.0, size.1);
    info.color_type = color;
    info.bit_depth = depth;
    prepare(&mut info);
    let encoder = png::Encoder::with_info(&mut file, info).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    file
}

#[test]
fn lossless_formats_give_back_their_pixels() {
    let picture = DynamicImage::ImageRgb8(rgb_picture(33, 17));
    for format in [
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ] {
        let photo = open(&file(&picture, format)).unwrap();
        assert_eq!((photo.width, photo.height), (33, 17), "{format:?}");
        assert_eq!(photo.rgb, picture.as_bytes(), "{format:?}");
        assert_eq!(photo.alpha, None, "{format:?}");
    }
}

#[test]
fn transparency_is_kept_straight_and_apart_from_colour() {
    let rgba = RgbaImage::from_fn(5, 3, |x, y| {
        image::Rgba([200, x as u8, y as u8, (x * 60) as u8])
    });
    let colour: Vec<u8> = rgba
        .pixels()
        .flat_map(|p| [p.0[0], p.0[1], p.0[2]])
        .collect();
    let alpha: Vec<u8> = rgba.pixels().map(|p| p.0[3]).collect();
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff] {
        let photo = open(&file(&rgba.clone().into(), format)).unwrap();
        assert_eq!(photo.rgb, colour, "{format:?}");
        assert_eq!(photo.alpha.as_ref(), Some(&alpha), "{format:?}");
    }
    let grey = GrayAlphaImage::from_fn(2, 1, |x, _| image::LumaA([90, 255 * x as u8]));
    let photo = open(&file(&grey.into(), ImageFormat::Png)).unwrap();
    assert_eq!((photo.rgb, photo.alpha), (vec![90; 6], Some(vec![0, 255])));
}

#[test]
fn grey_palette_and_sixteen_bit_pngs_become_eight_bit_rgb() {
    use png::{BitDepth, ColorType};
    let grey = GrayImage::from_raw(3, 1, vec![0, 77, 255]).unwrap();
    let photo = open(&file(&grey.into(), ImageFormat::Png)).unwrap();
    assert_eq!(photo.rgb, [0, 0, 0, 77, 77, 77, 255, 255, 255]);

    // Four palette entries at two bits a pixel, the last one half transparent.
    let indexed = png(
        ColorType::Indexed,
        BitDepth::Two,
        (4, 1),
        &[0b00_01_10_11],
        |info| {
            info.palette = Some(vec![1, 2, 3, 10, 20, 30, 40, 50, 60, 7, 8, 9].into());
            info.trns = Some(vec![255, 255, 255, 128].into());
        },
    );
    let photo = open(&indexed).unwrap();
    assert_eq!(photo.rgb, [1, 2, 3, 10, 20, 30, 40, 50, 60, 7, 8, 9]);
    assert_eq!(photo.alpha, Some(vec![255, 255, 255, 128]));

    // To nearest, not cut off: 0x80ff / 257 = 128.494, 0x8101 / 257 = 128.502.
    let deep = [0x12, 0x34, 0x80, 0xff, 0xff, 0xff];
    let photo = open(&png(
        ColorType::Rgb,
        BitDepth::Sixteen,
        (1, 1),
        &deep,
        |_| {},
    ))
    .unwrap();
    assert_eq!(photo.rgb, [18, 128, 255]);
    let photo = open(&png(
        ColorType::Rgb,
        BitDepth::Sixteen,
        (1, 1),
        &[0x80, 0xff, 0x81, 0x00, 0x81, 0x01],
        |_| {},
    ))
    .unwrap();
    assert_eq!(photo.rgb, [128, 128, 129]);
}

#[test]
fn sixteen_bit_alpha_and_floating_point_tiffs_are_read() {
    let deep = ImageBuffer::from_raw(1, 1, vec![65_535u16, 257, 0, 32_896]).unwrap();
    let deep = DynamicImage::ImageRgba16(deep);
    let photo = open(&file(&deep, ImageFormat::Png)).unwrap();
    assert_eq!((photo.rgb, photo.alpha), (vec![255, 1, 0], Some(vec![128])));
    let float = ImageBuffer::from_raw(1, 1, vec![1.5f32, 0.5, -1.0]).unwrap();
    let photo = open(&file(&DynamicImage::ImageRgb32F(float), ImageFormat::Tiff)).unwrap();
    assert_eq!(photo.rgb, [255, 128, 0]);
}

#[test]
fn a_gif_gives_its_first_frame() {
    let mut bytes = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        for colour in [[255, 0, 0, 255], [0, 0, 255, 255]] {
            let frame = RgbaImage::from_pixel(6, 4, image::Rgba(colour));
            encoder.encode_frame(image::Frame::new(frame)).unwrap();
        }
    }
    let photo = open(&bytes).unwrap();
    assert_eq!((photo.width, photo.height), (6, 4));
    assert_eq!(photo.rgb, [255, 0, 0].repeat(24));
}

#[test]
fn jpegs_come_out_upright_and_as_pillow_decodes_them() {
    for name in ["turned", "turned_progressive"] {
        let bytes = fixtures::read(&format!("{name}.jpg"));
        let header = sniff(&bytes, &Limits::default()).unwrap();
        assert_eq!((header.width, header.height), (128, 96));
        assert_eq!(header.orientation, Orientation::Rotate90);
        assert_eq!(header.upright_size(), (96, 128));
        let photo = open(&bytes).unwrap();
        let expected = fixtures::rgb(&format!("{name}.png"));
        assert_eq!((photo.width, photo.height), expected.dimensions());
        // Inverse transforms and chroma interpolation differ by rounding between decoders.
        let differences = photo
            .rgb
            .iter()
            .zip(expected.as_raw())
            .map(|(a, b)| u32::from(a.abs_diff(*b)));
        let mean = f64::from(differences.sum::<u32>()) / photo.rgb.len() as f64;
        assert!(mean < 0.6, "{name}: {mean}");
        assert!(difference(&photo.rgb, &expected) <= 6, "{name}");
    }
}

#[test]
fn cmyk_and_ycck_jpegs_look_as_in_pillow() {
    for name in ["cmyk", "ycck"] {
        let photo = open(&fixtures::read(&format!("{name}.jpg"))).unwrap();
        let expected = fixtures::rgb(&format!("{name}.png"));
        let worst = difference(&photo.rgb, &expected);
        assert!(worst <= 4, "{name}: {worst}");
    }
}

#[test]
fn embedded_profiles_are_honoured_as_littlecms_does() {
    let photo = open(&fixtures::read("p3.png")).unwrap();
    let unmanaged = fixtures::rgb("p3.png");
    let expected = fixtures::rgb("p3_srgb.png");
    let worst = difference(&photo.rgb, &expected);
    assert!(worst <= 2, "{worst}");
    assert!(
        difference(&unmanaged, &expected) > 20,
        "the fixture shows no difference"
    );

    let photo = open(&fixtures::read("cmyk_icc.jpg")).unwrap();
    let expected = fixtures::rgb("cmyk_icc.png");
    let apart = |levels: u8| {
        let pairs = photo.rgb.iter().zip(expected.as_raw());
        pairs.filter(|(a, b)| a.abs_diff(**b) > levels).count()
    };
    // JPEG decoders differ by a level; a few dark colours at the rim of sRGB, where the curve is
    // steep, differ by more, as they do between LittleCMS's own modes.
    assert!(
        apart(4) * 50 < photo.rgb.len(),
        "{} of {}",
        apart(4),
        photo.rgb.len()
    );
    assert_eq!(apart(24), 0);
    let plain = open(&fixtures::read("cmyk.jpg")).unwrap();
    assert!(
        difference(&plain.rgb, &expected) > 50,
        "the fixture shows no difference"
    );
}

#[test]
fn a_grey_profile_bends_grey_pixels() {
    let icc = moxcms::ColorProfile::new_gray_with_gamma(1.0)
        .encode()
        .unwrap();
    let levels: Vec<u8> = (0..=255).collect();
    let linear = png(
        png::ColorType::Grayscale,
        png::BitDepth::Eight,
        (256, 1),
        &levels,
        |info| {
            info.icc_profile = Some(icc.clone().into());
        },
    );
    let photo = open(&linear).unwrap();
    // Linear 0.5 is sRGB 188 (IEC 61966-2-1).
    assert!(
        photo.rgb[128 * 3].abs_diff(188) <= 1,
        "{}",
        photo.rgb[128 * 3]
    );
    assert_eq!((photo.rgb[0], photo.rgb[255 * 3]), (0, 255));
}

#[test]
fn broken_oversized_and_misplaced_profiles_are_ignored() {
    let picture = rgb_picture(8, 8);
    let cmyk = {
        let bytes = fixtures::read("cmyk_icc.jpg");
        let mut decoder =
            image::codecs::jpeg::JpegDecoder::new(std::io::Cursor::new(bytes)).unwrap();
        image::ImageDecoder::icc_profile(&mut decoder)
            .unwrap()
            .unwrap()
    };
    let mut cut = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    cut.truncate(150);
    for icc in [
        b"not a profile".to_vec(),
        cut,
        cmyk,
        vec![0; 9 << 20],
        Vec::new(),
    ] {
        let bytes = png(
            png::ColorType::Rgb,
            png::BitDepth::Eight,
            (8, 8),
            &picture,
            |info| {
                info.icc_profile = Some(icc.clone().into());
            },
        );
        assert_eq!(
            open(&bytes).unwrap().rgb,
            *picture.as_raw(),
            "{} bytes",
            icc.len()
        );
    }
}

#[test]
fn a_profile_that_spells_srgb_leaves_pixels_untouched() {
    let icc = moxcms::ColorProfile::new_srgb().encode().unwrap();
    let picture = rgb_picture(64, 64);
    let bytes = png(
        png::ColorType::Rgb,
        png::BitDepth::Eight,
        (64, 64),
        &picture,
        |info| {
            info.icc_profile = Some(icc.clone().into());
        },
    );
    assert_eq!(open(&bytes).unwrap().rgb, *picture.as_raw());
}

#[test]
fn truncated_files_are_corrupt_and_never_half_a_photo() {
    let picture = DynamicImage::ImageRgb8(rgb_picture(300, 200));
    let mut files = vec![
        ("progressive JPEG", fixtures::read("turned_progressive.jpg")),
        ("4:2:0 JPEG", fixtures::read("turned.jpg")),
        ("CMYK JPEG", fixtures::read("cmyk.jpg")),
    ];
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
    ] {
        files.push((format.extensions_str()[0], file(&picture, format)));
    }
    for (name, bytes) in files {
        open(&bytes).unwrap_or_else(|error| panic!("{name} whole: {}", error.chain()));
        for percent in [10, 50, 80, 95] {
            let cut = &bytes[..bytes.len() * percent / 100];
            let (code, message) = code(open(cut));
            assert_eq!(code, Code::ImageCorrupt, "{name} at {percent} %: {message}");
        }
    }
}

#[test]
fn a_jpeg_that_lost_its_last_bytes_is_corrupt_and_one_with_bytes_behind_it_is_not() {
    let own = file(
        &DynamicImage::ImageRgb8(rgb_picture(300, 200)),
        ImageFormat::Jpeg,
    );
    for (name, bytes) in [
        ("4:4:4", own),
        ("4:2:0", fixtures::read("turned.jpg")),
        ("progressive", fixtures::read("turned_progressive.jpg")),
        ("CMYK", fixtures::read("cmyk.jpg")),
        ("YCCK", fixtures::read("ycck.jpg")),
    ] {
        // What cameras append (a video, a second picture) is no part of the photo.
        open(&[bytes.as_slice(), &[0x5a; 3000]].concat()).unwrap();
        for lost in 1..120 {
            let (code, message) = code(open(&bytes[..bytes.len() - lost]));
            assert_eq!(
                code,
                Code::ImageCorrupt,
                "{name}, {lost} bytes lost: {message}"
            );
        }
    }
}

#[test]
fn damaged_pixels_are_corrupt() {
    let picture = DynamicImage::ImageRgb8(rgb_picture(64, 64));
    let mut bytes = file(&picture, ImageFormat::Png);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    assert_eq!(code(open(&bytes)).0, Code::ImageCorrupt);
}

#[test]
fn what_is_no_photo_is_called_what_it_looks_like() {
    for (bytes, says) in [
        (b"Dear shop, here is my dog".as_slice(), "looks like text"),
        ("Žluťoučký kůň".as_bytes(), "looks like text"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"PK\x03\x04....", "ZIP"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\x01\0\x01\0", "Ico"),
        (b"\xde\xad\xbe\xef", "deadbeef"),
    ] {
        let (code, message) = code(sniff(bytes, &Limits::default()));
        assert_eq!(code, Code::UnsupportedFormat, "{message}");
        assert!(message.contains(says), "{message}");
    }
    for (start, format, is_built_in) in [
        (
            b"\0\0\0\x18ftypheic\0\0\0\0",
            "HEIC",
            cfg!(feature = "heic"),
        ),
        (
            b"\0\0\0\x18ftypavif\0\0\0\0",
            "AVIF",
            cfg!(feature = "avif"),
        ),
    ] {
        let (code, message) = code(sniff(start, &Limits::default()));
        if is_built_in {
            assert_eq!(code, Code::ImageCorrupt, "{message}");
        } else {
            assert_eq!(code, Code::UnsupportedFormat, "{message}");
            let feature = format!("builds with the feature {}", format.to_lowercase());
            assert!(message.contains(&feature), "{message}");
        }
    }
    let (empty, message) = code(sniff(b"", &Limits::default()));
    assert_eq!(empty, Code::ImageCorrupt);
    assert!(message.contains("empty"), "{message}");
    for start in [
        b"\xff\xd8\xff".as_slice(),
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"RIFF\0\0\0\0WEBP",
    ] {
        let (broken, message) = code(sniff(start, &Limits::default()));
        assert_eq!(broken, Code::ImageCorrupt, "{message}");
    }
}

#[test]
fn a_tiff_of_jpegs_is_read_and_reserves_memory_for_them() {
    let bytes = include_bytes!("../../../fuzz/corpus/decode/jpeg.tiff");
    let limits = Limits::default();
    let header = sniff(bytes, &limits).unwrap();
    assert!(header.in_jpeg);
    let photo = decode(bytes, &header, &limits).unwrap();
    assert_eq!((photo.width, photo.height), (24, 18));
    let raw = Header {
        in_jpeg: false,
        ..header.clone()
    };
    assert!(header.decode_bytes() > raw.decode_bytes());
}

#[test]
fn bombs_are_refused_by_their_header() {
    // A PNG of 30000×30000 in a few hundred bytes: header and an empty IDAT are enough.
    let mut bomb = Vec::new();
    let mut encoder = png::Encoder::new(&mut bomb, 30_000, 30_000);
    encoder.set_color(png::ColorType::Rgba);
    let mut writer = encoder.write_header().unwrap();
    writer.write_chunk(png::chunk::IDAT, &[]).unwrap();
    drop(writer);
    let (too_large, message) = code(sniff(&bomb, &Limits::default()));
    assert_eq!(too_large, Code::ImageTooLarge);
    assert!(
        message.contains("30000×30000") && message.contains("50.0 megapixels"),
        "{message}"
    );

    // The sizes of a JPEG's frame header, overwritten.
    let mut bomb = fixtures::read("turned.jpg");
    let frame = bomb.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    bomb[frame + 5..frame + 9].fill(0xff);
    let (too_large, message) = code(sniff(&bomb, &Limits::default()));
    assert_eq!(too_large, Code::ImageTooLarge);
    assert!(
        message.contains("65535×65535") && message.contains("32768"),
        "{message}"
    );

    let tight = Limits {
        max_pixels: 128 * 96 - 1,
        ..Limits::default()
    };
    let bytes = fixtures::read("turned.jpg");
    assert_eq!(code(sniff(&bytes, &tight)).0, Code::ImageTooLarge);
    let fits = Limits {
        max_pixels: 128 * 96,
        max_side: 128,
    };
    sniff(&bytes, &fits).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_size_survives_png_and_jpeg(width in 1u32..70, height in 1u32..70) {
        let picture = DynamicImage::ImageRgb8(rgb_picture(width, height));
        let photo = open(&file(&picture, ImageFormat::Png)).unwrap();
        prop_assert_eq!(&photo.rgb[..], picture.as_bytes());
        let photo = open(&file(&picture, ImageFormat::Jpeg)).unwrap();
        prop_assert_eq!((photo.width, photo.height), (width, height));
        prop_assert_eq!(photo.rgb.len(), photo.pixels() * 3);
    }

    #[test]
    fn any_bytes_behind_any_signature_never_panic(
        start in prop::sample::select(vec![
            b"\xff\xd8\xff".as_slice(), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"GIF89a", b"BM", b"II*\0",
            b"MM\0*", b"RIFF\x40\0\0\0WEBPVP8L", b"RIFF\x40\0\0\0WEBPVP8X",
            b"\0\0\0\x10ftypheic\0\0\0\0\0\0\x01\0meta\0\0\0\0", b"",
        ]),
        rest in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let _ = open(&[start, &rest].concat());
    }

    #[test]
    fn a_flipped_byte_is_an_error_or_a_photo_of_the_same_size(
        which in 0usize..11, at in any::<prop::sample::Index>(), value in any::<u8>(),
        keeps_all in any::<bool>(),
    ) {
        let picture = DynamicImage::ImageRgb8(rgb_picture(24, 16));
        let mut bytes = match which {
            0 => fixtures::read("turned_progressive.jpg"),
            1 => fixtures::read("ycck.jpg"),
            2 => file(&picture, ImageFormat::Png),
            3 => file(&picture, ImageFormat::WebP),
            4 => file(&picture, ImageFormat::Gif),
            5 => file(&picture, ImageFormat::Bmp),
            6 => include_bytes!("../../../tests/fixtures/heif/alpha.heic").to_vec(),
            7 => include_bytes!("../../../tests/fixtures/heif/alpha.avif").to_vec(),
            8 => include_bytes!("../../../tests/fixtures/heif/10-bits.heic").to_vec(),
            9 => include_bytes!("../../../tests/fixtures/heif/10-bits.avif").to_vec(),
            _ => file(&picture, ImageFormat::Tiff),
        };
        let at = at.index(bytes.len());
        bytes[at] = value;
        let limits = Limits { max_pixels: 1_000_000, ..Limits::default() };
        let wanted = match keeps_all {
            true => Wanted {
                profile: ColourProfile::Source,
                depth: Depth::Source,
                metadata: KeepMetadata::ExifWithLocation,
                dpi: 300,
            },
            false => Wanted::default(),
        };
        if let Ok(header) = sniff(&bytes, &limits)
            && let Ok(Kept { photo, deep, .. }) = decode_pixels(&bytes, &header, &limits, &wanted)
        {
            prop_assert!(deep.is_none_or(|deep| deep.rgb.len() == photo.rgb.len()));
            prop_assert_eq!((photo.width, photo.height), header.upright_size());
            prop_assert_eq!(photo.rgb.len(), photo.pixels() * 3);
        }
    }
}
