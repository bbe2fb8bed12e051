//! What each fuzz target promises about any input, as plain functions of bytes.
//!
//! libFuzzer calls them from `fuzz_targets/`; `tests/fuzz_corpus.rs` includes this very file and
//! runs the corpus through them with the stable toolchain. A broken promise is a panic.

mod envelopes;
mod names;
mod pictures;
mod texts;
mod uploads;

// The allocator counts for `pictures`.
#[path = "../../tests/support/memory.rs"]
mod memory;

pub use pictures::{contained_panics, note_contained_panics};

/// A target: its name, which is that of its corpus folder, and what it does with an input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As in `cargo fuzz run NAME`.
    pub name: &'static str,
    /// The folders of `corpus/` that it reads.
    pub corpora: &'static [&'static str],
    /// Panics when the input breaks a promise.
    pub body: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 10] = [
    Target {
        name: "job",
        corpora: &["job"],
        body: texts::job,
    },
    Target {
        name: "notification",
        corpora: &["notification"],
        body: envelopes::notification,
    },
    Target {
        name: "letter",
        corpora: &["letter"],
        body: envelopes::letter,
    },
    Target {
        name: "envelope",
        corpora: &["envelope"],
        body: envelopes::envelope,
    },
    Target {
        name: "push_envelope",
        corpora: &["push_envelope"],
        body: envelopes::push_envelope,
    },
    Target {
        name: "upload",
        corpora: &["upload"],
        body: uploads::upload,
    },
    Target {
        name: "names",
        corpora: &["names"],
        body: names::names,
    },
    Target {
        name: "manifest",
        corpora: &["manifest"],
        body: texts::manifest,
    },
    Target {
        name: "sniff",
        corpora: &["sniff", "decode"],
        body: pictures::sniffed,
    },
    Target {
        name: "decode",
        corpora: &["sniff", "decode"],
        body: pictures::decoded,
    },
];

/// Makes a libFuzzer target of the one called `$name`.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        static TARGET: std::sync::LazyLock<$crate::Target> = std::sync::LazyLock::new(|| {
            *$crate::TARGETS
                .iter()
                .find(|target| target.name == $name)
                .expect("the target is in the table")
        });

        libfuzzer_sys::fuzz_target!(
            init: $crate::note_contained_panics(),
            |data: &[u8]| (TARGET.body)(data)
        );
    };
}
