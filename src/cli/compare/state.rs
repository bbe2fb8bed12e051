//! What has been compared, kept beside the report, a line of JSON a photo: whoever is killed goes on from there.
//!
//! The first line says of what the rows are; rows of other networks or settings are never mixed in. A line counts
//! once its end is written, so the half of one that a killed run leaves is cut off.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pictures::Pictures;
use super::row::{Key, Row};
use super::wire::{NetworkInfo, Start};

/// How many differing settings an error names.
const NAMED: usize = 4;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub settings: Settings,
    /// When the first run began, RFC 3339.
    pub begun: String,
    /// How the first run's networks started; `None` of a folder.
    pub starts: [Option<Start>; 2],
}

/// What all rows have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Of the program, with its commit.
    pub version: String,
    pub a: ArmSettings,
    pub b: ArmSettings,
    /// Whether mattes are measured next to true masks too.
    pub masks: bool,
    /// Longest side of the pictures, pixels.
    pub thumbnail: u32,
    /// Most pixels of a photo, and most bytes of its file.
    pub max_pixels: u64,
    pub max_file_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ArmSettings {
    Network(NetworkInfo),
    Folder(String),
}

impl ArmSettings {
    /// What people call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Network(network) => &network.name,
            Self::Folder(folder) => folder,
        }
    }
}

/// How the first line begins.
const BEGINNING: &[u8] = br#"{"settings":"#;

/// A line, as it is written.
#[derive(Serialize)]
struct Line<'a> {
    row: &'a Row,
    pictures: Option<&'a Pictures>,
}

/// The same without its pictures, which are most of it.
#[derive(Deserialize)]
struct Light {
    row: Row,
}

/// The same without anything else.
#[derive(Deserialize)]
struct Heavy {
    pictures: Option<Pictures>,
}

/// The state of one comparison, open for more rows; locked against a second run.
pub(super) struct State {
    path: PathBuf,
    file: File,
    header: Header,
    rows: HashMap<Key, (Row, u64)>,
    length: u64,
}

impl State {
    /// Opens or makes the file beside the report. `restart` forgets what is in it.
    pub fn open(report: &Path, header: Header, restart: bool) -> anyhow::Result<Self> {
        let mut path = report.as_os_str().to_owned();
        path.push(".jsonl");
        let path = PathBuf::from(path);
        let unusable = || format!("cannot use {}", path.display());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(unusable)?;
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => anyhow::bail!(
                "{} is in use by another comparison: wait for it, or name another --report",
                path.display()
            ),
            Err(TryLockError::Error(error)) => return Err(error).with_context(unusable),
        }
        if restart {
            file.set_len(0).with_context(unusable)?;
        }
        let mut state = Self {
            path: path.clone(),
            file,
            header,
            rows: HashMap::new(),
            length: 0,
        };
        state.read()?;
        state.file.set_len(state.length).with_context(unusable)?;
        if state.length == 0 {
            let header = serde_json::to_vec(&state.header)?;
            state.write(header)?;
        }
        Ok(state)
    }

    /// Takes in all whole lines, and checks that they belong here.
    fn read(&mut self) -> anyhow::Result<()> {
        let path = self.path.display().to_string();
        let mut lines = BufReader::new(&self.file);
        lines.seek(SeekFrom::Start(0))?;
        let mut number = 0_usize;
        let mut line = Vec::new();
        loop {
            line.clear();
            lines
                .read_until(b'\n', &mut line)
                .with_context(|| format!("cannot read {path}"))?;
            // The end of the file, or what a killed run left of its last line.
            if line.last() != Some(&b'\n') {
                // What is somebody else's altogether is not cut off.
                anyhow::ensure!(
                    number > 0
                        || line
                            .iter()
                            .zip(BEGINNING)
                            .all(|(theirs, ours)| theirs == ours),
                    "{path} is no state of a comparison: name another --report, which leaves it alone"
                );
                return Ok(());
            }
            number += 1;
            let damaged = |error: serde_json::Error| {
                anyhow::anyhow!(
                    "{path} is no state of a comparison, or damaged in line {number} ({error}): --restart forgets it and \
                     begins anew, another --report leaves it alone"
                )
            };
            if number == 1 {
                let value: Value = serde_json::from_slice(&line).map_err(damaged)?;
                self.refuse_other(&value["settings"])?;
                self.header = serde_json::from_value(value).map_err(damaged)?;
            } else {
                let Light { row } = serde_json::from_slice(&line).map_err(damaged)?;
                self.rows.insert(row.key.clone(), (row, self.length));
            }
            self.length += line.len() as u64;
        }
    }

    /// Rows of other settings stand for something else.
    fn refuse_other(&self, theirs: &Value) -> anyhow::Result<()> {
        let ours = serde_json::to_value(&self.header.settings)?;
        let mut differing = Vec::new();
        differences("", theirs, &ours, &mut differing);
        if differing.is_empty() {
            return Ok(());
        }
        let more = differing.len().saturating_sub(NAMED);
        differing.truncate(NAMED);
        if more > 0 {
            differing.push(format!("{more} more"));
        }
        anyhow::bail!(
            "{} holds another comparison: {}. --restart forgets it and begins anew; another --report keeps both",
            self.path.display(),
            differing.join("; ")
        )
    }

    pub const fn header(&self) -> &Header {
        &self.header
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The photos that need not be run again.
    pub fn done(&self) -> impl Iterator<Item = &Key> {
        let rows = self.rows.iter();
        rows.filter_map(|(key, (row, _))| row.is_final().then_some(key))
    }

    /// Keeps a row. It is in the file when this returns.
    pub fn keep(&mut self, row: Row, pictures: Option<&Pictures>) -> anyhow::Result<()> {
        let line = serde_json::to_vec(&Line {
            row: &row,
            pictures,
        })?;
        let at = self.length;
        // As whoever goes on from here will read it: the last digit of a number may differ.
        let Light { row } = serde_json::from_slice(&line)?;
        self.write(line)?;
        self.rows.insert(row.key.clone(), (row, at));
        Ok(())
    }

    fn write(&mut self, mut line: Vec<u8>) -> anyhow::Result<()> {
        line.push(b'\n');
        self.file
            .seek(SeekFrom::Start(self.length))
            .and_then(|_| self.file.write_all(&line))
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// The row of a photo.
    pub fn row(&self, key: &Key) -> Option<&Row> {
        self.rows.get(key).map(|(row, _)| row)
    }

    /// The pictures of a photo's row; `None` where it failed.
    pub fn pictures(&self, key: &Key) -> anyhow::Result<Option<Pictures>> {
        let Some((_, at)) = self.rows.get(key) else {
            return Ok(None);
        };
        let mut lines = BufReader::new(&self.file);
        lines.seek(SeekFrom::Start(*at))?;
        let mut line = Vec::new();
        lines.read_until(b'\n', &mut line)?;
        let Heavy { pictures } = serde_json::from_slice(&line)
            .with_context(|| format!("{} has changed meanwhile", self.path.display()))?;
        Ok(pictures)
    }
}

/// Names every value that differs, by its path.
fn differences(at: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    if theirs == ours {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (theirs, ours) else {
        found.push(format!("{at} was {theirs} and is {ours}"));
        return;
    };
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        let path = match at {
            "" => name.clone(),
            _ => format!("{at}.{name}"),
        };
        let value = |of: &serde_json::Map<String, Value>| of.get(name).cloned().unwrap_or_default();
        differences(&path, &value(old), &value(new), found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{Failed, Outcome};
    use super::*;

    fn header(b: &str) -> Header {
        Header {
            settings: Settings {
                version: "1".into(),
                a: ArmSettings::Folder("one".into()),
                b: ArmSettings::Folder(b.into()),
                masks: false,
                thumbnail: 320,
                max_pixels: 1,
                max_file_bytes: 1,
            },
            begun: "2026-01-01T00:00:00Z".into(),
            starts: [None, None],
        }
    }

    fn row(name: &str, code: &str) -> Row {
        Row {
            key: Key {
                name: name.into(),
                photo: Some("00".into()),
                mattes: [None, None],
                mask: None,
            },
            outcome: Outcome::Failed(Failed {
                code: code.into(),
                message: "x".into(),
            }),
        }
    }

    #[test]
    fn rows_are_there_again_and_half_a_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let report = dir.path().join("out.html");
        let pictures = Pictures(["p".into(), "a".into(), "b".into()]);
        let (good, late) = (row("a", "image_corrupt"), row("b", "deadline_exceeded"));
        let mut state = State::open(&report, header("two"), false).unwrap();
        state.keep(good.clone(), Some(&pictures)).unwrap();
        state.keep(late.clone(), None).unwrap();
        drop(state);
        let file = dir.path().join("out.html.jsonl");
        let whole = std::fs::read(&file).unwrap();
        // A killed run may end anywhere in its last line.
        let last = whole[..whole.len() - 1]
            .iter()
            .rposition(|&b| b == b'\n')
            .unwrap()
            + 1;
        for cut in [last, last + 1, whole.len() - 1] {
            std::fs::write(&file, &whole[..cut]).unwrap();
            let mut state = State::open(&report, header("two"), false).unwrap();
            assert_eq!(state.row(&good.key), Some(&good));
            assert_eq!(state.row(&late.key), None);
            state.keep(late.clone(), None).unwrap();
            drop(state);
            assert_eq!(std::fs::read(&file).unwrap(), whole, "cut at {cut}");
        }
        let state = State::open(&report, header("two"), false).unwrap();
        assert_eq!(state.pictures(&good.key).unwrap(), Some(pictures));
        assert_eq!(state.pictures(&late.key).unwrap(), None);
        let done: Vec<_> = state.done().collect();
        assert_eq!(done, [&good.key], "what may pass is tried again");
    }

    #[test]
    fn rows_of_another_comparison_are_refused_until_told_to_forget_them() {
        let dir = tempfile::tempdir().unwrap();
        let report = dir.path().join("out.html");
        let mut state = State::open(&report, header("two"), false).unwrap();
        state.keep(row("a", "image_corrupt"), None).unwrap();
        let refused = |header: Header| match State::open(&report, header, false) {
            Ok(_) => panic!("it was taken"),
            Err(error) => error.to_string(),
        };
        assert!(refused(header("two")).contains("in use"));
        drop(state);
        let told = refused(header("three"));
        assert!(
            told.contains("b.folder was \"two\" and is \"three\""),
            "{told}"
        );
        assert!(told.contains("--restart"), "{told}");
        let state = State::open(&report, header("three"), true).unwrap();
        assert_eq!(state.done().count(), 0);
        drop(state);
        let file = dir.path().join("out.html.jsonl");
        std::fs::write(&file, b"my own notes\n").unwrap();
        let told = refused(header("three"));
        assert!(
            told.contains("line 1") && told.contains("--restart"),
            "{told}"
        );
        assert_eq!(std::fs::read(&file).unwrap(), b"my own notes\n");
        // A file of one line without an end is no killed run's either.
        for foreign in ["my own notes", "{\"set\":1}"] {
            std::fs::write(&file, foreign).unwrap();
            assert!(refused(header("three")).contains("another --report"));
            assert_eq!(std::fs::read(&file).unwrap(), foreign.as_bytes());
        }
        std::fs::write(&file, b"{\"setti").unwrap();
        drop(State::open(&report, header("three"), false).unwrap());
    }
}
