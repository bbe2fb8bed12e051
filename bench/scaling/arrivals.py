"""When photos come: steady, by the hours of a day, all at once, or as a file says.

Each function gives sorted seconds from the start; `chance` makes them the same for the same seed.
"""

from __future__ import annotations

import datetime
import random
import re
from pathlib import Path
from typing import Sequence

# A shop's day, midnight to midnight: quiet at night, a lunch hump, most of it in the evening.
# An assumption about shops in one time zone; give your own with --trace.
SHOP_DAY = (
    0.35, 0.2, 0.12, 0.1, 0.1, 0.15, 0.3, 0.55, 0.8, 1.0, 1.15, 1.25,
    1.35, 1.3, 1.2, 1.15, 1.2, 1.35, 1.6, 1.85, 2.0, 1.8, 1.3, 0.7,
)  # fmt: skip


def steady(per_hour: float, seconds: float, chance: random.Random) -> list[float]:
    """Independent arrivals at one mean rate (Poisson)."""
    times, now = [], 0.0
    while per_hour > 0:
        now += chance.expovariate(per_hour / 3600)
        if now >= seconds:
            break
        times.append(now)
    return times


def day(
    photos: float, chance: random.Random, hours: Sequence[float] = SHOP_DAY, seconds: float = 86400
) -> list[float]:
    """About `photos` arrivals, spread as `hours` weighs the parts of the time (thinned Poisson)."""
    mean, peak = sum(hours) / len(hours), max(hours)
    candidates = steady(photos * peak / mean / seconds * 3600, seconds, chance)
    part = seconds / len(hours)
    return [at for at in candidates if chance.random() < hours[int(at / part)] / peak]


def spike(photos: int, start: float, seconds: float, chance: random.Random) -> list[float]:
    """Exactly `photos` arrivals somewhere within `seconds` after `start`."""
    return sorted(start + chance.random() * seconds for _ in range(photos))


def trace(path: Path) -> list[float]:
    """One arrival a line: seconds, or a time in ISO 8601; the first column of a CSV will do."""
    times = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        cell = line.split(",")[0].strip().strip('"')
        if not cell:
            continue
        try:
            times.append(_seconds(cell))
        except ValueError as error:
            if number > 1:  # the first line may be the columns' names
                raise ValueError(f"{path}, line {number}: neither seconds nor a time: {cell}") from error
    if not times:
        raise ValueError(f"{path} holds no arrivals")
    times.sort()
    return [at - times[0] for at in times]


def _seconds(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        # Python before 3.11 knows neither the Z nor fractions of other than three or six digits.
        cell = re.sub(r"\.(\d+)", lambda digits: f".{digits[1][:6]:0<6}", cell.replace("Z", "+00:00"))
        return datetime.datetime.fromisoformat(cell).timestamp()
