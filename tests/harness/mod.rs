//! Runs the built program as its users do, and looks at what it leaves.

#![allow(dead_code)] // Every test binary uses a part of it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing here takes this long unless it is broken: the machine may be slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A checked-in file, by its path from the repository's root.
pub fn file(path: &str) -> PathBuf {
    root().join(path)
}

/// The program with a clean environment: what the machine happens to have set must not decide.
pub fn cutout() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutout"));
    command.env_clear();
    for keep in ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(keep) {
            command.env(keep, value);
        }
    }
    command.env("CUTOUT_HOME", root().join(".cache"));
    // The reference masks and the bounds on memory are those of ONNX Runtime's own kernels, which
    // every machine has; tests/providers.rs is about the others, and about the default.
    command.env("CUTOUT_PROVIDER", "cpu");
    command
}

/// The same with a network that takes a millisecond and answers a photo's brightness
/// (`tests/parity/make_graphs.py`), for tests that are about everything but the network.
pub fn quick() -> Command {
    let mut command = cutout();
    command
        .env("CUTOUT_HOME", file("tests/fixtures/home"))
        .env("CUTOUT_ORT_LIB", file(".cache/lib/libonnxruntime.so"))
        .env("CUTOUT_MODEL", "brightness");
    command
}

/// Runs a command to its end, output captured.
pub fn run(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

/// Standard output and error as text, for messages.
pub fn told(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The number at a JSON pointer.
pub fn number(value: &Value, path: &str) -> f64 {
    let number = value.pointer(path).and_then(Value::as_f64);
    number.unwrap_or_else(|| panic!("no number at {path}: {value:#}"))
}

/// The `name` of each of a list.
pub fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap();
    list.iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect()
}

/// Tries until it is so.
pub fn wait_until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A running worker. Killed when dropped.
pub struct Worker {
    child: Child,
    logs: Arc<Mutex<Vec<Value>>>,
    address: String,
}

impl Worker {
    /// Starts a worker with a side port of its own, JSON logs, and these arguments.
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .args(["--host", "127.0.0.1", "--port", "0"])
            .env("CUTOUT_LOG_FORMAT", "json")
            .env("LOG_LEVEL", "info,cutout=debug")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the worker starts");
        let logs = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let collected = logs.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let entry = serde_json::from_str(&line).unwrap_or(Value::String(line));
                collected.lock().unwrap().push(entry);
            }
        });
        let mut worker = Self {
            child,
            logs,
            address: String::new(),
        };
        let mut ended = false;
        worker.address = wait_until("the side port's address", || {
            let entry = worker.logged("the side port answers");
            if let Some(entry) = entry {
                return Some(entry["address"].as_str()?.to_owned());
            }
            // It may have ended right after having told; what it told comes by another thread.
            assert!(!ended, "the worker ended: {:#?}", worker.logs());
            ended = worker.child.try_wait().unwrap().is_some();
            None
        });
        worker
    }

    /// Starts a local worker on a directory.
    pub fn local(root: &Path, args: &[&str]) -> Self {
        let mut command = cutout();
        command
            .args(["worker", "--ingress", "local", "--root"])
            .arg(root)
            .args(args);
        Self::start(command)
    }

    fn assert_running(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!(
                "the worker ended with {status}: {:#?}",
                self.logs.lock().unwrap()
            );
        }
    }

    /// Waits until `/startup` says ready.
    pub fn ready(mut self) -> Self {
        wait_until("readiness", || {
            self.assert_running();
            (self.get("/startup").0 == 200).then_some(())
        });
        self
    }

    /// The side port's `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:PORT` and a path of the side port.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Status and body of a GET on the side port; status 0 when nobody answers.
    pub fn get(&self, path: &str) -> (u16, String) {
        let url = self.url(path);
        let fetch = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                match reqwest::get(url).await {
                    Ok(answer) => (
                        answer.status().as_u16(),
                        answer.text().await.unwrap_or_default(),
                    ),
                    Err(_) => (0, String::new()),
                }
            })
        };
        // On a thread of its own, because the test may be inside a runtime already.
        std::thread::scope(|scope| scope.spawn(fetch).join().unwrap())
    }

    /// JSON of a GET on the side port.
    pub fn get_json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).1).unwrap_or(Value::Null)
    }

    /// The value of one sample, such as `cutout_jobs_total{code="none",…}`; 0 when absent.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = self.get("/metrics");
        text.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && labels.iter().all(|label| line.contains(label))
            })
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// The first log entry with this message.
    pub fn logged(&self, message: &str) -> Option<Value> {
        self.logs
            .lock()
            .unwrap()
            .iter()
            .find(|entry| entry["message"] == message)
            .cloned()
    }

    /// All log entries so far.
    pub fn logs(&self) -> Vec<Value> {
        self.logs.lock().unwrap().clone()
    }

    /// Most memory it ever had resident, in bytes, as the kernel counts; 0 once it has ended.
    pub fn peak_memory(&self) -> u64 {
        cutout::telemetry::process::peak_resident(Some(self.child.id())).unwrap_or_default()
    }

    /// How it ended and what it said last; `None` while it runs.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().unwrap()?;
        let last = self
            .logs()
            .into_iter()
            .rev()
            .find(|e| e["severity"] == "ERROR");
        Some(format!("{status}: {}", last.unwrap_or_default()))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; the exit code (`None` for a signal) and how long it took.
    pub fn exit(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        let status = wait_until("the worker's end", || self.child.try_wait().unwrap());
        (status.code(), begun.elapsed())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A PNG's alpha plane, and its size.
pub fn alpha(png: &[u8]) -> (u32, u32, Vec<u8>) {
    let picture = image::load_from_memory_with_format(png, image::ImageFormat::Png)
        .expect("the output is a PNG")
        .to_rgba8();
    let (width, height) = picture.dimensions();
    (width, height, picture.pixels().map(|p| p.0[3]).collect())
}

/// How alike two masks of one size are: mean absolute difference in units of 1/255, and
/// intersection over union at one half.
pub fn likeness(a: &[u8], b: &[u8]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let mut difference = 0_u64;
    let (mut both, mut either) = (0_u64, 0_u64);
    for (&a, &b) in a.iter().zip(b) {
        difference += u64::from(a.abs_diff(b));
        let (a, b) = (a > 127, b > 127);
        both += u64::from(a && b);
        either += u64::from(a || b);
    }
    (
        difference as f64 / a.len() as f64,
        both as f64 / either.max(1) as f64,
    )
}

/// A local root with so many photos, and a published job for each.
pub fn root_with_jobs(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir(root.join("photos")).unwrap();
    let mut publish = quick();
    publish
        .args(["publish", "--ingress", "local", "--root"])
        .arg(root);
    for i in 0..count {
        let name = format!("photos/cat-{i}.jpg");
        std::fs::copy(file("samples/cat.jpg"), root.join(&name)).unwrap();
        publish.arg(name);
    }
    let published = run(&mut publish);
    assert!(published.status.success(), "{}", told(&published));
    dir
}
