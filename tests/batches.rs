//! Batches through the real runtime: who shares a run, what each gets, and what a failure costs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use cutout::engine::session::SessionConfig;
use cutout::engine::tensor::{Tensor, TensorData};
use cutout::engine::{Engine, Inference};
use cutout::error::Result;
use cutout::model;
use fail::FailScenario;
use futures::future::join_all;

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The network whose matte is the photo's brightness, four at once, on any size.
async fn engine() -> Engine {
    let models = file("tests/fixtures/home/models");
    let manifest = model::find(models.join("brightness.toml").to_str().unwrap(), None).unwrap();
    let graph = model::verify(&manifest, &models).unwrap();
    let library = file(".cache/lib/libonnxruntime.so");
    let config = SessionConfig {
        max_batch: 4,
        max_wait: Duration::from_secs(20),
        ..SessionConfig::new(library, graph, manifest, 1)
    };
    Engine::start(config).await.unwrap()
}

/// Half black, half white, so that the stretched matte is 0 and 1; mirrored for odd numbers.
fn halves(number: usize, width: u32) -> Tensor {
    let white_left = number % 2 == 1;
    let pixels = (0..width * 32).flat_map(|i| {
        let left = i % width < width / 2;
        [if left == white_left { 255 } else { 0 }; 3]
    });
    Tensor {
        width,
        height: 32,
        data: TensorData::NhwcU8(pixels.collect()),
    }
}

fn is_its_own(answer: &Inference, number: usize, width: u32) {
    assert_eq!((answer.matte.width, answer.matte.height), (width, 32));
    let first = if number % 2 == 1 { 1.0 } else { 0.0 };
    assert!((answer.matte.values[0] - first).abs() < 1e-5, "{number}");
    let last = answer.matte.values.last().unwrap();
    assert!((last - (1.0 - first)).abs() < 1e-5, "{number}");
}

/// Holds the first run up until dropped.
struct Held(Option<mpsc::Sender<()>>);

impl Held {
    async fn first_run(engine: &Engine) -> (Self, tokio::task::JoinHandle<Result<Inference>>) {
        let (go, held) = mpsc::channel::<()>();
        let (begun, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let held = Mutex::new(held);
        fail::cfg_callback("network_running", move || {
            begun.send(()).ok();
            // An error means that all may go.
            held.lock().unwrap().recv().ok();
        })
        .unwrap();
        let running = engine.infer(halves(0, 64), Box::new(()), Box::new(()));
        let running = tokio::spawn(running);
        seen.recv().await.unwrap();
        (Self(Some(go)), running)
    }

    fn let_go(mut self) {
        self.0.take();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_of_one_size_share_a_run_and_each_gets_its_own_matte() {
    let _scenario = FailScenario::setup();
    let engine = engine().await;
    let (held, running) = Held::first_run(&engine).await;
    // Asked for while the network is busy: six of one size, two of another.
    let widths = [64, 96, 64, 64, 64, 96, 64, 64];
    let asked: Vec<_> = widths
        .iter()
        .enumerate()
        .map(|(i, &width)| engine.infer(halves(i, width), Box::new(()), Box::new(())))
        .collect();
    held.let_go();
    running.await.unwrap().unwrap();
    let answers = join_all(asked).await;
    let mut runs = Vec::new();
    for (i, (answer, width)) in answers.into_iter().zip(widths).enumerate() {
        let answer = answer.unwrap();
        is_its_own(&answer, i, width);
        runs.extend(answer.run_of);
    }
    runs.sort_unstable();
    assert_eq!(runs, [2, 2, 4], "photos in each run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fails_is_run_one_by_one_and_nobody_pays_for_his_neighbour() {
    let _scenario = FailScenario::setup();
    let engine = engine().await;
    let (held, running) = Held::first_run(&engine).await;
    fail::cfg("batch_refused", "return").unwrap();
    let asked: Vec<_> = (0..4)
        .map(|i| engine.infer(halves(i, 64), Box::new(()), Box::new(())))
        .collect();
    held.let_go();
    running.await.unwrap().unwrap();
    for (i, answer) in join_all(asked).await.into_iter().enumerate() {
        is_its_own(&answer.unwrap(), i, 64);
    }
    assert!(engine.pulse().alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_given_up_leaves_its_batch_and_gives_its_memory_back() {
    let _scenario = FailScenario::setup();
    let engine = engine().await;
    let (held, running) = Held::first_run(&engine).await;
    let paid: Vec<Arc<()>> = (0..4).map(|_| Arc::new(())).collect();
    let mut asked: Vec<_> = paid
        .iter()
        .enumerate()
        .map(|(i, paid)| engine.infer(halves(i, 64), Box::new(()), Box::new(paid.clone())))
        .collect();
    // The other lane has taken all four by now, or will: either way one may still leave.
    drop(asked.remove(1));
    assert_eq!(Arc::strong_count(&paid[1]), 1);
    held.let_go();
    running.await.unwrap().unwrap();
    for (answer, number) in join_all(asked).await.into_iter().zip([0, 2, 3]) {
        is_its_own(&answer.unwrap(), number, 64);
    }
    for paid in paid {
        assert_eq!(Arc::strong_count(&paid), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_waits_for_those_that_are_being_prepared_and_a_lone_one_for_nobody() {
    let engine = engine().await;
    let lone = engine.infer(halves(1, 64), Box::new(()), Box::new(()));
    assert_eq!(lone.await.unwrap().run_of, Some(1));
    let coming = engine.announce();
    let first = engine.infer(halves(0, 64), Box::new(()), Box::new(()));
    let second = engine.infer(halves(1, 64), Box::new(()), Box::new(()));
    drop(coming);
    let (first, second) = tokio::join!(first, second);
    let (first, second) = (first.unwrap(), second.unwrap());
    is_its_own(&first, 0, 64);
    is_its_own(&second, 1, 64);
    assert_eq!((first.run_of, second.run_of), (Some(2), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_ends_when_nobody_holds_it() {
    let engine = engine().await;
    let pulse = engine.pulse().clone();
    assert!(pulse.alive());
    drop(engine);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while pulse.alive() {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
