//! The engine and the whole road of a photo, on real graphs of any size (`tests/parity/make_graphs.py`)
//! whose answer is known: the photo's brightness, stretched to 0…1.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cutout::engine::Engine;
use cutout::engine::session::SessionConfig;
use cutout::engine::tensor::{Matte, Tensor, TensorData};
use cutout::error::{Code, Result};
use cutout::job::{Kind, Output};
use cutout::model;
use cutout::model::manifest::Resize;
use cutout::pipeline::budget::Budget;
use cutout::pipeline::cpu::CpuPool;
use cutout::pipeline::cutout::{Charged, Cutter, Order};
use cutout::pipeline::decode::Limits;
use cutout::pipeline::presence::Presence;
use cutout::telemetry::metrics::Metrics;
use proptest::prelude::*;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

async fn engine(network: &str, resize: Resize) -> Result<Engine> {
    let models = file("tests/fixtures/home/models");
    let path = models.join(format!("{network}.toml"));
    let mut manifest = model::find(path.to_str().unwrap(), None)?;
    manifest.resize = resize;
    Engine::start(SessionConfig::new(
        file(".cache/lib/libonnxruntime.so"),
        model::verify(&manifest, &models)?,
        manifest,
        1,
    ))
    .await
}

const STATIC: Resize = Resize::Static {
    width: 64,
    height: 64,
};

/// transparent-background's rule, at a tenth of its size so that unoptimised code is done soon.
const DYNAMIC: Resize = Resize::Dynamic {
    short: 128,
    multiple: 32,
};

/// Grey values that differ from pixel to pixel.
fn pattern(width: u32, height: u32) -> Tensor {
    let pixels = (0..width * height).flat_map(|i| [(i * 7 % 251) as u8; 3]);
    Tensor {
        width,
        height,
        data: TensorData::NhwcU8(pixels.collect()),
    }
}

async fn answer(engine: &Engine, width: u32, height: u32) -> Matte {
    let inference = engine
        .infer(pattern(width, height), Box::new(()), Box::new(()))
        .await;
    inference.unwrap().matte
}

#[tokio::test]
async fn one_graph_answers_every_size_in_f32_and_in_u8() {
    let (floats, bytes) = (
        engine("brightness", STATIC).await.unwrap(),
        engine("brightness-u8", STATIC).await.unwrap(),
    );
    for (width, height) in [(64, 64), (96, 32), (32, 160), (384, 384), (1696, 1280)] {
        let wide = answer(&floats, width, height).await;
        let narrow = answer(&bytes, width, height).await;
        let TensorData::NhwcU8(pixels) = pattern(width, height).data else {
            unreachable!("the pattern is u8")
        };
        for matte in [&wide, &narrow] {
            assert_eq!((matte.width, matte.height), (width, height));
        }
        for (i, (f, b)) in wide.values.iter().zip(&narrow.values).enumerate() {
            let expected = f32::from(pixels[i * 3]) / 250.0;
            assert!((f - expected).abs() < 1e-5, "{width}x{height} at {i}: {f}");
            // Rounded to a level.
            assert!((b - expected).abs() <= 0.5001 / 255.0, "{i}: {b}");
        }
    }
}

#[tokio::test]
async fn an_output_that_is_no_matte_is_refused_at_start() {
    let error = engine("brightness-i64", STATIC).await.err().unwrap();
    assert_eq!(error.code(), Code::ModelInvalid);
    assert!(error.message().contains("f32 or u8"), "{error}");
}

fn cutter(engine: Engine) -> Cutter {
    Cutter {
        engine,
        memory: Budget::new(1 << 30),
        cpu: CpuPool::new(2),
        limits: Limits::default(),
        review: None,
        presence: Presence::default(),
        metrics: Metrics::new(),
    }
}

/// A photo that is dark on one side and light on the other, so that the mask is known.
fn halves(width: u32, height: u32) -> Bytes {
    let photo = image::RgbImage::from_fn(width, height, |x, y| {
        let light = if width >= height {
            x * 2 >= width
        } else {
            y * 2 >= height
        };
        image::Rgb([if light { 255 } else { 0 }; 3])
    });
    let mut file = std::io::Cursor::new(Vec::new());
    photo.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner().into()
}

async fn mask(cutter: &Cutter, width: u32, height: u32) -> image::GrayImage {
    let photo = Charged {
        bytes: halves(width, height),
        paid: None,
    };
    let output = Output {
        kind: Kind::Mask,
        ..Output::default()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let (encoded, _) = cutter
        .cut_out(Order::new(photo, &output, deadline))
        .await
        .unwrap();
    image::load_from_memory(&encoded.bytes).unwrap().to_luma8()
}

async fn check(cutter: &Cutter, width: u32, height: u32) {
    let mask = mask(cutter, width, height).await;
    assert_eq!(mask.dimensions(), (width, height));
    let (first, last) = (mask.as_raw()[0], *mask.as_raw().last().unwrap());
    // One pixel is as dark as it is light.
    let expected = if width.max(height) > 1 {
        (0, 255)
    } else {
        (0, 0)
    };
    assert_eq!((first, last), expected, "{width}x{height}");
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_of_every_shape_come_back_at_their_own_size() {
    for resize in [STATIC, DYNAMIC] {
        let cutter = cutter(engine("brightness", resize).await.unwrap());
        for (width, height) in [
            (1, 1),
            (1, 5000),
            (5000, 33),
            (2, 1),
            (31, 33),
            (640, 480),
            (480, 641),
        ] {
            check(&cutter, width, height).await;
        }
    }
}

#[test]
fn photos_of_any_size_come_back_at_that_size() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for resize in [STATIC, DYNAMIC] {
        let cutter = cutter(runtime.block_on(engine("brightness", resize)).unwrap());
        proptest!(ProptestConfig::with_cases(48), |(width in 1u32..400, height in 1u32..400)| {
            runtime.block_on(check(&cutter, width, height));
        });
    }
}
