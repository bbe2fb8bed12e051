//! `cutout compare` as it is used: that it runs both, measures, keeps what is done, names what it cannot compare,
//! and that its report does in a real browser what it should (compare/report.mjs).

mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::{cutout, file, likeness, names, number, quick, run, told, wait_until};
use serde_json::Value;

const SET: &str = "tests/fixtures/eval";

/// Networks that take a millisecond; the second rounds its answer to bytes.
const QUICK: [&str; 2] = ["brightness", "brightness-u8"];

fn compare(program: Command, arms: [impl AsRef<Path>; 2], report: &Path) -> Command {
    let mut command = program;
    command
        .env_remove("CUTOUT_MODEL")
        .arg("compare")
        .args(arms.map(|arm| arm.as_ref().to_owned()))
        .arg("--report")
        .arg(report);
    command
}

fn data(report: &Path) -> Value {
    let html = std::fs::read_to_string(report).unwrap();
    let (_, rest) = html
        .split_once("<script type=\"application/json\" id=\"data\">")
        .unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn state(report: &Path) -> PathBuf {
    PathBuf::from(format!("{}.jsonl", report.display()))
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", told(output));
}

#[test]
fn two_networks_are_run_in_turns_and_put_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("out.html");
    let photos = ["samples/cat.jpg", "samples/coffee.jpg"];
    let networks = ["isnet-medium", "isnet-small"];
    let output = run(compare(cutout(), networks, &report).args(photos.map(file)));
    succeeded(&output);
    let data = data(&report);
    assert_eq!(data["names"], serde_json::json!(networks));
    assert_eq!(names(&data["photos"]), ["cat.jpg", "coffee.jpg"]);
    for photo in data["photos"].as_array().unwrap() {
        let difference = number(photo, "/difference");
        assert!(difference > 0.0 && difference < 0.1, "{photo:#}");
        assert!(number(photo, "/iou") > 0.7, "{photo:#}");
        for arm in photo["arms"].as_array().unwrap() {
            let (network, whole) = (number(arm, "/infer_ms"), number(arm, "/total_ms"));
            assert!(0.0 < network && network < whole, "{arm:#}");
        }
    }
    let statistics = &data["statistics"];
    for (arm, least) in [(0, 40e6), (1, 20e6)] {
        let loaded = number(&data, &format!("/starts/{arm}/resident"));
        let peak = number(statistics, &format!("/peak/{arm}"));
        assert!(
            least < loaded && loaded <= peak && peak < 4e9,
            "{loaded} {peak}"
        );
    }
    let mean = &statistics["agreement"][0]["spread"]["mean"];
    let (low, high) = (number(mean, "/interval/0"), number(mean, "/interval/1"));
    assert!(low < number(mean, "/value") && number(mean, "/value") < high);
    assert_eq!(data["settings"]["a"]["network"]["provider"], "cpu");
    let table = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(
        table.contains("A is isnet-medium, B is isnet-small"),
        "{table}"
    );
    assert!(table.contains("| from file to matte |"), "{table}");
    assert!(told(&output).contains("2 photos compared, 0 of all before"));
}

#[test]
fn the_figures_are_those_of_the_mattes_that_jobs_get() {
    let dir = tempfile::tempdir().unwrap();
    let images = file(SET).join("images");
    let folders = QUICK.map(|network| dir.path().join(network));
    for (network, folder) in QUICK.iter().zip(&folders) {
        let mut remove = quick();
        remove.args(["remove", "--kind", "mask", "--model", network, "-o"]);
        succeeded(&run(remove.arg(folder).arg(&images)));
    }
    let (networks, mattes) = (dir.path().join("n.html"), dir.path().join("m.html"));
    succeeded(&run(compare(quick(), QUICK, &networks).arg(&images)));
    succeeded(&run(
        compare(quick(), folders.each_ref(), &mattes).arg(&images)
    ));
    let (networks, mattes) = (data(&networks), data(&mattes));
    assert_eq!(names(&networks["photos"]).len(), 8);
    let pairs = networks["photos"].as_array().unwrap().iter();
    for (ours, theirs) in pairs.zip(mattes["photos"].as_array().unwrap()) {
        for key in [
            "name",
            "width",
            "difference",
            "changed",
            "iou",
            "boundary_iou",
        ] {
            assert_eq!(ours[key], theirs[key], "{key}");
        }
        let name = Path::new(ours["name"].as_str().unwrap()).with_extension("png");
        let plane = |folder: &PathBuf| {
            let path = folder.join(&name);
            image::open(path).unwrap().into_luma8().into_raw()
        };
        let (difference, iou) = likeness(&plane(&folders[0]), &plane(&folders[1]));
        assert!((number(ours, "/difference") - difference / 255.0).abs() < 1e-9);
        // Ours is hard above 128, as the measures of the field are; that is above 127.
        assert!((number(ours, "/iou") - iou).abs() < 0.01, "{iou}: {ours:#}");
    }
    assert_eq!(mattes["statistics"]["times"], serde_json::json!([]));
    assert_eq!(mattes["starts"], serde_json::json!([null, null]));

    // A name is the network's, a path the folder's; its mattes are the network's own.
    let mixed = dir.path().join("mixed.html");
    let mut command = compare(quick(), [QUICK[0], "./brightness"], &mixed);
    command.current_dir(&dir).arg(images.join("cup.jpg"));
    succeeded(&run(&mut command));
    let mixed = data(&mixed);
    assert_eq!(mixed["settings"]["b"]["folder"], "./brightness");
    assert_eq!(mixed["settings"]["a"]["network"]["name"], "brightness");
    let photo = &mixed["photos"][0];
    assert_eq!(
        (number(photo, "/difference"), number(photo, "/iou")),
        (0.0, 1.0)
    );
    assert!(photo["arms"][0]["total_ms"].is_f64() && photo["arms"][1]["total_ms"].is_null());
    let times = &mixed["statistics"]["times"][0];
    assert!(times["a"].is_object() && times["b"].is_null() && times["less"].is_null());
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<i32> {
    let all = procfs::process::all_processes().unwrap();
    all.filter_map(|process| process.ok()?.stat().ok())
        .filter(|stat| i64::from(stat.ppid) == i64::from(parent))
        .map(|stat| stat.pid)
        .collect()
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("out.html");
    let photos = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"].map(|name| dir.path().join(name));
    for photo in &photos {
        std::fs::copy(file(SET).join("images/cup.jpg"), photo).unwrap();
    }
    // A pipe that nobody writes to: the run stands still at the third photo.
    std::fs::remove_file(&photos[2]).unwrap();
    succeeded(&run(Command::new("mkfifo").arg(&photos[2])));
    let mut child = compare(quick(), QUICK, &report)
        .args(&photos)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lines = || {
        let text = std::fs::read_to_string(state(&report)).unwrap_or_default();
        let lines: Vec<_> = text.split_inclusive('\n').map(str::to_owned).collect();
        lines
    };
    wait_until("two photos", || (lines().len() == 3).then_some(()));
    let networks = children(child.id());
    assert_eq!(networks.len(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = |pid: &i32| match procfs::process::Process::new(*pid).and_then(|p| p.stat()) {
        // Whoever inherits it may be slow to take notice.
        Ok(stat) => stat.state == 'Z',
        Err(_) => true,
    };
    wait_until("the networks' ends", || {
        networks.iter().all(ended).then_some(())
    });
    assert!(!report.exists(), "a report of a part");

    let before = lines();
    let mut half = before.concat();
    half.push_str("{\"row\":{\"key\":{\"name\":\"c.j");
    std::fs::write(state(&report), half).unwrap();
    std::fs::remove_file(&photos[2]).unwrap();
    std::fs::copy(&photos[0], &photos[2]).unwrap();
    let mut again = compare(quick(), QUICK, &report);
    again.args(&photos);
    let output = run(&mut again);
    succeeded(&output);
    assert!(
        told(&output).contains("2 of all before"),
        "{}",
        told(&output)
    );
    let after = lines();
    assert_eq!(after.len(), 5);
    assert_eq!(after[..3], before, "a photo that was done was run again");
    assert_eq!(
        names(&data(&report)["photos"]),
        ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    );

    let whole = std::fs::read(&report).unwrap();
    succeeded(&run(&mut again));
    assert_eq!(lines(), after);
    assert_eq!(
        std::fs::read(&report).unwrap(),
        whole,
        "the same rows, another report"
    );

    // A photo that is another one now is run again, and only that one.
    std::fs::copy(file(SET).join("images/vase.jpg"), &photos[1]).unwrap();
    let output = run(&mut again);
    succeeded(&output);
    assert!(
        told(&output).contains("3 of all before"),
        "{}",
        told(&output)
    );
    assert_eq!(lines().len(), 6);
    assert_eq!(data(&report)["photos"][1]["height"], 400);

    let swapped = || {
        let mut command = compare(quick(), [QUICK[1], QUICK[0]], &report);
        command.args(&photos);
        command
    };
    let output = run(&mut swapped());
    assert_eq!(output.status.code(), Some(1));
    let refusal = told(&output);
    assert!(refusal.contains("holds another comparison"), "{refusal}");
    assert!(
        refusal.contains("a.network.name was \"brightness\" and is \"brightness-u8\""),
        "{refusal}"
    );
    assert!(refusal.contains("--restart"), "{refusal}");
    assert_eq!(lines().len(), 6);
    succeeded(&run(swapped().arg("--restart")));
    assert_eq!(lines().len(), 5);
    assert_eq!(data(&report)["names"][0], "brightness-u8");
}

#[test]
fn a_bad_photo_is_a_row_with_its_error_and_the_rest_is_compared() {
    let dir = tempfile::tempdir().unwrap();
    let photos = dir.path().join("photos");
    // What a file name can do at worst; the slash is a folder's.
    let hostile = "x\"><script>alert(1)</script>.jpg";
    std::fs::create_dir_all(photos.join(hostile).parent().unwrap()).unwrap();
    std::fs::copy(file(SET).join("images/cup.jpg"), photos.join(hostile)).unwrap();
    for name in ["text.jpg", "truncated.jpg", "rgb.bmp"] {
        std::fs::copy(file("tests/fixtures/images").join(name), photos.join(name)).unwrap();
    }
    let report = dir.path().join("out.html");
    let mut command = compare(quick(), QUICK, &report);
    command.arg(&photos).arg(dir.path().join("missing.jpg"));
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let first = data(&report);
    assert_eq!(names(&first["photos"]), ["rgb.bmp", hostile]);
    let failures: Vec<_> = first["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["name"].as_str().unwrap(), f["code"].as_str().unwrap()))
        .collect();
    assert_eq!(
        failures,
        [
            ("text.jpg", "unsupported_format"),
            ("truncated.jpg", "image_corrupt"),
            ("missing.jpg", "source_not_found"),
        ]
    );
    let html = std::fs::read_to_string(&report).unwrap();
    assert!(!html.contains("<script>alert"), "a file name became markup");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("text.jpg: ") && stderr.contains("3 could not be compared"),
        "{stderr}"
    );

    // Those that can never be compared are not tried again; the missing one may be there now.
    std::fs::copy(photos.join("rgb.bmp"), dir.path().join("missing.jpg")).unwrap();
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("4 of all before"),
        "{}",
        told(&output)
    );
    assert_eq!(
        names(&data(&report)["photos"]),
        ["rgb.bmp", hostile, "missing.jpg"]
    );
}

#[test]
fn true_masks_say_which_of_two_folders_is_nearer() {
    let dir = tempfile::tempdir().unwrap();
    let [images, masks] = ["images", "masks"].map(|name| dir.path().join(name));
    for (folder, extension) in [(&images, "jpg"), (&masks, "png")] {
        std::fs::create_dir(folder).unwrap();
        let from = file(SET).join(folder.file_name().unwrap());
        for name in ["cup", "dandelion", "vase"].map(|name| format!("{name}.{extension}")) {
            std::fs::copy(from.join(&name), folder.join(name)).unwrap();
        }
    }
    let mattes = dir.path().join("mattes");
    let mut remove = quick();
    remove.args(["remove", "--kind", "mask", "-o"]).arg(&mattes);
    succeeded(&run(remove.arg(&images)));
    let report = dir.path().join("out.html");
    let mut command = compare(quick(), [&mattes, &masks], &report);
    command.arg("--masks").arg(&masks).arg(&images);
    succeeded(&run(&mut command));
    let both = data(&report);
    let mut eval = quick();
    eval.args(["eval", "--json", "-", "--predictions"]);
    let output = run(eval
        .arg(&mattes)
        .arg("--predictions")
        .arg(&masks)
        .arg(&masks));
    succeeded(&output);
    let eval: Value = serde_json::from_slice(&output.stdout).unwrap();
    let measures = both["statistics"]["measures"].as_array().unwrap();
    assert_eq!(measures.len(), 12);
    for measure in measures {
        let key = measure["key"].as_str().unwrap();
        for (arm, contender) in [("a", 0), ("b", 1)] {
            let theirs = &eval["contenders"][contender]["means"][key];
            let near = |path: &str, other: &str| {
                (number(measure, path) - number(theirs, other)).abs() < 1e-12
            };
            assert!(
                near(&format!("/{arm}/value"), "/mean"),
                "{key}: {measure:#}"
            );
            assert!(near(&format!("/{arm}/interval/0"), "/interval/0"), "{key}");
        }
    }
    // Those of matting take the mask as it is, so that nothing is better than itself.
    for measure in &measures[8..] {
        assert_eq!(
            (&measure["a_wins"], &measure["b_wins"]),
            (&0.into(), &3.into())
        );
    }

    // Without its matte, or with one of another size, a photo fails and says of whom.
    std::fs::remove_file(mattes.join("cup.png")).unwrap();
    std::fs::copy(masks.join("cup.png"), mattes.join("vase.png")).unwrap();
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1));
    let both = data(&report);
    assert_eq!(names(&both["failures"]), ["cup.jpg", "vase.jpg"]);
    let why = |at: usize| both["failures"][at]["message"].as_str().unwrap();
    assert!(
        why(0).starts_with("A (") && why(0).contains("there is no matte cup"),
        "{}",
        why(0)
    );
    assert!(
        why(1).contains("384×256") && why(1).contains("300×400"),
        "{}",
        why(1)
    );
}

#[test]
#[cfg(feature = "failpoints")]
fn a_network_whose_process_ends_costs_one_photo_and_is_started_anew() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("out.html");
    let mut command = compare(quick(), QUICK, &report);
    command
        .env("FAILPOINTS", "matte_inferred=1*off->1*return")
        .arg(file(SET).join("images"));
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let data = data(&report);
    let failures = data["failures"].as_array().unwrap();
    assert!(!failures.is_empty() && failures.len() < 8, "{failures:#?}");
    for failure in failures {
        assert_eq!(failure["code"], "engine_dead");
        assert!(
            failure["message"]
                .as_str()
                .unwrap()
                .contains("started anew"),
            "{failure:#}"
        );
    }
    // What failed for a reason that may pass is tried again.
    let output = run(command.env_remove("FAILPOINTS"));
    succeeded(&output);
    let before = 8 - failures.len();
    assert!(
        told(&output).contains(&format!("{before} of all before")),
        "{}",
        told(&output)
    );
}

#[test]
#[cfg(feature = "failpoints")]
fn a_network_that_does_not_answer_costs_one_photo_too() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("out.html");
    let mut command = compare(quick(), QUICK, &report);
    command
        .env("FAILPOINTS", "matte_inferred=sleep(600000)")
        .env("CUTOUT_JOB_TIMEOUT", "2s")
        .arg(file(SET).join("images/cup.jpg"));
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let failed = &data(&report)["failures"][0];
    assert_eq!(failed["code"], "deadline_exceeded", "{failed:#}");
    assert!(
        failed["message"]
            .as_str()
            .unwrap()
            .contains("--job-timeout"),
        "{failed:#}"
    );
    command
        .env_remove("FAILPOINTS")
        .env_remove("CUTOUT_JOB_TIMEOUT");
    succeeded(&run(&mut command));
}

#[test]
fn wrong_usage_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("out.html");
    let photo = file("samples/cat.jpg");
    let photo = photo.to_str().unwrap();
    for (arms, args, expected) in [
        (
            ["brightness", "no-such-network"],
            vec![photo],
            "no-such-network",
        ),
        (
            QUICK,
            vec![photo, "--model", "brightness"],
            "leave --model out",
        ),
        (QUICK, vec!["tests/fixtures/home"], "no photos found"),
        (QUICK, vec![photo, photo], "would both be called cat.jpg"),
        (
            QUICK,
            vec![photo, "--masks", "/no/such/folder"],
            "is not a folder",
        ),
        (QUICK, vec![photo, "--thumbnail", "5"], "64"),
    ] {
        let output = run(compare(quick(), arms, &report).args(&args));
        assert!(!output.status.success(), "{args:?}");
        assert!(
            told(&output).contains(expected),
            "{args:?}: {}",
            told(&output)
        );
        assert!(!report.exists());
    }
    let output = run(compare(quick(), QUICK, dir.path()).arg(photo));
    assert!(
        told(&output).contains("is a folder: name a file"),
        "{}",
        told(&output)
    );
}

/// A report of so many small photos, made of mattes: B's disc is larger than A's by more from photo to photo.
fn large_report(folder: &Path, count: u32) -> PathBuf {
    let [photos, a, b] = ["photos", "a", "b"].map(|name| folder.join(name));
    for folder in [&photos, &a, &b] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let disc = |radius: f64| {
        image::GrayImage::from_fn(96, 72, |x, y| {
            let distance = (f64::from(x) - 48.0).hypot(f64::from(y) - 36.0);
            image::Luma([((radius - distance + 0.5).clamp(0.0, 1.0) * 255.0) as u8])
        })
    };
    let same = disc(18.0);
    for i in 0..count {
        let name = format!("photo-{i:04}");
        let photo = image::RgbImage::from_fn(96, 72, |x, y| {
            image::Rgb([(2 * x) as u8, (3 * y) as u8, (i % 256) as u8])
        });
        photo.save(photos.join(format!("{name}.png"))).unwrap();
        let (larger, matte) = (
            18.0 + 16.0 * f64::from(i) / f64::from(count),
            format!("{name}.png"),
        );
        same.save(a.join(&matte)).unwrap();
        disc(larger).save(b.join(matte)).unwrap();
    }
    let report = folder.join("large.html");
    succeeded(&run(compare(quick(), [&a, &b], &report).arg(&photos)));
    report
}

#[test]
fn the_report_can_be_sorted_filtered_and_looked_into_in_a_browser() {
    let dir = tempfile::tempdir().unwrap();
    let hostile = dir.path().join("set/x\"><img src=x onerror=alert(1)>.jpg");
    std::fs::create_dir(dir.path().join("set")).unwrap();
    std::fs::copy(file(SET).join("images/cup.jpg"), &hostile).unwrap();
    let masks = dir.path().join("masks");
    std::fs::create_dir(&masks).unwrap();
    for mask in std::fs::read_dir(file(SET).join("masks")).unwrap() {
        let mask = mask.unwrap().path();
        std::fs::copy(&mask, masks.join(mask.file_name().unwrap())).unwrap();
    }
    std::fs::copy(masks.join("cup.png"), masks.join("text.png")).unwrap();
    let name = Path::new(hostile.file_name().unwrap()).with_extension("png");
    std::fs::copy(masks.join("cup.png"), masks.join(name)).unwrap();
    let small = dir.path().join("small.html");
    let mut command = compare(quick(), QUICK, &small);
    command.arg("--masks").arg(&masks).arg(&hostile);
    command
        .arg(file(SET).join("images"))
        .arg(file("tests/fixtures/images/text.jpg"));
    assert_eq!(run(&mut command).status.code(), Some(1));
    let large = large_report(dir.path(), 1200);

    let mut driver = Command::new("node");
    driver
        .arg(file("tests/compare/report.mjs"))
        .args([&small, &large])
        .arg(file("target/compare"));
    let walked = run(&mut driver);
    assert!(walked.status.success(), "{}", told(&walked));
    println!("{}", told(&walked));
}
