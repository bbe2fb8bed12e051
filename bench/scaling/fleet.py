"""A scenario, and what becomes of it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Sequence

from .autoscaler import Autoscaler, Scaling
from .des import simpy
from .photos import Mix
from .prices import Price
from .subscription import Message, Subscription
from .worker import Worker, WorkerSpec


@dataclass(frozen=True)
class Scenario:
    """Everything that a run depends on, besides the seed."""

    arrivals: dict[str, Sequence[float]]
    """Times of publication, by a tag that the figures are told apart by."""
    mix: Mix
    worker: WorkerSpec = field(default_factory=WorkerSpec)
    scaling: Scaling = field(default_factory=Scaling)
    price: Price = field(default_factory=Price)
    kills: Sequence[float] = ()
    """Times at which one worker is killed without warning (the autoscaler starts another)."""
    seconds: float = 0.0
    """Workers are kept (and billed) at least this long; longer while there is work."""
    patience: float = 6 * 3600.0
    """How long after the last arrival work may take before the run is given up."""


class Fleet:
    """The workers there are, and the number there should be."""

    def __init__(self, env: simpy.Environment, scenario: Scenario, chance: random.Random):
        self.env, self.spec, self._chance = env, scenario.worker, chance
        self.queue = Subscription(env)
        self.workers: list[Worker] = []
        self.most = 0
        self._wanted = 0
        self._crowd: list[tuple[float, int]] = []
        self.autoscaler = Autoscaler(
            env, scenario.scaling, lambda: self.queue.unacked, lambda: self._wanted, self.scale_to
        )
        for at in scenario.kills:
            env.process(self._kill_one(at))

    def active(self) -> list[Worker]:
        """Workers that run or start, without those that drain."""
        return [worker for worker in self.workers if not worker.stopping]

    def scale_to(self, wanted: int) -> None:
        self._wanted = wanted
        active = self.active()
        for _ in range(wanted - len(active)):
            self.workers.append(Worker(self.env, self.spec, self.queue))
        if len(active) > wanted:
            # Which ones the platform stops is its own affair: those that start, then any.
            order = sorted(active, key=lambda w: (w.ready is not None, self._chance.random()))
            for worker in order[: len(active) - wanted]:
                worker.stop()
        self.most = max(self.most, len(self.active()))

    def _kill_one(self, at: float):
        yield self.env.timeout(at)
        ready = [worker for worker in self.active() if worker.ready is not None]
        if ready:
            self._chance.choice(ready).kill()
            self.scale_to(self._wanted)  # the platform keeps the number


@dataclass(frozen=True)
class Ages:
    """Seconds in the queue before the first pull, of one kind of arrival."""

    photos: int
    p50: float
    p95: float
    p99: float
    worst: float
    drained: float
    """From the first publication to the last ack."""


@dataclass(frozen=True)
class Outcome:
    """The figures of one run."""

    published: int
    done: int
    redelivered: int
    ages: dict[str, Ages]
    most_workers: int
    worker_hours: float
    engine_use: float
    """Share of the ready workers' time in which the engine ran."""
    rate_per_worker: float
    """Photos a second and ready worker, idle time included."""
    cost: float
    cost_per_1000: float


def simulate(scenario: Scenario, seed: int = 1) -> Outcome:
    """Runs a scenario to its end. The same seed gives the same figures."""
    return outcome(run(scenario, seed), scenario)


def run(scenario: Scenario, seed: int = 1) -> Fleet:
    """The fleet after all work is done and it is back at its minimum."""
    env = simpy.Environment()
    # Streams of their own, so that none goes with the arrivals', which the caller drew.
    chance = random.Random(f"photos {seed}")
    fleet = Fleet(env, scenario, random.Random(f"workers {seed}"))
    plan = sorted((at, tag) for tag, times in scenario.arrivals.items() for at in times)
    env.process(_publish(env, fleet.queue, scenario.mix, plan, chance))
    last = plan[-1][0] if plan else 0.0
    give_up = max(last, scenario.seconds) + scenario.patience
    until = max(last, scenario.seconds)
    if until > 0:
        env.run(until=until)
    while env.now < give_up:
        published_all = len(fleet.queue.messages) == len(plan)
        settled = len(fleet.active()) <= scenario.scaling.minimum
        if published_all and fleet.queue.unacked == 0 and settled:
            break
        env.run(until=env.now + 5)
    for worker in fleet.active():
        worker.ended = env.now
    return fleet


def _publish(env, queue: Subscription, mix: Mix, plan, chance: random.Random):
    for at, tag in plan:
        if at > env.now:
            yield env.timeout(at - env.now)
        queue.publish(mix.draw(chance), tag)


def outcome(fleet: Fleet, scenario: Scenario) -> Outcome:
    """The figures of a run that has ended."""
    messages = fleet.queue.messages
    end = fleet.env.now
    alive = sum((w.ended if w.ended is not None else end) - w.started for w in fleet.workers)
    ready = sum(
        (w.ended if w.ended is not None else end) - w.ready
        for w in fleet.workers
        if w.ready is not None
    )
    done = sum(message.finished is not None for message in messages)
    cost = alive * scenario.price.per_second(scenario.worker.cores)
    return Outcome(
        published=len(messages),
        done=done,
        redelivered=sum(max(0, message.deliveries - 1) for message in messages),
        ages={
            tag: _ages([message for message in messages if message.tag == tag])
            for tag, times in scenario.arrivals.items()
            if times
        },
        most_workers=fleet.most,
        worker_hours=alive / 3600,
        engine_use=sum(w.engine_busy for w in fleet.workers) / ready if ready else 0.0,
        rate_per_worker=done / ready if ready else 0.0,
        cost=cost,
        cost_per_1000=cost / done * 1000 if done else math.inf,
    )


def _ages(messages: list[Message]) -> Ages:
    # What was never pulled or finished counts as endless rather than not at all.
    ages = sorted(
        message.taken - message.published if message.taken is not None else math.inf
        for message in messages
    )
    ends = [message.finished if message.finished is not None else math.inf for message in messages]
    return Ages(
        photos=len(messages),
        p50=quantile(ages, 0.5),
        p95=quantile(ages, 0.95),
        p99=quantile(ages, 0.99),
        worst=ages[-1],
        drained=max(ends) - messages[0].published,
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
