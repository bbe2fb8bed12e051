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
import sys
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from turns import HEIGHT, MIB, ROOT, WIDTH, enlarged, peak, program, turn

sys.path.insert(0, str(ROOT / "tests" / "effects"))

import reference  # noqa: E402


def cut_out() -> np.ndarray:
    rgba = enlarged("cat.jpg", "cat.mask.png")
    rgba[rgba[..., 3] == 0] = 0
    return rgba


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

    ours = program("effects")
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
