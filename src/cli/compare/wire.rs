//! What the two processes of a comparison say to each other over pipes: a line of JSON, and then as many
//! bytes as the line says.

use std::io::{self, BufRead, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::row::Failed;

/// To the arm: a photo's file follows.
#[derive(Serialize, Deserialize)]
pub(super) struct Asked {
    pub bytes: usize,
}

/// From the arm, once: what has been loaded, or why nothing was.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Loaded {
    Ready(Ready),
    Failed(Failed),
}

/// A network that is loaded and warmed up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ready {
    pub network: NetworkInfo,
    pub start: Start,
}

/// What decides what a network answers, and how fast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NetworkInfo {
    pub name: String,
    /// Of the network's file, hex.
    pub sha256: String,
    /// SHA-256 of the manifest as JSON, hex: sizes and normalisation are in it.
    pub manifest: String,
    pub provider: String,
    pub precision: String,
    /// Version of ONNX Runtime.
    pub runtime: String,
    /// Inside one operator.
    pub threads: usize,
}

/// What it took to load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Start {
    pub load_ms: f64,
    pub warm_up_ms: f64,
    /// Resident in the process afterwards, bytes; `None` on a system that does not tell.
    pub resident: Option<u64>,
}

/// From the arm, for each photo. The matte's bytes follow, one a pixel.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Matte { width: u32, height: u32, run: Run },
    Failed(Failed),
}

/// What one photo cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    /// The network alone.
    pub infer_ms: f64,
    /// From the file's bytes to the matte at the photo's size.
    pub total_ms: f64,
    /// Most that was ever resident in the process so far, bytes; `None` on a system that does not tell.
    pub peak: Option<u64>,
}

/// Sends a line, and bytes behind it.
pub(super) fn send(to: &mut impl Write, line: &impl Serialize, bytes: &[u8]) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    to.write_all(&text)?;
    to.write_all(bytes)?;
    to.flush()
}

/// Receives a line; `None` when the other side has closed the pipe.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

/// Receives the bytes behind a line.
pub(super) fn bytes(from: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
