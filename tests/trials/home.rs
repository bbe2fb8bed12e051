//! Networks for these tests, and local workers that have them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Worker, file, quick, root_with_jobs, run, told, wait_until};
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A home with `brightness` and, as other weights, `dim`, whose mattes are a tenth of it.
pub fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("models");
    std::fs::create_dir(&models).unwrap();
    let fixture = file("tests/fixtures/home/models");
    for name in ["brightness.onnx", "brightness.toml"] {
        std::fs::copy(fixture.join(name), models.join(name)).unwrap();
    }
    // tests/parity/make_graphs.py: what brightness is multiplied by before it becomes a byte.
    let mut graph = std::fs::read(fixture.join("brightness-u8.onnx")).unwrap();
    let (levels, tenth) = (255.0_f32.to_le_bytes(), 25.5_f32.to_le_bytes());
    let places: Vec<_> = (0..graph.len() - 4)
        .filter(|at| graph[*at..*at + 4] == levels)
        .collect();
    let [at] = places[..] else {
        panic!("the factor stands at {places:?}")
    };
    graph[at..at + 4].copy_from_slice(&tenth);
    std::fs::write(models.join("dim.onnx"), &graph).unwrap();
    let manifest: toml::Table = std::fs::read_to_string(fixture.join("brightness-u8.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let mut manifest = manifest;
    manifest.insert("name".into(), "dim".into());
    manifest.insert("file".into(), "dim.onnx".into());
    manifest.insert("sha256".into(), hex::encode(Sha256::digest(&graph)).into());
    std::fs::write(models.join("dim.toml"), manifest.to_string()).unwrap();
    home
}

/// A root with jobs, and a home.
pub struct Site {
    root: tempfile::TempDir,
    home: tempfile::TempDir,
}

impl Site {
    pub fn new(jobs: usize) -> Self {
        let root = match jobs {
            0 => tempfile::tempdir().unwrap(),
            _ => root_with_jobs(jobs),
        };
        Self { root, home: home() }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// This program on this site.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = quick();
        command.env("CUTOUT_HOME", self.home.path());
        command.env("CUTOUT_ROOT", self.root.path()).args(args);
        command
    }

    pub fn worker(&self, args: &[&str]) -> Command {
        self.command(&[&["worker", "--ingress", "local"], args].concat())
    }

    /// Publishes a job for each photo again.
    pub fn publish_again(&self) {
        let jobs: Vec<_> = self
            .photos()
            .iter()
            .map(|name| json!({ "source": name }))
            .collect();
        self.publish(&jobs);
    }

    /// Publishes these jobs.
    pub fn publish(&self, jobs: &[Value]) {
        let file = self.home().join("jobs.ndjson");
        let lines: Vec<_> = jobs.iter().map(Value::to_string).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        let mut command = self.command(&["publish", "--ingress", "local", "--file"]);
        let published = run(command.arg(file));
        assert!(published.status.success(), "{}", told(&published));
    }

    pub fn photos(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.root().join("photos"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| format!("photos/{name}"))
            .collect();
        names.sort_unstable();
        names
    }

    /// The results so far, in the order of their publication.
    pub fn results(&self) -> Vec<Value> {
        let queue = self.queue();
        let mut select = queue
            .prepare("SELECT data FROM results ORDER BY id")
            .unwrap();
        let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|json| serde_json::from_str(&json.unwrap()).unwrap())
            .collect()
    }

    fn queue(&self) -> Connection {
        Connection::open(self.root().join(".cutout/queue.sqlite")).unwrap()
    }

    /// Waits until every job is done, and says how each ended.
    pub fn all_done(&self, worker: &Worker) -> Vec<Value> {
        let left = || {
            let count = "SELECT count(*) FROM messages";
            self.queue()
                .query_row(count, [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        wait_until("an empty queue", || (left() == 0).then_some(()));
        assert_eq!(worker.metric("cutout_retries_total", &[]), 0.0);
        self.results()
    }

    /// The files below a folder of the root, by what their names end in.
    pub fn files(&self, folder: &str, ext: &str) -> Vec<PathBuf> {
        below(&self.root().join(folder), ext)
    }

    /// What the store knows of an object beside its content.
    pub fn metadata(&self, key: &str) -> Value {
        let sidecars = below(&self.root().join(".cutout/meta"), "json").into_iter();
        sidecars
            .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
            .find(|sidecar: &Value| sidecar["key"] == key)
            .map_or(Value::Null, |sidecar| sidecar["metadata"].clone())
    }
}

pub fn below(folder: &Path, ext: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|found| found == ext))
        .collect();
    files.sort_unstable();
    files
}
