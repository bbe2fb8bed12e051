"""The workloads: photos through warm processes in turns, and fresh processes in turns."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import environment, proc, stats
from .contenders import Command, Failed, Warm, start_cold

ALPHA = Path(__file__).resolve().parent / "alpha.py"

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    photos: int
    large: int
    chunk: int
    rounds: int
    cold_runs: int


def warm(commands: Sequence[Command], ours: str, sizes: Sizes) -> dict[str, Any]:
    """Throughput and peak memory: all contenders are up, and one at a time has work."""
    sets = {"mixed": (sizes.photos, sizes.chunk), "12mp": (sizes.large, max(1, sizes.chunk // 2))}
    photos = {name: environment.photos(name, count) for name, (count, _) in sets.items() if count}
    turns: list[stats.Turn] = []
    memory: dict[str, dict[str, int]] = {}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cutout-peers-")))
        running: dict[str, Warm] = {}
        for command in commands:
            environment.say(f"starting {command.name}")
            running[command.name] = contender = command.served(scratch)
            stack.callback(contender.close)
        # The worker ran its network once before it was ready; everybody had a photo after this.
        first = next(iter(photos.values()))[:1]
        kept: dict[str, list[Path]] = {}
        for name, contender in running.items():
            one(contender, first, "warm-up")
            memory[name] = {"ready": proc.peak_mib(contender.process.pid)}
        for name, of_set in photos.items():
            parts = stats.chunks(of_set, sets[name][1])
            for round_, number, contender in stats.turns(list(running), len(parts), sizes.rounds):
                tag = f"{name}-{round_}-{number}"
                turn, outputs = one(running[contender], parts[number], tag)
                turns.append(stats.Turn(name, round_, number, contender, *turn))
                environment.say(
                    f"{tag} {contender}: {turn[1] / turn[0]:.2f} s a photo, "
                    f"{turn[2] / turn[0]:.2f} s of CPU; others kept {turn[3]:.2f} cores busy"
                )
                if contender not in kept:
                    kept[contender] = outputs
                else:
                    for output in outputs:
                        output.unlink()
            for contender, process in running.items():
                memory[contender][name] = proc.peak_mib(process.process.pid)
        agreement = alpha_difference(kept, ours, scratch)
    return {
        "throughput": stats.throughput(turns, ours),
        "peak_mib": memory,
        "alpha_difference": agreement,
        "turns": [asdict(turn) for turn in turns],
    }


def one(contender: Warm, photos: Sequence[Path], tag: str) -> tuple[tuple, list[Path]]:
    """A turn: (photos, seconds, CPU seconds, others' cores, bytes written), and the PNGs."""
    contender.prepare(photos, tag)
    watch = proc.Stopwatch(contender.process.pid)
    outputs = contender.cut(photos, tag)
    seconds, cpu, others = watch.stop(contender.process.pid)
    for output in outputs:
        with output.open("rb") as file:
            if file.read(len(PNG)) != PNG:
                raise Failed(f"{contender.name} wrote {output.name}, which is no PNG")
    size = sum(output.stat().st_size for output in outputs)
    return (len(photos), seconds, cpu, others, size), outputs


def alpha_difference(kept: dict[str, list[Path]], ours: str, scratch: Path) -> dict[str, float]:
    """How far the others' masks are from ours over the first chunk: the same network ran."""
    pairs = {
        name: [[str(a), str(b)] for a, b in zip(kept[ours], paths)]
        for name, paths in kept.items()
        if name != ours
    }
    listed = scratch / "pairs.json"
    listed.write_text(json.dumps(pairs), "utf-8")
    return json.loads(environment.output(environment.peers_python(), ALPHA, listed))


def cold(commands: Sequence[Command], ours: str, sizes: Sizes) -> dict[str, Any]:
    """From exec to the first PNG, each time in a fresh process, in turns."""
    photo = next(photo for photo in environment.photos("cold", 5) if photo.suffix == ".jpg")
    starts: list[stats.Start] = []
    scratch = Path(tempfile.mkdtemp(prefix="cutout-peers-"))
    try:
        for command in commands:
            # Uncounted: it brings everything from the disk into memory, and lets Numba compile.
            environment.say(f"first start of {command.name}, not counted")
            start_cold(command, photo, scratch)
        by_name = {command.name: command for command in commands}
        for round_, _, name in stats.turns(list(by_name), 1, sizes.cold_runs):
            seconds, _, others = start_cold(by_name[name], photo, scratch)
            starts.append(stats.Start(name, seconds, others))
            environment.say(
                f"cold {round_} {name}: {seconds:.2f} s; others kept {others:.2f} cores busy"
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {"cold": stats.cold(starts, ours), "starts": [asdict(start) for start in starts]}
