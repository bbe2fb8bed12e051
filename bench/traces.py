"""What traces cost: the same jobs through workers without and with them, in turns.

    python3 bench/traces.py [--cutout target/release/cutout] [--jobs 200] [--pairs 5]

Each worker gets a root of its own with the same small photo so many times, and the tests' network, which
takes a millisecond, so that spans are as large a share of a job as they can be. The receiver is a
server that reads what comes and answers 200. Core time is what the kernel counts for the process from
readiness to the last job; the machine may do other things meanwhile.
"""

import argparse
import http.server
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes every export."""

    received = 0

    def do_POST(self):
        Receiver.received += len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def sample(url, name, *labels):
    """The sum of a metric's samples that have these labels."""
    text = urllib.request.urlopen(url + "/metrics", timeout=10).read().decode()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith((name + "{", name + " ")) and all(label in line for label in labels)
    )


def core_seconds(worker):
    """What the process and its threads have used, to a hundredth of a second."""
    fields = pathlib.Path(f"/proc/{worker.pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def environment(traces):
    """That of the tests, with or without a collector."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ours = {
        "CUTOUT_HOME": str(ROOT / "tests/fixtures/home"),
        "CUTOUT_ORT_LIB": str(ROOT / ".cache/lib/libonnxruntime.so"),
        "CUTOUT_MODEL": "brightness",
        "CUTOUT_PROVIDER": "cpu",
        "CUTOUT_LOG_FORMAT": "json",
    }
    return keep | ours | ({"OTEL_EXPORTER_OTLP_ENDPOINT": traces} if traces else {})


def run(cutout, jobs, traces):
    """Seconds and core seconds of all jobs; spans that were sent and lost."""
    with tempfile.TemporaryDirectory() as folder:
        photos = pathlib.Path(folder, "photos")
        photos.mkdir()
        for i in range(jobs):
            shutil.copy(ROOT / "samples/cat.jpg", photos / f"{i}.jpg")
        local = ["--ingress", "local", "--root", folder]
        names = [f"photos/{i}.jpg" for i in range(jobs)]
        subprocess.run([cutout, "publish", *local, *names], env=environment(None), check=True, capture_output=True)
        worker = subprocess.Popen(
            [cutout, "worker", *local, "--host", "127.0.0.1", "--port", "0"],
            env=environment(traces),
            stderr=subprocess.PIPE,
            text=True,
        )
        begun, url = None, None
        for line in worker.stderr:
            entry = json.loads(line)
            if entry["message"] == "the side port answers":
                url = "http://" + entry["address"]
            if entry["message"].startswith("ready"):
                begun, core = time.monotonic(), core_seconds(worker)
                break
        threading.Thread(target=worker.stderr.read, daemon=True).start()
        while sample(url, "cutout_jobs_total", 'outcome="done"') < jobs:
            time.sleep(0.05)
        seconds, core = time.monotonic() - begun, core_seconds(worker) - core
        time.sleep(1.5)  # What is exported once a second.
        sent, lost = sample(url, "cutout_spans_exported_total"), sample(url, "cutout_spans_lost_total")
        worker.terminate()
        worker.wait()
        return seconds, core, sent, lost


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cutout", default=str(ROOT / "target/release/cutout"))
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    ratios = []
    print(f"{args.jobs} jobs; milliseconds for each: wall off, on; core off, on; spans sent, lost")
    for pair in range(args.pairs):
        # Who goes first changes, so that neither has the warmer machine.
        order = [None, endpoint] if pair % 2 == 0 else [endpoint, None]
        found = {traces: run(args.cutout, args.jobs, traces) for traces in order}
        (wall, core, _, _), (wall_on, core_on, sent, lost) = found[None], found[endpoint]
        ms = [1000 * value / args.jobs for value in (wall, wall_on, core, core_on)]
        print("  ".join(f"{value:8.2f}" for value in ms), f"  {sent:.0f} {lost:.0f}")
        ratios.append(core_on / core)
    received = Receiver.received // (args.jobs * args.pairs)
    print(f"core time with traces / without, median: {statistics.median(ratios):.3f}; {received} bytes a job received")


if __name__ == "__main__":
    main()
