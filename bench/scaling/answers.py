"""How many workers: the tables of docs/scale.md."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from . import arrivals
from .autoscaler import Scaling
from .fleet import Outcome, Scenario, simulate
from .photos import Mix
from .prices import Price
from .report import duration
from .worker import WorkerSpec

BACKLOG = 1500
"""Photos that one worker's rate is taken over."""

PER_HOUR = (1_000, 10_000, 100_000)
AGE = 60.0
"""Service level: 95 of 100 photos are pulled within a minute."""

SPIKE, SPIKE_MINUTES, BASE = 20_000, 10.0, 1_000.0
DRAIN = 15.0
"""Service level: the launch day's spike is done a quarter of an hour after it began… and if not, when."""

MAXIMA = (3, 5, 10, 20)
TARGETS = (50, 100, 200, 400, 800)


def all_of(cases: dict[str, Mix], worker: WorkerSpec, price: Price, seed: int) -> dict:
    """Everything the tables show, by network."""
    return {name: _one(mix, worker, price, seed) for name, mix in cases.items()}


def _one(mix: Mix, worker: WorkerSpec, price: Price, seed: int) -> dict:
    rate, use = _rate(mix, worker, price, seed)
    return {
        "photos_per_second": rate,
        "engine_use": use,
        "cost_per_1000_at_full_use": price.per_second(worker.cores) / rate * 1000,
        "steady": [_steady(hourly, rate, mix, worker, price, seed) for hourly in PER_HOUR],
        "spike": [
            _spike(maximum, _target(rate), mix, worker, price, seed) for maximum in MAXIMA
        ],
        "targets": [_spike(10, target, mix, worker, price, seed) for target in TARGETS],
        "target": _target(rate),
    }


def _rate(mix: Mix, worker: WorkerSpec, price: Price, seed: int) -> tuple[float, float]:
    """Photos a second of one worker that never lacks any, and its engine's use."""
    alone = replace(worker, cold_start=0.0)
    backlog = Scenario({"all": [0.0] * BACKLOG}, mix, alone, Scaling.fixed(1), price)
    outcome = simulate(backlog, seed)
    return outcome.done / outcome.ages["all"].drained, outcome.engine_use


def _target(rate: float) -> int:
    """The backlog that one worker clears within the service level's minute, in round numbers."""
    exact = rate * AGE
    step = 10 ** max(0, math.floor(math.log10(exact)) - 1)
    return max(1, int(exact // step * step))


def _steady(
    hourly: int, rate: float, mix: Mix, worker: WorkerSpec, price: Price, seed: int
) -> dict:
    """The fewest workers, always there, that keep the age."""
    # Shorter for heavier loads: the same number of photos tells as much.
    seconds = min(3600.0, 20_000 / hourly * 3600)
    workers = max(1, math.ceil(hourly / 3600 / rate))
    while True:
        times = arrivals.steady(hourly, seconds, random.Random(f"steady {seed}"))
        ready = replace(worker, cold_start=0.0)
        outcome = simulate(
            Scenario({"base": times}, mix, ready, Scaling.fixed(workers), price, seconds=seconds),
            seed,
        )
        if outcome.ages["base"].p95 <= AGE:
            return {
                "per_hour": hourly,
                "workers": workers,
                "p95_age": outcome.ages["base"].p95,
                "engine_use": outcome.engine_use,
                "cost_per_1000": outcome.cost_per_1000,
            }
        workers += 1


def _spike(
    maximum: int, target: float, mix: Mix, worker: WorkerSpec, price: Price, seed: int
) -> dict:
    """The launch day on an autoscaled fleet that begins with one worker."""
    chance = random.Random(f"spike {seed}")
    hour = 3600.0
    times = {
        "base": arrivals.steady(BASE, hour, chance),
        "spike": arrivals.spike(SPIKE, 600.0, SPIKE_MINUTES * 60, chance),
    }
    scaling = Scaling(1, maximum, target)
    outcome: Outcome = simulate(Scenario(times, mix, worker, scaling, price, seconds=hour), seed)
    spike = outcome.ages["spike"]
    return {
        "max": maximum,
        "target": target,
        "workers": outcome.most_workers,
        "drained": spike.drained,
        "p95_age": spike.p95,
        "cost_per_1000": outcome.cost_per_1000,
    }


def tables(found: dict) -> str:
    """Markdown, as docs/scale.md has it."""
    out = [
        "| network | photos/s and worker | photos/h | network busy | $/1,000 at full use | target backlog |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        rate = one["photos_per_second"]
        out.append(
            f"| {name} | {rate:.2f} | {rate * 3600:,.0f} | {one['engine_use']:.0%} "
            f"| {one['cost_per_1000_at_full_use']:.3f} | {one['target']} |"
        )
    out += [
        "",
        "| network | photos/h | workers | p95 in the queue | network busy | $/1,000 |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        for row in one["steady"]:
            out.append(
                f"| {name} | {row['per_hour']:,} | {row['workers']} | {duration(row['p95_age'])} "
                f"| {row['engine_use']:.0%} | {row['cost_per_1000']:.3f} |"
            )
    for title, key in (("max workers", "spike"), ("target backlog", "targets")):
        out += [
            "",
            f"| network | {title} | used | spike done after | p95 in the queue | $/1,000 |",
            "|---|---|---|---|---|---|",
        ]
        for name, one in found.items():
            for row in one[key]:
                varied = row["max"] if key == "spike" else row["target"]
                out.append(
                    f"| {name} | {varied:g} | {row['workers']} | {duration(row['drained'])} "
                    f"| {duration(row['p95_age'])} | {row['cost_per_1000']:.3f} |"
                )
    return "\n".join(out)
