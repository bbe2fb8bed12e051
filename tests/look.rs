//! Every option of a picture's look through every door: jobs as JSON, `publish` and `remove`, and HTTP.

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use cutout::job::Output;
use harness::{Worker, file, quick, run, told, wait_until};
use serde_json::{Value, json};

/// One look, as each door is told it.
struct Case {
    /// The option that it is about.
    name: &'static str,
    /// A job's `output`.
    json: Value,
    /// Flags of `publish` and `remove`.
    flags: Vec<String>,
    /// Fields of a form.
    fields: Vec<(&'static str, String)>,
    /// The photo's name.
    photo: &'static str,
    /// Whether there is a picture behind the subject, which each door names in its own way.
    backdrop: bool,
}

/// A case whose option is called the same at every door; `more` are options that it needs.
fn case(name: &'static str, value: Value, more: &[(&'static str, Value)]) -> Case {
    let mut case = Case {
        name,
        json: json!({}),
        flags: Vec::new(),
        fields: Vec::new(),
        photo: "subject.png",
        backdrop: false,
    };
    for (name, value) in more.iter().cloned().chain([(name, value)]) {
        let text = match &value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let flag = name.replace('_', "-");
        match &value {
            Value::Bool(true) => case.flags.push(format!("--{flag}")),
            Value::Bool(false) => case.flags.push(format!("--no-{flag}")),
            _ => case.flags.push(format!("--{flag}={text}")),
        }
        let field = if name == "format" {
            "output_format"
        } else {
            name
        };
        case.fields.push((field, text));
        case.json[name] = value;
    }
    case
}

/// All of them. No two make the same picture, so an option that a door ignores is found out.
fn cases() -> Vec<Case> {
    let plain = |name, value| case(name, value, &[]);
    let cropped = || ("crop", Value::Bool(true));
    // Larger than the network's matte.
    let of_large = |case| Case {
        photo: "large.png",
        ..case
    };
    let mut background = plain("background", json!("#102030"));
    // The command line has `--kind` alone.
    background.flags = vec!["--kind=color:#102030".into()];
    let stretched = Case {
        name: "kind",
        json: json!({}),
        flags: Vec::new(),
        fields: Vec::new(),
        photo: "subject.png",
        backdrop: true,
    };
    let mut covering = plain("background_fit", json!("cover"));
    covering.backdrop = true;
    let everything = case(
        "shadow",
        json!("x=-2,y=3%,blur=5,opacity=0.6,color=#203040"),
        &[
            ("kind", json!("white")),
            ("size", json!("31x29")),
            cropped(),
            ("padding", json!(3)),
            ("dpi", json!(72)),
            ("profile", json!("source")),
            ("depth", json!("source")),
            ("keep_metadata", json!("exif_with_location")),
            ("decontaminate", json!(false)),
        ],
    );
    vec![
        plain("dpi", json!(300)), // The default.
        plain("format", json!("webp")),
        plain("kind", json!("white")),
        plain("kind", json!("mask")),
        plain("kind", json!("blur")),
        plain("kind", json!("overlay")),
        background,
        stretched,
        covering,
        plain("size", json!(20)),
        case("upscale", json!(true), &[("size", json!("90x90"))]),
        plain("crop", json!(true)),
        case("padding", json!("10%"), &[cropped()]),
        plain("dpi", json!(96)),
        plain("threshold", json!(0.5)),
        plain("reverse", json!(true)),
        plain("decontaminate", json!(false)),
        of_large(plain("dpi", json!(300))),
        of_large(plain("refine", json!(true))),
        of_large(case("refine", json!(true), &[("depth", json!("source"))])),
        plain("profile", json!("source")),
        case("profile", json!("source"), &[("format", json!("webp"))]),
        plain("depth", json!("source")),
        plain("keep_metadata", json!("copyright")),
        plain("keep_metadata", json!("exif")),
        plain("keep_metadata", json!("exif_with_location")),
        plain("shadow", json!("soft")),
        case(
            "shadow",
            json!("x=3,y=4,blur=0"),
            &[("kind", json!("green"))],
        ),
        everything,
    ]
}

impl Case {
    fn extension(&self) -> &'static str {
        if self.json["format"] == "webp" {
            "webp"
        } else {
            "png"
        }
    }
}

const BOUNDARY: &str = "a-form-of-the-tests";

fn form(photo: &[u8], case: &Case) -> Vec<u8> {
    let mut body = Vec::new();
    let mut part = |name: &str, file: &str, content: &[u8]| {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    };
    for (name, value) in &case.fields {
        part(name, "", value.as_bytes());
    }
    if case.backdrop {
        let backdrop = std::fs::read(file("tests/fixtures/colour/backdrop.png")).unwrap();
        part("background_file", "; filename=\"b.png\"", &backdrop);
    }
    part("file", "; filename=\"rex.png\"", photo);
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

fn over_http(worker: &Worker, query: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    let url = worker.url(&format!("/remove-background{query}"));
    let request = async {
        let answer = reqwest::Client::new()
            .post(url)
            .header(
                "content-type",
                format!("multipart/form-data; boundary={BOUNDARY}"),
            )
            .body(body)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (status, answer.bytes().await.unwrap().to_vec())
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(request)
}

/// A root with the photos of the cases, and a worker on it.
fn worker(root: &Path) -> Worker {
    std::fs::create_dir(root.join("photos")).unwrap();
    for name in ["subject.png", "backdrop.png"] {
        let from = file("tests/fixtures/colour").join(name);
        std::fs::copy(from, root.join("photos").join(name)).unwrap();
    }
    let large = image::open(file("tests/fixtures/colour/subject.png")).unwrap();
    let large = large.resize_exact(144, 108, image::imageops::FilterType::CatmullRom);
    large.save(root.join("photos/large.png")).unwrap();
    let mut command = quick();
    command
        .args(["worker", "--ingress", "local", "--root"])
        .arg(root)
        .args(["--http-api", "--rate-limit", "0"]);
    Worker::start(command).ready()
}

fn publish(root: &Path) -> std::process::Command {
    let mut command = quick();
    command
        .args(["publish", "--ingress", "local", "--root"])
        .arg(root);
    command
}

fn done(command: &mut std::process::Command) {
    let ran = run(command);
    assert!(ran.status.success(), "{command:?}: {}", told(&ran));
}

/// What each worker thread of a test takes its next case from.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(usize, &T) + Sync) {
    let next = Mutex::new(0..items.len());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(i) = next.lock().unwrap().next() else {
                        break;
                    };
                    work(i, &items[i]);
                }
            });
        }
    });
}

#[test]
fn every_option_is_at_every_door_and_makes_the_same_file_there() {
    let cases = cases();
    let schema = schemars::schema_for!(Output);
    let options: BTreeSet<_> = schema.as_value()["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let covered: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(
        options, covered,
        "an option without a case here, or a case without an option"
    );

    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let worker = worker(root);
    let name = |door: &str, i: usize, case: &Case| format!("{door}/{i}.{}", case.extension());

    let jobs: String = cases
        .iter()
        .enumerate()
        .map(|(i, case)| {
            let mut output = case.json.clone();
            if case.backdrop {
                output["kind"] = json!("image:photos/backdrop.png");
            }
            let job = json!({
                "source": format!("photos/{}", case.photo),
                "destination": name("json", i, case),
                "output": output,
            });
            format!("{job}\n")
        })
        .collect();
    let list = root.join("jobs.jsonl");
    std::fs::write(&list, jobs).unwrap();
    done(publish(root).arg("--file").arg(&list));

    let removed = root.join("remove");
    in_parallel(&cases, |i, case| {
        let mut flags = publish(root);
        flags
            .args(&case.flags)
            .arg(format!("photos/{}", case.photo));
        if case.backdrop {
            flags.args(["--kind", "image:photos/backdrop.png"]);
        }
        done(flags.args(["--destination", &name("publish", i, case)]));

        let mut remove = quick();
        remove
            .arg("remove")
            .arg(root.join("photos").join(case.photo));
        remove.args(&case.flags);
        if case.backdrop {
            remove
                .arg("--background")
                .arg(root.join("photos/backdrop.png"));
        }
        let to = removed.join(format!("{i}.{}", case.extension()));
        done(remove.arg("-o").arg(to));
    });

    let mut pictures = BTreeMap::new();
    for (i, case) in cases.iter().enumerate() {
        let told = format!("{} ({})", case.name, case.json);
        let written = |door: &str| {
            let path = root.join(name(door, i, case));
            wait_until(&told, || {
                if !path.exists() {
                    let failed = worker
                        .logs()
                        .into_iter()
                        .find(|e| e["message"] == "job failed");
                    assert!(failed.is_none(), "{told}: {failed:?}");
                    return None;
                }
                std::fs::read(&path).ok()
            })
        };
        let json = written("json");
        assert!(
            json == written("publish"),
            "{told}: publish makes another file"
        );
        assert!(
            json == written("remove"),
            "{told}: remove makes another file"
        );
        let photo = std::fs::read(root.join("photos").join(case.photo)).unwrap();
        // Twice: the second time it may come out of the cache.
        for _ in 0..2 {
            let (status, answer) = over_http(&worker, "", form(&photo, case));
            assert_eq!(status, 200, "{told}: {}", String::from_utf8_lossy(&answer));
            assert!(json == answer, "{told}: HTTP makes another file");
        }
        if let Some(other) = pictures.insert(json, told.clone()) {
            panic!("{told} and {other} are the same file: one of them does nothing");
        }
    }
}

#[test]
fn all_eight_orientations_stand_upright_through_every_door() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let worker = worker(root);
    let named = |number: u32| format!("orientation-{number}.jpg");
    let mut publish = publish(root);
    let mut remove = quick();
    remove.arg("remove").arg("-o").arg(root.join("removed"));
    for number in 1..=8 {
        let name = named(number);
        let photo = root.join("photos").join(&name);
        std::fs::copy(file("tests/fixtures/images").join(&name), &photo).unwrap();
        publish.arg(format!("photos/{name}"));
        remove.arg(&photo);
    }
    done(publish.args(["--kind", "overlay"]));
    done(remove.args(["--kind", "overlay"]));
    let upright = image::open(file("tests/fixtures/images/orientation-reference.png")).unwrap();
    for number in 1..=8 {
        let jobs = root.join(format!("outbox/photos/orientation-{number}.cutout.png"));
        let job = wait_until("the job's picture", || std::fs::read(&jobs).ok());
        let removed =
            std::fs::read(root.join(format!("removed/orientation-{number}.png"))).unwrap();
        assert!(job == removed, "{number}");
        let photo = std::fs::read(root.join("photos").join(named(number))).unwrap();
        let overlay = case("kind", json!("overlay"), &[]);
        let (status, answer) = over_http(&worker, "", form(&photo, &overlay));
        assert!(status == 200 && job == answer, "{number}: {status}");
        let picture = image::load_from_memory(&job).unwrap();
        assert_eq!(
            (picture.width(), picture.height()),
            (upright.width(), upright.height()),
            "{number}"
        );
    }
}

#[test]
fn what_contradicts_itself_is_refused_at_every_door_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let worker = worker(root);
    let photo = std::fs::read(root.join("photos/subject.png")).unwrap();
    for (name, value, more) in [
        ("depth", json!("source"), ("format", json!("webp"))),
        ("depth", json!("source"), ("kind", json!("blur"))),
        ("shadow", json!("soft"), ("kind", json!("mask"))),
    ] {
        let case = case(name, value, &[more]);
        let (status, answer) = over_http(&worker, "", form(&photo, &case));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!("invalid_job")),
            "{answer}"
        );
        let ran = run(publish(root).args(&case.flags).arg("photos/subject.png"));
        assert_eq!(ran.status.code(), Some(2), "{}", told(&ran));
        let mut remove = quick();
        remove
            .args(["remove", "photos/subject.png", "-o", "x.png"])
            .current_dir(root);
        if case.extension() == "webp" {
            remove.args(["-o", "x.webp"]);
        }
        let ran = run(remove.args(&case.flags));
        assert!(!ran.status.success(), "{}", told(&ran));
    }
    // Effects are made of the plain cut-out.
    for query in ["?kind=white", "?shadow=soft", "?depth=source"] {
        let url = worker.url(&format!("/api/v2/process{query}"));
        let (kind, body) = (
            format!("multipart/form-data; boundary={BOUNDARY}"),
            form(&photo, &case("dpi", json!(300), &[])),
        );
        let status = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let request = reqwest::Client::new()
                    .post(url)
                    .header("content-type", kind);
                request.body(body).send().await.unwrap().status().as_u16()
            });
        assert_eq!(status, 400, "{query}");
    }
}
