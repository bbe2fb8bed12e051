//! The measures of `cutout eval` against other people's code: PySODMetrics, mmagic and the authors' boundary
//! IoU (`tests/eval/reference.py`), on pairs that are ordinary, odd and degenerate
//! (`tests/fixtures/measures/README.md`).

use std::path::Path;

use cutout::evaluate::summary::Summary;
use cutout::evaluate::{Measure, Pair, Scores};
use proptest::prelude::*;
use serde_json::Value;

/// Of a value above 1 its share; what rounding in another order does stays far below.
const TOLERANCE: f64 = 1e-6;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/measures")
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(folder().join("expected.json")).unwrap()).unwrap()
}

fn grey(name: &str) -> image::GrayImage {
    image::open(folder().join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
        .into_luma8()
}

fn scores(name: &str) -> Scores {
    let (matte, mask) = (
        grey(&format!("{name}.matte.png")),
        grey(&format!("{name}.mask.png")),
    );
    assert_eq!(matte.dimensions(), mask.dimensions(), "{name}");
    Scores::of(&Pair::new(matte.width(), matte.height(), &matte, &mask).unwrap())
}

fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= TOLERANCE * theirs.abs().max(1.0)
}

/// Where we differ on purpose, with what we say.
fn on_purpose(name: &str, measure: Measure, expected: &Value) -> Option<f64> {
    match (name, measure) {
        // PySODMetrics divides by the number of pixels less one, and a hair.
        ("one-pixel", Measure::MaxE) => Some(1.0),
        // The authors divide nothing by nothing when there is no subject, neither found nor true.
        ("nothing-there-nothing-found", Measure::BoundaryIou) => Some(1.0),
        // PySODMetrics does when the centre of gravity lies in the last row or column: its code amended.
        _ => expected["amended"][name][measure.key()].as_f64(),
    }
}

#[test]
fn every_measure_says_what_other_peoples_code_says() {
    let expected = expected();
    let pairs = expected["pairs"].as_object().unwrap();
    assert!(pairs.len() >= 19);
    let mut wrong = Vec::new();
    for (name, theirs) in pairs {
        let ours = scores(name);
        for measure in Measure::ALL {
            let value = ours.get(measure);
            let theirs =
                on_purpose(name, measure, &expected).or_else(|| theirs[measure.key()].as_f64());
            if !theirs.is_some_and(|theirs| close(value, theirs)) {
                wrong.push(format!("{name}: {measure:?} is {value}, not {theirs:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn means_over_several_are_those_of_pysodmetrics() {
    let expected = expected();
    let names = expected["together"]["names"].as_array().unwrap();
    let all: Vec<_> = names
        .iter()
        .map(|name| scores(name.as_str().unwrap()))
        .collect();
    let means = expected["together"]["means"].as_object().unwrap();
    assert_eq!(means.len(), 7);
    for measure in Measure::ALL {
        let Some(theirs) = means.get(measure.key()).and_then(Value::as_f64) else {
            continue;
        };
        let ours = Summary::of(&all, measure).unwrap().mean;
        assert!(close(ours, theirs), "{measure:?} is {ours}, not {theirs}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_pair_of_any_size_makes_a_measure_fail_or_answer_what_is_no_number(
        width in 1_u32..16,
        height in 1_u32..16,
        matte in proptest::collection::vec(any::<u8>(), 16 * 16),
        mask in proptest::collection::vec(prop_oneof![Just(0_u8), Just(255), any::<u8>()], 16 * 16),
    ) {
        let pixels = (width * height) as usize;
        let pair = Pair::new(width, height, &matte[..pixels], &mask[..pixels]).unwrap();
        let scores = Scores::of(&pair);
        for measure in Measure::ALL {
            let value = scores.get(measure);
            prop_assert!(value.is_finite() && value >= 0.0, "{:?} is {}", measure, value);
        }
        let same = Pair::new(width, height, &mask[..pixels], &mask[..pixels]).unwrap();
        let perfect = Scores::of(&same);
        for measure in [Measure::Sad, Measure::Mse, Measure::Gradient, Measure::Connectivity] {
            prop_assert_eq!(perfect.get(measure), 0.0);
        }
        prop_assert_eq!(perfect.get(Measure::BoundaryIou), 1.0);
    }
}

#[test]
fn planes_that_do_not_fit_are_refused() {
    for (width, height, matte, mask) in [(2, 2, 4, 3), (2, 2, 3, 4), (0, 5, 0, 0)] {
        let (matte, mask) = (vec![0; matte], vec![0; mask]);
        assert!(Pair::new(width, height, &matte, &mask).is_err());
    }
}
