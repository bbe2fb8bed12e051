"""What a shadow costs the jobs: the same photos through a worker without and a worker with one, job by job in turns.

    "$(tests/effects/environment.sh)/bin/python" bench/shadow.py [--cutout target/release/cutout] [--jobs 1000]
        [--model isnet-medium] [--shadow isnet-small] [--sides 640,1024,1600,2400] [--gap 1.0] [--together 1]
        [--seed 1] [--json FILE]

Two local workers serve a root of their own each, one with `--shadow-share 100%`. Photos are the samples in other sizes,
no two alike. For each, a job is published to one worker and, when that has answered, to the other; who goes first is
drawn by the seed, so that neither always has the warmer machine. `total` of the result's `timings_ms` is the latency:
from the worker's hands on the message to the durable output.

Both workers are on the same machine, and the one's shadow would slow the other's jobs. So the worker that is not asked is
stopped (SIGSTOP) while the other has its turn. After each job the worker goes on for a time of `--gap` seconds on
average, drawn evenly from nothing to twice that: the shadow works then, and is done, has not begun or is under way when
the next job comes, which is the case that could cost something. Both workers get the same time.

`--together N` publishes N photos at once to each worker, as a burst.

Printed: mean, p50 and p95 of either, the paired difference with its 95 % interval (bootstrap over turns, 10,000
samples), the means by stage with the intervals of their differences, and what became of the shadow's photos. Ctrl-C
(SIGINT) ends the run after the turn it is in, and what was found until then is printed.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATIENCE = 600


def environment(args):
    """That of the tests, with the real networks."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return keep | {
        "CUTOUT_HOME": args.home,
        "CUTOUT_ORT_LIB": str(ROOT / ".cache/lib/libonnxruntime.so"),
        "CUTOUT_MODEL": args.model,
        "CUTOUT_PROVIDER": args.provider,
        "CUTOUT_LOG_FORMAT": "json",
    }


def photos(folder, count, sides, seed):
    """As many different photos: samples, resized and with a pixel of their own."""
    draw = random.Random(seed)
    samples = sorted((ROOT / "samples").glob("*.jpg"))
    for number in range(count):
        with Image.open(samples[number % len(samples)]) as sample:
            picture = sample.convert("RGB")
        side = draw.choice(sides)
        scale = side / max(picture.size)
        picture = picture.resize([max(1, round(length * scale)) for length in picture.size])
        picture.putpixel((0, 0), tuple(draw.randrange(256) for _ in range(3)))
        picture.save(folder / f"{number}.jpg", quality=90)


class Worker:
    """A local worker on a root of its own."""

    def __init__(self, args, folder, more):
        self.args, self.root = args, pathlib.Path(folder)
        (self.root / "photos").mkdir(parents=True)
        self.local = ["--ingress", "local", "--root", str(self.root)]
        command = [args.cutout, "worker", *self.local, "--host", "127.0.0.1", "--port", "0", *more]
        # In a session of its own, so that Ctrl-C is for this program alone.
        self.process = subprocess.Popen(
            command, env=environment(args), stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        for line in self.process.stderr:
            entry = json.loads(line)
            if entry["message"] == "the side port answers":
                self.url = "http://" + entry["address"]
            if entry["message"].startswith("ready"):
                break
        else:
            sys.exit("the worker did not start")
        self.told = []
        self.reading = threading.Thread(target=lambda: self.told.extend(self.process.stderr), daemon=True)
        self.reading.start()
        self.seen = 0

    def publish(self, names):
        command = [self.args.cutout, "publish", *self.local, *names]
        subprocess.run(command, env=environment(self.args), check=True, capture_output=True, start_new_session=True)

    def answers(self, count):
        """The next results, and the wait for them."""
        deadline = time.monotonic() + PATIENCE
        file = self.root / ".cutout" / "queue.sqlite"
        while time.monotonic() < deadline:
            with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as queue:
                rows = queue.execute("SELECT id, data FROM results WHERE id > ? ORDER BY id", (self.seen,)).fetchall()
            if len(rows) >= count:
                self.seen = rows[-1][0]
                return [json.loads(data) for _, data in rows]
            time.sleep(0.01)
        sys.exit("a job was not answered")

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        self.go_on()
        self.process.terminate()
        code = self.process.wait()
        self.reading.join()
        entries = [json.loads(line) for line in self.told if line.startswith("{")]
        counts = [entry["counts"] for entry in entries if entry["message"] == "the shadow ends"]
        if code:
            sys.exit(f"the worker ended with {code}")
        return counts[0] if counts else None

    def metric(self, name):
        text = urllib.request.urlopen(self.url + "/metrics", timeout=60).read().decode()
        lines = (line for line in text.splitlines() if line.startswith((name + "{", name + " ")))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def turn(worker, names, gap):
    """Each job's milliseconds by stage; then the worker has `gap` seconds to itself."""
    worker.go_on()
    worker.publish(names)
    took = {}
    for result in worker.answers(len(names)):
        if result["status"] != "done":
            sys.exit(f"a job ended as {result['status']}: {result.get('error')}")
        took[result["source"].split("#")[0]] = result["timings_ms"]
    time.sleep(gap)
    worker.stop()
    return [took[name] for name in names]


def interval(values, draw, samples=10_000):
    """95 % of the means of samples with replacement."""
    means = sorted(statistics.fmean(draw.choices(values, k=len(values))) for _ in range(samples))
    return means[int(0.025 * samples)], means[int(0.975 * samples)]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cutout", default=str(ROOT / "target/release/cutout"))
    parser.add_argument("--home", default=str(ROOT / ".cache"))
    parser.add_argument("--model", default="isnet-medium")
    parser.add_argument("--shadow", default="isnet-small")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--sides", default="640,1024,1600,2400", help="longer sides of the photos, pixels")
    parser.add_argument("--together", type=int, default=1)
    parser.add_argument("--gap", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        without = Worker(args, folder / "without", [])
        shadow = ["--shadow-model", args.shadow, "--shadow-share", "100%", "--shadow-prefix", "records"]
        shadow += ["--shadow-load-within", "10m"]
        beside = Worker(args, folder / "with", shadow)
        sides = [int(side) for side in args.sides.split(",")]
        photos(without.root / "photos", args.jobs, sides, args.seed)
        for photo in (without.root / "photos").iterdir():
            os.link(photo, beside.root / "photos" / photo.name)
        without.stop()
        beside.stop()
        took = {without: [], beside: []}
        names = [f"photos/{number}.jpg" for number in range(args.jobs)]
        stopped = threading.Event()
        signal.signal(signal.SIGINT, lambda *_: stopped.set())
        bursts = [names[at : at + args.together] for at in range(0, len(names), args.together)]
        for number, burst in enumerate(bursts):
            gap = draw.uniform(0, 2 * args.gap)
            for worker in draw.sample([without, beside], 2):
                took[worker].append(turn(worker, burst, gap))
            if stopped.is_set():
                break
            if number % 50 == 49:
                print(f"{number + 1} of {len(bursts)} turns", file=sys.stderr)
        beside.go_on()
        interruptions = beside.metric("cutout_shadow_interruptions_total")
        runs = beside.metric("cutout_shadow_run_seconds_count")
        seconds = beside.metric("cutout_shadow_run_seconds_sum")
        without.end()
        counts = beside.end()
    staged = {worker: [job for burst in turns for job in burst] for worker, turns in took.items()}
    flat = {worker: [job["total"] for job in jobs] for worker, jobs in staged.items()}
    print(f"{len(flat[without])} jobs, {args.together} at once, {args.gap} s between on average: {args.model} ({args.provider}), shadow {args.shadow}")
    print("milliseconds     mean      p50      p95")
    figures = {}
    for name, worker in (("without", without), ("with", beside)):
        values = flat[worker]
        figures[name] = [statistics.fmean(values), percentile(values, 0.5), percentile(values, 0.95)]
        print(f"{name:12}" + "".join(f"{value:9.1f}" for value in figures[name]))
    # Jobs of one burst hang together, so it is turns that are drawn.
    differences = [
        statistics.fmean(job["total"] for job in b) - statistics.fmean(job["total"] for job in a)
        for a, b in zip(took[without], took[beside], strict=True)
    ]
    found = [statistics.fmean(differences), *interval(differences, draw)]
    percent = [100 * value / figures["without"][0] for value in found]
    print("with less without, paired: {:+.1f} ms ({:+.1f} to {:+.1f}),".format(*found), end=" ")
    print("{:+.2f} % ({:+.2f} to {:+.2f})".format(*percent))
    for stage in staged[without][0]:
        a, b = ([job[stage] for job in staged[worker]] for worker in (without, beside))
        apart = interval([y - x for x, y in zip(a, b, strict=True)], draw, 2000)
        print(f"{stage:12}{statistics.fmean(a):9.1f}{statistics.fmean(b):9.1f}   {apart[0]:+.1f} to {apart[1]:+.1f}")
    print(f"median of the differences: {statistics.median(differences):+.1f} ms")
    print(f"the shadow: {counts}; it gave way {interruptions:.0f} times; {seconds / max(runs, 1):.2f} s a run")
    if args.json:
        told = {"figures": figures, "differences": differences, "interval": found[1:], "shadow": counts}
        args.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
