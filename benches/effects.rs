//! How long each effect takes for a cut-out of 12 megapixels. Figures: docs/benchmarks.md.
//!
//!     make bench-effects
//!
//! which runs this program and NumPy in turns (`bench/effects.py`), each effect in a process of its own:
//!
//!     effects --once EFFECT FILE WIDTH HEIGHT RUNS
//!
//! reads raw RGBA and prints the seconds of each run and the memory that it took, as JSON. With
//! other arguments it is a Criterion benchmark, on a picture of its own.

use std::time::Instant;

use criterion::{Criterion, Throughput};
use cutout::effect::{Effect, EffectParams};
use cutout::pipeline::compose::{Channels, Picture};
use cutout::pipeline::effects::{apply, working_bytes};
use cutout::telemetry::process;

const WIDTH: u32 = 4032;
const HEIGHT: u32 = 3024;

/// Soft shapes with a sensor's noise, a quarter of it transparent.
fn cut_out() -> Picture {
    let mut state = 1u32;
    let mut data = Vec::with_capacity((WIDTH * HEIGHT * 4) as usize);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 28) as f32;
            let (u, v) = (x as f32 / WIDTH as f32, y as f32 / HEIGHT as f32);
            let wave = |f: f32| ((u * f).sin() * (v * f * 0.7).cos() * 110.0 + 120.0 + noise) as u8;
            let shown = (u - 0.5).hypot(v - 0.5) < 0.49;
            data.extend(if shown {
                [wave(17.0), wave(23.0), wave(31.0), 255]
            } else {
                [0; 4]
            });
        }
    }
    picture(data, WIDTH, HEIGHT)
}

fn picture(data: Vec<u8>, width: u32, height: u32) -> Picture {
    Picture {
        width,
        height,
        channels: Channels::Rgba,
        data,
        subject: None,
    }
}

/// One effect in this process; see above.
fn once(arguments: &[String]) {
    let [effect, file, width, height, runs] = arguments else {
        panic!("--once EFFECT FILE WIDTH HEIGHT RUNS");
    };
    let effect: Effect = effect.parse().unwrap();
    let (width, height) = (width.parse().unwrap(), height.parse().unwrap());
    let cut = picture(std::fs::read(file).unwrap(), width, height);
    assert!(process::forget_peak(), "the kernel keeps the peak");
    let before = process::peak_resident(None).unwrap();
    let runs: usize = runs.parse().unwrap();
    let seconds: Vec<f64> = (0..runs)
        .map(|_| {
            let begun = Instant::now();
            let applied = apply(effect, &EffectParams::default(), &cut).unwrap();
            let seconds = begun.elapsed().as_secs_f64();
            assert_eq!(applied.data.len(), cut.data.len());
            seconds
        })
        .collect();
    let peak = process::peak_resident(None).unwrap() - before;
    let promised = working_bytes(effect, width, height);
    println!(
        "{}",
        serde_json::json!({ "seconds": seconds, "peak_bytes": peak, "promised_bytes": promised })
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--once") {
        return once(&arguments[at + 1..]);
    }
    let mut criterion = Criterion::default().sample_size(30).configure_from_args();
    let cut = cut_out();
    let mut group = criterion.benchmark_group("effects");
    group.throughput(Throughput::Elements(u64::from(WIDTH * HEIGHT)));
    for effect in Effect::ALL {
        group.bench_function(effect.as_str(), |b| {
            b.iter(|| apply(effect, &EffectParams::default(), &cut).unwrap());
        });
    }
    group.finish();
    criterion.final_summary();
}
