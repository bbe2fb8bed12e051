#!/usr/bin/env python3
"""Makes tests/fixtures/refine: what a guided filter answers, written down plainly in 64 bits, for ours to answer too.

Nothing of the Rust code went into this; `make fixtures` runs it. Each case is a photo (`NAME.photo.png`), a matte that is
smaller (`NAME.matte.png`) and alpha at the photo's size (`NAME.alpha.png`); `NAME.true.png` is what a photo of
tests/fixtures/eval was made with.

The formulas are equations 14 to 16 of He, Sun and Tang, "Guided Image Filtering" (ECCV 2010), the coefficients brought to the
photo's size as in He and Sun, "Fast Guided Filter" (arXiv 1505.00996); beyond the papers, a window in which the matte is
sure says what the matte says, and counts for nothing at the photo's size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "refine"
EVAL = ROOT / "tests" / "fixtures" / "eval"

RADIUS = 2
EPSILON = 1e-4
SURE = 0.02


def window(plane: np.ndarray, y: int, x: int) -> np.ndarray:
    rows = slice(max(0, y - RADIUS), y + RADIUS + 1)
    return plane[rows, max(0, x - RADIUS) : x + RADIUS + 1]


def fit(guide: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, bool]:
    """Slopes by red, green and blue and the offset, in one window; and whether the matte is sure there."""
    if (alpha <= SURE).all() or (alpha >= 1 - SURE).all():
        return np.array([0, 0, 0, alpha.mean()]), True
    colours = guide.reshape(-1, 3)
    values = alpha.reshape(-1)
    centred = colours - colours.mean(axis=0)
    covariance = centred.T @ centred / len(values)
    together = centred.T @ (values - values.mean()) / len(values)
    slopes = np.linalg.solve(covariance + EPSILON * np.eye(3), together)
    return np.append(slopes, values.mean() - slopes @ colours.mean(axis=0)), False


def weights(source: int, target: int) -> np.ndarray:
    """Bilinear, pixel centres on pixel centres, repeating the rim."""
    at = (np.arange(target) + 0.5) * source / target - 0.5
    first = np.floor(at).astype(int)
    share = at - first
    matrix = np.zeros((target, source))
    for row, (left, right) in enumerate(zip(first, share)):
        matrix[row, np.clip(left, 0, source - 1)] += 1 - right
        matrix[row, np.clip(left + 1, 0, source - 1)] += right
    return matrix


def refined(photo: Image.Image, matte: np.ndarray) -> np.ndarray:
    height, width = matte.shape
    guide = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR), np.float64) / 255
    fits = np.zeros((height, width, 4))
    unsure = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            fits[y, x], sure = fit(window(guide, y, x), window(matte, y, x))
            unsure[y, x] = not sure
    means = np.array([[window(fits, y, x).mean(axis=(0, 1)) for x in range(width)] for y in range(height)])
    down, across = weights(height, photo.height), weights(width, photo.width)
    enlarged = lambda plane: np.tensordot(down, np.tensordot(plane, across, (1, 1)), 1)
    *slopes, offset = (enlarged(means[..., i]) for i in range(4))
    colours = np.asarray(photo, np.float64) / 255
    fitted = sum(slope * colours[..., i] for i, slope in enumerate(slopes)) + offset
    plain = enlarged(matte)
    return plain + enlarged(unsure) * (fitted.clip(0, 1) - plain)


def save(name: str, photo: Image.Image, matte: Image.Image) -> None:
    alpha = refined(photo, np.asarray(matte, np.float64) / 255)
    photo.save(FIXTURES / f"{name}.photo.png", optimize=True)
    matte.save(FIXTURES / f"{name}.matte.png", optimize=True)
    levels = np.rint(alpha * 255).clip(0, 255).astype(np.uint8)
    Image.fromarray(levels).save(FIXTURES / f"{name}.alpha.png", optimize=True)


def main() -> None:
    FIXTURES.mkdir(exist_ok=True)
    # What is left of true masks at a quarter of the size: edges that are wider than that, and hair that is not.
    for name, box in {"wheel": (0, 160, 200, 320), "plush": (100, 20, 308, 180)}.items():
        photo = Image.open(EVAL / "images" / f"{name}.jpg").convert("RGB").crop(box)
        true = Image.open(EVAL / "masks" / f"{name}.png").convert("L").crop(box)
        quarter = (true.width // 4, true.height // 4)
        save(name, photo, true.resize(quarter, Image.Resampling.BILINEAR))
        true.save(FIXTURES / f"{name}.true.png", optimize=True)
    # Sides that are no multiples of anything, and a photo that has nothing to do with the matte.
    random = np.random.default_rng(1)
    noise = Image.fromarray(random.integers(0, 256, (37, 53, 3), np.uint8))
    save("noise", noise, Image.fromarray(random.integers(0, 256, (13, 17), np.uint8)))
    # As high as the matte, and one row.
    save("strip", noise.crop((0, 0, 53, 1)), Image.fromarray(np.linspace(0, 255, 19).astype(np.uint8)[None]))


if __name__ == "__main__":
    main()
