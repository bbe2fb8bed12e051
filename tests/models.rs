//! Networks, end to end: the built program says what is wrong with one, and brings one here.

mod harness;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{cutout, file, run, told};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A home that has the runtime library and ISNet's small graph, both as links.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("models")).unwrap();
    let link = |from: &str, to: &str| {
        std::os::unix::fs::symlink(file(from), home.path().join(to)).unwrap();
    };
    link(".cache/lib", "lib");
    link(".cache/models/isnet-small.onnx", "models/isnet-small.onnx");
    home
}

/// ISNet's small manifest with one thing changed, as a file.
fn manifest_with(home: &Path, from: &str, to: &str) -> PathBuf {
    let text = std::fs::read_to_string(file("models/isnet-small.toml")).unwrap();
    let changed = text.replacen(from, to, 1);
    assert_ne!(text, changed, "{from}");
    let path = home.join("changed.toml");
    std::fs::write(&path, changed).unwrap();
    path
}

fn with_home(home: &Path, args: &[&str]) -> Command {
    let mut command = cutout();
    command.env("CUTOUT_HOME", home).args(args);
    command
}

/// Both the check and the worker refuse this manifest with exit code 1, in words that hold these.
fn refused(home: &Path, manifest: &Path, words: &[&str]) {
    let manifest = manifest.to_str().unwrap();
    let data = home.join("data");
    let worker = [
        "worker",
        "--ingress",
        "local",
        "--root",
        data.to_str().unwrap(),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
    ];
    for command in [&["model", "check"][..], &worker] {
        let output = run(with_home(home, command).args(["--model", manifest]));
        let told = told(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let error = String::from_utf8_lossy(&output.stderr);
        let error = error
            .lines()
            .find(|line| line.starts_with("error: "))
            .unwrap_or_else(|| panic!("{told}"));
        assert!(error.ends_with("(model_invalid)"), "{error}");
        for word in words.iter().chain([&manifest]) {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
    }
}

#[test]
fn a_wrong_checksum_tells_both_digests_and_what_to_do() {
    let home = home();
    let manifest = manifest_with(home.path(), "7001d607", "00000000");
    let found = "sha256 7001d60734fdc112dd9c062635fb59cd401fb82a9d4213134bce4dbd655c803a";
    let says = "says 00000000";
    refused(home.path(), &manifest, &[found, says, "delete the file"]);
}

#[test]
fn a_missing_file_tells_where_it_was_looked_for_and_what_to_do() {
    let home = home();
    let manifest = manifest_with(home.path(), "isnet-small.onnx", "elsewhere.onnx");
    let place = home.path().join("models/elsewhere.onnx");
    let place = place.to_str().unwrap();
    refused(home.path(), &manifest, &[place, "make setup", "--home"]);
}

#[test]
fn a_wrong_input_name_tells_those_that_the_graph_has() {
    let home = home();
    let manifest = manifest_with(home.path(), "name = \"input\"", "name = \"pixels\"");
    let words = [
        "\"pixels\"",
        "has: input f32[1, 3, 1024, 1024]",
        "input.name",
    ];
    refused(home.path(), &manifest, &words);
}

#[test]
fn an_unknown_resize_policy_tells_the_known_ones() {
    let home = home();
    let manifest = manifest_with(home.path(), "\"static\"", "\"elastic\"");
    refused(
        home.path(),
        &manifest,
        &["`elastic`", "`static`", "`dynamic`"],
    );
}

#[test]
fn a_known_network_that_is_not_here_says_the_command_that_brings_it() {
    let home = home();
    for (name, command) in [
        ("birefnet-general", "cutout model fetch birefnet-general"),
        ("inspyrenet-base", "models.export --mode base"),
    ] {
        let output = run(&mut with_home(
            home.path(),
            &["model", "check", "--model", name],
        ));
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(told(&output).contains(command), "{}", told(&output));
        assert!(told(&output).contains("model_invalid"), "{}", told(&output));
    }
    // Production's variable chooses among the three, and gives the same answer.
    let mut check = with_home(home.path(), &["model", "check"]);
    let output = run(check.env("INSPIRENET_MODE", "fast"));
    assert!(told(&output).contains("--mode fast"), "{}", told(&output));
}

/// A file server on this machine that answers every request alike, and counts them.
struct Mirror {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl Mirror {
    /// `head` is status line and headers, without the empty line.
    fn answering(head: String, body: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/graph.onnx", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::Relaxed);
                hear_out(&stream);
                let _ = write!(stream, "{head}\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(body);
            }
        });
        Self { url, requests }
    }

    fn serving(body: &'static [u8]) -> Self {
        let length = body.len();
        Self::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}"), body)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Reads a request: a client takes an answer to what it has not asked for an error.
fn hear_out(stream: &TcpStream) {
    let mut lines = BufReader::new(stream).lines();
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
}

const GRAPH: &[u8] = b"not really a graph";
const GRAPH_MD5: &str = "cb86c3df0cba0deff833d05b605eb3e0";

/// A manifest of a published graph, for tests only, whose own address nobody answers at.
fn published(home: &Path, md5: &str) -> PathBuf {
    let text = std::fs::read_to_string(file("models/u2net.toml"))
        .unwrap()
        .replace("u2net", "probe")
        .replace("60024c5c889badc19c04ad937298a77b", md5)
        .replace("https://github.com/", "http://127.0.0.1:9/");
    let path = home.join("probe.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn fetch(home: &Path, name: &Path, args: &[&str]) -> Output {
    let name = name.to_str().unwrap();
    run(with_home(home, &["model", "fetch", name]).args(args))
}

/// What lies in the models directory besides ISNet.
fn left(home: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(home.join("models"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "isnet-small.onnx")
        .collect();
    names.sort();
    names
}

#[test]
fn a_fetched_network_has_a_manifest_and_is_not_fetched_again() {
    let home = home();
    let manifest = published(home.path(), GRAPH_MD5);
    let mirror = Mirror::serving(GRAPH);
    let output = fetch(home.path(), &manifest, &["--url", &mirror.url]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(left(home.path()), ["probe.onnx", "probe.toml"]);
    let models = home.path().join("models");
    assert_eq!(std::fs::read(models.join("probe.onnx")).unwrap(), GRAPH);

    let written = std::fs::read_to_string(models.join("probe.toml")).unwrap();
    let written: toml::Table = written.parse().unwrap();
    let sha256 = hex::encode(Sha256::digest(GRAPH));
    assert_eq!(written["sha256"].as_str(), Some(&*sha256));
    assert_eq!(written["bytes"].as_integer(), Some(GRAPH.len() as i64));
    assert!(written.get("origin").is_none());

    let again = fetch(home.path(), &manifest, &["--url", &mirror.url]);
    assert!(told(&again).contains("here "), "{}", told(&again));
    assert_eq!(mirror.requests(), 1);
    let forced = fetch(home.path(), &manifest, &["--url", &mirror.url, "--force"]);
    assert!(forced.status.success(), "{}", told(&forced));
    assert_eq!(mirror.requests(), 2);

    // From now on its name is enough: it passes its digest and fails as a graph.
    let check = run(&mut with_home(
        home.path(),
        &["model", "check", "--model", "probe"],
    ));
    assert!(told(&check).contains("cannot load"), "{}", told(&check));
}

#[test]
fn a_fetched_graph_runs_by_its_name_and_its_ports_need_none() {
    let home = home();
    let graph = std::fs::read(file("tests/fixtures/home/models/brightness.onnx")).unwrap();
    let mirror = Mirror::serving(graph.leak());
    let md5 = "48ccab9f41bdf512dd92a27ce0f8b399";
    let manifest = published(home.path(), md5);
    let text = std::fs::read_to_string(&manifest).unwrap();
    let (head, _) = text.split_once("[input]").unwrap();
    let input = "[input]\nlayout = \"nhwc-u8\"\nfilter = \"lanczos\"\n";
    let output = "[output]\nactivation = \"logit\"\nmin_max = true\nresize = \"lanczos\"\n";
    std::fs::write(&manifest, format!("{head}{input}{output}")).unwrap();
    let output = fetch(home.path(), &manifest, &["--url", &mirror.url]);
    assert!(output.status.success(), "{}", told(&output));

    let check = ["model", "check", "--model", "probe"];
    let check = run(&mut with_home(home.path(), &check));
    assert!(check.status.success(), "{}", told(&check));
    let to = home.path().join("cat.png");
    let remove = run(with_home(home.path(), &["remove", "--model", "probe"])
        .arg(file("samples/cat.jpg"))
        .arg("-o")
        .arg(&to));
    assert!(remove.status.success(), "{}", told(&remove));
    let (_, _, alpha) = harness::alpha(&std::fs::read(to).unwrap());
    // The sigmoid of 0..1 spans 59 levels, until the manifest's stretch spreads them.
    let (min, max) = (alpha.iter().min().unwrap(), alpha.iter().max().unwrap());
    assert!(max - min > 200, "{min} to {max}");
}

#[test]
fn a_file_put_there_by_hand_is_checked_and_gets_its_manifest() {
    let home = home();
    let manifest = published(home.path(), GRAPH_MD5);
    std::fs::write(home.path().join("models/probe.onnx"), GRAPH).unwrap();
    let output = fetch(home.path(), &manifest, &[]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(left(home.path()), ["probe.onnx", "probe.toml"]);
}

#[test]
fn a_checkpoint_is_fetched_and_the_exporters_command_told() {
    let home = home();
    let text = std::fs::read_to_string(file("models/inspyrenet-fast.toml"))
        .unwrap()
        .replace("9efdbfbcc49b79ef0f7891c83d2fd52f", GRAPH_MD5);
    let manifest = home.path().join("fast.toml");
    std::fs::write(&manifest, text).unwrap();
    let mirror = Mirror::serving(GRAPH);
    for _ in 0..2 {
        let output = fetch(home.path(), &manifest, &["--url", &mirror.url]);
        assert!(output.status.success(), "{}", told(&output));
        let checkpoint = home.path().join("models/ckpt_fast.pth");
        let command = format!("--mode fast --checkpoint {}", checkpoint.display());
        assert!(told(&output).contains(&command), "{}", told(&output));
    }
    assert_eq!(left(home.path()), ["ckpt_fast.pth"]);
    assert_eq!(mirror.requests(), 1);
}

#[test]
fn each_way_a_download_fails_is_told_apart_and_leaves_nothing() {
    let home = home();
    let manifest = published(home.path(), GRAPH_MD5);
    let gone = Mirror::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0".into(), b"");
    let busy = Mirror::answering("HTTP/1.1 503 Busy\r\nContent-Length: 0".into(), b"");
    let other = Mirror::serving(b"something else");
    let short = Mirror::answering("HTTP/1.1 200 OK\r\nContent-Length: 100".into(), GRAPH);
    for (url, words) in [
        (&*gone.url, &["404", "there no more", "--url"][..]),
        (&busy.url, &["503", "later"]),
        (&other.url, &["md5", GRAPH_MD5, "nothing was kept"]),
        (&short.url, &["broke off after 18 bytes", "run this again"]),
        (
            "http://127.0.0.1:9/x",
            &["cannot reach 127.0.0.1", "models/probe.onnx"],
        ),
        ("http://example.org/x", &["http proves nothing", "https://"]),
    ] {
        let output = fetch(home.path(), &manifest, &["--url", url]);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        for word in words {
            assert!(told.contains(word), "{word:?} is not in: {told}");
        }
        assert!(left(home.path()).is_empty(), "{:?}", left(home.path()));
    }
}

#[test]
fn an_interrupted_download_leaves_nothing() {
    let home = home();
    let manifest = published(home.path(), GRAPH_MD5);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let mut child = with_home(home.path(), &["model", "fetch", manifest.to_str().unwrap()])
        .args(["--url", &url])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    hear_out(&stream);
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome").unwrap();
    harness::wait_until("the partial file", || {
        (!left(home.path()).is_empty()).then_some(())
    });
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", "INT", &pid]).status();
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(left(home.path()).is_empty(), "{:?}", left(home.path()));
}

#[test]
fn a_directory_that_cannot_be_written_is_told() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("models"), "a file").unwrap();
    let output = fetch(
        home.path(),
        Path::new("u2net"),
        &["--url", "http://127.0.0.1:9/x"],
    );
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("cannot make"), "{}", told(&output));
}

#[test]
fn fetching_isnet_says_that_the_setup_brings_it() {
    let home = tempfile::tempdir().unwrap();
    let output = fetch(home.path(), Path::new("isnet-medium"), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("make setup"), "{}", told(&output));
}

#[test]
fn the_list_says_what_is_here_and_what_brings_the_rest() {
    let home = home();
    let output = run(&mut with_home(home.path(), &["model", "list"]));
    assert!(output.status.success(), "{}", told(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for (name, size, licence, state) in [
        ("isnet-medium", "88", "MIT", "setup"),
        ("isnet-small", "44", "MIT", "here"),
        ("inspyrenet-base", "?", "MIT", "export"),
        ("birefnet-general", "?", "MIT", "fetch"),
        ("birefnet-general-lite", "?", "MIT", "fetch"),
        ("u2net", "?", "Apache-2.0", "fetch"),
    ] {
        let line = text
            .lines()
            .map(|line| line.split_whitespace().take(4).collect::<Vec<_>>())
            .find(|words| words[0] == name);
        assert_eq!(line, Some(vec![name, size, licence, state]), "{text}");
    }
}

#[test]
fn info_tells_people_and_programs_where_a_network_comes_from() {
    let home = home();
    let info = |args: &[&str]| {
        let output = run(with_home(home.path(), &["model", "info"]).args(args));
        assert!(output.status.success(), "{}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = info(&["u2net"]);
    for word in [
        "Apache-2.0",
        "models/u2net.onnx (not there)",
        "v0.0.0/u2net.onnx",
        "60024c5c889badc19c04ad937298a77b",
        "cutout model fetch u2net",
        "filter lanczos, range image-max",
        "resize lanczos",
    ] {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    let value: Value = serde_json::from_str(&info(&["u2net", "--json"])).unwrap();
    assert_eq!(value["state"], "fetch");
    assert_eq!(value["origin"]["kind"], "onnx");
    assert_eq!(value["file"]["here"], false);
    let value: Value = serde_json::from_str(&info(&["isnet-small", "--json"])).unwrap();
    assert_eq!(value["state"], "here");
    assert_eq!(value["file"]["bytes"], 44_342_436);
    assert_eq!(value["origin"], Value::Null);
}
