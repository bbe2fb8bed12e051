#!/usr/bin/env python3
"""Makes the shadows in tests/fixtures/pixels that src/pipeline/compose/shadow.rs is compared with.

    pip install pillow==13.0.0 numpy==2.2.6
    python tests/reference/make_shadows.py

A shadow is the alpha, blurred by a Gaussian whose standard deviation is half of `blur`, and moved; all in
double precision, with the Gaussian cut off at six deviations and nothing beyond the picture.
"""

from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "pixels"
SIZE = (150, 110)
SHADOWS = [(0, 0, 0), (3, 2, 5), (12, -7, 4), (31, 20, 30), (90, -40, 0)]


def alpha():
    """A disc with a soft edge, a sharp bar and a ramp that touches the picture's edge."""
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(np.float64)
    disc = np.clip((30 - np.hypot(x - 60, y - 50)) / 4 + 0.5, 0, 1)
    bar = ((x >= 100) & (x < 106) & (y > 10)).astype(np.float64)
    ramp = np.clip(1 - x / 25, 0, 1) * (y > 80)
    return np.rint(np.maximum.reduce([disc, bar, ramp]) * 255).astype(np.uint8)


def gaussian(values, sigma, axis):
    if sigma == 0:
        return values
    reach = int(np.ceil(6 * sigma))
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    bell /= bell.sum()
    return np.apply_along_axis(lambda line: np.convolve(line, bell, mode="same"), axis, values)


def shadow(values, blur, x, y):
    height, width = values.shape
    margin = 6 * blur + abs(x) + abs(y) + 1
    wide = np.pad(values / 255.0, margin)
    for axis in (0, 1):
        wide = gaussian(wide, blur / 2, axis)
    return wide[margin - y : margin - y + height, margin - x : margin - x + width]


def main():
    values = alpha()
    Image.fromarray(values).save(OUT / "shadow_alpha.png", optimize=True)
    for blur, x, y in SHADOWS:
        levels = np.rint(shadow(values, blur, x, y) * 255).astype(np.uint8)
        Image.fromarray(levels).save(OUT / f"shadow_{blur}_{x}_{y}.png", optimize=True)


if __name__ == "__main__":
    main()
