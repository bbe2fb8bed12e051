"""A worker's cores: threads that want to run share them evenly."""

from __future__ import annotations

import heapq
import itertools

from .des import simpy


class Cores:
    """Work in core-seconds on `count` cores. More threads than cores slow each other down alike.

    All work in progress advances along one virtual clock, which runs at the threads' common speed,
    so that a change of load moves no deadline but the next one.
    """

    def __init__(self, env: simpy.Environment, count: int):
        self.env, self.count = env, count
        self.busy = 0.0
        """Core-seconds worked so far."""
        self._threads = 0
        self._virtual = self._seen = 0.0
        self._due: list[tuple[float, int, int, simpy.Event]] = []
        self._numbers = itertools.count()
        self._alarm = 0

    def work(self, seconds: float, threads: int = 1) -> simpy.Event:
        """Occurs when `threads` threads have each worked for `seconds` at full speed."""
        self._advance()
        done = self.env.event()
        heapq.heappush(self._due, (self._virtual + seconds, next(self._numbers), threads, done))
        self._threads += threads
        self._set_alarm()
        return done

    def _speed(self) -> float:
        return min(1.0, self.count / self._threads)

    def _advance(self) -> None:
        passed = self.env.now - self._seen
        self._seen = self.env.now
        if self._threads:
            self._virtual += passed * self._speed()
            self.busy += passed * min(self.count, self._threads)

    def _set_alarm(self) -> None:
        self._alarm += 1
        if not self._due:
            return
        mine = self._alarm
        wait = max(0.0, (self._due[0][0] - self._virtual) / self._speed())
        self.env.timeout(wait).callbacks.append(lambda _: self._ring(mine))

    def _ring(self, alarm: int) -> None:
        if alarm != self._alarm:
            return  # the load changed since; a later alarm is set
        self._advance()
        # The clock is a sum of floats: what is this close is due.
        while self._due and self._due[0][0] <= self._virtual + 1e-9:
            _, _, threads, done = heapq.heappop(self._due)
            self._threads -= threads
            done.succeed()
        self._set_alarm()
