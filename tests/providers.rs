//! The providers beside ONNX Runtime's own kernels, as far as they are here. `OpenVINO` comes with
//! set-up on x86-64; where it is missing its tests say so and check nothing.

mod harness;

use std::path::PathBuf;

use cutout::engine::Engine;
use cutout::engine::precision::{BOUND, Precision, PrecisionChoice, native_bf16};
use cutout::engine::provider::{Provider, ProviderChoice};
use cutout::engine::session::SessionConfig;
use cutout::engine::tensor::{Matte, Tensor, TensorData};
use cutout::error::Code;
use cutout::model;
use cutout::pipeline::decode::{self, Limits};
use cutout::pipeline::preprocess;
use harness::{cutout, file, run, told};

/// ONNX Runtime with `OpenVINO`, or `None` after saying that it is not here.
fn openvino() -> Option<PathBuf> {
    let library = file(".cache/lib/openvino/libonnxruntime.so");
    if library.exists() {
        return Some(library);
    }
    if cfg!(target_arch = "x86_64") {
        panic!("set-up brings OpenVINO to x86-64, and it is not in .cache/lib/openvino");
    }
    eprintln!("SKIPPED: no OpenVINO for this machine, nothing is checked");
    None
}

fn isnet(library: PathBuf, provider: ProviderChoice, precision: PrecisionChoice) -> SessionConfig {
    let manifest = model::find(model::DEFAULT, None).unwrap();
    let graph = model::verify(&manifest, &file(".cache/models")).unwrap();
    SessionConfig {
        provider,
        precision,
        ..SessionConfig::new(library, graph, manifest, 2)
    }
}

fn sample(name: &str) -> Tensor {
    let manifest = model::find(model::DEFAULT, None).unwrap();
    let limits = Limits::default();
    let bytes = std::fs::read(file(&format!("samples/{name}.jpg"))).unwrap();
    let header = decode::sniff(&bytes, &limits).unwrap();
    let photo = decode::decode(&bytes, &header, &limits).unwrap();
    preprocess::to_tensor(&photo, &manifest.input, &manifest.resize).unwrap()
}

async fn matte(engine: &Engine, tensor: Tensor) -> Matte {
    let answer = engine.infer(tensor, Box::new(()), Box::new(()));
    answer.await.unwrap().matte
}

/// Mean difference, and the share of values that differ by more than a level of 255.
fn difference(a: &Matte, b: &Matte) -> (f64, f64) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let count = a.values.len() as f64;
    let differences = || {
        a.values
            .iter()
            .zip(&b.values)
            .map(|(a, b)| f64::from((a - b).abs()))
    };
    let off = differences().filter(|d| *d > 1.0 / 255.0).count();
    (differences().sum::<f64>() / count, off as f64 / count)
}

#[tokio::test(flavor = "multi_thread")]
async fn openvino_answers_as_onnx_runtimes_own_kernels_do() {
    let Some(library) = openvino() else { return };
    // The build with OpenVINO has the plain kernels too, and a process can load one build only.
    let start = |provider, precision| Engine::start(isnet(library.clone(), provider, precision));
    let plain = start(ProviderChoice::Cpu, PrecisionChoice::Auto)
        .await
        .unwrap();
    assert_eq!(plain.info().provider, Provider::Cpu);
    let expected = matte(&plain, sample("cat")).await;
    drop(plain);

    let exact = start(ProviderChoice::OpenVino, PrecisionChoice::F32)
        .await
        .unwrap();
    assert_eq!(exact.info().provider, Provider::OpenVino);
    assert_eq!(exact.info().precision, Precision::F32);
    let (mean, off) = difference(&matte(&exact, sample("cat")).await, &expected);
    println!("f32: mean {mean:.2e}, off {off:.5}");
    assert!(mean < 1e-4 && off == 0.0, "f32: {mean} {off}");
    drop(exact);

    let short = start(ProviderChoice::OpenVino, PrecisionChoice::Bf16).await;
    if !native_bf16() {
        assert_eq!(short.err().unwrap().code(), Code::ProviderUnavailable);
        eprintln!("SKIPPED: this CPU has no bf16, its mattes are not checked");
        return;
    }
    let short = short.unwrap();
    assert_eq!(short.info().precision, Precision::Bf16);
    let (mean, off) = difference(&matte(&short, sample("cat")).await, &expected);
    println!("bf16: mean {mean:.2e}, off {off:.5}");
    assert!(mean <= BOUND.mean && off <= BOUND.off, "bf16: {mean} {off}");
    assert!(mean > 1e-6, "that was not computed in bf16");
}

#[tokio::test(flavor = "multi_thread")]
async fn openvino_takes_photos_of_every_size() {
    let Some(library) = openvino() else { return };
    let models = file("tests/fixtures/home/models");
    let manifest = model::find(models.join("brightness.toml").to_str().unwrap(), None).unwrap();
    let graph = model::verify(&manifest, &models).unwrap();
    let engine = Engine::start(SessionConfig {
        provider: ProviderChoice::OpenVino,
        ..SessionConfig::new(library, graph, manifest, 2)
    })
    .await
    .unwrap();
    for (width, height) in [(64u32, 64u32), (96, 32), (32, 160), (384, 384), (64, 64)] {
        let values: Vec<u8> = (0..width * height).map(|i| (i * 7 % 251) as u8).collect();
        let tensor = Tensor {
            width,
            height,
            data: TensorData::NhwcU8(values.iter().flat_map(|v| [*v; 3]).collect()),
        };
        let answer = matte(&engine, tensor).await;
        assert_eq!((answer.width, answer.height), (width, height));
        for (value, grey) in answer.values.iter().zip(&values) {
            assert!((value - f32::from(*grey) / 250.0).abs() < 1e-4);
        }
    }
}

/// What a newcomer gets, who says nothing about providers.
#[test]
fn unasked_the_program_chooses_and_says_what_it_chose() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("cat.png");
    let mut command = cutout();
    command
        .env_remove("CUTOUT_PROVIDER")
        .env("CUTOUT_LOG_FORMAT", "json")
        .args(["remove", "-o"])
        .arg(&out)
        .arg(file("samples/cat.jpg"));
    let output = run(&mut command);
    assert!(output.status.success(), "{}", told(&output));
    let expected = if openvino().is_some() {
        "openvino"
    } else {
        "cpu"
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(&format!("provider auto: chose {expected}")),
        "{said}"
    );
    let picture = image::open(&out).unwrap().into_rgba8();
    let (inside, corner) = (picture.get_pixel(225, 200), picture.get_pixel(2, 2));
    assert!(inside[3] > 250 && corner[3] < 5, "{inside:?} {corner:?}");
}

#[test]
fn a_provider_that_is_not_here_is_an_error_that_says_what_to_do() {
    for (provider, library) in [
        ("cuda", "libonnxruntime_providers_cuda.so"),
        ("tensorrt", "libonnxruntime_providers_tensorrt.so"),
    ] {
        let output = run(cutout().args(["model", "check", "--provider", provider]));
        assert!(!output.status.success());
        let said = told(&output);
        for word in ["provider_unavailable", library, "--provider cpu"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}

#[test]
fn what_a_provider_cannot_do_is_refused_at_start() {
    let output = run(cutout().args(["model", "check", "--provider", "cpu", "--precision", "bf16"]));
    let said = told(&output);
    assert!(
        !output.status.success() && said.contains("provider_unavailable"),
        "{said}"
    );
    assert!(said.contains("openvino"), "{said}");
    let output = run(cutout()
        .env("INSPIRENET_MODE", "base")
        .args(["config", "--cuda-graphs=perhaps"]));
    assert!(!output.status.success());
}
