//! How long the estimation of the subject's colours takes. Figures: docs/benchmarks.md.
//!
//!     make bench-foreground
//!
//! which runs this program and PyMatting in turns (`bench/foreground.py`), each in a process of its own:
//!
//!     foreground --once FILE WIDTH RUNS [ANSWER]
//!
//! reads raw RGBA, a photo and its matte, and prints the seconds of each run and the memory that it took, as
//! JSON; ANSWER is written with the colours, raw RGB.

use std::path::Path;
use std::time::Instant;

use cutout::pipeline::foreground::{estimate, working_bytes};
use cutout::telemetry::process;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo adds `--bench`.
    let Some(at) = arguments.iter().position(|argument| argument == "--once") else {
        println!("foreground: see `make bench-foreground`");
        return;
    };
    let [file, width, runs, answer @ ..] = &arguments[at + 1..] else {
        panic!("--once FILE WIDTH RUNS [ANSWER]");
    };
    let rgba = std::fs::read(file).unwrap();
    let (width, runs): (u32, usize) = (width.parse().unwrap(), runs.parse().unwrap());
    let pixels = rgba.as_chunks::<4>().0;
    let photo: Vec<u8> = pixels.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect();
    let alpha: Vec<u8> = pixels.iter().map(|pixel| pixel[3]).collect();
    let height = alpha.len() as u32 / width;
    drop(rgba);
    let mut rgb = photo.clone();
    assert!(process::forget_peak(), "the kernel keeps the peak");
    let before = process::peak_resident(None).unwrap();
    let seconds: Vec<f64> = (0..runs)
        .map(|_| {
            rgb.copy_from_slice(&photo);
            let begun = Instant::now();
            estimate(&mut rgb, &alpha, width).unwrap();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    let peak = process::peak_resident(None).unwrap() - before;
    if let [answer] = answer {
        std::fs::write(Path::new(answer), &rgb).unwrap();
    }
    let promised = working_bytes(width, height);
    println!(
        "{}",
        serde_json::json!({ "seconds": seconds, "peak_bytes": peak, "promised_bytes": promised })
    );
}
