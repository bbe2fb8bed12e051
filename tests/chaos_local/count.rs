//! What is seen of a run, and the invariants that are counted at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cutout::store::dir::DirStore;
use rusqlite::Connection;
use serde_json::Value;

use crate::harness::wait_until;
use crate::plan::Planned;
use crate::{QUEUE, Run};

/// What was seen so far.
#[derive(Default)]
pub struct Seen {
    /// Status, or code of failure, and the output's generation, of every result.
    results: BTreeMap<String, Vec<(String, Option<i64>)>>,
    dead: BTreeMap<String, u32>,
    last_result: i64,
    last_letter: i64,
    /// The generation in which each output was first seen.
    generations: BTreeMap<String, i64>,
    /// Outputs that were seen in another generation later, or were gone.
    rewritten: BTreeSet<String>,
}

impl Seen {
    pub fn answered(&self, job: &Planned) -> bool {
        self.results.contains_key(&job.id)
            && (job.fails.is_none() || self.dead.contains_key(&job.id))
    }

    /// Looks at what is new among results, dead letters and outputs.
    pub fn look(&mut self, root: &Path) {
        let queue = connect(root);
        let mut new = queue
            .prepare("SELECT id, data FROM results WHERE id > ?1 ORDER BY id")
            .unwrap();
        let rows = new.query_map([self.last_result], |row| Ok((row.get(0)?, row.get(1)?)));
        let rows: Vec<(i64, String)> = rows.unwrap().map(Result::unwrap).collect();
        for (id, data) in rows {
            self.last_result = id;
            self.result(&serde_json::from_str(&data).unwrap());
        }
        let mut new = queue
            .prepare("SELECT id, CAST(data AS TEXT) FROM dead_letters WHERE id > ?1 ORDER BY id")
            .unwrap();
        let rows = new.query_map([self.last_letter], |row| Ok((row.get(0)?, row.get(1)?)));
        let rows: Vec<(i64, String)> = rows.unwrap().map(Result::unwrap).collect();
        for (id, data) in rows {
            self.last_letter = id;
            let data: Value = serde_json::from_str(&data).unwrap();
            // A job, or the announcement of an upload.
            let named = data["job_id"].as_str().or(data["name"].as_str());
            *self.dead.entry(stem(named.unwrap())).or_default() += 1;
        }
        let outputs = outputs(root);
        for (key, generation) in &outputs {
            let first = self.generations.entry(key.clone()).or_insert(*generation);
            if first != generation {
                self.rewritten.insert(key.clone());
            }
        }
        let gone = self
            .generations
            .keys()
            .filter(|key| !outputs.contains_key(*key));
        self.rewritten.extend(gone.cloned());
    }

    fn result(&mut self, result: &Value) {
        let job_id = result["job_id"].as_str().unwrap();
        let id = match result["source"].as_str() {
            Some(upload) if upload.starts_with("inbox/") => stem(upload),
            _ => job_id.to_owned(),
        };
        let ended = result["error"]["code"].as_str();
        let ended = ended.or(result["status"].as_str()).unwrap().to_owned();
        let generation = &result["outputs"][0]["generation"];
        let generation = generation
            .as_i64()
            .or_else(|| generation.as_str()?.parse().ok());
        self.results
            .entry(id)
            .or_default()
            .push((ended, generation));
    }
}

fn connect(root: &Path) -> Connection {
    let queue = Connection::open(root.join(QUEUE)).unwrap();
    queue.busy_timeout(Duration::from_secs(60)).unwrap();
    queue
}

/// `inbox/job-00001.jpg#17` is of `job-00001`.
fn stem(name: &str) -> String {
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    name.split('.').next().unwrap().to_owned()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect()
}

/// Outputs by their keys, with their generations.
fn outputs(root: &Path) -> BTreeMap<String, i64> {
    let found = ["out", "outbox"].map(|folder| files(&root.join(folder)));
    let described = found.into_iter().flatten().map(|path| {
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let age = modified.duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let key = path.strip_prefix(root).unwrap().to_str().unwrap();
        (key.to_owned(), i64::try_from(age).unwrap())
    });
    described.collect()
}

pub fn messages(root: &Path) -> i64 {
    let count = "SELECT count(*) FROM messages";
    let counted = connect(root).query_row(count, [], |row| row.get(0));
    counted.unwrap()
}

/// Generations of the sidecars of each key.
fn sidecars(root: &Path) -> BTreeMap<String, Vec<i64>> {
    let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for path in files(&root.join(".cutout/meta")) {
        let sidecar: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let generation = path.file_stem().unwrap().to_str().unwrap();
        let key = sidecar["key"].as_str().unwrap().to_owned();
        found
            .entry(key)
            .or_default()
            .push(generation.parse().unwrap());
    }
    found
}

/// Makes everything in the store's own folders old enough to be nobody's, and opens the store.
fn sweep(root: &Path, live: &BTreeMap<String, i64>) {
    let old = SystemTime::now() - Duration::from_secs(7200);
    for path in ["tmp", "meta"]
        .map(|folder| files(&root.join(".cutout").join(folder)))
        .concat()
    {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    DirStore::open(root).unwrap();
    // Sidecars are swept in the background.
    wait_until("the sweep of sidecars", || {
        let expected = live
            .iter()
            .map(|(key, generation)| (key.clone(), vec![*generation]));
        (sidecars(root) == expected.collect()).then_some(())
    });
}

/// Counts the invariants, prints them all, then insists on them.
pub fn finish(run: &Run, ended: u32, memory: u64, seed: u64, begun: Instant) {
    let (root, seen) = (&run.root, &run.seen);
    let live = outputs(root);
    let mut wrong = Vec::new();
    let (mut results, mut duplicates) = (0, 0);
    for job in &run.jobs {
        let answers = &seen.results[&job.id];
        results += answers.len();
        duplicates += answers
            .iter()
            .filter(|(ended, _)| ended == "duplicate")
            .count();
        let output = live.get(&job.output()).copied();
        let right = match job.fails {
            Some(code) => output.is_none() && answers.iter().all(|(ended, _)| ended == code),
            // One generation, named by every result, is one write.
            None => {
                output.is_some()
                    && answers.iter().all(|(ended, generation)| {
                        (ended == "done" || ended == "duplicate") && *generation == output
                    })
            }
        };
        if !right {
            wrong.push(format!("{}: {answers:?}, output {output:?}", job.id));
        }
    }
    let undecodable: Vec<_> = live
        .keys()
        .filter(|key| image::open(root.join(key)).is_err())
        .collect();
    let of_jobs: BTreeSet<_> = run.jobs.iter().map(Planned::output).collect();
    let strange: Vec<_> = live.keys().filter(|key| !of_jobs.contains(*key)).collect();
    let bad = run.jobs.iter().filter(|job| job.fails.is_some());
    let bad: BTreeSet<_> = bad.map(|job| &job.id).collect();
    let dead: BTreeSet<_> = seen.dead.keys().collect();
    let left = messages(root);
    let staged = files(&root.join(".cutout/tmp")).len();
    sweep(root, &live);
    let after = files(&root.join(".cutout/tmp")).len();
    let check = "PRAGMA integrity_check";
    let integrity: String = connect(root)
        .query_row(check, [], |row| row.get(0))
        .unwrap();

    let jobs = run.jobs.len();
    let took = begun.elapsed();
    println!(
        "seed {seed}: {jobs} jobs, {} messages and uploads, {took:.0?}",
        run.given
    );
    run.account.print();
    println!("| invariant | found |\n|---|---|");
    for (invariant, found) in [
        (
            "jobs with a result of their own kind and one generation",
            format!("{} of {jobs}", jobs - wrong.len()),
        ),
        (
            "results, of which duplicates",
            format!("{results}, {duplicates}"),
        ),
        (
            "outputs that were written twice",
            seen.rewritten.len().to_string(),
        ),
        (
            "outputs that cannot be decoded",
            undecodable.len().to_string(),
        ),
        ("files that no job asked for", strange.len().to_string()),
        (
            "bad jobs, and jobs among the dead letters",
            format!("{}, {}", bad.len(), dead.len()),
        ),
        (
            "dead letters that differ from the bad jobs",
            bad.symmetric_difference(&dead).count().to_string(),
        ),
        ("messages left", left.to_string()),
        (
            "temporary files, before and after a sweep",
            format!("{staged}, {after}"),
        ),
        ("integrity of the queue's file", integrity.clone()),
        ("workers that ended by themselves", ended.to_string()),
        ("peak memory of a worker", format!("{} MiB", memory >> 20)),
    ] {
        println!("| {invariant} | {found} |");
    }

    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen.rewritten.is_empty(), "{:?}", seen.rewritten);
    assert!(undecodable.is_empty(), "{undecodable:?}");
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(bad, dead, "dead letters are the bad jobs");
    assert_eq!(left, 0, "messages left");
    assert_eq!(after, 0, "temporary files left");
    assert_eq!(integrity, "ok");
}
