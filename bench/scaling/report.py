"""Outcomes as tables for people."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from .fleet import Outcome


def duration(seconds: float) -> str:
    """Seconds, or minutes from two of them on."""
    if math.isinf(seconds):
        return "never"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def one(outcome: Outcome) -> str:
    """All of one run's figures."""
    lines = [
        f"photos      {outcome.done} of {outcome.published} done, {outcome.redelivered} delivered again",
        f"workers     {outcome.most_workers} at most, {outcome.worker_hours:.2f} worker-hours",
        f"rate        {outcome.rate_per_worker:.2f} photos/s and ready worker; network busy {outcome.engine_use:.0%}",
        f"cost        {outcome.cost:.2f} dollars, {outcome.cost_per_1000:.3f} for 1,000 photos",
    ]
    for tag, ages in outcome.ages.items():
        lines.append(
            f"{tag:<11} in the queue p50 {duration(ages.p50)}, p95 {duration(ages.p95)}, "
            f"p99 {duration(ages.p99)}, worst {duration(ages.worst)}; all done after {duration(ages.drained)}"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class Row:
    """One point of a sweep, and the service level it is held to (seconds, minutes; None: not asked)."""

    target: float
    maximum: int
    outcome: Outcome
    age: float | None = None
    drain: float | None = None

    def holds(self) -> bool:
        """Whether the service level is kept, and everything done."""
        ages = self.outcome.ages
        waited = ages.get("base") or next(iter(ages.values()))
        spike = ages.get("spike")
        return (
            self.outcome.done == self.outcome.published
            and (self.age is None or waited.p95 <= self.age)
            and (self.drain is None or spike is None or spike.drained <= self.drain * 60)
        )

    def as_dict(self) -> dict:
        return {
            "target": self.target,
            "max": self.maximum,
            "holds": self.holds(),
            **asdict(self.outcome),
        }


def sweep(rows: list[Row]) -> str:
    """The points in order, those that keep the service level marked."""
    lines = [
        f"{'target':>7} {'max':>4} {'used':>5} {'p95 base':>9} {'p95 spike':>10} {'drained':>9} {'$/1,000':>8}"
    ]
    for row in rows:
        ages = row.outcome.ages
        base, spike = ages.get("base"), ages.get("spike")
        lines.append(
            f"{row.target:>7g} {row.maximum:>4} {row.outcome.most_workers:>5} "
            f"{duration(base.p95) if base else '':>9} {duration(spike.p95) if spike else '':>10} "
            f"{duration(spike.drained) if spike else '':>9} {row.outcome.cost_per_1000:>8.3f}"
            f"{'  ok' if row.holds() else ''}"
        )
    kept = [row for row in rows if row.holds()]
    if kept:
        best = min(kept, key=lambda row: row.outcome.cost)
        lines.append(f"cheapest that keeps it: target {best.target:g}, max {best.maximum}")
    else:
        lines.append("none keeps the service level")
    return "\n".join(lines)
