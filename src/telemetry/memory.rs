//! How much memory there is, and how much this process takes. Linux; elsewhere zeros.

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// The memory limit in bytes: the container's (cgroup) where there is one, else the machine's.
pub fn limit() -> u64 {
    let mut system = System::new();
    system.refresh_memory();
    let machine = system.total_memory();
    match system.cgroup_limits() {
        Some(cgroup) if cgroup.total_memory > 0 => cgroup.total_memory.min(machine),
        _ => machine,
    }
}

/// Bytes still free under the limit.
pub fn available() -> u64 {
    let mut system = System::new();
    system.refresh_memory();
    match system.cgroup_limits() {
        Some(cgroup) if cgroup.total_memory > 0 && cgroup.total_memory < system.total_memory() => {
            cgroup.free_memory
        }
        _ => system.available_memory(),
    }
}

/// Resident bytes of this process.
pub fn resident() -> u64 {
    let Ok(pid) = sysinfo::get_current_pid() else {
        return 0;
    };
    let mut system = System::new();
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        false,
        ProcessRefreshKind::nothing().with_memory(),
    );
    system.process(pid).map_or(0, sysinfo::Process::memory)
}

/// The most bytes that were ever resident (`VmHWM`).
pub fn peak_resident() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something_and_less_than_there_is() {
        let (resident, peak, limit) = (resident(), peak_resident(), limit());
        assert!(resident > 0 && peak > 0, "{resident} {peak}");
        assert!(resident < limit, "{resident} {limit}");
    }
}
