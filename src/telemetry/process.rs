//! What the kernel tells of a process: since when it is there, its memory, its core time.

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

/// The most bytes that were ever resident in a process, this one when none is named; `None` on a
/// system that does not tell, or when it is gone.
pub fn peak_resident(pid: Option<u32>) -> Option<u64> {
    let process = match pid {
        Some(pid) => procfs::process::Process::new(i32::try_from(pid).ok()?),
        None => procfs::process::Process::myself(),
    };
    Some(process.ok()?.status().ok()?.vmhwm? * 1024)
}

/// Forgets the peak of this process, so that the next one is that of what comes; whether the
/// system allows it.
pub fn forget_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Core time that this process has used, all threads together.
pub fn core_time() -> Option<Duration> {
    let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
    let ticks = (stat.utime + stat.stime) as f64;
    Duration::try_from_secs_f64(ticks / procfs::ticks_per_second() as f64).ok()
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

    #[test]
    fn this_process_has_had_memory_and_has_worked() {
        assert!(super::peak_resident(None).unwrap() > 1 << 20);
        let own = std::process::id();
        assert!(super::peak_resident(Some(own)).unwrap() > 1 << 20);
        assert!(super::core_time().is_some());
    }
}
