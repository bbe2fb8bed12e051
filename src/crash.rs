//! Named places between the steps of a job, where tests make the worker crash, panic or wait.
//!
//! They exist in builds with the feature `failpoints` alone; there, the environment variable
//! `FAILPOINTS` says what happens (`output_written=1*off->return`: the second job that comes there
//! ends the process). The syntax is that of the crate `fail`.

/// Every place, in the order in which a job comes by; `network_running` is on the engine's
/// thread. The last two are on the way of a job that
/// can never succeed.
pub const POINTS: &[&str] = &[
    "job_admitted",
    "photo_downloaded",
    "photo_decoded",
    "network_running",
    "matte_inferred",
    "picture_composed",
    "effect_encoded",
    "effect_written",
    "output_encoded",
    "output_staged",
    "output_described",
    "output_written",
    "result_published",
    "message_acked",
    "failure_published",
    "dead_letter_published",
];

/// Ends the process as `kill -9` does: no destructor runs, nothing is flushed.
pub fn die(point: &str) -> ! {
    eprintln!("crash point {point}");
    std::process::abort()
}

/// Marks a place by one of the names in [`POINTS`]. The action `return` of `FAILPOINTS` ends the
/// process there; `panic` and `sleep(MS)` are what they say.
macro_rules! crash_point {
    ($name:literal) => {
        ::fail::fail_point!($name, |_| $crate::crash::die($name))
    };
}
pub(crate) use crash_point;

/// Marks a step that tests can make fail with this error, by the action `return`, where the
/// condition holds. Only for a function of its own, which it ends.
macro_rules! fault_point {
    ($name:literal, $where:expr, $error:expr) => {
        let _here = $where;
        ::fail::fail_point!($name, _here, |_| Err($error))
    };
}
pub(crate) use fault_point;

/// Reads `FAILPOINTS`; the points are armed for as long as the answer lives.
#[cfg(feature = "failpoints")]
pub fn arm() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}
