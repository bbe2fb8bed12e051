#!/usr/bin/env python3
"""Times every effect on a cut-out of 12 megapixels: the program and NumPy with OpenCV, in turns.

    make bench-effects      (EFFECTS_FLAGS="--rounds 5 --json out.json")

Both work on the same bytes: a sample enlarged, with a sensor's noise and its reference mask as
alpha. Each turn is a fresh process that reads them, then applies one effect some times; what is
counted is the effect alone. Memory is the peak above what was resident before the first time, the
answer included. The reference is tests/effects/reference.py, in whose environment this runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "effects"))

import reference  # noqa: E402

WIDTH, HEIGHT = 4032, 3024
MIB = 1 << 20


def cut_out() -> np.ndarray:
    with Image.open(ROOT / "samples" / "cat.jpg") as photo:
        rgb = np.asarray(photo.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    with Image.open(ROOT / "tests" / "fixtures" / "masks" / "cat.mask.png") as mask:
        alpha = np.asarray(mask.convert("L").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
    noise = np.random.default_rng(1).integers(0, 8, rgb.shape, np.uint8)
    rgba = np.dstack([np.minimum(rgb, 247) + noise, alpha])
    rgba[alpha == 0] = 0
    return rgba


def program() -> Path:
    """The benchmark's program, built if it is not there and not named by EFFECTS_BIN."""
    if named := os.environ.get("EFFECTS_BIN"):
        return Path(named).resolve()
    command = ["cargo", "bench", "--locked", "--bench", "effects", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == "effects" and message.get("executable"):
            return Path(message["executable"])
    sys.exit("effects: cargo built no benchmark")


def peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel tells no peak")


def reference_turn(effect: str, path: str, runs: int) -> None:
    """What the benchmark's program does with --once, by the reference."""
    rgba = np.fromfile(path, np.uint8).reshape(HEIGHT, WIDTH, 4)
    cv2.setNumThreads(os.cpu_count() or 1)
    Path("/proc/self/clear_refs").write_text("5")
    before, seconds = peak(), []
    for _ in range(runs):
        begun = time.perf_counter()
        reference.EFFECTS[effect](rgba)
        seconds.append(time.perf_counter() - begun)
    print(json.dumps({"seconds": seconds, "peak_bytes": peak() - before}))


def turn(command: list[object]) -> dict:
    run = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, in pairs")
    parser.add_argument("--runs", type=int, default=3, help="times in one turn; the first is not counted")
    parser.add_argument("--effect", choices=reference.EFFECTS, action="append", help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, help="writes all that was measured")
    parser.add_argument("--reference", nargs=3, metavar=("EFFECT", "FILE", "RUNS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reference:
        effect, path, runs = options.reference
        reference_turn(effect, path, int(runs))
        return

    ours = program()
    path = ROOT / "target" / "tmp" / f"cut-{WIDTH}x{HEIGHT}.rgba"
    path.parent.mkdir(parents=True, exist_ok=True)
    rgba = cut_out()
    rgba.tofile(path)
    print(
        f"{WIDTH}×{HEIGHT}, {(rgba[..., 3] > 0).mean():.0%} of it shows; "
        f"{os.cpu_count()} cores, NumPy {np.__version__}, OpenCV {cv2.__version__}; "
        f"medians of {options.rounds} turns of {options.runs - 1} times"
    )
    del rgba
    print("| effect | cutout, ms | NumPy and OpenCV, ms | ratio (least to most) | cutout, MiB | promised | NumPy, MiB |")
    print("|---|---|---|---|---|---|---|")
    measured = {}
    for effect in options.effect or reference.EFFECTS:
        pairs = []
        for _ in range(options.rounds):
            a = turn([ours, "--once", effect, path, WIDTH, HEIGHT, options.runs])
            b = turn([sys.executable, __file__, "--reference", effect, path, options.runs])
            pairs.append((a, b))
        measured[effect] = pairs
        times = [[median(side["seconds"][1:]) for side in pair] for pair in pairs]
        ratios = sorted(theirs / ours for ours, theirs in times)
        a, b = (median(side) for side in zip(*times))
        memory = [max(pair[side]["peak_bytes"] for pair in pairs) / MIB for side in (0, 1)]
        promised = pairs[0][0]["promised_bytes"] / MIB
        print(
            f"| {effect} | {a * 1e3:.0f} | {b * 1e3:.0f} | {median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}) "
            f"| {memory[0]:.0f} | {promised:.0f} | {memory[1]:.0f} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
