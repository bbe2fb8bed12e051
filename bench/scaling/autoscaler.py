"""The autoscaler: backlog per worker, seen late, as KEDA and CREMA act on it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Callable

from .des import simpy


@dataclass(frozen=True)
class Scaling:
    """How many workers there may be, and when the number changes.

    The metric is `num_undelivered_messages`: Cloud Monitoring samples it once a minute and shows a
    sample two minutes later (https://cloud.google.com/monitoring/api/metrics_gcp_p_z), so that what
    is acted on is two to three minutes old, and polled on top of that.
    """

    minimum: int = 0
    maximum: int = 10
    target: float = 100.0
    """Backlog per worker that is aimed at; messages in work count."""
    poll: float = 30.0
    metric_period: float = 60.0
    metric_delay: float = 120.0
    stabilisation: float = 300.0
    """Scaling in follows the highest wish of this many seconds (the HPA's default)."""
    tolerance: float = 0.1
    """Wishes this close to what there is change nothing (the HPA's default)."""

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum:
            raise ValueError(f"{self.minimum} to {self.maximum} workers is no range")
        if self.maximum < 1 or self.target <= 0:
            raise ValueError("at least one worker and a target above 0 are needed")

    def prompt(self) -> Scaling:
        """The same on a metric without Cloud Monitoring's delay: scraped and polled every 15 s."""
        return replace(self, poll=15.0, metric_period=15.0, metric_delay=15.0)

    @classmethod
    def fixed(cls, workers: int) -> Scaling:
        """No autoscaler: this many workers from the start."""
        return cls(minimum=workers, maximum=workers)


class Autoscaler:
    """Asks for a number of workers, at each poll."""

    def __init__(
        self,
        env: simpy.Environment,
        scaling: Scaling,
        backlog: Callable[[], int],
        workers: Callable[[], int],
        scale_to: Callable[[int], None],
    ):
        self.env, self.scaling = env, scaling
        self._backlog, self._workers, self._scale_to = backlog, workers, scale_to
        self._samples: deque[tuple[float, int]] = deque()
        self._shown = 0
        self._wishes: deque[tuple[float, int]] = deque()
        scale_to(scaling.minimum)
        if scaling.minimum < scaling.maximum:
            env.process(self._sample())
            env.process(self._act())

    def seen(self) -> int:
        """The metric as it can be read now."""
        while self._samples and self._samples[0][0] <= self.env.now - self.scaling.metric_delay:
            self._shown = self._samples.popleft()[1]
        return self._shown

    def _sample(self):
        while True:
            self._samples.append((self.env.now, self._backlog()))
            yield self.env.timeout(self.scaling.metric_period)

    def _act(self):
        while True:
            yield self.env.timeout(self.scaling.poll)
            self._scale_to(self.wanted())

    def wanted(self) -> int:
        """The number to ask for now."""
        scaling, now = self.scaling, self._workers()
        load = self.seen() / scaling.target
        wish = math.ceil(load)
        if now and abs(load / now - 1) <= scaling.tolerance:
            wish = now
        wish = min(max(wish, scaling.minimum), scaling.maximum)
        self._wishes.append((self.env.now, wish))
        while self._wishes[0][0] < self.env.now - scaling.stabilisation:
            self._wishes.popleft()
        if wish >= now:
            return wish
        return min(now, max(past for _, past in self._wishes))
