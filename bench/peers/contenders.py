"""The processes that are compared: warm ones to work through photos, fresh ones for cold starts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import environment, proc

SERVE = Path(__file__).resolve().parent / "serve.py"

PATIENCE = 600
"""Seconds without a PNG after which a contender counts as stuck: InSPyReNet's first photo at 1280
takes a minute on two shared cores."""

LOOK = 0.005
"""Seconds between looks for an output. Both sides' outputs are looked for alike."""


class Failed(Exception):
    """A contender did not do its work; the message ends with what it said."""


@dataclass(frozen=True)
class Command:
    """How to run a contender. `kind` is what it is, the rest is filled as that needs it."""

    name: str
    kind: str
    """`worker`, `remove` or `peer`."""
    flags: tuple[str, ...] = ()
    """Of cutout, or of serve.py."""
    python: Path | None = None

    def served(self, scratch: Path) -> Warm:
        folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=scratch))
        return Worker(self, folder) if self.kind == "worker" else Peer(self, folder)


class Warm:
    """A process that is ready for photos; idle, and using no CPU, until `cut` is called."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.name = command.name
        self.folder = folder
        self.log = folder / "log"
        self.process = self.start(command)

    def start(self, command: Command) -> subprocess.Popen:
        raise NotImplementedError

    def prepare(self, photos: Sequence[Path], tag: str) -> None:
        """What `cut` needs and nobody should pay for."""

    def cut(self, photos: Sequence[Path], tag: str) -> list[Path]:
        """Works through `photos`; returns the PNGs, in the photos' order, once all are there."""
        raise NotImplementedError

    def spawn(self, command: Sequence[object], **options) -> subprocess.Popen:
        with self.log.open("w") as log:
            return subprocess.Popen(
                [str(part) for part in command],
                stderr=log, cwd=environment.ROOT, env=surroundings(), **options,
            )  # fmt: skip

    def check(self) -> None:
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended with {self.process.returncode}:\n{tail(self.log)}")

    def close(self) -> None:
        stop(self.process)


class Worker(Warm):
    """`cutout worker` with its embedded queue; photos are dropped into its inbox, all at once."""

    def start(self, command: Command) -> subprocess.Popen:
        port = free_port()
        for name in ("inbox", "staging"):
            (self.folder / name).mkdir()
        self.process = self.spawn(
            worker(self.folder, port, command.flags), stdout=subprocess.DEVNULL
        )
        try:
            wait(lambda: answers(port, "/startup"), self.check, f"{self.name} to be ready")
        except BaseException:
            self.close()
            raise
        return self.process

    def prepare(self, photos: Sequence[Path], tag: str) -> None:
        for photo in photos:
            shutil.copy2(photo, self.folder / "staging" / f"{tag}-{photo.name}")

    def cut(self, photos: Sequence[Path], tag: str) -> list[Path]:
        wanted = []
        for photo in photos:
            name = f"{tag}-{photo.name}"
            wanted.append(self.folder / "outbox" / f"{Path(name).stem}.cutout.png")
            os.rename(self.folder / "staging" / name, self.folder / "inbox" / name)
        waiting = list(wanted)

        def all_there() -> bool:
            while waiting and waiting[-1].exists():
                waiting.pop()
            return not waiting

        wait(all_there, self.check, f"{self.name} to finish {len(photos)} photos", len(photos))
        return wanted


class Peer(Warm):
    """serve.py: the peer's own function in a Python that stays warm."""

    def start(self, command: Command) -> subprocess.Popen:
        (self.folder / "out").mkdir()
        self.process = self.spawn(
            [command.python, SERVE, *command.flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.answer()
        except BaseException:
            self.close()
            raise
        return self.process

    def cut(self, photos: Sequence[Path], tag: str) -> list[Path]:
        wanted = [self.folder / "out" / f"{tag}-{photo.stem}.png" for photo in photos]
        tasks = [[str(photo), str(out)] for photo, out in zip(photos, wanted)]
        print(json.dumps({"tasks": tasks}), file=self.process.stdin, flush=True)
        self.answer()
        return wanted

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.check()
        return json.loads(line)


def start_cold(command: Command, photo: Path, scratch: Path) -> tuple[float, float, float]:
    """What a fresh process took from exec to its first PNG, as `Stopwatch.stop` says it."""
    with tempfile.TemporaryDirectory(prefix=f"{command.name}-cold-", dir=scratch) as name:
        folder = Path(name)
        out = folder / "out.png"
        if command.kind == "worker":
            (folder / "inbox").mkdir()
            # With its old date: a photo written this moment would be left to settle for 2 s.
            shutil.copy2(photo, folder / "inbox" / photo.name)
            out = folder / "outbox" / f"{photo.stem}.cutout.png"
            line = worker(folder, free_port(), command.flags)
        elif command.kind == "remove":
            line = [environment.program(), "remove", photo, "-o", out, *command.flags]
        else:
            line = [command.python, SERVE, *command.flags, "--once", photo, out]
        log = folder / "log"
        with log.open("w") as stderr:
            watch = proc.Stopwatch()
            process = subprocess.Popen(
                [str(part) for part in line],
                stdout=stderr, stderr=stderr, cwd=environment.ROOT, env=surroundings(),
            )  # fmt: skip
        try:
            # Both write aside and rename: the file is whole when it is there. It may be the last
            # thing that the process does.
            def check() -> None:
                if process.poll() is not None and not out.exists():
                    raise Failed(f"{command.name} ended with {process.returncode}:\n{tail(log)}")

            wait(out.exists, check, f"{command.name}'s first PNG")
            return watch.stop(process.pid)
        finally:
            stop(process)


def worker(root: Path, port: int, flags: Sequence[str]) -> list[object]:
    command = [environment.program(), "worker", "--ingress", "local", "--root", root]
    return [*command, "--host", "127.0.0.1", "--port", port, *flags]


def surroundings() -> dict[str, str]:
    """The environment of every contender: nobody's threads are limited, nothing is downloaded."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "CUTOUT_", "INSPIRENET_"))
    }
    # Where transparent-background keeps its configuration; it would use the home directory.
    return {**kept, "TRANSPARENT_BACKGROUND_FILE_PATH": str(environment.CACHE)}


def wait(done, check, what: str, times: int = 1) -> None:
    deadline = time.monotonic() + PATIENCE * times
    while not done():
        check()
        if time.monotonic() > deadline:
            raise Failed(f"waited in vain for {what}")
        time.sleep(LOOK)


def answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stop(process: subprocess.Popen) -> None:
    """Ends a process of ours, politely first: the worker drains, a peer sees its input's end."""
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    if process.poll() is None:
        if process.stdin is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:])
