//! The worker's pixels against transparent-background's (`tests/parity/fixture/README.md`): what
//! goes into the network, and what is made of its answer, for every type of output, with threshold and
//! reverse.

mod harness;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cutout::engine::Engine;
use cutout::engine::session::SessionConfig;
use cutout::engine::tensor::{Matte, TensorData};
use cutout::job::{Kind, Output, Threshold};
use cutout::model;
use cutout::model::manifest::{InputSpec, Layout, MatteResize, Resize};
use cutout::pipeline::budget::Budget;
use cutout::pipeline::compose::{self, Channels, Picture};
use cutout::pipeline::cpu::CpuPool;
use cutout::pipeline::cutout::{Charged, Cutter, Order};
use cutout::pipeline::decode::{self, Limits, Photo};
use cutout::pipeline::presence::Presence;
use cutout::pipeline::{matte, preprocess};
use cutout::telemetry::metrics::Metrics;
use image::DynamicImage;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/parity/fixture")
        .join(name)
}

fn index() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("fixture.json")).unwrap()).unwrap()
}

fn list<'a>(index: &'a Value, name: &str) -> &'a Vec<Value> {
    index[name]
        .as_array()
        .unwrap_or_else(|| panic!("{name} is not in the fixture"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn photo(name: &str) -> Photo {
    let bytes = std::fs::read(fixture(name)).unwrap();
    let limits = Limits::default();
    let header = decode::sniff(&bytes, &limits).unwrap();
    decode::decode(&bytes, &header, &limits).unwrap()
}

/// The network's input for a photo, as RGB bytes, and its size.
fn input(photo: &Photo, resize: &Value) -> (u32, u32, Vec<u8>) {
    let resize: Resize = serde_json::from_value(resize.clone()).unwrap();
    let spec = InputSpec::new(Layout::NhwcU8);
    let tensor = preprocess::to_tensor(photo, &spec, &resize).unwrap();
    match tensor.data {
        TensorData::NhwcU8(data) => (tensor.width, tensor.height, data),
        TensorData::NchwF32(_) => panic!("the layout was not kept"),
    }
}

#[test]
fn the_networks_input_is_the_references_to_the_last_bit() {
    let index = index();
    for case in list(&index, "networks")
        .iter()
        .chain(list(&index, "resizes"))
    {
        let name = text(&case["input"]);
        let (width, height, ours) = input(&photo(text(&case["photo"])), &case["resize"]);
        let theirs = image::open(fixture(name)).unwrap().to_rgb8();
        assert_eq!((width, height), theirs.dimensions(), "{name}");
        let worst = ours
            .iter()
            .zip(theirs.as_raw())
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        assert_eq!(worst, Some(0), "{name}: levels");
    }
}

fn network<'a>(index: &'a Value, case: &Value) -> &'a Value {
    list(index, "networks")
        .iter()
        .find(|n| n["name"] == case["network"])
        .unwrap()
}

fn alpha(network: &Value, photo: &Photo, output: &Output) -> Vec<u8> {
    let mask = image::open(fixture(text(&network["mask"])))
        .unwrap()
        .to_luma16();
    let matte = Matte {
        width: mask.width(),
        height: mask.height(),
        values: mask
            .as_raw()
            .iter()
            .map(|&v| f32::from(v) / 65535.0)
            .collect(),
    };
    let between = matte
        .values
        .iter()
        .filter(|v| (0.1..0.9).contains(*v))
        .count();
    assert!(
        between * 5 >= matte.values.len(),
        "a saturated mask would agree with anything"
    );
    matte::to_full_size(
        &matte,
        photo.width,
        photo.height,
        MatteResize::BilinearAlignCorners,
        output,
    )
}

/// What a job would ask for.
fn output(case: &Value) -> Output {
    let kind = match text(&case["type"]) {
        "map" => Kind::Mask,
        "colour" => {
            let channel = |i: usize| u8::try_from(case["colour"][i].as_u64().unwrap()).unwrap();
            Kind::Color([channel(0), channel(1), channel(2)])
        }
        // The picture is handed over decoded; its name is not looked at.
        "image" => "image:background.png".parse().unwrap(),
        same => same.parse().unwrap(),
    };
    let threshold = case["threshold"].as_f64();
    Output {
        kind,
        threshold: threshold.map(|value| Threshold::new(value as f32).unwrap()),
        reverse: case["reverse"].as_bool().unwrap(),
        // The fixture's reference had no PyMatting.
        decontaminate: false,
        ..Output::default()
    }
}

#[derive(Debug)]
struct Difference {
    /// In levels of 255.
    mean: f64,
    /// Share of the samples that are at most two levels apart.
    near: f64,
    /// Share of the samples that are the same.
    equal: f64,
}

fn difference(ours: &[u8], theirs: &[u8]) -> Difference {
    assert_eq!(ours.len(), theirs.len());
    let differences: Vec<u8> = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| a.abs_diff(*b))
        .collect();
    let count = differences.len() as f64;
    let share = |most: u8| differences.iter().filter(|&&d| d <= most).count() as f64 / count;
    Difference {
        mean: differences.iter().map(|&d| f64::from(d)).sum::<f64>() / count,
        near: share(2),
        equal: share(0),
    }
}

/// A finished picture's samples, in the channels that its kind is compared in. Colour under full
/// transparency counts for nothing.
fn samples(picture: &DynamicImage, kind: &Kind) -> Vec<u8> {
    match kind {
        Kind::Mask => picture.to_luma8().into_raw(),
        Kind::Rgba => {
            let mut pixels = picture.to_rgba8();
            for pixel in pixels.pixels_mut().filter(|pixel| pixel.0[3] == 0) {
                pixel.0 = [0; 4];
            }
            pixels.into_raw()
        }
        _ => picture.to_rgb8().into_raw(),
    }
}

fn as_image(picture: Picture) -> DynamicImage {
    let (width, height, data) = (picture.width, picture.height, picture.data);
    match picture.channels {
        Channels::Grey => image::GrayImage::from_raw(width, height, data).map(Into::into),
        Channels::Rgb => image::RgbImage::from_raw(width, height, data).map(Into::into),
        Channels::Rgba => image::RgbaImage::from_raw(width, height, data).map(Into::into),
        Channels::Grey16 | Channels::Rgb16 | Channels::Rgba16 => None,
    }
    .expect("the picture is as large as it says")
}

/// Prints a row for each case that was compared; the bounds are checked at the end.
#[derive(Default)]
struct Table {
    compared: usize,
    wrong: Vec<String>,
}

impl Table {
    fn begin() -> Self {
        println!("| case | mean difference | within 2 levels | equal |");
        println!("|---|---|---|---|");
        Self::default()
    }

    fn row(&mut self, case: &Value, kind: &Kind, ours: &DynamicImage) {
        let name = text(&case["name"]);
        let theirs = image::open(fixture(text(&case["output"]))).unwrap();
        assert_eq!(
            (ours.width(), ours.height()),
            (theirs.width(), theirs.height())
        );
        let difference = difference(&samples(ours, kind), &samples(&theirs, kind));
        self.compared += 1;
        println!(
            "| `{name}` | {:.3} | {:.2} % | {:.2} % |",
            difference.mean,
            difference.near * 100.0,
            difference.equal * 100.0
        );
        if difference.mean > 0.5 || difference.near < 0.999 {
            self.wrong.push(format!("{name}: {difference:?}"));
        }
    }

    fn end(self) {
        assert_eq!(self.compared, 23, "a case of the fixture was left out");
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
    }
}

#[test]
fn pictures_are_the_references_for_every_kind_of_output() {
    let index = index();
    let mut table = Table::begin();
    for case in list(&index, "cases") {
        let network = network(&index, case);
        let photo = photo(text(&network["photo"]));
        let background = case["background"].as_str().map(self::photo);
        let output = output(case);
        let alpha = alpha(network, &photo, &output);
        let ours = compose::compose(photo, alpha, &output, background.as_ref()).unwrap();
        table.row(case, &output.kind, &as_image(ours));
    }
    table.end();
}

/// With PyMatting installed, the reference's `rgba` has its colours; `tests/foreground/make.py` did what
/// `Remover.process` does then.
#[test]
fn cut_outs_are_the_references_where_it_has_pymatting() {
    let index = index();
    for network in list(&index, "networks") {
        let name = text(&network["name"]);
        let photo = photo(text(&network["photo"]));
        let output = Output::default();
        let alpha = alpha(network, &photo, &output);
        let ours = as_image(compose::compose(photo, alpha, &output, None).unwrap());
        let theirs = format!("../../fixtures/foreground/{name}.rgba.png");
        let theirs = image::open(fixture(&theirs)).unwrap();
        let apart = difference(&samples(&ours, &Kind::Rgba), &samples(&theirs, &Kind::Rgba));
        println!("{name}: {apart:?}");
        assert!(apart.mean < 0.5 && apart.near > 0.999, "{name}: {apart:?}");
    }
}

/// The graph that `make parity` exported for a network of the fixture, run as the fixture's was.
async fn cutter(network: &Value) -> Cutter {
    let models = harness::file(".cache/parity/models");
    let path = models.join(format!("inspyrenet-{}.toml", text(&network["mode"])));
    let mut manifest = model::find(path.to_str().unwrap(), None).unwrap();
    manifest.resize = serde_json::from_value(network["resize"].clone()).unwrap();
    let engine = Engine::start(SessionConfig::new(
        harness::file(".cache/lib/libonnxruntime.so"),
        model::verify(&manifest, &models).unwrap(),
        manifest,
        2,
    ));
    Cutter {
        engine: engine.await.unwrap(),
        memory: Budget::new(1 << 30),
        cpu: CpuPool::new(2),
        limits: Limits::default(),
        review: None,
        presence: Presence::default(),
        metrics: Metrics::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the graphs that `make parity` exports"]
async fn the_whole_road_ends_in_the_references_pictures() {
    let index = index();
    let mut table = Table::begin();
    for network in list(&index, "networks") {
        let cutter = cutter(network).await;
        let read = |name: &Value| Charged {
            bytes: std::fs::read(fixture(text(name))).unwrap().into(),
            paid: None,
        };
        for case in list(&index, "cases") {
            if case["network"] != network["name"] {
                continue;
            }
            let background = case["background"].is_string().then(|| &case["background"]);
            let output = output(case);
            let deadline = Instant::now() + Duration::from_secs(600);
            let (ours, _) = cutter
                .cut_out(Order {
                    background: background.map(read),
                    ..Order::new(read(&network["photo"]), &output, deadline)
                })
                .await
                .unwrap();
            let ours = image::load_from_memory(&ours.bytes).unwrap();
            table.row(case, &output.kind, &ours);
        }
    }
    table.end();
}

#[test]
#[ignore = "needs the graphs that `make parity` exports"]
fn the_worker_runs_production_networks_by_their_names_alone() {
    let index = index();
    // The photo whose network input is production's own, and one that `fast` makes 384×384.
    for (model, network) in [("base", "rocket-dynamic"), ("fast", "astronaut-static")] {
        let case = list(&index, "cases").iter().find(|case| {
            case["network"] == network && case["type"] == "rgba" && case["threshold"].is_null()
        });
        let case = case.unwrap();
        let photo = text(&self::network(&index, case)["photo"]);
        let root = tempfile::tempdir().unwrap();
        let mut command = harness::cutout();
        command
            .args(["worker", "--ingress", "local", "--root"])
            .arg(root.path())
            .env("INSPIRENET_MODE", model)
            .env("TARGET_SIZE", if model == "fast" { "384" } else { "1024" })
            .env("CUTOUT_HOME", harness::file(".cache/parity"))
            .env(
                "CUTOUT_ORT_LIB",
                harness::file(".cache/lib/libonnxruntime.so"),
            );
        let worker = harness::Worker::start(command).ready();
        std::fs::copy(fixture(photo), root.path().join("inbox/photo.png")).unwrap();
        let output = root.path().join("outbox/photo.cutout.png");
        let ours = harness::wait_until("the cut-out", || std::fs::read(&output).ok());
        drop(worker);
        let ours = image::load_from_memory(&ours).unwrap();
        let theirs = image::open(fixture(text(&case["output"]))).unwrap();
        let difference = difference(&samples(&ours, &Kind::Rgba), &samples(&theirs, &Kind::Rgba));
        println!("inspyrenet-{model}: {difference:?}");
        assert!(difference.mean <= 0.5 && difference.near >= 0.999);
    }
}

#[test]
fn network_sizes_follow_the_references_rule() {
    let index = index();
    let table = &index["dynamic_sizes"];
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let resize = Resize::Dynamic {
        short: number(&table["short"]),
        multiple: number(&table["multiple"]),
    };
    for row in table["photo_to_network"].as_array().unwrap() {
        let [width, height, wanted_width, wanted_height] = [0, 1, 2, 3].map(|i| number(&row[i]));
        let ours = preprocess::target_size(width, height, &resize);
        // Beyond four to one we cap the longer side: the reference has no bound on its memory.
        if wanted_width.max(wanted_height) > 4 * number(&table["short"]) {
            assert!(
                ours.0.max(ours.1) <= 4 * number(&table["short"]),
                "{width}x{height}"
            );
            continue;
        }
        assert_eq!(ours, (wanted_width, wanted_height), "{width}x{height}");
    }
}
