//! Files made to cost more than they should, at the limits that a worker really has: 50 MiB and
//! 50 megapixels. Each is refused for good or becomes a picture, within the memory that its header
//! announced. What it costs is printed: `cargo test --test hostile -- --nocapture --test-threads 1`.
//!
//! Time is printed and not judged, since machines differ. `docs/operations.md` has the figures.

use std::io::Cursor;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cutout::error::{Class, Error};
use cutout::pipeline::decode::{Limits, SourceFormat, decode, sniff};
use image::{ImageFormat, RgbImage};

#[path = "hostile/bytes.rs"]
mod bytes;
#[cfg(any(feature = "heic", feature = "avif"))]
#[path = "hostile/heif.rs"]
mod heif;
#[path = "hostile/jpeg.rs"]
mod jpeg;
#[path = "support/memory.rs"]
mod memory;
#[path = "hostile/png.rs"]
mod png;
#[path = "hostile/simple.rs"]
mod simple;
#[path = "hostile/tiff.rs"]
mod tiff;
#[path = "hostile/webp.rs"]
mod webp;

use bytes::{Attack, Expect, cuts};
use memory::peak_of;

/// `--max-file-bytes` unless set otherwise.
const MAX_FILE: usize = 50 << 20;

/// What a file that its header refuses may take: metadata until it is too much, and tables.
const REFUSAL: u64 = 9 << 20;

/// Names, messages, a rayon thread's first job: what is allocated around the decoder.
const SLACK: u64 = 1 << 20;

/// Memory is counted for the whole process, so one test runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let noise = (x * 31 + y * 17).wrapping_mul(2_654_435_761) >> 28;
        image::Rgb([(x * 3) as u8, (y * 5) as u8, noise as u8 * 16])
    })
}

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// A valid file of 40×30 pixels, or 96×72 with transparency.
fn small(extension: &str) -> Vec<u8> {
    #[cfg(any(feature = "heic", feature = "avif"))]
    if let "heic" | "avif" = extension {
        return heif::fixture(&format!("alpha.{extension}"));
    }
    let format = ImageFormat::from_extension(extension).unwrap();
    encoded(&picture(40, 30), format)
}

/// A valid file of 12 megapixels.
fn big_jpeg() -> Vec<u8> {
    encoded(&picture(4000, 3000), ImageFormat::Jpeg)
}

/// What became of a file.
struct Cost {
    outcome: String,
    /// Whether it went as expected, and why not.
    wrong: Option<String>,
    peak: u64,
    sniffing: Duration,
    decoding: Duration,
}

fn is_permanent(error: &Error) -> Option<String> {
    (error.class() != Class::Permanent).then(|| format!("not permanent: {}", error.chain()))
}

fn cost(bytes: &[u8], expect: Expect) -> Cost {
    let limits = Limits::default();
    let begun = Instant::now();
    let (header, peak) = peak_of(|| sniff(bytes, &limits));
    let sniffing = begun.elapsed();
    let header = match header {
        Ok(header) => header,
        Err(error) => {
            let code = error.code().as_str();
            let expected = match expect {
                Expect::Header(expected) => code == expected,
                Expect::Either => true,
                _ => false,
            };
            let wrong = is_permanent(&error)
                .or_else(|| (!expected).then(|| error.chain().to_string()))
                .or_else(|| (peak > REFUSAL).then(|| format!("{peak} bytes to refuse it")));
            return Cost {
                outcome: format!("{code}, by its header"),
                wrong,
                peak,
                sniffing,
                decoding: Duration::ZERO,
            };
        }
    };
    let begun = Instant::now();
    let (photo, decode_peak) = peak_of(|| decode(bytes, &header, &limits));
    let decoding = begun.elapsed();
    let peak = peak.max(decode_peak);
    // The file itself has been paid for. A JPEG within a TIFF is copied out of it.
    let copied = match header.format {
        SourceFormat::Tiff => bytes.len() as u64,
        _ => 0,
    };
    let bound = header.decode_bytes() + copied + SLACK;
    let (outcome, wrong) = match photo {
        Err(error) => {
            let code = error.code().as_str();
            let expected = match expect {
                Expect::Pixels(expected) => code == expected,
                Expect::Either => true,
                _ => false,
            };
            let wrong =
                is_permanent(&error).or_else(|| (!expected).then(|| error.chain().to_string()));
            (code.to_owned(), wrong)
        }
        Ok(photo) => {
            let expected = matches!(expect, Expect::Picture | Expect::Either);
            let as_announced = (photo.width, photo.height) == header.upright_size()
                && photo.rgb.len() == photo.pixels() * 3;
            let wrong = (!expected || !as_announced).then(|| format!("a picture of {header:?}"));
            (format!("{}×{}", photo.width, photo.height), wrong)
        }
    };
    let wrong = wrong.or_else(|| {
        (peak > bound).then(|| format!("{peak} bytes where {bound} were announced: {header:?}"))
    });
    Cost {
        outcome,
        wrong,
        peak,
        sniffing,
        decoding,
    }
}

/// Decodes each, prints the table, and then says what went wrong.
fn survives(format: &str, attacks: Vec<Attack>) {
    let _turn = alone();
    // The pool's threads and the tables that are made once are no file's cost.
    for extension in ["jpg", "png"] {
        cost(&small(extension), Expect::Picture);
    }
    println!("| {format} | file | outcome | memory | header | pixels |");
    println!("|---|---:|---|---:|---:|---:|");
    let mut wrong = Vec::new();
    for Attack {
        name,
        bytes,
        expect,
    } in attacks
    {
        assert!(bytes.len() <= MAX_FILE, "{name} has {} bytes", bytes.len());
        let cost = cost(&bytes, expect);
        println!(
            "| {name} | {} | {} | {:.1} MiB | {:.0?} | {:.1?} |",
            bytesize::ByteSize(bytes.len() as u64),
            cost.outcome,
            cost.peak as f64 / f64::from(1 << 20),
            cost.sniffing,
            cost.decoding,
        );
        wrong.extend(cost.wrong.map(|why| format!("{name}: {why}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_beginning_of_a_file_is_refused_or_becomes_its_picture() {
    let _turn = alone();
    let mut wrong = Vec::new();
    let mut extensions = vec!["jpg", "png", "webp", "gif", "bmp", "tiff"];
    #[cfg(feature = "heic")]
    extensions.push("heic");
    #[cfg(feature = "avif")]
    extensions.push("avif");
    for extension in extensions {
        let whole = small(extension);
        assert_eq!(cost(&whole, Expect::Picture).wrong, None, "{extension}");
        for cut in cuts(&whole) {
            let cost = cost(cut, Expect::Either);
            let name = format!("{} of {} bytes of {extension}", cut.len(), whole.len());
            wrong.extend(cost.wrong.map(|why| format!("{name}: {why}")));
            // What can be seen of a cut file is not the photo: only marks of the end may be missing.
            if !cost.outcome.starts_with("image_corrupt")
                && !cost.outcome.starts_with("unsupported")
                && whole.len() - cut.len() > 12
            {
                wrong.push(format!("{name}: {}", cost.outcome));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn hostile_jpegs_cost_no_more_than_announced() {
    survives("JPEG", jpeg::attacks());
}

#[test]
fn hostile_pngs_cost_no_more_than_announced() {
    survives("PNG", png::attacks());
}

#[test]
fn hostile_webps_cost_no_more_than_announced() {
    survives("WebP", webp::attacks());
}

#[test]
fn hostile_gifs_cost_no_more_than_announced() {
    survives("GIF", simple::gifs());
}

#[test]
fn hostile_bmps_cost_no_more_than_announced() {
    survives("BMP", simple::bmps());
}

#[test]
fn hostile_tiffs_cost_no_more_than_announced() {
    survives("TIFF", tiff::attacks());
}

#[cfg(feature = "heic")]
#[test]
fn hostile_heics_cost_no_more_than_announced() {
    survives("HEIC", heif::heics());
}

#[cfg(feature = "avif")]
#[test]
fn hostile_avifs_cost_no_more_than_announced() {
    survives("AVIF", heif::avifs());
}
