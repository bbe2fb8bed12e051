//! How long this process has been there, so that the cold start counts from `exec`.

use std::time::Duration;

/// Time since the process was started, to a hundredth of a second: the kernel counts no finer.
/// `None` on a system that does not tell.
pub fn age() -> Option<Duration> {
    use procfs::Current;
    let started = procfs::process::Process::myself()
        .ok()?
        .stat()
        .ok()?
        .starttime;
    let started = started as f64 / procfs::ticks_per_second() as f64;
    let now = procfs::Uptime::current().ok()?.uptime;
    Duration::try_from_secs_f64(now - started).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_is_young_and_ages() {
        let first = super::age().unwrap();
        assert!(first.as_secs() < 3600, "{first:?}");
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(super::age().unwrap() > first);
    }
}
