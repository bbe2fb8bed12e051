"""Order of the turns, and what their times amount to. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TypeVar

T = TypeVar("T")


def chunks(items: Sequence[T], size: int) -> list[list[T]]:
    """`items` in runs of `size`; what is left over is spread, so that no run is much shorter."""
    count = max(1, round(len(items) / size))
    return [
        list(items[len(items) * n // count : len(items) * (n + 1) // count]) for n in range(count)
    ]


def turns(
    contenders: Sequence[str], chunk_count: int, rounds: int
) -> Iterator[tuple[int, int, str]]:
    """(round, chunk, contender): every contender has a chunk before the next chunk begins.

    Who goes first rotates, so that what drifts (heat, a neighbour's load) favours nobody.
    """
    for number in range(rounds * chunk_count):
        first = number % len(contenders)
        for contender in [*contenders[first:], *contenders[:first]]:
            yield number // chunk_count, number % chunk_count, contender


@dataclass(frozen=True)
class Turn:
    """One contender's work on one chunk of photos."""

    set: str
    """Which photos: `mixed` or `12mp`."""
    round: int
    chunk: int
    contender: str
    photos: int
    seconds: float
    cpu_seconds: float
    """Of the contender's process, all its threads."""
    others: float
    """Cores that everything else on the machine kept busy meanwhile."""
    out_bytes: int


@dataclass(frozen=True)
class Start:
    """One fresh process, from exec to its first PNG."""

    contender: str
    seconds: float
    others: float


@dataclass(frozen=True)
class Spread:
    """A median with what lay around it."""

    median: float
    least: float
    most: float
    count: int


def spread(values: Iterable[float]) -> Spread:
    values = sorted(values)
    if not values:
        raise ValueError("no values")
    return Spread(median(values), values[0], values[-1], len(values))


def rate(turns: Sequence[Turn]) -> float:
    """Photos per second over all of `turns`."""
    return sum(turn.photos for turn in turns) / sum(turn.seconds for turn in turns)


def ratios(turns: Sequence[Turn], ours: str, theirs: str) -> list[float]:
    """How many times as fast `ours` was, for each chunk in each round that both had."""
    seconds = {(t.set, t.round, t.chunk, t.contender): t.seconds for t in turns}
    if len(seconds) != len(turns):
        raise ValueError("a contender had the same chunk twice in one round")
    return [
        other / seconds[(*key, ours)]
        for (*key, contender), other in seconds.items()
        if contender == theirs and (*key, ours) in seconds
    ]


def throughput(turns: Sequence[Turn], ours: str) -> list[dict[str, Any]]:
    """A row for each set and contender; `times` is how much faster `ours` was than it."""
    rows = []
    for name in distinct(turn.set for turn in turns):
        of_set = [turn for turn in turns if turn.set == name]
        for contender in distinct(turn.contender for turn in of_set):
            mine = [turn for turn in of_set if turn.contender == contender]
            photos = sum(turn.photos for turn in mine)
            rows.append(
                {
                    "set": name,
                    "contender": contender,
                    "photos": photos,
                    "photos_per_second": rate(mine),
                    "seconds_per_photo": asdict(
                        spread(turn.seconds / turn.photos for turn in mine)
                    ),
                    "cpu_seconds_per_photo": sum(turn.cpu_seconds for turn in mine) / photos,
                    "out_mib_per_photo": sum(turn.out_bytes for turn in mine) / photos / 2**20,
                    "others": sum(t.others * t.seconds for t in mine)
                    / sum(t.seconds for t in mine),
                    "times": None
                    if contender == ours
                    else asdict(spread(ratios(of_set, ours, contender))),
                }
            )
    return rows


def cold(starts: Sequence[Start], ours: str) -> list[dict[str, Any]]:
    """A row for each contender; `times` is how many times as long as `ours` it took."""
    base = [start.seconds for start in starts if start.contender == ours]
    rows = []
    for contender in distinct(start.contender for start in starts):
        mine = [start for start in starts if start.contender == contender]
        paired = [theirs.seconds / mine_ for theirs, mine_ in zip(mine, base)]
        rows.append(
            {
                "contender": contender,
                "seconds": asdict(spread(start.seconds for start in mine)),
                "others": sum(s.others * s.seconds for s in mine) / sum(s.seconds for s in mine),
                "times": None if contender == ours else asdict(spread(paired)),
            }
        )
    return rows


def distinct(names: Iterable[str]) -> list[str]:
    """Each name once, in the order of first appearance."""
    return list(dict.fromkeys(names))
