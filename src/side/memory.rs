//! How much memory there is: the container's limit rather than the machine's, where there is one.

use sysinfo::{
    MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System, get_current_pid,
};

/// Below this share of the limit, memory counts as short: the kernel ends the process at none.
const SHORT: f64 = 0.05;

/// Memory, at one moment. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryReading {
    /// What the process may have: the cgroup's limit, or the machine's memory.
    pub limit: u64,
    /// What is left of it.
    pub available: u64,
    /// What the process has (resident set).
    pub resident: u64,
}

impl MemoryReading {
    /// Reads `/proc` and the cgroup of this process; some tens of microseconds. `None` on a
    /// system that does not tell.
    pub fn take() -> Option<Self> {
        let mut system = System::new_with_specifics(
            RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()),
        )
        .ok()?;
        let pid = get_current_pid().ok()?;
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[pid]),
            false,
            ProcessRefreshKind::nothing().with_memory().without_tasks(),
        );
        let process = system.process(pid)?;
        // The cgroup's own "free" counts the page cache as taken, which the kernel gives back
        // before it kills; anonymous memory is what it cannot take away.
        let cgroup = process.cgroup_limits().map(|cgroup| {
            (
                cgroup.total_memory,
                cgroup.total_memory.saturating_sub(cgroup.rss),
            )
        });
        Some(Self::within(
            cgroup,
            (system.total_memory(), system.available_memory()),
            process.memory(),
        ))
    }

    /// The tighter of container and machine, each as (limit, available).
    fn within(cgroup: Option<(u64, u64)>, machine: (u64, u64), resident: u64) -> Self {
        let (limit, available) = cgroup.unwrap_or(machine);
        Self {
            limit: limit.min(machine.0),
            available: available.min(machine.1),
            resident,
        }
    }

    /// Whether enough is left to go on working.
    pub fn is_healthy(&self) -> bool {
        self.available as f64 >= self.limit as f64 * SHORT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_some_memory_and_less_than_its_limit() {
        let memory = MemoryReading::take().unwrap();
        assert!(memory.resident > 1 << 20, "{memory:?}");
        assert!(memory.resident < memory.limit, "{memory:?}");
        assert!(memory.available <= memory.limit, "{memory:?}");
    }

    #[test]
    fn the_tighter_of_container_and_machine_counts() {
        let contained = MemoryReading::within(Some((100, 40)), (1000, 900), 60);
        assert_eq!((contained.limit, contained.available), (100, 40));
        let crowded = MemoryReading::within(Some((100, 40)), (1000, 10), 60);
        assert_eq!(crowded.available, 10);
        let free = MemoryReading::within(None, (1000, 900), 60);
        assert_eq!((free.limit, free.available), (1000, 900));
    }

    #[test]
    fn memory_is_short_when_less_than_a_twentieth_is_left() {
        let left = |available| MemoryReading {
            limit: 1000,
            available,
            resident: 1,
        };
        assert!(left(50).is_healthy());
        assert!(!left(49).is_healthy());
    }
}
