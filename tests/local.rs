//! The embedded default, end to end: the built program, a directory, a real network.

mod harness;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use harness::{Worker, alpha, cutout, file, likeness, quick, run, told, wait_until};
use serde_json::Value;

const CAT: &str = "samples/cat.jpg";

fn publish(root: &Path, args: &[&str]) -> Command {
    let mut command = cutout();
    command
        .args(["publish", "--ingress", "local", "--root"])
        .arg(root)
        .args(args);
    command
}

fn drop_in(root: &Path, from: &str, name: &str) {
    std::fs::create_dir_all(root.join("inbox")).unwrap();
    std::fs::copy(file(from), root.join("inbox").join(name)).unwrap();
}

/// Outputs by file name, with the modification times that are their generations.
fn outbox(root: &Path) -> BTreeMap<String, std::time::SystemTime> {
    walkdir::WalkDir::new(root.join("outbox"))
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let modified = entry.metadata().unwrap().modified().unwrap();
            (entry.file_name().to_str().unwrap().to_owned(), modified)
        })
        .collect()
}

#[test]
fn a_photo_in_the_inbox_becomes_a_cut_out_like_the_reference_and_moves_the_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let worker = Worker::local(dir.path(), &[]).ready();
    drop_in(dir.path(), CAT, "cat.jpg");
    let output = dir.path().join("outbox/cat.cutout.png");
    let png = wait_until("the cut-out", || std::fs::read(&output).ok());

    let (width, height, cut) = alpha(&png);
    let photo = image::open(file(CAT)).unwrap();
    assert_eq!((width, height), (photo.width(), photo.height()));
    let reference = image::open(file("tests/fixtures/masks/cat.mask.png"))
        .unwrap()
        .to_luma8();
    let (difference, iou) = likeness(&cut, reference.as_raw());
    assert!(difference <= 1.0, "mean difference {difference}/255");
    assert!(iou >= 0.99, "IoU {iou}");

    let done = ["outcome=\"done\"", "ingress=\"local\""];
    wait_until("the metric", || {
        (worker.metric("cutout_jobs_total", &done) == 1.0).then_some(())
    });
    assert_eq!(
        worker.metric("cutout_stage_seconds_count", &["stage=\"infer\""]),
        1.0
    );
    assert_eq!(
        worker.metric("cutout_inference_seconds_count", &["provider=\"cpu\""]),
        1.0
    );
    assert_eq!(worker.metric("cutout_stage_queue_depth", &[]), 0.0);
    assert!(worker.metric("cutout_bytes_out_total", &[]) >= png.len() as f64);
    let loaded = worker
        .logged("Model loaded")
        .expect("operators filter on it");
    assert_eq!(loaded["severity"], "INFO");
    // The output lies in the store too, and must not have become a job.
    assert_eq!(worker.metric("cutout_jobs_total", &[]), 1.0);
}

#[test]
fn each_bad_input_fails_with_its_own_code_and_its_neighbours_are_cut_out() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = "tests/fixtures/images";
    for (from, name) in [
        (CAT, "good-1.jpg"),
        (&*format!("{inputs}/text.jpg"), "text.jpg"),
        (&*format!("{inputs}/truncated.jpg"), "truncated.jpg"),
        (&*format!("{inputs}/bomb-30000x30000.png"), "bomb.png"),
        ("samples/coffee.jpg", "good-2.jpg"),
    ] {
        std::fs::create_dir_all(dir.path().join("photos")).unwrap();
        std::fs::copy(file(from), dir.path().join("photos").join(name)).unwrap();
    }
    let worker = Worker::local(dir.path(), &[]).ready();
    let sources = [
        "good-1.jpg",
        "text.jpg",
        "truncated.jpg",
        "bomb.png",
        "missing.jpg",
        "good-2.jpg",
    ]
    .map(|name| format!("photos/{name}"));
    let mut args: Vec<&str> = sources.iter().map(String::as_str).collect();
    args.extend(["--wait", "--json"]);
    let output = run(&mut publish(dir.path(), &args));
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));

    let mut answers = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let result: Value = serde_json::from_str(line).unwrap();
        let source = result["source"]
            .as_str()
            .unwrap()
            .split('#')
            .next()
            .unwrap()
            .to_owned();
        let code = result["error"]["code"]
            .as_str()
            .unwrap_or("done")
            .to_owned();
        answers.insert(source, code);
    }
    let expected: BTreeMap<String, String> = [
        ("photos/good-1.jpg", "done"),
        ("photos/text.jpg", "unsupported_format"),
        ("photos/truncated.jpg", "image_corrupt"),
        ("photos/bomb.png", "image_too_large"),
        ("photos/missing.jpg", "source_not_found"),
        ("photos/good-2.jpg", "done"),
    ]
    .map(|(source, code)| (source.to_owned(), code.to_owned()))
    .into();
    assert_eq!(answers, expected);
    assert_eq!(worker.metric("cutout_dead_letters_total", &[]), 4.0);
    assert_eq!(
        worker.metric(
            "cutout_jobs_total",
            &["outcome=\"failed\"", "code=\"image_corrupt\""]
        ),
        1.0
    );
    assert_eq!(worker.get("/health").0, 200);
}

#[test]
fn twenty_jobs_and_a_crash_in_their_middle_give_twenty_outputs_of_one_generation_each() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("photos")).unwrap();
    let names: Vec<String> = (0..20).map(|i| format!("photos/cat-{i:02}.jpg")).collect();
    for name in &names {
        std::fs::copy(file(CAT), dir.path().join(name)).unwrap();
    }
    let args: Vec<&str> = names.iter().map(String::as_str).collect();
    let output = run(&mut publish(dir.path(), &args));
    assert!(output.status.success(), "{}", told(&output));

    let worker = Worker::local(dir.path(), &[]);
    wait_until("a few outputs", || {
        (outbox(dir.path()).len() >= 5).then_some(())
    });
    worker.kill();
    let before = outbox(dir.path());
    assert!(
        before.len() < 20,
        "the crash came too late to mean anything"
    );

    let worker = Worker::local(dir.path(), &[]).ready();
    wait_until("the rest", || {
        (outbox(dir.path()).len() == 20).then_some(())
    });
    let finished =
        |outcome: &str| worker.metric("cutout_jobs_total", &[&format!("outcome=\"{outcome}\"")]);
    // Whatever was not acked before the crash is answered now, as done or as a duplicate.
    wait_until("an empty queue", || {
        (worker.metric("cutout_jobs_in_flight", &[]) == 0.0
            && finished("done") + before.len() as f64 >= 20.0)
            .then_some(())
    });
    let after = outbox(dir.path());
    for (name, generation) in &before {
        assert_eq!(
            after.get(name),
            Some(generation),
            "{name} was written twice"
        );
    }
    assert_eq!(finished("failed"), 0.0);
    let stray: Vec<_> = std::fs::read_dir(dir.path().join(".cutout/tmp"))
        .into_iter()
        .flatten()
        .collect();
    assert!(stray.len() <= 1, "temporary files are left: {stray:?}");
}

#[test]
fn sigterm_drains_and_gives_the_rest_back() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("photos")).unwrap();
    let names: Vec<String> = (0..12).map(|i| format!("photos/cat-{i:02}.jpg")).collect();
    for name in &names {
        std::fs::copy(file(CAT), dir.path().join(name)).unwrap();
    }
    let mut worker = Worker::local(dir.path(), &["--drain-timeout", "3s"]).ready();
    let args: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(run(&mut publish(dir.path(), &args)).status.success());
    wait_until("work", || (!outbox(dir.path()).is_empty()).then_some(()));
    worker.signal("TERM");
    wait_until("draining to show", || {
        let (status, body) = worker.get("/health");
        // A drain of a fast machine may be over before it is looked at.
        (status == 503 && body.contains("draining") || status == 0).then_some(())
    });
    let (code, took) = worker.exit();
    assert_eq!(code, Some(0), "{:#?}", worker.logs());
    assert!(
        took.as_secs() < 10,
        "Cloud Run kills after 10 s, it took {took:?}"
    );
    drop(worker);

    let _worker = Worker::local(dir.path(), &[]).ready();
    wait_until("the rest", || {
        (outbox(dir.path()).len() == 12).then_some(())
    });
}

/// Status of every result so far, in their order.
fn statuses(root: &Path) -> Vec<String> {
    let queue = rusqlite::Connection::open(root.join(".cutout/queue.sqlite")).unwrap();
    let mut results = queue
        .prepare("SELECT data FROM results ORDER BY id")
        .unwrap();
    let results = results.query_map([], |row| row.get(0)).unwrap();
    let statuses = results.map(|result: rusqlite::Result<String>| {
        let result: Value = serde_json::from_str(&result.unwrap()).unwrap();
        result["status"].as_str().unwrap().to_owned()
    });
    statuses.collect()
}

#[test]
fn two_workers_share_a_queue_exactly_also_when_one_drains_and_one_is_killed() {
    const BATCH: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir(root.join("photos")).unwrap();
    let worker = || {
        let mut command = quick();
        command.args(["worker", "--ingress", "local", "--root"]);
        command.arg(root);
        Worker::start(command).ready()
    };
    let hand_in = |batch: &str| {
        let names = (0..BATCH).map(|i| format!("photos/{batch}-{i:02}.jpg"));
        let names: Vec<String> = names.collect();
        for name in &names {
            std::fs::copy(file("tests/fixtures/images/cmyk.jpg"), root.join(name)).unwrap();
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let published = run(&mut publish(root, &names));
        assert!(published.status.success(), "{}", told(&published));
    };
    let outputs = |count: usize| {
        wait_until("the outputs", || {
            (outbox(root).len() >= count).then_some(())
        });
    };
    let results = |count: usize| {
        wait_until("the results", || {
            (statuses(root).len() >= count).then_some(())
        });
        statuses(root)
    };

    let (mut first, second) = (worker(), worker());
    hand_in("both");
    assert_eq!(results(BATCH), vec!["done"; BATCH], "shared exactly");

    hand_in("drained");
    outputs(BATCH + 1);
    first.signal("TERM");
    assert_eq!(first.exit().0, Some(0));
    assert_eq!(results(2 * BATCH), vec!["done"; 2 * BATCH], "left exactly");

    let third = worker();
    hand_in("killed");
    outputs(2 * BATCH + 1);
    let before = outbox(root);
    second.kill();
    outputs(3 * BATCH);
    wait_until("the last of the killed worker's jobs", || {
        (third.metric("cutout_jobs_in_flight", &[]) == 0.0 && statuses(root).len() >= 3 * BATCH)
            .then_some(())
    });
    let after = outbox(root);
    for (name, generation) in &before {
        assert_eq!(
            after.get(name),
            Some(generation),
            "{name} was written twice"
        );
    }
    assert!(statuses(root).iter().all(|status| status != "failed"));
}

#[test]
fn a_second_signal_ends_the_worker_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("photos")).unwrap();
    let names: Vec<String> = (0..8).map(|i| format!("photos/cat-{i:02}.jpg")).collect();
    for name in &names {
        std::fs::copy(file(CAT), dir.path().join(name)).unwrap();
    }
    let mut worker = Worker::local(dir.path(), &["--drain-timeout", "60s"]).ready();
    let args: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(run(&mut publish(dir.path(), &args)).status.success());
    wait_until("work", || {
        (worker.metric("cutout_jobs_in_flight", &[]) > 1.0).then_some(())
    });
    worker.signal("TERM");
    wait_until("draining", || {
        worker.logged("draining: no more jobs are pulled")
    });
    // Two signals at once are one wish; this is another.
    std::thread::sleep(std::time::Duration::from_millis(700));
    worker.signal("TERM");
    let (code, _) = worker.exit();
    assert_eq!(code, Some(143));
}

#[test]
fn a_job_published_twice_is_computed_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("photos")).unwrap();
    std::fs::copy(file(CAT), dir.path().join("photos/cat.jpg")).unwrap();
    let worker = Worker::local(dir.path(), &[]).ready();
    let first = run(&mut publish(
        dir.path(),
        &["photos/cat.jpg", "--wait", "--json"],
    ));
    let second = run(&mut publish(
        dir.path(),
        &["photos/cat.jpg", "--wait", "--json"],
    ));
    let parse = |output: &std::process::Output| -> Value {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(output)))
    };
    let (first, second) = (parse(&first), parse(&second));
    assert_eq!(
        (&first["status"], &second["status"]),
        (&"done".into(), &"duplicate".into())
    );
    for field in ["generation", "bytes", "width", "height", "crc32c", "uri"] {
        assert_eq!(
            first["outputs"][0][field], second["outputs"][0][field],
            "{field}"
        );
        assert!(!first["outputs"][0][field].is_null(), "{field}");
    }
    assert_eq!(
        worker.metric("cutout_stage_seconds_count", &["stage=\"infer\""]),
        1.0
    );
}

#[test]
fn an_output_that_a_job_sends_to_the_inbox_is_not_cut_out_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("photos")).unwrap();
    std::fs::copy(file(CAT), dir.path().join("photos/cat.jpg")).unwrap();
    let worker = Worker::local(dir.path(), &[]).ready();
    let args = ["photos/cat.jpg", "--destination", "inbox/rex.png", "--wait"];
    let output = run(&mut publish(dir.path(), &args));
    assert!(output.status.success(), "{}", told(&output));
    wait_until("the skipped upload", || {
        (worker.metric("cutout_notifications_skipped_total", &["own_output"]) == 1.0).then_some(())
    });
    assert_eq!(
        worker.metric("cutout_stage_seconds_count", &["stage=\"infer\""]),
        1.0
    );
    assert!(outbox(dir.path()).is_empty());
}

#[test]
fn a_photo_that_is_copied_slowly_into_a_relative_root_is_taken_when_it_is_whole() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let mut command = cutout();
    command
        .current_dir(dir.path())
        .args(["worker", "--root", "shop"]);
    let worker = Worker::start(command).ready();
    let photo = std::fs::read(file(CAT)).unwrap();
    std::fs::create_dir_all(dir.path().join("shop/inbox/monday")).unwrap();
    let mut copy = std::fs::File::create(dir.path().join("shop/inbox/monday/cat.jpg")).unwrap();
    for chunk in photo.chunks(photo.len() / 6) {
        copy.write_all(chunk).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1300));
    }
    drop(copy);
    let root = dir.path().join("shop");
    wait_until("the cut-out", || {
        root.join("outbox/monday/cat.cutout.png")
            .exists()
            .then_some(())
    });
    wait_until("its metric", || {
        (worker.metric("cutout_jobs_total", &["outcome=\"done\""]) == 1.0).then_some(())
    });
    assert_eq!(
        worker.metric("cutout_jobs_total", &[]),
        1.0,
        "a half-written photo was taken"
    );
}

#[test]
fn the_side_port_answers_before_the_model_is_loaded_and_startup_only_after() {
    let dir = tempfile::tempdir().unwrap();
    let worker = Worker::local(dir.path(), &[]);
    // The address is logged before the model's file has even been hashed.
    let (status, body) = worker.get("/startup");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("model_not_loaded"), "{body}");
    assert_eq!(worker.get("/health").0, 200);
    let worker = worker.ready();
    assert_eq!(worker.get_json("/startup")["model_loaded"], true);
    let health = worker.get_json("/health");
    assert_eq!(health["status"], "healthy", "{health:#}");
    assert_eq!(health["storage_connected"], true);
    let info = worker.get_json("/model-info");
    assert_eq!(info["model"], "isnet-medium", "{info:#}");
    assert_eq!(worker.get("/nothing-here").0, 404);
}

#[test]
fn a_job_with_effects_writes_them_beside_its_cut_out_once_and_none_becomes_a_job() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let mut command = quick();
    command.args(["worker", "--root"]).arg(root);
    let worker = Worker::start(command).ready();
    std::fs::create_dir(root.join("photos")).unwrap();
    std::fs::copy(file(CAT), root.join("photos/cat.jpg")).unwrap();
    let order = |extra: &[&str]| {
        let mut publish = publish(root, &["--wait", "--json", "photos/cat.jpg"]);
        publish
            .args(["--effect", "popart,none,dithering", "--kind", "white"])
            .args(extra);
        let answered = run(&mut publish);
        assert!(answered.status.success(), "{}", told(&answered));
        serde_json::from_slice::<Value>(&answered.stdout).unwrap()
    };
    let result = order(&[]);
    assert_eq!(result["status"], "done");
    let outputs: Vec<_> = result["outputs"].as_array().unwrap().iter().collect();
    let kinds: Vec<_> = outputs
        .iter()
        .map(|output| output["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["white", "popart", "color", "dithering"]);
    let uris: Vec<_> = outputs
        .iter()
        .map(|output| output["uri"].as_str().unwrap())
        .collect();
    assert_eq!(
        uris,
        [
            "outbox/photos/cat.cutout.png",
            "outbox/photos/cat.popart.png",
            "outbox/photos/cat.color.png",
            "outbox/photos/cat.dithering.png"
        ]
    );
    assert!(result["timings_ms"]["effects"].is_u64());
    let pictures: Vec<_> = uris
        .iter()
        .map(|uri| image::open(root.join(uri)).unwrap())
        .collect();
    assert!(!pictures[0].color().has_alpha(), "on white");
    for picture in &pictures[1..] {
        assert!(picture.color().has_alpha(), "effects are of the cut-out");
        assert_eq!(
            (picture.width(), picture.height()),
            (pictures[0].width(), pictures[0].height())
        );
    }

    let before = outbox(root);
    assert_eq!(order(&[])["status"], "duplicate");
    assert_eq!(outbox(root), before);
    // One that is lost is made again, and nothing else is touched.
    std::fs::remove_file(root.join(uris[1])).unwrap();
    assert_eq!(order(&[])["status"], "done");
    let after = outbox(root);
    assert_eq!(after.len(), 4);
    assert_eq!(
        before
            .iter()
            .filter(|(name, generation)| after.get(*name) == Some(generation))
            .count(),
        3
    );
    assert_eq!(
        worker.metric("cutout_jobs_total", &["ingress=\"local\""]),
        3.0
    );
}

#[test]
fn remove_takes_the_old_background_out_of_the_edge_unless_told_not_to() {
    let dir = tempfile::tempdir().unwrap();
    let cut = |name: &str, flags: &[&str]| {
        let path = dir.path().join(name);
        let mut remove = quick();
        remove
            .args(["remove", "--overwrite", "-o"])
            .arg(&path)
            .arg(file(CAT));
        let ran = run(remove.args(flags));
        assert!(ran.status.success(), "{}", told(&ran));
        image::open(path).unwrap().into_rgba8()
    };
    let own = cut("own.png", &[]);
    let plain = cut("plain.png", &["--no-decontaminate"]);
    let alpha = |cut: &image::RgbaImage| cut.pixels().map(|pixel| pixel[3]).collect::<Vec<_>>();
    assert_eq!(alpha(&own), alpha(&plain));
    let changed = own.pixels().zip(plain.pixels()).filter(|(a, b)| a != b);
    let between = own.pixels().filter(|pixel| (1..255).contains(&pixel[3]));
    assert!(changed.count() * 2 > between.count());
    // A hard mask mixes nothing, and a mask has no colour.
    for flags in [["--threshold", "0.4"], ["--kind", "mask"]] {
        let with = cut("with.png", &flags);
        let without = cut(
            "without.png",
            &[&flags[..], &["--no-decontaminate"]].concat(),
        );
        assert_eq!(with, without, "{flags:?}");
    }
}

#[test]
fn remove_writes_effects_and_a_contact_sheet() {
    let dir = tempfile::tempdir().unwrap();
    let mut remove = quick();
    remove
        .arg("remove")
        .arg(file(CAT))
        .arg("-o")
        .arg(dir.path().join("rex.png"))
        .args(["--effect", "retro8bit", "--contact-sheet"])
        .arg(dir.path().join("sheet.png"));
    let ran = run(&mut remove);
    assert!(ran.status.success(), "{}", told(&ran));
    let cut = image::open(dir.path().join("rex.png")).unwrap();
    let retro = image::open(dir.path().join("rex.retro8bit.png")).unwrap();
    assert_eq!((cut.width(), cut.height()), (retro.width(), retro.height()));
    assert_ne!(cut, retro);
    let sheet = image::open(dir.path().join("sheet.png")).unwrap();
    assert!(
        sheet.width() > 400 && sheet.height() > 400,
        "{}x{}",
        sheet.width(),
        sheet.height()
    );
}

#[test]
fn a_health_check_without_curl_tells_a_ready_worker_from_one_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = quick();
    command
        .args(["worker", "--ingress", "local", "--root"])
        .arg(dir.path());
    let worker = Worker::start(command).ready();
    let port = worker.address().rsplit(':').next().unwrap().to_owned();
    let asked = |arguments: &[&str]| {
        let mut command = cutout();
        run(command.arg("health").args(arguments).env("PORT", &port))
    };
    for arguments in [&[][..], &["--ready"]] {
        let output = asked(arguments);
        assert!(output.status.success(), "{}", told(&output));
    }
    drop(worker);
    let output = asked(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("error"), "{}", told(&output));
}
