//! `cutout eval` as it is used: that it pairs, measures, compares and reports what it says, and names what it
//! cannot measure. What the measures themselves say is in `tests/measures.rs`.

mod harness;

use std::path::Path;

use harness::{file, names, number, quick, run, told};
use serde_json::Value;

const SET: &str = "tests/fixtures/eval";

fn eval(args: &[&str]) -> (i32, Value, String) {
    let mut command = quick();
    command.env_remove("CUTOUT_MODEL");
    let output = run(command.arg("eval").args(args).args(["--json", "-"]));
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", told(&output)));
    let code = output.status.code().expect("no signal");
    (code, report, String::from_utf8(output.stderr).unwrap())
}

fn folders(root: &Path, names: [&str; 2]) -> [String; 2] {
    names.map(|name| {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder.to_str().unwrap().to_owned()
    })
}

#[test]
fn mattes_that_are_there_are_measured_as_others_measure_them() {
    let pairs = file("tests/fixtures/measures");
    let expected: Value =
        serde_json::from_slice(&std::fs::read(pairs.join("expected.json")).unwrap()).unwrap();
    let together = expected["together"]["names"].as_array().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let [mattes, masks] = folders(dir.path(), ["mattes", "masks"]);
    for name in together.iter().map(|name| name.as_str().unwrap()) {
        for (folder, what) in [(&mattes, "matte"), (&masks, "mask")] {
            let from = pairs.join(format!("{name}.{what}.png"));
            std::fs::copy(from, Path::new(folder).join(format!("{name}.png"))).unwrap();
        }
    }
    let (code, report, told) = eval(&["--predictions", &mattes, &masks]);
    assert_eq!(code, 0, "{told}");
    let contender = &report["contenders"][0];
    assert_eq!(
        contender["photos"].as_array().unwrap().len(),
        together.len()
    );
    for photo in contender["photos"].as_array().unwrap() {
        let theirs = &expected["pairs"][photo["name"].as_str().unwrap()];
        for (measure, value) in photo["measures"].as_object().unwrap() {
            let (ours, theirs) = (value.as_f64().unwrap(), theirs[measure].as_f64().unwrap());
            assert!(
                (ours - theirs).abs() < 1e-6,
                "{measure} of {photo:#}: {theirs}"
            );
        }
    }
    for (measure, mean) in expected["together"]["means"].as_object().unwrap() {
        let ours = number(contender, &format!("/means/{measure}/mean"));
        assert!(
            (ours - mean.as_f64().unwrap()).abs() < 1e-6,
            "{measure}: {ours}"
        );
    }
}

#[test]
fn networks_stand_side_by_side_and_the_second_next_to_the_first() {
    let (images, masks) = (file(SET).join("images"), file(SET).join("masks"));
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("report.json");
    let mut command = quick();
    command
        .env_remove("CUTOUT_MODEL")
        .arg("eval")
        .args([&images, &masks]);
    command.args([
        "--model",
        "brightness",
        "--model",
        "brightness-u8",
        "--json",
    ]);
    let output = run(command.arg(&json));
    assert!(output.status.success(), "{}", told(&output));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(
        names(&report["contenders"]),
        ["brightness", "brightness-u8"]
    );
    for contender in report["contenders"].as_array().unwrap() {
        assert_eq!(names(&contender["photos"]).len(), 8);
        assert_eq!(contender["provider"], "cpu");
        let (low, high) = (
            number(contender, "/means/mae/interval/0"),
            number(contender, "/means/mae/interval/1"),
        );
        let mean = number(contender, "/means/mae/mean");
        assert!(
            low < mean && mean < high && low > 0.0,
            "{low} {mean} {high}"
        );
    }
    // The same network but for the rounding of its answer.
    let difference = &report["differences"][0];
    assert_eq!(difference["name"], "brightness-u8");
    assert_eq!(difference["less"], "brightness");
    assert!(number(difference, "/measures/mae/mean").abs() < 0.01);

    let table = String::from_utf8(output.stdout).unwrap();
    let columns = "| measure | brightness | brightness-u8 | less brightness |";
    assert!(table.contains(columns), "{table}");
    assert!(
        table.contains("| S ↑ |") && table.contains("| SAD ↓ |"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 15, "{table}");
}

#[test]
fn what_cannot_be_measured_is_named_and_counted_and_the_rest_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let [images, masks] = folders(dir.path(), ["images", "masks"]);
    let place = |from: &Path, folder: &str, name: &str| {
        std::fs::copy(from, Path::new(folder).join(name)).unwrap();
    };
    let (photo, mask) = (
        file(SET).join("images/cup.jpg"),
        file(SET).join("masks/cup.png"),
    );
    for name in [
        "good",
        "without-mask",
        "other-size",
        "broken-mask",
        "coloured-mask",
    ] {
        place(&photo, &images, &format!("{name}.jpg"));
    }
    std::fs::write(Path::new(&images).join("broken.jpg"), b"no photo").unwrap();
    for name in ["good.png", "broken.png", "nobodys.png"] {
        place(&mask, &masks, name);
    }
    place(&file(SET).join("masks/vase.png"), &masks, "other-size.png");
    place(&photo, &masks, "coloured-mask.jpg");
    std::fs::write(Path::new(&masks).join("broken-mask.png"), b"no mask").unwrap();

    let (code, report, stderr) = eval(&[&images, &masks, "--model", "brightness"]);
    assert_eq!(code, 1, "{stderr}");
    let contender = &report["contenders"][0];
    assert_eq!(names(&contender["photos"]), ["good"]);
    let failures = contender["failures"].as_array().unwrap();
    let told: Vec<_> = failures
        .iter()
        .map(|f| (f["name"].as_str().unwrap(), f["code"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("broken", "unsupported_format"),
            ("broken-mask", "unsupported_format"),
            ("coloured-mask", "unsupported_format"),
            ("other-size", "invalid_job"),
            ("without-mask", "source_not_found"),
        ]
    );
    let sizes = failures[3]["message"].as_str().unwrap();
    assert!(
        sizes.contains("384×256") && sizes.contains("300×400"),
        "{sizes}"
    );
    for name in [
        "broken: ",
        "without-mask: ",
        "5 could not be measured",
        "1 of the masks",
    ] {
        assert!(stderr.contains(name), "{name}: {stderr}");
    }
}

#[test]
fn a_matte_that_is_missing_is_a_failure_too() {
    let dir = tempfile::tempdir().unwrap();
    let [mattes, masks] = folders(dir.path(), ["mattes", "masks"]);
    for name in ["cup.png", "vase.png"] {
        std::fs::copy(
            file(SET).join("masks").join(name),
            Path::new(&masks).join(name),
        )
        .unwrap();
    }
    std::fs::copy(
        file(SET).join("masks/cup.png"),
        Path::new(&mattes).join("cup.png"),
    )
    .unwrap();
    let (code, report, stderr) = eval(&["--predictions", &mattes, &masks]);
    assert_eq!(code, 1, "{stderr}");
    let contender = &report["contenders"][0];
    assert_eq!(names(&contender["failures"]), ["vase"]);
    assert_eq!(number(contender, "/means/sad/mean"), 0.0);
    assert_eq!(contender["means"]["sad"]["interval"], Value::Null);
}

#[test]
fn wrong_usage_says_what_to_name() {
    let masks = file(SET).join("masks");
    let masks = masks.to_str().unwrap();
    for (args, expected) in [
        (vec![masks], "--predictions and the masks"),
        (
            vec![masks, masks, "--predictions", masks],
            "name the masks alone",
        ),
        (
            vec![masks, "--predictions", masks, "--model", "brightness"],
            "leave --model out",
        ),
        (vec!["/no/such/folder", masks], "is not a folder"),
        (
            vec![masks, masks, "--model", "no-such-network"],
            "no-such-network",
        ),
    ] {
        let mut command = quick();
        command.env_remove("CUTOUT_MODEL");
        let output = run(command.arg("eval").args(&args));
        assert!(!output.status.success(), "{args:?}");
        assert!(
            told(&output).contains(expected),
            "{args:?}: {}",
            told(&output)
        );
    }
}

#[test]
fn the_set_has_what_it_is_said_to_have() {
    let mut bytes = 0;
    let mut soft = 0;
    for entry in std::fs::read_dir(file(SET).join("images")).unwrap() {
        let photo = entry.unwrap().path();
        let mask = file(SET)
            .join("masks")
            .join(photo.file_name().unwrap())
            .with_extension("png");
        let alpha = image::open(&mask).unwrap().into_luma8();
        assert_eq!(image::image_dimensions(&photo).unwrap(), alpha.dimensions());
        assert!(alpha.width().max(alpha.height()) <= 512);
        let between = alpha
            .iter()
            .filter(|level| (13..243).contains(*level))
            .count();
        soft += usize::from(between * 20 > alpha.len());
        bytes += photo.metadata().unwrap().len() + mask.metadata().unwrap().len();
    }
    assert!(soft >= 3 && bytes <= 1 << 20, "{soft} {bytes}");
}
