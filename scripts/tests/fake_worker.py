#!/usr/bin/env python3
"""Stands in for `cutout worker` as far as scripts/demo.sh can tell, so that the script is tested alone.

FAKE_WORKER=dies      exits with 3 at once
FAKE_WORKER=idle      gets ready but makes no cut-out
FAKE_WORKER_STATUS=N  what to exit with after draining
It appends one line to ROOT/signals for each signal it gets, and one to ROOT/drained when it is done.
"""

import os
import shutil
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == "worker" and options["--ingress"] == "local", sys.argv
root = Path(options["--root"])
behaviour = os.environ.get("FAKE_WORKER", "")
if behaviour == "dies":
    sys.exit(3)

started = time.monotonic()
stop = threading.Event()


def note(file: str, line: str) -> None:
    with (root / file).open("a") as log:
        log.write(line + "\n")


def on_signal(number: int, _frame: object) -> None:
    note("signals", signal.Signals(number).name)
    stop.set()


class SidePort(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ready = time.monotonic() - started > 0.5
        self.send_response(200 if ready and self.path == "/startup" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


signal.signal(signal.SIGTERM, on_signal)
signal.signal(signal.SIGINT, on_signal)
server = HTTPServer(("127.0.0.1", int(options["--port"])), SidePort)
threading.Thread(target=server.serve_forever, daemon=True).start()

outbox = root / "outbox"
outbox.mkdir(exist_ok=True)
while not stop.wait(0.1):
    for photo in (root / "inbox").glob("*.jpg"):
        target = outbox / f"{photo.stem}.cutout.png"
        if behaviour != "idle" and not target.exists():
            shutil.copy(photo, target)
time.sleep(0.3)  # a drain takes a moment, during which a second signal would be seen
note("drained", "drained")
sys.exit(int(os.environ.get("FAKE_WORKER_STATUS", "0")))
