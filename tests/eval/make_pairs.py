#!/usr/bin/env python3
"""Makes tests/fixtures/measures: pairs of a matte and its true mask, and what others' code says of each.

Run by tests/eval/make.sh. The pictures come out of a seed, but for `cat`, which is the alpha of a cut-out of
tests/fixtures/effects.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

import reference

ROOT = Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "measures"

TOGETHER = ("blob", "strands", "noise", "two-subjects", "cat")
"""What the means are taken over: pairs for which PySODMetrics has an answer to everything."""


def levels(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def disc(height: int, width: int, y: float, x: float, radius: float, soft: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.clip((radius - np.hypot(rows - y, columns - x)) / soft + 0.5, 0, 1)


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name: matte, mask."""
    random = np.random.default_rng(20170408)
    blob = levels(disc(47, 61, 22, 33, 14, 5))
    found = {
        "blob": (levels(disc(47, 61, 24.3, 31, 15.5, 9)), blob),
        "perfect": (blob, blob),
        "inverse": (255 - blob, blob),
        "constant": (np.full_like(blob, 128), blob),
        "nothing-found": (np.zeros_like(blob), blob),
        "everything-found": (np.full_like(blob, 255), blob),
        "nothing-there": (blob, np.zeros_like(blob)),
        "nothing-there-nothing-found": (np.zeros_like(blob), np.zeros_like(blob)),
        "nothing-but-subject": (blob, np.full_like(blob, 255)),
        "nothing-but-subject-found": (np.full_like(blob, 255), np.full_like(blob, 255)),
        "one-pixel": (np.full((1, 1), 200, np.uint8), np.full((1, 1), 255, np.uint8)),
        "one-row": (levels(disc(1, 37, 0, 18, 9, 6)), levels(disc(1, 37, 0, 16, 8, 3))),
        "one-column": (levels(disc(29, 1, 12, 0, 9, 6)), levels(disc(29, 1, 14, 0, 8, 3))),
        "corner": (levels(disc(20, 24, 18, 22, 3, 2)), levels(disc(20, 24, 19, 23, 0.4, 0.5))),
        "two-subjects": (
            levels(disc(70, 90, 20, 25, 12, 4) + 0.45 * disc(70, 90, 45, 66, 13, 8)),
            levels(disc(70, 90, 21, 24, 13, 3) + disc(70, 90, 44, 65, 15, 3)),
        ),
    }
    rows, columns = np.mgrid[:80, :96]
    strands = 0.5 + 0.5 * np.sin(columns / 2.3 + 0.08 * rows + 2 * np.sin(rows / 17))
    strands = strands**3 * disc(80, 96, 40, 48, 38, 20)
    noisy = ndimage.gaussian_filter(strands, 0.8) + random.normal(0, 0.06, strands.shape)
    found["strands"] = (levels(noisy), levels(strands))
    # Distances in it tie everywhere: who is nearest decides the weighted F-measure.
    sparse = random.random((33, 40)) < 0.07
    found["noise"] = (random.integers(0, 256, (33, 40), np.uint8), sparse.astype(np.uint8) * 255)
    # Every level, and so every threshold's neighbours.
    ramp = np.tile(np.arange(256, dtype=np.uint8), (6, 1))
    found["ramps"] = (np.roll(ramp, 9, axis=1), ramp)
    cut = Image.open(ROOT / "tests" / "fixtures" / "effects" / "cat.cut.png").getchannel("A")
    coarse = cut.resize((80, 53), Image.Resampling.BILINEAR).resize(cut.size, Image.Resampling.BILINEAR)
    found["cat"] = (np.asarray(coarse), np.asarray(cut))
    return found


def number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def main() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for former in FIXTURES.glob("*.png"):
        former.unlink()
    expected, amended = {}, {}
    together = reference.Salient()
    made = pairs()
    for name, (matte, mask) in sorted(made.items()):
        Image.fromarray(matte).save(FIXTURES / f"{name}.matte.png", optimize=True)
        Image.fromarray(mask).save(FIXTURES / f"{name}.mask.png", optimize=True)
        found = reference.measures(matte, mask)
        expected[name] = {measure: number(value) for measure, value in found.items()}
        if not math.isfinite(found["s"]):
            amended[name] = {"s": reference.amended_s(matte, mask)}
        if name in TOGETHER:
            together.step(matte, mask)
    means = {"names": TOGETHER, "means": together.results()}
    answer = {"pairs": expected, "amended": amended, "together": means}
    text = json.dumps(answer, indent=2) + "\n"
    (FIXTURES / "expected.json").write_text(text)
    print(f"{len(made)} pairs, {sum(f.stat().st_size for f in FIXTURES.iterdir())} bytes")


if __name__ == "__main__":
    main()
