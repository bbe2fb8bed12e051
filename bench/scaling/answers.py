"""How many workers, which maximum, which target: the tables of docs/scale.md."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from . import arrivals, theory
from .autoscaler import Scaling
from .fleet import Scenario, simulate
from .photos import Mix
from .prices import Price
from .report import duration
from .worker import WorkerSpec

AGE = 60.0
"""Service level: 95 of 100 everyday photos are pulled within a minute."""

DRAIN = 15.0
"""Service level: the launch day's spike is done a quarter of an hour after it began."""

PER_HOUR = (1_000, 10_000, 100_000)
SPIKE, SPIKE_MINUTES, BASE = 20_000, 10.0, 1_000.0

WORTH = (10, 30, 60, 120)
"""Targets to try, as the seconds in which one worker does that many photos."""

TARGET_WORTH = 60
"""The one to take. On a metric that is minutes old, smaller ones start twice as many workers for some
seconds less in the queue: until the first of them shows in the metric, more are asked for."""

GROWING = 3600.0
GROWTH = [0.5 + 1.7 * min(1.0, minute / 40) for minute in range(60)]
"""Workers' worth of load, minute by minute."""

PER_MINUTE = (60, 600, 6_000, 60_000, 600_000)
"""Loads of the sizing table, by which quotas and budgets are asked for."""

ROOM = 0.8
"""How busy a fleet of that table is: the rest is for deployments, retries and what is not spread evenly."""

# More photos of one kind only repeat themselves.
ENOUGH = 20_000

# A fleet that is always full has no room for chance, however long its wait may take to show.
BUSIEST = 0.95


def all_of(cases: dict[str, tuple[Mix, WorkerSpec, Price]], seed: int) -> dict:
    """Everything that the tables show, by network."""
    return {name: _one(*case, seed) for name, case in cases.items()}


def _one(mix: Mix, worker: WorkerSpec, price: Price, seed: int) -> dict:
    rate = theory.capacity(mix, worker).rate
    target = backlog(TARGET_WORTH, rate, worker)
    return {
        "capacity": _capacity(mix, worker, price),
        "sizing": sizing(rate, price.per_hour(worker.cores)),
        "steady": [_steady(hourly, rate, mix, worker, price, seed) for hourly in PER_HOUR],
        "targets": [
            _growing(worth, prompt, rate, mix, worker, price, seed)
            for prompt in (False, True)
            for worth in WORTH
        ],
        "spike": _spikes(target, rate, mix, worker, price, seed),
        "target": target,
    }


def sizing(rate: float, per_hour: float) -> list[dict]:
    """Workers for loads that last, and what they cost; arithmetic, no simulation.

    `rate` is one worker's photos a second at most, `per_hour` its price in dollars.
    """
    rows = []
    for load in PER_MINUTE:
        workers = math.ceil(load / 60 / (rate * ROOM))
        rows.append(
            {
                "per_minute": load,
                "workers": workers,
                "per_hour": workers * per_hour,
                "cost_per_1000": workers * per_hour / (load * 60) * 1000,
            }
        )
    return rows


def backlog(worth: float, rate: float, worker: WorkerSpec) -> float:
    """A target worth so many seconds of a worker, in two digits.

    Never one that the jobs in work reach by themselves: it would ask for workers without end.
    """
    exact = max(2 * worker.jobs, rate * worth)
    step = 10 ** max(0, math.floor(math.log10(exact)) - 1)
    return float(exact // step * step)


def _capacity(mix: Mix, worker: WorkerSpec, price: Price) -> list[dict]:
    """What one worker does at most, as it is asked for and with eight vCPUs."""
    # On a CPU provider the cores that were measured are all there is to tell of.
    sizes = {worker.cores} if worker.engine_threads else {worker.cores, 8}
    rows = []
    for vcpus in sorted(sizes):
        most = theory.capacity(mix, replace(worker, cores=vcpus))
        rows.append(
            {
                "vcpus": vcpus,
                "photos_per_second": most.rate,
                "bound": most.bound,
                "per_hour": price.per_hour(vcpus),
                "cost_per_1000": price.per_second(vcpus) / most.rate * 1000,
            }
        )
    return rows


def _steady(
    hourly: int, rate: float, mix: Mix, worker: WorkerSpec, price: Price, seed: int
) -> dict:
    """The fewest workers, always there, that keep the age."""
    seconds = min(3600.0, ENOUGH / hourly * 3600)
    times = arrivals.steady(hourly, seconds, random.Random(f"steady {seed}"))
    workers = max(1, math.ceil(hourly / 3600 / rate / BUSIEST))
    ready = replace(worker, cold_start=0.0)
    while True:
        fleet = Scaling.fixed(workers)
        scenario = Scenario({"base": times}, mix, ready, fleet, price, seconds=seconds)
        p95 = simulate(scenario, seed).ages["base"].p95
        if p95 <= AGE:
            return {
                "per_hour": hourly,
                "workers": workers,
                "busy": hourly / 3600 / rate / workers,
                "p95_age": p95,
                "cost_per_1000": workers * price.per_hour(worker.cores) / hourly * 1000,
            }
        workers += 1


def _spikes(
    target: float, rate: float, mix: Mix, worker: WorkerSpec, price: Price, seed: int
) -> list[dict]:
    """The launch day by the most workers there may be, from one that is always there."""
    chance = random.Random(f"spike {seed}")
    times = {
        "base": arrivals.steady(BASE, 3600.0, chance),
        "spike": arrivals.spike(SPIKE, 600.0, SPIKE_MINUTES * 60, chance),
    }
    # What it takes if all were there from the first photo on; fewer cannot do.
    least = math.ceil(SPIKE / (DRAIN * 60) / rate)
    rows = []
    for maximum in sorted({math.ceil(least * more) for more in (1, 1.25, 1.5, 2, 3)}):
        fleet = Scaling(1, maximum, target)
        outcome = simulate(Scenario(times, mix, worker, fleet, price, seconds=3600.0), seed)
        spike = outcome.ages["spike"]
        rows.append(
            {
                "max": maximum,
                "target": target,
                "workers": outcome.most_workers,
                "drained": spike.drained,
                "p95_age": spike.p95,
                "cost_per_1000": outcome.cost_per_1000,
                "holds": spike.drained <= DRAIN * 60,
            }
        )
    return rows


def _growing(
    worth: float,
    prompt: bool,
    rate: float,
    mix: Mix,
    worker: WorkerSpec,
    price: Price,
    seed: int,
) -> dict:
    """An hour in which the load grows from half a worker's to 2.2 workers', by a target."""
    target = backlog(worth, rate, worker)
    times = arrivals.day(
        sum(GROWTH) / len(GROWTH) * rate * GROWING, random.Random(f"target {seed}"), GROWTH, GROWING
    )
    fleet = Scaling(1, 8, target)
    if prompt:
        fleet = fleet.prompt()
    outcome = simulate(Scenario({"base": times}, mix, worker, fleet, price, seconds=GROWING), seed)
    ages = outcome.ages["base"]
    return {
        "signal": "prompt" if prompt else "monitoring",
        "worth": worth,
        "target": target,
        "p50_age": ages.p50,
        "p95_age": ages.p95,
        "p99_age": ages.p99,
        "workers": outcome.most_workers,
        "cost_per_1000": outcome.cost_per_1000,
    }


def tables(found: dict) -> str:
    """Markdown, as docs/scale.md has it."""
    return "\n\n".join(
        [
            "One worker whose queue never runs dry:",
            _table(
                ["network", "vCPUs", "photos/s", "photos/h", "bound by", "$/h", "$/1,000 when full"],
                found,
                "capacity",
                lambda row: (
                    row["vcpus"],
                    f"{row['photos_per_second']:.2f}",
                    f"{row['photos_per_second'] * 3600:,.0f}",
                    row["bound"],
                    f"{row['per_hour']:.2f}",
                    f"{row['cost_per_1000']:.3f}",
                ),
            ),
            f"Sizing, {ROOM:.0%} busy:",
            _table(
                ["network", "photos/min", "workers", "$/h", "$/1,000"],
                found,
                "sizing",
                lambda row: (
                    f"{row['per_minute']:,}",
                    f"{row['workers']:,}",
                    f"{row['per_hour']:,.2f}",
                    f"{row['cost_per_1000']:.3f}",
                ),
            ),
            f"Workers for a steady load, 95 % pulled within {AGE:.0f} s:",
            _table(
                ["network", "photos/h", "workers", "busy", "p95 in the queue", "$/1,000"],
                found,
                "steady",
                lambda row: (
                    f"{row['per_hour']:,}",
                    row["workers"],
                    f"{row['busy']:.0%}",
                    duration(row["p95_age"]),
                    f"{row['cost_per_1000']:.3f}",
                ),
            ),
            "The target, backlog per worker, under a load that grows from half a worker's to 2.2 workers':",
            _table(
                ["network", "signal", "worth", "target", "p50 in the queue", "p95", "p99", "workers used", "$/1,000"],
                found,
                "targets",
                lambda row: (
                    row["signal"],
                    f"{row['worth']} s",
                    f"{row['target']:g}",
                    *(duration(row[age]) for age in ("p50_age", "p95_age", "p99_age")),
                    row["workers"],
                    f"{row['cost_per_1000']:.3f}",
                ),
            ),
            f"The maximum: {SPIKE:,} photos in {SPIKE_MINUTES:.0f} minutes on {BASE:,.0f} an hour, to be done "
            f"within {DRAIN:.0f}, minimum 1:",
            _table(
                ["network", "max", "target", "used", "spike done after", "p95 in the queue", "$/1,000", "in time"],
                found,
                "spike",
                lambda row: (
                    row["max"],
                    f"{row['target']:g}",
                    row["workers"],
                    duration(row["drained"]),
                    duration(row["p95_age"]),
                    f"{row['cost_per_1000']:.3f}",
                    "yes" if row["holds"] else "no",
                ),
            ),
        ]
    )


def _table(head: list[str], found: dict, key: str, cells) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, one in found.items():
        lines += ["| " + " | ".join(map(str, (name, *cells(row)))) + " |" for row in one[key]]
    return "\n".join(lines)
