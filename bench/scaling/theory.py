"""Closed forms: what the simulation is checked against, and bounds that need no simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .photos import Mix
from .worker import WorkerSpec


def erlang_c(servers: int, offered: float) -> float:
    """The share of arrivals that wait in M/M/c; `offered` is arrival rate times service time."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    busy = offered / servers
    return blocked / (1 - busy * (1 - blocked))


def mmc_wait(rate: float, service: float, servers: int) -> float:
    """Mean wait in M/M/c."""
    offered = rate * service
    return erlang_c(servers, offered) * service / (servers - offered)


def mmc_wait_quantile(rate: float, service: float, servers: int, share: float) -> float:
    """The wait that `share` of the arrivals do not exceed in M/M/c."""
    offered = rate * service
    waits = erlang_c(servers, offered)
    if waits <= 1 - share:
        return 0.0
    return math.log(waits / (1 - share)) * service / (servers - offered)


def md1_wait(rate: float, service: float) -> float:
    """Mean wait in M/D/1 (Pollaczek–Khinchine)."""
    busy = rate * service
    return busy * service / (2 * (1 - busy))


@dataclass(frozen=True)
class Capacity:
    """The most photos a second that one worker can do, and what bounds it."""

    rate: float
    bound: str


def capacity(mix: Mix, spec: WorkerSpec) -> Capacity:
    """The tightest of the worker's bounds; reached when the queue never runs dry."""
    infer, cpu = mix.mean(lambda p: p.infer), mix.mean(lambda p: p.cpu)
    run = infer * (1 + (spec.max_batch - 1) * spec.batch_share) / spec.max_batch
    bounds = {
        "engine": 1 / run if run else math.inf,
        "jobs": spec.jobs / mix.mean(lambda p: p.total),
    }
    core_seconds = cpu + run * spec.engine_threads
    bounds["cores"] = spec.cores / core_seconds if core_seconds else math.inf
    bound = min(bounds, key=bounds.__getitem__)
    return Capacity(bounds[bound], bound)
