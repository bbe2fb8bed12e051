#!/usr/bin/env python3
"""Times the estimation of the subject's colours at 12 megapixels: the program and PyMatting, in turns.

    make bench-foreground      (FOREGROUND_FLAGS="--rounds 5 --json out.json")

Both work on the same bytes: a sample enlarged, with a sensor's noise and its reference mask as alpha.
Each turn is a fresh process that does it some times, of which the first, in which Numba loads what it
has compiled, is not counted; what is counted is the estimation alone, without reading and without
making floats of bytes. Memory is the peak above what was resident before, the answer included. How
far the answers are apart is said too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

from turns import HEIGHT, MIB, ROOT, WIDTH, enlarged, peak, program, turn

SAMPLES = ("cat", "astronaut", "coffee")
FOLDER = ROOT / "target" / "tmp"


def reference_turn(path: str, runs: int, answer: str) -> None:
    """What the benchmark's program does with --once, by PyMatting."""
    from pymatting import estimate_foreground_ml

    rgba = np.fromfile(path, np.uint8).reshape(HEIGHT, WIDTH, 4)
    rgb, alpha = (rgba[..., :3] / 255).astype(np.float32), (rgba[..., 3] / 255).astype(np.float32)
    del rgba
    Path("/proc/self/clear_refs").write_text("5")
    before, seconds = peak(), []
    for _ in range(runs):
        begun = time.perf_counter()
        foreground = estimate_foreground_ml(rgb, alpha)
        seconds.append(time.perf_counter() - begun)
    used = peak() - before
    (255 * np.clip(foreground, 0, 1) + 0.5).astype(np.uint8).tofile(answer)
    print(json.dumps({"seconds": seconds, "peak_bytes": used}))


def difference(rgba: np.ndarray, ours: Path, theirs: Path) -> dict[str, float]:
    """In levels: where anything shows, and where it is half transparent."""
    answers = [np.fromfile(path, np.uint8).reshape(HEIGHT, WIDTH, 3) for path in (ours, theirs)]
    apart = np.abs(answers[0].astype(np.int16) - answers[1])
    alpha = rgba[..., 3]
    shown, between = alpha > 0, (alpha > 0) & (alpha < 255)
    return {
        "shown": float(apart[shown].mean()),
        "between": float(apart[between].mean()),
        "most": int(apart[shown].max()),
        "most_between": int(apart[between].max()),
        "share_between": float(between.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each, in pairs")
    parser.add_argument("--runs", type=int, default=3, help="times in one turn; the first is not counted")
    parser.add_argument("--sample", choices=SAMPLES, action="append", help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, help="writes all that was measured")
    parser.add_argument("--reference", nargs=3, metavar=("FILE", "RUNS", "ANSWER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reference:
        path, runs, answer = options.reference
        reference_turn(path, int(runs), answer)
        return

    ours = program("foreground")
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(
        f"{WIDTH}×{HEIGHT}; {os.cpu_count()} cores, PyMatting {version('pymatting')}, Numba {version('numba')}; "
        f"medians of {options.rounds} turns of {options.runs - 1} times"
    )
    print(
        "| photo | half transparent | cutout, ms | PyMatting, ms | ratio (least to most) | cutout, MiB | promised "
        "| PyMatting, MiB | levels apart where α > 0 | where 0 < α < 1 | most |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    measured = {}
    for name in options.sample or SAMPLES:
        rgba = enlarged(f"{name}.jpg", f"{name}.mask1024.png")
        path = FOLDER / f"seen-{WIDTH}x{HEIGHT}.rgba"
        rgba.tofile(path)
        answers = [FOLDER / f"foreground-{who}.rgb" for who in ("ours", "theirs")]
        pairs = []
        for _ in range(options.rounds):
            a = turn([ours, "--once", path, WIDTH, options.runs, answers[0]])
            b = turn([sys.executable, __file__, "--reference", path, options.runs, answers[1]])
            pairs.append((a, b))
        apart = difference(rgba, *answers)
        measured[name] = {"pairs": pairs, "apart": apart}
        times = [[median(side["seconds"][1:]) for side in pair] for pair in pairs]
        ratios = sorted(theirs / ours for ours, theirs in times)
        a, b = (median(side) for side in zip(*times))
        memory = [max(pair[side]["peak_bytes"] for pair in pairs) / MIB for side in (0, 1)]
        promised = pairs[0][0]["promised_bytes"] / MIB
        print(
            f"| {name} | {apart['share_between']:.0%} | {a * 1e3:.0f} | {b * 1e3:.0f} "
            f"| {median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}) "
            f"| {memory[0]:.0f} | {promised:.0f} | {memory[1]:.0f} "
            f"| {apart['shown']:.3f} | {apart['between']:.3f} | {apart['most']} ({apart['most_between']}) |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
