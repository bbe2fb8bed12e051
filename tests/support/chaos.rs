//! What the chaos tests of cloud and local mode have in common.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Photos of all sorts, small enough that an unoptimised build keeps the pace.
pub const GOOD: &[&str] = &[
    "samples/cat.jpg",
    "tests/fixtures/images/alpha.webp",
    "tests/fixtures/images/animated.gif",
    "tests/fixtures/images/cmyk.jpg",
    "tests/fixtures/images/display-p3.png",
    "tests/fixtures/images/grey16.png",
];

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// How often each fault was injected so far.
#[derive(Default)]
pub struct Account(Mutex<BTreeMap<&'static str, u32>>);

impl Account {
    pub fn note(&self, fault: &'static str) {
        *self.0.lock().unwrap().entry(fault).or_default() += 1;
    }

    pub fn print(&self) {
        println!("| injected | times |\n|---|---|");
        for (fault, times) in self.0.lock().unwrap().iter() {
            println!("| {fault} | {times} |");
        }
    }
}
