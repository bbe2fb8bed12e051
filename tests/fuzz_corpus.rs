//! The fuzz targets without a fuzzer: the committed corpus, past findings among it, and a
//! time-boxed bout of simple mutations go through the same functions as under libFuzzer.
//! `docs/fuzzing.md` tells more.
//!
//! FUZZ_SECONDS is the bout's length for all targets together, FUZZ_SEED what it does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use fuzz::{TARGETS, Target};

/// Mutants longer than this only cost time.
const MAX_BYTES: usize = 64 << 10;

/// The targets measure the whole process's memory, so one test runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(fuzz::note_contained_panics);
    turn
}

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for folder in target.corpora {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(folder);
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}")) {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
    files.sort();
    assert!(!files.is_empty(), "{} has no corpus", target.name);
    files
}

fn keeps_its_promises(target: &Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.body)(input))).is_ok()
}

#[test]
fn every_input_of_the_corpus_keeps_the_promises_of_its_target() {
    let _turn = alone();
    let mut broken = Vec::new();
    for target in &TARGETS {
        let files = corpus(target);
        println!("{}: {} inputs", target.name, files.len());
        for (path, input) in files {
            if !keeps_its_promises(target, &input) {
                broken.push(format!("{}: {}", target.name, path.display()));
            }
        }
    }
    println!("caught by decode: {:#?}", fuzz::contained_panics());
    assert!(broken.is_empty(), "the messages are above: {broken:#?}");
}

#[test]
fn mutants_of_the_corpus_keep_the_promises_too() {
    let _turn = alone();
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|e| panic!("{name}={text}: {e}")),
        Err(_) => default,
    };
    let seed = number("FUZZ_SEED", 5512);
    let box_s = number("FUZZ_SECONDS", 10);
    println!("FUZZ_SEED={seed} FUZZ_SECONDS={box_s}");
    for target in &TARGETS {
        let files = corpus(target);
        let mut random = fastrand::Rng::with_seed(seed);
        let begun = Instant::now();
        let share = Duration::from_secs(box_s) / TARGETS.len() as u32;
        let mut executions = 0_u64;
        while begun.elapsed() < share {
            let mutant = mutant(&files, &mut random);
            executions += 1;
            if !keeps_its_promises(target, &mutant) {
                panic!(
                    "{} breaks a promise, its message is above; execution {executions} of FUZZ_SEED={seed}, kept as {}",
                    target.name,
                    keep(target, &mutant).display()
                );
            }
        }
        println!(
            "{}: {executions} executions in {:.1?}",
            target.name,
            begun.elapsed()
        );
    }
    println!("caught by decode: {:#?}", fuzz::contained_panics());
}

/// Writes a finding where `cargo clean` finds it.
fn keep(target: &Target, input: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{}-finding", target.name));
    std::fs::write(&path, input).unwrap();
    path
}

/// An input of the corpus with a few changes.
fn mutant(files: &[(PathBuf, Vec<u8>)], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut any = || &files[random.usize(..files.len())].1;
    let (mut input, other) = (any().clone(), any());
    for _ in 0..random.usize(1..=4) {
        change(&mut input, other, random);
    }
    input.truncate(MAX_BYTES);
    input
}

/// Numbers at which lengths, counts and offsets break.
const EDGES: [u32; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut fastrand::Rng) {
    let at = random.usize(..=input.len());
    let span = |random: &mut fastrand::Rng, of: &[u8]| {
        let start = random.usize(..=of.len());
        let end = random.usize(start..=of.len().min(start + 64));
        start..end
    };
    match random.u8(..8) {
        // One bit.
        0 | 1 if at < input.len() => input[at] ^= 1 << random.u8(..8),
        // One byte.
        2 if at < input.len() => input[at] = random.u8(..),
        // A number, in either order of bytes.
        3 | 4 => {
            let edge = EDGES[random.usize(..EDGES.len())]
                .wrapping_add(random.u32(..3))
                .wrapping_sub(1);
            let number = match random.u8(..4) {
                0 => (edge as u16).to_le_bytes().to_vec(),
                1 => (edge as u16).to_be_bytes().to_vec(),
                2 => edge.to_le_bytes().to_vec(),
                _ => edge.to_be_bytes().to_vec(),
            };
            let room = input.len() - at;
            let count = number.len().min(room);
            input[at..at + count].copy_from_slice(&number[..count]);
        }
        // A piece of another input, put in or put over.
        5 => {
            let piece = other[span(random, other)].to_vec();
            let over = if random.bool() { piece.len() } else { 0 };
            let end = (at + over).min(input.len());
            input.splice(at..end, piece);
        }
        // A piece taken out, or said twice.
        6 => {
            let range = span(random, input);
            if random.bool() {
                input.drain(range);
            } else {
                let piece = input[range].to_vec();
                input.splice(at..at, piece);
            }
        }
        // The end cut off, or another input's put there.
        _ => {
            input.truncate(at);
            if random.bool() {
                input.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
        }
    }
}
