//! Real servers for the tests: Cloud Storage and Pub/Sub emulators on free ports.
//!
//! Every test starts the servers it needs and they die with it, even when the test process is
//! killed (see [`process`]). Nothing is shared between test processes, so parallel runs cannot
//! collide and a test may stop its server to see what happens: fake-gcs-server is up in some
//! 20 ms, the Pub/Sub emulator in about 1.1 s (0.7 s of CPU), which is cheaper than the
//! machinery that would share one.
//!
//! `make setup` puts the binaries into `.cache/bin`; `CUTOUT_TEST_FAKE_GCS` and
//! `CUTOUT_TEST_PUBSUB_EMULATOR` name others.

// Each test binary uses the part of this module that it needs.
#![allow(dead_code, unused_imports)]

pub mod chaos;
pub mod disk;
pub mod fake_gcs;
pub mod issuer;
pub mod link;
pub mod process;
pub mod proxy;
pub mod pubsub;

pub use fake_gcs::FakeGcs;
pub use issuer::{Issuer, Key};
pub use link::Link;
pub use proxy::{Fault, Proxy};
pub use pubsub::{PubSub, SubscriptionOptions};

/// A program that the tests can do without: what set-up placed, or what is on PATH. Without it, the
/// test that asks says so and checks nothing: `make test` says how to get it.
pub fn placed_or_on_path(name: &str) -> Option<std::path::PathBuf> {
    let placed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(placed)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no {name}, neither in .cache/bin nor on PATH");
    }
    found
}
