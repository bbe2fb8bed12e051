//! The worker's pixels against transparent-background's (`tests/parity/fixture/README.md`): what
//! goes into the network, and what is made of its answer.
//!
//! Left out, because the worker does otherwise: `threshold` and `reverse`, which are no options of a
//! job yet; the drawn edge of the overlay; the blur, which is box-approximated here; a background
//! picture, which covers the photo here and is stretched to it there.

use std::path::{Path, PathBuf};

use cutout::engine::tensor::{Matte, TensorData};
use cutout::job::{Kind, Output};
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

fn alpha(network: &Value, photo: &Photo) -> Vec<u8> {
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
        &Output::default(),
    )
}

fn kind(case: &Value) -> Option<Kind> {
    Some(match text(&case["type"]) {
        "rgba" => Kind::Rgba,
        "map" => Kind::Mask,
        "green" => Kind::Green,
        "white" => Kind::White,
        "colour" => {
            let channel = |i: usize| u8::try_from(case["colour"][i].as_u64().unwrap()).unwrap();
            Kind::Color([channel(0), channel(1), channel(2)])
        }
        _ => return None,
    })
}

/// Mean difference in levels, and the share of samples within two.
fn difference(ours: &[u8], theirs: &[u8]) -> (f64, f64) {
    assert_eq!(ours.len(), theirs.len());
    let differences: Vec<u8> = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| a.abs_diff(*b))
        .collect();
    let count = differences.len() as f64;
    (
        differences.iter().map(|&d| f64::from(d)).sum::<f64>() / count,
        differences.iter().filter(|&&d| d <= 2).count() as f64 / count,
    )
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
    let mut compared = 0;
    let mut wrong = Vec::new();
    for case in list(&index, "cases") {
        let plain = case["threshold"].is_null() && case["reverse"] == false;
        let Some(kind) = kind(case).filter(|_| plain) else {
            continue;
        };
        let network = network(&index, case);
        let photo = photo(text(&network["photo"]));
        let alpha = alpha(network, &photo);
        let output = Output {
            kind: kind.clone(),
            ..Output::default()
        };
        let ours = compose::compose(photo, alpha, &output, None).unwrap();
        let theirs = image::open(fixture(text(&case["output"]))).unwrap();
        assert_eq!((ours.width, ours.height), (theirs.width(), theirs.height()));
        let (ours, theirs) = side_by_side(&ours, &theirs, &kind);
        let (mean, near) = difference(&ours, &theirs);
        compared += 1;
        println!(
            "{}: mean {mean:.3}, within two levels {:.3} %",
            text(&case["name"]),
            near * 100.0
        );
        // The reference truncates what it mixes and we round: up to a level, half of one on average.
        let most = match kind {
            Kind::Rgba | Kind::Mask => 0.5,
            _ => 1.0,
        };
        if mean > most || near < 0.999 {
            wrong.push(format!(
                "{}: mean {mean:.3}, within two {near:.4}",
                text(&case["name"])
            ));
        }
    }
    assert!(compared >= 7, "only {compared} cases were compared");
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
