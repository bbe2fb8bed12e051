//! The network's masks against those of an independent run in Python (`tests/reference/make_masks.py`).

mod harness;

use cutout::engine::Engine;
use cutout::engine::session::SessionConfig;
use cutout::job::Output;
use cutout::model;
use cutout::pipeline::decode::{self, Limits};
use cutout::pipeline::{matte, preprocess};
use harness::{file, likeness};

const SAMPLES: [&str; 5] = ["astronaut", "cameraman", "cat", "coffee", "rocket"];

fn grey(path: &str) -> image::GrayImage {
    image::open(file(path)).unwrap().to_luma8()
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_are_those_of_the_reference_at_the_networks_size_and_at_full_size() {
    let manifest = model::find(model::DEFAULT, None).unwrap();
    let home = file(".cache");
    let engine = Engine::start(SessionConfig::new(
        home.join("lib/libonnxruntime.so"),
        model::verify(&manifest, &home.join("models")).unwrap(),
        manifest.clone(),
        2,
    ))
    .await
    .unwrap();
    for name in SAMPLES {
        let limits = Limits::default();
        let bytes = std::fs::read(file(&format!("samples/{name}.jpg"))).unwrap();
        let header = decode::sniff(&bytes, &limits).unwrap();
        let photo = decode::decode(&bytes, &header, &limits).unwrap();
        let tensor = preprocess::to_tensor(&photo, &manifest.input, &manifest.resize).unwrap();
        let mut answer = engine
            .infer(tensor, Box::new(()), Box::new(()))
            .await
            .unwrap()
            .matte;
        matte::finish(&mut answer, &manifest.output).unwrap();

        let reference = grey(&format!("tests/fixtures/masks/{name}.mask1024.png"));
        assert_eq!((answer.width, answer.height), reference.dimensions());
        let ours: Vec<u8> = answer
            .values
            .iter()
            .map(|v| (v * 255.0).round() as u8)
            .collect();
        let (difference, iou) = likeness(&ours, reference.as_raw());
        println!("{name}: mask {difference:.4}/255, IoU {iou:.5}");
        assert!(
            difference <= 1.0,
            "{name}: mean difference {difference}/255"
        );

        let full = matte::to_full_size(
            &answer,
            photo.width,
            photo.height,
            manifest.output.resize,
            &Output::default(),
        );
        let reference = grey(&format!("tests/fixtures/masks/{name}.mask.png"));
        let (difference, iou) = likeness(&full, reference.as_raw());
        println!("{name}: full size {difference:.4}/255, IoU {iou:.5}");
        assert!(
            difference <= 1.0 && iou >= 0.99,
            "{name}: {difference}/255, IoU {iou}"
        );
    }
}
