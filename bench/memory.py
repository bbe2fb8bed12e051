#!/usr/bin/env python3
"""Runs a local worker over a folder of photos and prints its memory as it goes.

    bench/memory.py FOLDER [WORKER-FLAG…]

Publishes every photo at once, so that as many jobs as allowed are in work, and reads VmRSS and
VmHWM from /proc after each tenth of the outputs. Standard library only.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("CUTOUT_BIN", str(ROOT / "target/release/cutout"))
PORT = "18080"


def status(pid: int, field: str) -> int:
    """MiB of a field of /proc/PID/status."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) // 1024
    return 0


def answers(path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def main() -> None:
    photos = sorted(pathlib.Path(sys.argv[1]).iterdir())
    data = pathlib.Path(tempfile.mkdtemp(prefix="cutout-memory-"))
    shutil.copytree(sys.argv[1], data / "photos")
    log = open(data / "worker.log", "w")
    worker = subprocess.Popen(
        [PROGRAM, "worker", "--root", data, "--port", PORT, *sys.argv[2:]], stderr=log, cwd=ROOT
    )
    try:
        while not answers("/startup"):
            assert worker.poll() is None, (data / "worker.log").read_text()
            time.sleep(0.1)
        print(f"ready: {status(worker.pid, 'VmRSS')} MiB resident, peak {status(worker.pid, 'VmHWM')} MiB")
        begun = time.monotonic()
        subprocess.run(
            [PROGRAM, "publish", "--root", data, *(f"photos/{p.name}" for p in photos)], check=True, cwd=ROOT
        )
        step = max(1, len(photos) // 10)
        for wanted in range(step, len(photos) + 1, step):
            while len(list((data / "outbox").rglob("*.cutout.png"))) < wanted:
                assert worker.poll() is None, (data / "worker.log").read_text()
                time.sleep(0.05)
            print(
                f"{wanted:4} photos: {status(worker.pid, 'VmRSS')} MiB resident, "
                f"peak {status(worker.pid, 'VmHWM')} MiB, {time.monotonic() - begun:.0f} s",
                flush=True,
            )
        seconds = time.monotonic() - begun
        print(json.dumps({
            "photos": len(photos), "seconds": round(seconds, 1),
            "photos_per_second": round(len(photos) / seconds, 3),
            "peak_mib": status(worker.pid, "VmHWM"),
        }))
        worker.terminate()
        assert worker.wait(timeout=30) == 0
    finally:
        worker.kill()
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main()
