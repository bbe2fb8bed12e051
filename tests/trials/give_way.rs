//! A run of the shadow that is under way when a photo comes.

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use cutout::config::Place;
use cutout::engine::session::SessionConfig;
use cutout::engine::solo::{Ran, Solo};
use cutout::engine::tensor::{Matte, Tensor, TensorData};
use cutout::engine::{Engine, load_library};
use cutout::job::ModelUsed;
use cutout::model;
use cutout::pipeline::decode::Limits as PhotoLimits;
use cutout::pipeline::presence::Presence;
use cutout::shadow::{JobSeen, Limits, Loaded, Settings, Shadow, record};
use cutout::store::dir::DirStore;
use cutout::telemetry::labels::ShadowOutcome;
use cutout::telemetry::metrics::Metrics;
use fail::FailScenario;
use tokio_util::sync::CancellationToken;

use crate::harness::{PATIENCE, file};
use crate::home::{below, home};

fn session(home: &Path, network: &str) -> SessionConfig {
    let models = home.join("models");
    let manifest = model::find(network, Some(&models)).unwrap();
    let graph = model::verify(&manifest, &models).unwrap();
    SessionConfig::new(file(".cache/lib/libonnxruntime.so"), graph, manifest, 1)
}

#[test]
fn a_network_that_is_stopped_runs_again_when_that_is_lifted() {
    let home = home();
    let config = session(home.path(), "dim");
    let mut solo = Solo::load(&config).unwrap();
    let photo = || Tensor {
        width: 64,
        height: 64,
        data: TensorData::NhwcU8(vec![128; 64 * 64 * 3]),
    };
    assert!(matches!(solo.run(photo()).unwrap(), Ran::Matte(_)));
    solo.stop().now();
    assert!(matches!(solo.run(photo()).unwrap(), Ran::Stopped));
    solo.stop().lift();
    assert!(matches!(solo.run(photo()).unwrap(), Ran::Matte(_)));
}

/// A shadow of its own, which has everything offered to it.
struct Site {
    dir: tempfile::TempDir,
    _home: tempfile::TempDir,
    presence: Presence,
    metrics: Metrics,
    primary: Engine,
    shadow: Shadow,
}

impl Site {
    async fn new() -> Self {
        let (dir, home) = (tempfile::tempdir().unwrap(), home());
        let config = session(home.path(), "dim");
        load_library(&config.ort_library).unwrap();
        let (presence, metrics) = (Presence::default(), Metrics::new());
        let settings = Settings {
            share: "100%".parse().unwrap(),
            place: Place::parse("records", "--shadow-prefix", "x").unwrap(),
            folder: record::folder(&config.manifest),
            keep_above: 1.0,
            load_within: PATIENCE,
            limits: Limits {
                waiting: 4,
                memory: 64 << 20,
            },
        };
        let limits = PhotoLimits::default();
        let loaded = Loaded::start(config, &settings, presence.clone(), limits)
            .await
            .unwrap()
            .expect("it is loaded within the tests' patience");
        let store = Arc::new(DirStore::open(dir.path()).unwrap());
        let never = CancellationToken::new();
        Self {
            shadow: loaded.open(settings, store, metrics.clone(), &never),
            primary: Engine::start(session(home.path(), "brightness"))
                .await
                .unwrap(),
            dir,
            _home: home,
            presence,
            metrics,
        }
    }

    fn offer(&self, key: &str) {
        let photo: Bytes = std::fs::read(file("samples/cat.jpg")).unwrap().into();
        let candidate = self.shadow.consider(key, &photo, &self.primary).unwrap();
        let matte = Matte {
            width: 64,
            height: 64,
            values: vec![0.0; 64 * 64],
        };
        let job = JobSeen {
            job_id: key.into(),
            key: key.into(),
            source: "photos/cat.jpg#1".parse().unwrap(),
            arm: None,
            primary: ModelUsed {
                name: "brightness".into(),
                sha256: "00".into(),
                provider: "cpu".into(),
                precision: "graph".into(),
            },
        };
        candidate.with_matte(Some(Arc::new(matte))).offer(job);
    }

    async fn until(&self, what: &str, so: impl Fn(&Metrics) -> bool) {
        let looking = async {
            while !so(&self.metrics) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect(what);
    }

    fn record(&self) -> serde_json::Value {
        let [path] = below(&self.dir.path().join("records"), "json")
            .try_into()
            .unwrap();
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }
}

/// Tells when a run begins, and holds it up until it is told to go on.
fn held_runs(scenario: &FailScenario<'_>) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let _ = scenario;
    let (begun, begins) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let both = Mutex::new((begun, goes));
    fail::cfg_callback("shadow_run", move || {
        let (begun, goes) = &*both.lock().unwrap();
        // Nobody looks any more when the test is over.
        let _ = begun.send(());
        let _ = goes.recv();
    })
    .unwrap();
    (begins, go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_gives_way_to_a_photo_and_is_made_again_when_that_is_done() {
    let scenario = FailScenario::setup();
    let (begins, go) = held_runs(&scenario);
    let site = Site::new().await;
    site.offer("rex");
    begins.recv().unwrap();
    let photo = site.presence.enter();
    go.send(()).unwrap();
    site.until("the shadow gives way", |metrics| {
        metrics
            .render()
            .unwrap()
            .contains("cutout_shadow_interruptions_total 1")
    })
    .await;
    assert!(begins.try_recv().is_err(), "the photo is still in work");
    drop(photo);
    begins.recv().unwrap();
    go.send(()).unwrap();
    site.until("the record", |metrics| {
        metrics.shadow().summary().of(ShadowOutcome::Done) == 1
    })
    .await;
    assert_eq!(site.record()["interruptions"], 1);
    assert!(!site.shadow.finish(Duration::ZERO).await);
    scenario.teardown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_photo_that_is_interrupted_again_and_again_is_left_out() {
    let scenario = FailScenario::setup();
    let (begins, go) = held_runs(&scenario);
    let site = Site::new().await;
    site.offer("rex");
    for _ in 0..5 {
        begins.recv().unwrap();
        drop(site.presence.enter());
        go.send(()).unwrap();
    }
    site.until("an end", |metrics| {
        metrics.shadow().summary().of(ShadowOutcome::Interrupted) == 1
    })
    .await;
    let text = site.metrics.render().unwrap();
    assert!(
        text.contains("cutout_shadow_interruptions_total 5"),
        "{text}"
    );
    assert!(text.contains("cutout_shadow_waiting 0"), "nothing is held");
    assert!(text.contains("cutout_shadow_waiting_bytes 0"));
    scenario.teardown();
}
