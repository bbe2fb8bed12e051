"""The simulation against a real worker: the same photos, published at once.

Two predictions are compared with what one local worker does. The first knows nothing of the run: its
costs are those of `cutout bench`, photo by photo, each alone, before and after the run. The second is
given the stages' times of the run itself, as results and metrics tell them, so that what it gets wrong
is the model's order of things rather than the machine's mood.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

from .autoscaler import Scaling
from .des import ROOT
from .fleet import Scenario, quantile, run
from .photos import Mix, Photo
from .worker import WorkerSpec

PATIENCE = 600.0
STAGES = ("download", "decode", "infer", "compose", "encode", "upload")


class InOrder(Mix):
    """Exactly these photos, one after the other."""

    def __init__(self, photos: Sequence[Photo]):
        super().__init__(photos)
        self._next = iter(self.photos)

    def draw(self, chance: random.Random) -> Photo:
        del chance
        return next(self._next)


@dataclass(frozen=True)
class Drain:
    """How a backlog that was there at once went away, seconds."""

    drained: float
    mean_age: float
    p95_age: float

    @classmethod
    def of(cls, ages: Sequence[float], ends: Sequence[float]) -> Drain:
        return cls(max(ends), statistics.mean(ages), quantile(sorted(ages), 0.95))

    def error(self, measured: Drain) -> dict[str, float]:
        """Relative errors against what was measured."""
        return {
            name: getattr(self, name) / getattr(measured, name) - 1
            if getattr(measured, name)
            else math.nan
            for name in ("drained", "mean_age", "p95_age")
        }


def predict(photos: Sequence[Photo], spec: WorkerSpec) -> Drain:
    """What the model says about one worker that is ready, and these photos at once."""
    scenario = Scenario({"all": [0.0] * len(photos)}, InOrder(photos), spec, Scaling.fixed(1))
    messages = run(scenario).queue.messages
    return Drain.of([m.taken for m in messages], [m.finished for m in messages])


def photos_of_bench(reports: Sequence[dict], names: Sequence[str]) -> list[Photo]:
    """The cost of each named photo, alone: the mean of the reports' medians."""
    costs: dict[str, list[dict]] = {}
    for report in reports:
        for row in report["photos"]:
            costs.setdefault(Path(row["photo"]).name, []).append(row)
    photos = []
    for name in names:
        rows = costs[name]
        stage = {s: statistics.mean(r[s]["median"] for r in rows) for s in ("decode", "infer", "compose", "encode")}
        photos.append(Photo(**stage))
    return photos


def photos_of_results(results: Sequence[dict]) -> list[Photo]:
    """The cost of each job as the run itself had it, in the order of their pulls."""
    ordered = sorted(results, key=lambda r: r["timings_ms"]["queued"])
    return [Photo(**{s: r["timings_ms"][s] / 1e3 for s in STAGES}) for r in ordered]


def measured(results: Sequence[dict]) -> Drain:
    """The same figures out of results: all were published at once, so each tells its own times."""
    times = [r["timings_ms"] for r in results]
    return Drain.of(
        [t["queued"] / 1e3 for t in times], [(t["queued"] + t["total"]) / 1e3 for t in times]
    )


def stage_means(metrics: str) -> dict[str, float]:
    """Mean seconds of `cutout_stage_seconds` by stage, and of a run, out of a scrape."""
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    pattern = r'^cutout_(stage|inference)_seconds_(sum|count)\{([^}]*)\} (\S+)$'
    for kind, part, labels, value in re.findall(pattern, metrics, re.MULTILINE):
        stage = re.search(r'stage="([^"]*)"', labels)
        name = stage.group(1) if stage else "one run"
        into = sums if part == "sum" else counts
        into[name] = into.get(name, 0.0) + float(value)
    return {name: sums[name] / counts[name] for name in sums if counts.get(name)}


def check(program: str, folder: Path, jobs: int, rounds: int, worker_flags: Sequence[str]) -> dict:
    """Measures, predicts and compares; the report as JSON has it."""
    originals = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if not originals:
        sys.exit(f"simulate: no photos in {folder}")
    originals = originals[:jobs]  # what is not published need not be timed
    names = [originals[n % len(originals)].name for n in range(jobs)]
    bench = [_bench(program, originals, rounds, worker_flags)]
    load_before = os.getloadavg()[0]
    with _worker(program, folder, names, worker_flags) as (root, port, published):
        results = _publish(program, root, published)
        metrics = _get(port, "/metrics")
    bench.append(_bench(program, originals, rounds, worker_flags))

    failed = [r for r in results if r["status"] != "done"]
    if failed or len(results) != jobs:
        sys.exit(f"simulate: {len(results)} of {jobs} results, {len(failed)} not done: {failed[:1]}")
    cores, threads = bench[0]["cores"], bench[0]["threads"]
    spec = WorkerSpec(cores=cores, max_jobs=bench[0]["concurrency"], cold_start=0.0)
    on_cores = threads if bench[0]["provider"] in ("cpu", "openvino") else 0
    real = measured(results)
    forecast = predict(
        photos_of_bench(bench, names),
        WorkerSpec(**{**vars(spec), "engine_threads": on_cores}),
    )
    # These times already contain what the cores' other work cost them.
    replay = predict(photos_of_results(results), spec)
    return {
        "photos": jobs,
        "cores": cores,
        "max_jobs": spec.jobs,
        "provider": bench[0]["provider"],
        "load_average": [load_before, os.getloadavg()[0]],
        "stage_seconds": stage_means(metrics),
        "bench_infer": [statistics.mean(p["infer"]["median"] for p in b["photos"]) for b in bench],
        "measured": vars(real),
        "from_bench": {**vars(forecast), "error": forecast.error(real)},
        "from_stages": {**vars(replay), "error": replay.error(real)},
    }


def table(report: dict) -> str:
    """The comparison for a person."""
    lines = [
        f"{report['photos']} photos at once, one local worker, {report['cores']} cores, "
        f"{report['max_jobs']} jobs at once, {report['provider']}; load average "
        + " to ".join(f"{load:.1f}" for load in report["load_average"]),
        "",
        f"{'':<14}{'measured':>10}{'from bench':>12}{'error':>8}{'from stages':>13}{'error':>8}",
    ]
    for name, title in (("drained", "drained, s"), ("mean_age", "mean age, s"), ("p95_age", "p95 age, s")):
        row = f"{title:<14}{report['measured'][name]:>10.1f}"
        for kind, width in (("from_bench", 12), ("from_stages", 13)):
            guess = report[kind]
            row += f"{guess[name]:>{width}.1f}{guess['error'][name]:>+8.1%}"
        lines.append(row)
    stages = ", ".join(f"{k} {v * 1e3:.0f}" for k, v in report["stage_seconds"].items())
    before, after = report["bench_infer"]
    lines += [
        "",
        f"mean of each stage in the run, ms: {stages}",
        f"network in cutout bench, ms: {before * 1e3:.0f} before, {after * 1e3:.0f} after; where these and the "
        "run's differ,",
        "the machine changed meanwhile, and the first prediction says more about it than about the model",
    ]
    return "\n".join(lines)


def _bench(program: str, photos: Sequence[Path], rounds: int, flags: Sequence[str]) -> dict:
    command = [program, "bench", "stages", "--json", "--rounds", str(rounds), *flags, *map(str, photos)]
    answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(answer.stdout)


@contextmanager
def _worker(
    program: str, folder: Path, names: Sequence[str], flags: Sequence[str]
) -> Iterator[tuple[Path, int, list[str]]]:
    """A ready local worker over copies of the photos, which are not announced as uploads."""
    with tempfile.TemporaryDirectory(prefix="cutout-check-") as scratch:
        root = Path(scratch) / "data"
        (root / "photos").mkdir(parents=True)
        published = []
        for number, name in enumerate(names):
            shutil.copy(folder / name, root / "photos" / f"{number:04}-{name}")
            published.append(f"photos/{number:04}-{name}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [program, "worker", "--ingress", "local", "--root", str(root), "--port", str(port)]
        with open(Path(scratch) / "worker.log", "w+") as log:
            worker = subprocess.Popen([*command, *flags], cwd=ROOT, stderr=log, stdout=log)
            try:
                deadline = time.monotonic() + PATIENCE
                while not _ready(port):
                    if worker.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        sys.exit(f"simulate: the worker did not start:\n{log.read()[-2000:]}")
                    time.sleep(0.1)
                yield root, port, published
                worker.terminate()
                worker.wait(timeout=30)
            finally:
                worker.kill()
                worker.wait()


def _publish(program: str, root: Path, published: Sequence[str]) -> list[dict]:
    command = [program, "publish", "--root", str(root), "--wait", "--json", *published]
    answer = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True, timeout=PATIENCE
    )
    lines = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]
    return [line for line in lines if "timings_ms" in line]


def _ready(port: int) -> bool:
    try:
        return bool(_get(port, "/startup"))
    except OSError:
        return False


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()
