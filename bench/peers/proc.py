"""What /proc says of processes and of the machine. The `…_of` functions are pure."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


def mib_of(status: str, field: str) -> int:
    """MiB of a field of /proc/PID/status, such as `VmHWM`."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) // 1024
    raise ValueError(f"/proc/PID/status has no {field}")


def process_ticks_of(stat: str) -> int:
    """User and system time out of /proc/PID/stat, whose second field may hold spaces."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def busy_ticks_of(stat: str) -> int:
    """Time that any core was busy, or taken by other guests of the host, out of /proc/stat."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.split()[1:9])
    return user + nice + system + irq + softirq + steal


def cpu_model_of(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.machine()


def read(name: str) -> str:
    return Path("/proc", name).read_text("utf-8")


def peak_mib(pid: int) -> int:
    return mib_of(read(f"{pid}/status"), "VmHWM")


class Stopwatch:
    """Wall time, a process's CPU time, and how many cores everybody else kept busy meanwhile."""

    def __init__(self, pid: int | None = None) -> None:
        """`pid` is a process that runs already; one that is started later is named to `stop`."""
        self.ticks = process_ticks(pid) if pid else 0
        self.reaped = children_seconds()
        self.busy = busy_ticks_of(read("stat"))
        self.mine = time.process_time()
        self.begun = time.monotonic()

    def stop(self, pid: int) -> tuple[float, float, float]:
        """Seconds, the process's CPU seconds, and other cores."""
        seconds = time.monotonic() - self.begun
        mine = time.process_time() - self.mine
        busy = (busy_ticks_of(read("stat")) - self.busy) / TICKS
        try:
            cpu = (process_ticks(pid) - self.ticks) / TICKS
        except FileNotFoundError:  # it ended, and was waited for
            cpu = children_seconds() - self.reaped
        return seconds, cpu, max(0.0, busy - cpu - mine) / seconds


def process_ticks(pid: int) -> int:
    return process_ticks_of(read(f"{pid}/stat"))


def children_seconds() -> float:
    """CPU seconds of children that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def machine() -> dict[str, Any]:
    """The machine in terms that say nothing about whose it is."""
    return {
        "cpu": cpu_model_of(read("cpuinfo")),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(mib_of(read("meminfo"), "MemTotal") / 1024),
        "system": f"{platform.system()} {platform.machine()}",
    }
