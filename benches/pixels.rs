//! How long each step takes for a photo of 12 megapixels, next to what could be used instead.
//! Figures: docs/benchmarks.md.
//!
//!     make bench-pixels

use std::io::Write;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use cutout::engine::tensor::Matte;
use cutout::job::Output;
use cutout::model::manifest::{Activation, InputSpec, Layout, MatteResize, OutputSpec, Resize};
use cutout::pipeline::compose::{Picture, compose};
use cutout::pipeline::decode::{Limits, Photo, decode, sniff};
use cutout::pipeline::encode::encode;
use cutout::pipeline::{matte, preprocess};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::codecs::jpeg::JpegEncoder;
use image::imageops;
use image::{ImageFormat, RgbImage};
use png::{DeflateCompression, Filter};
use rayon::prelude::*;

const WIDTH: u32 = 4032;
const HEIGHT: u32 = 3024;

/// What most networks take.
const SIDE: u32 = 1024;

/// What phones store photos with, about.
const JPEG_QUALITY: u8 = 90;

fn file(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A sample enlarged to 12 megapixels, with a sensor's noise in place of the detail that it lacks.
fn photo() -> Vec<u8> {
    let small = image::open(file("samples/cat.jpg")).unwrap().to_rgb8();
    let mut photo = imageops::resize(&small, WIDTH, HEIGHT, imageops::FilterType::CatmullRom);
    let mut state = 1u32;
    for sample in photo.iter_mut() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *sample = sample.saturating_add((state >> 29) as u8);
    }
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)
        .encode_image(&photo)
        .unwrap();
    jpeg
}

/// What the default network answers for it.
fn answer() -> Matte {
    let mask = image::open(file("tests/fixtures/masks/cat.mask1024.png"))
        .unwrap()
        .to_luma8();
    Matte {
        width: SIDE,
        height: SIDE,
        values: mask.iter().map(|&v| f32::from(v) / 255.0).collect(),
    }
}

/// With the photo's own colours, as what stands beside it has them.
fn of(kind: &str) -> Output {
    Output {
        kind: kind.parse().unwrap(),
        decontaminate: false,
        ..Output::default()
    }
}

fn input(layout: Layout) -> InputSpec {
    InputSpec {
        mean: [128.0; 3],
        std: [256.0; 3],
        ..InputSpec::new(layout)
    }
}

const RESIZE: Resize = Resize::Static {
    width: SIDE,
    height: SIDE,
};

fn decoded(jpeg: &[u8]) -> Photo {
    let limits = Limits::default();
    let header = sniff(jpeg, &limits).unwrap();
    decode(jpeg, &header, &limits).unwrap()
}

fn full_size(answer: &Matte, resize: MatteResize) -> Vec<u8> {
    matte::to_full_size(answer, WIDTH, HEIGHT, resize, &Output::default())
}

/// bench/jpeg_decoders.py measures libjpeg-turbo with the same file.
fn decoders(c: &mut Criterion, jpeg: &[u8]) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(WIDTH * HEIGHT)));
    group.bench_function("ours", |b| b.iter(|| decoded(jpeg)));
    group.bench_function("zune-jpeg alone", |b| {
        b.iter(|| {
            let options = zune_jpeg::zune_core::options::DecoderOptions::default();
            let jpeg = zune_jpeg::zune_core::bytestream::ZCursor::new(jpeg);
            zune_jpeg::JpegDecoder::new_with_options(jpeg, options)
                .decode()
                .unwrap()
        });
    });
    group.bench_function("image alone", |b| {
        b.iter(|| image::load_from_memory_with_format(jpeg, ImageFormat::Jpeg).unwrap());
    });
    group.finish();
}

fn tensors(c: &mut Criterion, photo: &Photo) {
    let mut group = c.benchmark_group("to_tensor");
    for (name, layout) in [("nchw-f32", Layout::NchwF32), ("nhwc-u8", Layout::NhwcU8)] {
        let input = input(layout);
        group.bench_function(name, |b| {
            b.iter(|| preprocess::to_tensor(photo, &input, &RESIZE).unwrap());
        });
    }
    // Both resize as nhwc-u8 does, but not to Pillow's last bit.
    group.bench_function("by fast_image_resize", |b| {
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .use_alpha(false);
        let source = TypedImageRef::<U8x3>::from_buffer(WIDTH, HEIGHT, &photo.rgb).unwrap();
        b.iter(|| {
            let mut target = TypedImage::<U8x3>::new(SIDE, SIDE);
            Resizer::new()
                .resize_typed(&source, &mut target, &options)
                .unwrap();
            target
        });
    });
    group.bench_function("by image", |b| {
        let source = RgbImage::from_raw(WIDTH, HEIGHT, photo.rgb.clone()).unwrap();
        b.iter(|| imageops::resize(&source, SIDE, SIDE, imageops::FilterType::Triangle));
    });
    group.finish();
}

fn mattes(c: &mut Criterion, answer: &Matte) {
    let mut group = c.benchmark_group("matte");
    let spec = OutputSpec {
        min_max: true,
        ..OutputSpec::new(Activation::Logit)
    };
    group.bench_function("finish", |b| {
        b.iter_batched_ref(
            || answer.clone(),
            |answer| matte::finish(answer, &spec).unwrap(),
            BatchSize::LargeInput,
        );
    });
    for (name, resize) in [
        ("to_full_size, bilinear", MatteResize::Bilinear),
        ("to_full_size, corners", MatteResize::BilinearAlignCorners),
        ("to_full_size, lanczos", MatteResize::Lanczos),
    ] {
        group.bench_function(name, |b| b.iter(|| full_size(answer, resize)));
    }
    // All that one pass over rows could save: the alpha in memory, filled and read once.
    group.bench_function("12 MB filled and read", |b| {
        b.iter(|| {
            let mut alpha = vec![0u8; (WIDTH * HEIGHT) as usize];
            let rows = WIDTH as usize;
            alpha
                .par_chunks_exact_mut(rows)
                .enumerate()
                .for_each(|(y, row)| row.fill(y as u8));
            alpha
                .par_chunks_exact(rows)
                .map(|row| row.iter().map(|&a| u32::from(a)).sum::<u32>())
                .sum::<u32>()
        });
    });
    group.finish();
}

fn composed(photo: &Photo, alpha: &[u8], output: &Output) -> Picture {
    compose(photo.clone(), alpha.to_vec(), output, None).unwrap()
}

fn compositions(c: &mut Criterion, photo: &Photo, alpha: &[u8]) {
    let mut group = c.benchmark_group("compose");
    let estimated = Output::default();
    let own = ["rgba", "mask", "white", "blur", "overlay"].map(|kind| (kind, of(kind)));
    for (name, output) in own
        .into_iter()
        .chain([("rgba, colours estimated", estimated)])
    {
        group.bench_function(name, |b| {
            b.iter_batched(
                || (photo.clone(), alpha.to_vec()),
                |(photo, alpha)| compose(photo, alpha, &output, None).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// As in `encode`, but with any compression.
fn png(pixels: &[u8], deflate: DeflateCompression, filter: Filter) -> Vec<u8> {
    let mut file = Vec::with_capacity(pixels.len() / 2 * 3);
    let mut encoder = png::Encoder::new(&mut file, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_deflate_compression(deflate);
    encoder.set_filter(filter);
    let mut header = encoder.write_header().unwrap();
    let mut stream = header.stream_writer_with_size(256 << 10).unwrap();
    stream.write_all(pixels).unwrap();
    stream.finish().unwrap();
    header.finish().unwrap();
    file
}

fn say_size(what: &str, file: &[u8]) {
    println!("{what}: {:.2} MB", file.len() as f64 / 1e6);
}

/// Times the making of a file and says how large it is.
fn bench_file<T: AsRef<[u8]>>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    make: impl Fn() -> T,
) {
    // Criterion calls this for each phase, and not at all where the filter leaves it out.
    let size = Once::new();
    group.bench_function(name, |b| {
        size.call_once(|| say_size(name, make().as_ref()));
        b.iter(&make);
    });
}

fn encoders(c: &mut Criterion, photo: &Photo, alpha: &[u8]) {
    let mut group = c.benchmark_group("encode");
    group.sample_size(10);
    for kind in ["rgba", "mask", "white", "blur"] {
        let output = of(kind);
        let picture = composed(photo, alpha, &output);
        bench_file(&mut group, kind, || {
            encode(&picture, &output).unwrap().bytes
        });
    }
    group.finish();

    let mut group = c.benchmark_group("png of a cut-out");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    let cleared = composed(photo, alpha, &of("rgba")).data;
    let mut kept = cleared.clone();
    for (pixel, colour) in kept
        .as_chunks_mut::<4>()
        .0
        .iter_mut()
        .zip(photo.rgb.as_chunks::<3>().0)
    {
        pixel[..3].copy_from_slice(colour);
    }
    let (fast, level) = (
        DeflateCompression::FdeflateUltraFast,
        DeflateCompression::Level,
    );
    for (deflate, filter, pixels, which) in [
        (fast, Filter::Up, &cleared, ""),
        (fast, Filter::Paeth, &cleared, ""),
        (
            fast,
            Filter::Paeth,
            &kept,
            ", colour kept where transparent",
        ),
        (fast, Filter::Adaptive, &cleared, ""),
        (level(1), Filter::Up, &cleared, ""),
        (level(1), Filter::Paeth, &cleared, ""),
        (level(2), Filter::Up, &cleared, ""),
        (level(2), Filter::Paeth, &cleared, ""),
        (
            level(2),
            Filter::Paeth,
            &kept,
            ", colour kept where transparent",
        ),
        (level(4), Filter::Paeth, &cleared, ""),
        (level(6), Filter::Paeth, &cleared, ""),
        (level(6), Filter::Adaptive, &cleared, ""),
    ] {
        let name = format!("{deflate:?}, {filter:?}{which}");
        bench_file(&mut group, &name, || png(pixels, deflate, filter));
    }
    group.finish();
}

/// All that is ours of a job's time: from the file to the file, without the network.
fn whole(c: &mut Criterion, jpeg: &[u8], answer: &Matte) {
    let mut group = c.benchmark_group("whole");
    group.sample_size(20);
    let input = input(Layout::NhwcU8);
    for kind in ["rgba", "white"] {
        let output = of(kind);
        group.bench_function(kind, |b| {
            b.iter(|| {
                let photo = decoded(jpeg);
                preprocess::to_tensor(&photo, &input, &RESIZE).unwrap();
                let alpha = full_size(answer, MatteResize::Bilinear);
                let picture = compose(photo, alpha, &output, None).unwrap();
                encode(&picture, &output).unwrap()
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().sample_size(30).configure_from_args();
    let jpeg = photo();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("photo-12mp.jpg");
    std::fs::write(&path, &jpeg).unwrap();
    say_size(&path.display().to_string(), &jpeg);
    let (photo, answer) = (decoded(&jpeg), answer());
    let alpha = full_size(&answer, MatteResize::Bilinear);
    let clear = alpha.iter().filter(|&&a| a == 0).count() as f64 / alpha.len() as f64;
    println!("transparent: {:.1} %", clear * 100.0);
    decoders(&mut criterion, &jpeg);
    tensors(&mut criterion, &photo);
    mattes(&mut criterion, &answer);
    compositions(&mut criterion, &photo, &alpha);
    encoders(&mut criterion, &photo, &alpha);
    whole(&mut criterion, &jpeg, &answer);
    criterion.final_summary();
}
