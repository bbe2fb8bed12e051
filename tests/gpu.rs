//! CUDA and TensorRT, wherever a card is found. Where none is, each test says so and checks nothing.
//!
//! ```sh
//! CUTOUT_GPU_ORT_LIB=/path/to/onnxruntime-gpu/capi/libonnxruntime.so cargo test --test gpu
//! ```
//!
//! without the variable, `.cache/lib/gpu/libonnxruntime.so`. The weights are the embedded default's.

mod harness;

use std::path::PathBuf;

use cutout::engine::Engine;
use cutout::engine::provider::{Provider, ProviderChoice, ProviderOptions};
use cutout::engine::session::SessionConfig;
use cutout::engine::tensor::{Matte, Tensor, TensorData};
use cutout::model;
use cutout::side::gpu::Card;
use harness::file;

/// ONNX Runtime for CUDA on a machine with a card, or `None` after saying what is missing.
fn library() -> Option<PathBuf> {
    if let Err(missing) = Card::open(0) {
        eprintln!("SKIPPED: {missing}; nothing is checked");
        return None;
    }
    let library = std::env::var_os("CUTOUT_GPU_ORT_LIB")
        .map_or_else(|| file(".cache/lib/gpu/libonnxruntime.so"), PathBuf::from);
    if !library.exists() {
        eprintln!(
            "SKIPPED: a card is here, but not {}; set CUTOUT_GPU_ORT_LIB",
            library.display()
        );
        return None;
    }
    Some(library)
}

fn config(library: PathBuf, provider: ProviderChoice, network: &str) -> SessionConfig {
    let models = file("tests/fixtures/home/models");
    let (manifest, models) = if network == model::DEFAULT {
        (model::find(network, None).unwrap(), file(".cache/models"))
    } else {
        let path = models.join(format!("{network}.toml"));
        (model::find(path.to_str().unwrap(), None).unwrap(), models)
    };
    let graph = model::verify(&manifest, &models).unwrap();
    SessionConfig {
        provider,
        ..SessionConfig::new(library, graph, manifest, 2)
    }
}

/// Different from photo to photo, in the layout of ISNet.
fn planes(number: usize) -> Tensor {
    let values = (0..3 * 1024 * 1024).map(|i| ((i * 31 + number * 977) % 251) as f32 / 251.0 - 0.5);
    Tensor {
        width: 1024,
        height: 1024,
        data: TensorData::NchwF32(values.collect()),
    }
}

fn grey(number: usize, width: u32) -> Tensor {
    let pixels = (0..width * 32).flat_map(|i| [((i as usize * 7 + number * 13) % 251) as u8; 3]);
    Tensor {
        width,
        height: 32,
        data: TensorData::NhwcU8(pixels.collect()),
    }
}

async fn matte(engine: &Engine, tensor: Tensor) -> Matte {
    let answer = engine.infer(tensor, Box::new(()), Box::new(()));
    answer.await.unwrap().matte
}

fn alike(a: &Matte, b: &Matte, within: f32) {
    let count = a.values.len() as f32;
    let sum: f32 = a
        .values
        .iter()
        .zip(&b.values)
        .map(|(a, b)| (a - b).abs())
        .sum();
    assert!(sum / count < within, "mean difference {}", sum / count);
}

#[tokio::test(flavor = "multi_thread")]
async fn cuda_answers_as_the_cpu_does() {
    let Some(library) = library() else { return };
    let start = |provider| Engine::start(config(library.clone(), provider, model::DEFAULT));
    let (cpu, cuda) = (
        start(ProviderChoice::Cpu).await.unwrap(),
        start(ProviderChoice::Cuda).await.unwrap(),
    );
    assert_eq!(cuda.info().provider, Provider::Cuda);
    for number in 0..3 {
        let (a, b) = (planes(number), planes(number));
        alike(&matte(&cpu, a).await, &matte(&cuda, b).await, 2e-3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_through_pinned_memory_keep_each_photos_matte_apart() {
    let Some(library) = library() else { return };
    let engine = Engine::start(config(library, ProviderChoice::Cuda, "brightness"))
        .await
        .unwrap();
    assert_eq!(engine.info().max_batch, 4);
    let coming = engine.announce();
    let asked: Vec<_> = (0..24)
        .map(|i| {
            engine.infer(
                grey(i, 64 + 32 * (i as u32 % 2)),
                Box::new(()),
                Box::new(()),
            )
        })
        .collect();
    drop(coming);
    for (i, answer) in futures::future::join_all(asked)
        .await
        .into_iter()
        .enumerate()
    {
        let matte = answer.unwrap().matte;
        assert_eq!(matte.width, 64 + 32 * (i as u32 % 2));
        for (pixel, value) in matte.values.iter().enumerate() {
            let expected = ((pixel * 7 + i * 13) % 251) as f32 / 250.0;
            assert!((value - expected).abs() < 1e-3, "photo {i}, pixel {pixel}");
        }
    }
}

/// A binding keeps what it once put the matte into: another shape must not come out in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_photo_on_its_side_gets_a_matte_on_its_side() {
    let Some(library) = library() else { return };
    let engine = Engine::start(config(library, ProviderChoice::Cuda, "brightness"))
        .await
        .unwrap();
    // Each lane gets each shape.
    for _ in 0..4 {
        for (width, height) in [(64, 32), (32, 64), (96, 32)] {
            let pixels = (0..width * height).flat_map(|i| [(i % 251) as u8; 3]);
            let tensor = Tensor {
                width,
                height,
                data: TensorData::NhwcU8(pixels.collect()),
            };
            let matte = matte(&engine, tensor).await;
            assert_eq!((matte.width, matte.height), (width, height));
            for (pixel, value) in matte.values.iter().enumerate() {
                let expected = (pixel % 251) as f32 / 250.0;
                assert!((value - expected).abs() < 1e-3, "{width}x{height}, {pixel}");
            }
        }
    }
}

/// A replayed graph reads its input from one address: a photo must not get its neighbour's matte.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_cuda_graph_sees_the_new_photo() {
    let Some(library) = library() else { return };
    let plain = config(library, ProviderChoice::Cuda, model::DEFAULT);
    let graphs = SessionConfig {
        options: ProviderOptions {
            cuda_graphs: true,
            ..plain.options.clone()
        },
        ..plain.clone()
    };
    let (plain, graphs) = (
        Engine::start(plain).await.unwrap(),
        Engine::start(graphs).await.unwrap(),
    );
    for number in 0..4 {
        let (a, b) = (planes(number), planes(number));
        alike(&matte(&plain, a).await, &matte(&graphs, b).await, 1e-4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tensorrt_keeps_its_engines_and_answers_as_cuda_does() {
    let Some(library) = library() else { return };
    if !library
        .with_file_name("libonnxruntime_providers_tensorrt.so")
        .exists()
    {
        eprintln!("SKIPPED: no TensorRT here; nothing is checked");
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let plain = config(library, ProviderChoice::Cuda, model::DEFAULT);
    let built = SessionConfig {
        provider: ProviderChoice::TensorRt,
        options: ProviderOptions {
            engine_cache: Some(cache.path().to_owned()),
            ..plain.options.clone()
        },
        ..plain.clone()
    };
    let (plain, built) = (
        Engine::start(plain).await.unwrap(),
        Engine::start(built).await.unwrap(),
    );
    alike(
        &matte(&plain, planes(1)).await,
        &matte(&built, planes(1)).await,
        2e-3,
    );
    assert!(std::fs::read_dir(cache.path()).unwrap().next().is_some());
}
