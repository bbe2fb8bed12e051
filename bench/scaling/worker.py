"""One worker: the walk of a job with its budgets, from cold start to drain.

It mirrors docs/architecture.md: a place among the jobs is taken before a message is pulled; decoding
and composing take a place on the CPU; one engine serves in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from .cores import Cores
from .des import simpy
from .subscription import Message, Subscription


@dataclass(frozen=True)
class WorkerSpec:
    """A worker's size. The defaults are the worker's own."""

    cores: int = 4
    max_jobs: int = 0
    """`--max-jobs`; 0 is the worker's default, twice the cores plus two."""
    engine_threads: int = 0
    """Cores that a run of the network keeps busy: all of them on the CPU provider, none on a GPU."""
    max_batch: int = 1
    """Photos in one run. The worker takes four on a card and one on a CPU; a card that is busy with one gains
    nothing from more, which is what the defaults here say."""
    batch_share: float = 1.0
    """What each further photo of a batch costs, as a share of the first: t1 + (b-1)·share·t1."""
    cold_start: float = 30.0
    """From the decision to start an instance to its first pull: platform, model, warm-up."""
    drain: float = 8.0
    """`--drain-timeout`: what is not done by then is given back."""
    lease: float = 60.0
    """`--lease-extension`: how long messages of a killed worker stay away."""

    @property
    def jobs(self) -> int:
        return self.max_jobs or 2 * self.cores + 2


class Worker:
    """Starts at once, pulls once it is ready, and is billed until it has ended."""

    def __init__(self, env: simpy.Environment, spec: WorkerSpec, queue: Subscription):
        self.env, self.spec, self.queue = env, spec, queue
        self.started = env.now
        self.ready: float | None = None
        self.ended: float | None = None
        self.stopping = False
        self.done = 0
        self.engine_busy = 0.0
        self.cores = Cores(env, spec.cores)
        self._places = simpy.Resource(env, spec.cores)
        self._slots = simpy.Resource(env, spec.jobs)
        self._requests = simpy.Store(env)
        self._jobs: dict[Message, simpy.Process] = {}
        self._idle: simpy.Event | None = None
        self._parts = [env.process(self._live())]

    def stop(self) -> simpy.Process:
        """SIGTERM: pulls nothing more, finishes what it can, gives the rest back."""
        self.stopping = True
        return self.env.process(self._drain())

    def kill(self) -> None:
        """SIGKILL: what it holds comes again when the leases end."""
        self.stopping = True
        self._end(self.spec.lease)

    def _live(self):
        yield self.env.timeout(self.spec.cold_start)
        if self.stopping:
            return
        self.ready = self.env.now
        self._parts.append(self.env.process(self._serve()))
        yield from self._pull()

    def _pull(self):
        while True:
            slot = self._slots.request()
            pulled = None
            try:
                yield slot
                pulled = self.queue.pull()
                message = yield pulled
            except simpy.Interrupt:
                # A message may have been handed over at the very moment of the interrupt.
                if pulled is not None and pulled.triggered:
                    self.queue.give_back(pulled.value)
                elif pulled is not None:
                    pulled.cancel()
                return
            self.queue.took(message)
            self._jobs[message] = self.env.process(self._job(message, slot))

    def _job(self, message: Message, slot):
        photo = message.photo
        try:
            yield self.env.timeout(photo.download)
            with self._places.request() as place:
                yield place
                yield self.cores.work(photo.decode)
            answered = self.env.event()
            yield self._requests.put((photo, answered))
            yield answered
            with self._places.request() as place:
                yield place
                yield self.cores.work(photo.compose + photo.encode)
            yield self.env.timeout(photo.upload)
        except simpy.Interrupt:
            return
        self.queue.ack(message)
        self.done += 1
        del self._jobs[message]
        self._slots.release(slot)
        if self._idle and not self._jobs:
            self._idle.succeed()

    def _serve(self):
        """The engine: one run at a time, of what waits when it begins."""
        while True:
            batch = [(yield self._requests.get())]
            while len(batch) < self.spec.max_batch and self._requests.items:
                batch.append((yield self._requests.get()))
            first, *rest = (photo.infer for photo, _ in batch)
            seconds = first + self.spec.batch_share * sum(rest)
            begun = self.env.now
            if self.spec.engine_threads:
                yield self.cores.work(seconds, self.spec.engine_threads)
            else:
                yield self.env.timeout(seconds)
            if self.ended is not None:
                return
            self.engine_busy += self.env.now - begun
            for _, answered in batch:
                answered.succeed()

    def _drain(self):
        self._interrupt_pull()
        if self._jobs:
            self._idle = self.env.event()
            yield self._idle | self.env.timeout(self.spec.drain)
        if self.ended is None:
            self._end(0.0)

    def _interrupt_pull(self) -> None:
        live = self._parts[0]
        if self.ready is not None and live.is_alive and self.env.active_process is not live:
            live.interrupt()

    def _end(self, away: float) -> None:
        if self.ended is not None:
            return
        self._interrupt_pull()
        self.ended = self.env.now
        for message, job in self._jobs.items():
            if job.is_alive:
                job.interrupt()
            self.queue.give_back(message, away)
        self._jobs.clear()

