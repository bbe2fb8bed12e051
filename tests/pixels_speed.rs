//! How long each step takes for a photo of 12 megapixels.
//!
//!     cargo test --release --test pixels_speed -- --ignored --nocapture

use std::io::Cursor;
use std::time::Instant;

use cutout::engine::tensor::Matte;
use cutout::job::Output;
use cutout::model::manifest::{Activation, InputSpec, Layout, MatteResize, OutputSpec, Resize};
use cutout::pipeline::decode::{Limits, decode, sniff};
use cutout::pipeline::{compose, encode, matte, preprocess};
use image::{ImageFormat, RgbImage};

/// A photo with smooth shapes and sensor noise, and the matte of an ellipse in it.
fn photo() -> Vec<u8> {
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as f32 / 32.0 - 4.0
    };
    let picture = RgbImage::from_fn(4032, 3024, |x, y| {
        let (x, y) = (x as f32 / 90.0, y as f32 / 70.0);
        let shade = 128.0 + 60.0 * x.sin() * y.cos() + 40.0 * (x * 7.0 + (y * 5.0).sin()).sin();
        image::Rgb(
            [
                shade + noise(),
                shade * 0.8 + noise(),
                255.0 - shade + noise(),
            ]
            .map(|c| c as u8),
        )
    });
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Jpeg).unwrap();
    file.into_inner()
}

fn ellipse() -> Matte {
    let values = (0..1024 * 1024).map(|i| {
        let (x, y) = (
            (i % 1024) as f32 / 512.0 - 1.0,
            (i / 1024) as f32 / 512.0 - 1.0,
        );
        ((0.6 - (x * x + y * y)) * 20.0).clamp(0.0, 1.0)
    });
    Matte {
        width: 1024,
        height: 1024,
        values: values.collect(),
    }
}

fn timed<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{name:32} {:7.1} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}

#[test]
#[ignore = "a measurement, not a check"]
fn twelve_megapixels_step_by_step() {
    let bytes = photo();
    let limits = Limits::default();
    let input = |layout| InputSpec {
        mean: [128.0; 3],
        std: [256.0; 3],
        ..InputSpec::new(layout)
    };
    let resize = Resize::Static {
        width: 1024,
        height: 1024,
    };
    let spec = OutputSpec {
        min_max: true,
        ..OutputSpec::new(Activation::Probability)
    };
    println!("JPEG of {} bytes", bytes.len());
    // The first round warms the thread pool up.
    for round in ["cold", "warm"] {
        println!("-- {round}");
        let header = timed("sniff", || sniff(&bytes, &limits).unwrap());
        let photo = timed("decode", || decode(&bytes, &header, &limits).unwrap());
        timed("to_tensor, nchw-f32", || {
            preprocess::to_tensor(&photo, &input(Layout::NchwF32), &resize).unwrap()
        });
        timed("to_tensor, nhwc-u8", || {
            preprocess::to_tensor(&photo, &input(Layout::NhwcU8), &resize).unwrap()
        });
        let mut matte = ellipse();
        timed("finish", || matte::finish(&mut matte, &spec).unwrap());
        let (w, h) = (photo.width, photo.height);
        timed("to_full_size, align corners", || {
            matte::to_full_size(
                &matte,
                w,
                h,
                MatteResize::BilinearAlignCorners,
                &Output::default(),
            )
        });
        let alpha = timed("to_full_size, bilinear", || {
            matte::to_full_size(&matte, w, h, MatteResize::Bilinear, &Output::default())
        });
        for kind in ["mask", "white", "blur", "overlay", "image:same.jpg", "rgba"] {
            let output = Output {
                kind: kind.parse().unwrap(),
                ..Output::default()
            };
            let (background, alpha) = (&photo, alpha.clone());
            let photo = photo.clone();
            let picture = timed(&format!("compose {kind}"), || {
                compose::compose(photo, alpha, &output, Some(background)).unwrap()
            });
            let encoded = timed(&format!("encode {kind} as png"), || {
                encode::encode(&picture, &output).unwrap()
            });
            println!("{:32} {:7.2} MB", "", encoded.bytes.len() as f64 / 1e6);
        }
    }
}
