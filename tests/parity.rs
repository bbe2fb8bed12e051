//! The worker's pixels against transparent-background's (`tests/parity/fixture/README.md`): what
//! goes into the network, and what is made of its answer, for every type of output, with threshold and
//! reverse.

use std::path::{Path, PathBuf};

use cutout::engine::tensor::{Matte, TensorData};
use cutout::job::{Kind, Output, Threshold};
use cutout::model::manifest::{InputSpec, Layout, MatteResize, Resize};
use cutout::pipeline::compose::{self, Picture};
use cutout::pipeline::decode::{self, Limits, Photo};
use cutout::pipeline::{matte, preprocess};
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
    let spec = InputSpec {
        name: "pixels".into(),
        layout: Layout::NhwcU8,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let tensor = preprocess::to_tensor(photo, &spec, &resize).unwrap();
    match tensor.data {
        TensorData::NhwcU8(data) => (tensor.width, tensor.height, data),
        TensorData::NchwF32(_) => panic!("the layout was not kept"),
    }
}

#[test]
fn the_networks_input_is_the_references_within_one_level() {
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
        assert!(worst <= Some(1), "{name}: {worst:?} levels");
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

/// Ours and theirs in the same channels. Colour under full transparency counts for nothing.
fn side_by_side(ours: &Picture, theirs: &image::DynamicImage, kind: &Kind) -> (Vec<u8>, Vec<u8>) {
    match kind {
        Kind::Mask => (ours.data.clone(), theirs.to_luma8().into_raw()),
        Kind::Rgba => {
            let visible = |data: &[u8]| -> Vec<u8> {
                data.chunks_exact(4)
                    .flat_map(|p| {
                        if p[3] == 0 {
                            [0; 4]
                        } else {
                            [p[0], p[1], p[2], p[3]]
                        }
                    })
                    .collect()
            };
            (visible(&ours.data), visible(theirs.to_rgba8().as_raw()))
        }
        _ => (ours.data.clone(), theirs.to_rgb8().into_raw()),
    }
}

#[test]
fn pictures_are_the_references_for_every_kind_of_output() {
    let index = index();
    let cases = list(&index, "cases");
    let mut compared = 0;
    let mut wrong = Vec::new();
    println!("| case | mean difference | within 2 levels | equal |");
    println!("|---|---|---|---|");
    for case in cases {
        let name = text(&case["name"]);
        let network = network(&index, case);
        let photo = photo(text(&network["photo"]));
        let background = case["background"].as_str().map(self::photo);
        let output = output(case);
        let alpha = alpha(network, &photo, &output);
        let ours = compose::compose(photo, alpha, &output, background.as_ref()).unwrap();
        let theirs = image::open(fixture(text(&case["output"]))).unwrap();
        assert_eq!((ours.width, ours.height), (theirs.width(), theirs.height()));
        let (ours, theirs) = side_by_side(&ours, &theirs, &output.kind);
        let difference = difference(&ours, &theirs);
        compared += 1;
        println!(
            "| `{name}` | {:.3} | {:.2} % | {:.2} % |",
            difference.mean,
            difference.near * 100.0,
            difference.equal * 100.0
        );
        if difference.mean > 0.5 || difference.near < 0.999 {
            wrong.push(format!("{name}: {difference:?}"));
        }
    }
    assert_eq!(
        (compared, compared),
        (cases.len(), 23),
        "a case of the fixture was left out"
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
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
