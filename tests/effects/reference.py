#!/usr/bin/env python3
"""The effects as an OpenCV and NumPy programmer writes them down from the rules in docs/effects.md.

Nothing of the Rust code went into this. `make fixtures` runs it on the sample photos' cut-outs
and leaves inputs and answers in tests/fixtures/effects; `bench/effects.py` times it.

Planes are float32, which is what one would choose for speed. Each effect takes RGBA bytes and returns
RGBA bytes.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "effects"

SIZES = {
    "astronaut": (288, 288),  # whole cells of 6 both ways
    "coffee": (384, 256),  # whole cells one way
    "cat": (321, 213),  # odd sides
}


def with_alpha(rgb: np.ndarray, rgba: np.ndarray) -> np.ndarray:
    return np.dstack([rgb, rgba[..., 3]])


def grey_rgba(grey: np.ndarray, rgba: np.ndarray) -> np.ndarray:
    return np.dstack([grey, grey, grey, rgba[..., 3]])


def color(rgba: np.ndarray) -> np.ndarray:
    return rgba.copy()


def enhancedblackwhite(
    rgba: np.ndarray, contrast: float = 1.0, grain: float = 1.0, halation: float = 1.0
) -> np.ndarray:
    weights = np.array([[0.18, 0.72, 0.10]], np.float32) / 255
    g = cv2.transform(rgba[..., :3].astype(np.float32), weights)

    shadows = np.power(g * 1.1, 1.25) * 0.92
    highlights = 1 - np.power((1 - g).clip(0) * 1.05, 0.75) * 0.95
    blend = ((g - 0.4 + 0.15) / 0.3).clip(0, 1)
    g = shadows * (1 - blend) + highlights * blend
    g = ((g - 0.5) * (1 + 0.12 * contrast) + 0.5).clip(0, 1)

    g = g + (g - cv2.GaussianBlur(g, (5, 5), 1.2)) * 0.9 * 4 * g * (1 - g)

    bright = np.where(g > 0.75, g, np.float32(0))
    glow = cv2.GaussianBlur(bright, (21, 21), 7) * 0.3 + cv2.GaussianBlur(bright, (9, 9), 2.5) * 0.7
    g = g + glow * (0.12 * halation) * (1 - g * g)

    if grain > 0:
        height, width = g.shape
        random = np.random.default_rng(zlib.crc32(rgba.tobytes()))
        fine = random.standard_normal((height, width), np.float32) * 0.4
        half = (max(1, height // 2), max(1, width // 2))
        coarse = random.standard_normal(half, np.float32) * 0.6
        coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        noise = cv2.GaussianBlur(fine * 0.7 + coarse * 0.3, (3, 3), 0.5)
        g = g + noise * (1.2 - g).clip(0.3, 1) * (0.08 * grain)

    g = np.where(g > 0.9, g * 0.95 + 0.05, g)
    return grey_rgba(np.rint(g.clip(0, 1) * 255).astype(np.uint8), rgba)


def popart(rgba: np.ndarray) -> np.ndarray:
    rgb = ((rgba[..., :3].astype(np.float32) - 128) * 2.5 + 128).clip(0, 255)
    brightness = cv2.transform(rgb, np.array([[0.299, 0.587, 0.114]], np.float32))[..., np.newaxis]
    rgb = (brightness + (rgb - brightness) * 2.0).clip(0, 255)
    rgb = (np.round(rgb / 127.5) * 127.5).astype(np.uint8)

    r, g, b = (rgb[..., channel].astype(np.int32) for channel in range(3))
    brightness = 0.2126 * r + 0.7152 * g + 0.0722 * b
    out = np.empty_like(rgb)
    out[:] = (0x00, 0xBF, 0xFF)
    for bound, colour in (
        (240, (0xFF, 0x14, 0x93)),
        (210, (0x32, 0xCD, 0x32)),
        (190, (0x00, 0xFF, 0x7F)),
        (160, (0x32, 0xCD, 0x32)),
        (130, (0xFF, 0x14, 0x93)),
        (100, (0x00, 0xBF, 0xFF)),
        (70, (0x8A, 0x2B, 0xE2)),
    ):
        out[brightness <= bound] = colour
    out[brightness < 40] = 0

    vivid = rgb.max(axis=2).astype(np.int32) - rgb.min(axis=2) > 60
    even = (r + g + b) % 2 == 0
    for one, other, third, colours in (
        (r, g, b, ((0xFF, 0x14, 0x93), (0xFF, 0x45, 0x00))),
        (g, r, b, ((0x00, 0xFF, 0x7F), (0x32, 0xCD, 0x32))),
        (b, r, g, ((0x8A, 0x2B, 0xE2), (0x00, 0xBF, 0xFF))),
    ):
        leads = vivid & (one > other + 30) & (one > third + 30)
        out[leads & even] = colours[0]
        out[leads & ~even] = colours[1]
    return with_alpha(out, rgba)


def dithering(rgba: np.ndarray) -> np.ndarray:
    g = cv2.transform(rgba[..., :3].astype(np.float32), np.array([[0.299, 0.587, 0.114]], np.float32))
    g = 255 * np.power(g / 255, np.float32(0.45))
    g[rgba[..., 3] == 0] = 255

    laplacian = np.full((3, 3), -1, np.float32)
    laplacian[1, 1] = 8
    g = (g + 0.3 * cv2.filter2D(g, cv2.CV_32F, laplacian / 8)).clip(0, 255)
    threshold = cv2.GaussianBlur(g, (7, 7), 0) * 0.7 + 128 * 0.3

    black = floyd_steinberg(g[::2, ::2], threshold[::2, ::2])
    height, width = g.shape
    dots = np.where(black, 0, 255).astype(np.uint8)
    dots = dots.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return grey_rgba(dots, rgba)


def floyd_steinberg(grid: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Which points are black.

    A point waits for its left neighbour and for the three above it, so all those with the same
    x + 2 y can be done at once: a loop over diagonals instead of one over points, with the same
    additions in the same order. In a buffer with a margin they lie a fixed step apart.
    """
    rows, columns = grid.shape
    stride = columns + 2
    buffer = np.zeros((rows + 1, stride), np.float32)
    buffer[:rows, 1:-1] = grid
    bounds = np.zeros_like(buffer)
    bounds[:rows, 1:-1] = threshold
    black = np.zeros(buffer.shape, bool)
    wanted, bound, drawn = buffer.ravel(), bounds.ravel(), black.ravel()
    for diagonal in range(columns + 2 * (rows - 1)):
        first = max(0, (diagonal - columns + 2) // 2)
        last = min(rows - 1, diagonal // 2)
        start, step, count = diagonal + 1 + first * (stride - 2), stride - 2, last - first + 1
        if count <= 0:
            continue

        def points(offset: int) -> slice:
            return slice(start + offset, start + offset + (count - 1) * step + 1, max(step, 1))

        here = wanted[points(0)]
        white = here > bound[points(0)]
        drawn[points(0)] = ~white
        error = here - np.where(white, np.float32(255), np.float32(0))
        wanted[points(stride + 1)] += error * np.float32(1 / 16)
        wanted[points(stride)] += error * np.float32(5 / 16)
        wanted[points(stride - 1)] += error * np.float32(3 / 16)
        wanted[points(1)] += error * np.float32(7 / 16)
    return black[:rows, 1:-1]


PALETTE = np.array(
    [(grey, grey, grey) for grey in (0, 25, 50, 75, 100, 130, 160, 190, 220, 255)]
    + [(45, 30, 15), (62, 39, 20), (85, 55, 30), (101, 67, 33), (120, 80, 45), (139, 90, 50)]
    + [(160, 110, 70), (180, 130, 90), (200, 150, 110)]
    + [(255, 180, 120), (255, 200, 160), (240, 220, 200), (205, 133, 63), (160, 82, 45), (139, 69, 19)]
    + [(70, 50, 30), (100, 70, 40), (40, 60, 80), (60, 80, 120), (150, 200, 255)]
    + [(34, 70, 34), (50, 100, 50)],
    np.float32,
)


def nearest_colours(rgb: np.ndarray) -> np.ndarray:
    pixels = rgb.reshape(-1, 3).astype(np.float32)
    best = np.zeros(len(pixels), np.int64)
    least = np.full(len(pixels), np.inf, np.float32)
    # Colour by colour: all distances at once would take 32 planes.
    for index, colour in enumerate(PALETTE):
        distance = ((pixels - colour) ** 2) @ np.array([0.15, 0.60, 0.25], np.float32)
        nearer = distance < least
        best[nearer] = index
        least[nearer] = distance[nearer]
    return PALETTE[best].astype(np.uint8).reshape(rgb.shape)


def pixelated(rgb: np.ndarray, factor: int) -> np.ndarray:
    height, width = rgb.shape[:2]
    small = (max(1, width // factor), max(1, height // factor))
    cells = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)


def retro8bit(rgba: np.ndarray) -> np.ndarray:
    rgb = np.ascontiguousarray(rgba[..., :3])
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    slope = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    edges = cv2.dilate((slope > 40).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    few = nearest_colours(rgb)
    out = np.where(edges[..., np.newaxis], pixelated(few, 3), pixelated(few, 6))
    return with_alpha(out, rgba)


EFFECTS = {
    "color": color,
    "enhancedblackwhite": enhancedblackwhite,
    "popart": popart,
    "dithering": dithering,
    "retro8bit": retro8bit,
}


def cut_out(name: str, size: tuple[int, int]) -> np.ndarray:
    """A sample with the reference mask as its alpha, reduced; no colour where nothing shows."""
    with Image.open(ROOT / "samples" / f"{name}.jpg") as file:
        rgb = np.asarray(file.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    with Image.open(ROOT / "tests" / "fixtures" / "masks" / f"{name}.mask.png") as file:
        alpha = np.asarray(file.convert("L").resize(size, Image.Resampling.LANCZOS))
    rgba = np.dstack([rgb, alpha])
    rgba[alpha == 0] = 0
    return rgba


def main() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        rgba = cut_out(name, size)
        Image.fromarray(rgba).save(FIXTURES / f"{name}.cut.png", optimize=True)
        for effect, apply in EFFECTS.items():
            if effect == "color":
                continue  # the input
            # The rules leave the noise open, so it cannot be compared.
            options = {"grain": 0.0} if effect == "enhancedblackwhite" else {}
            Image.fromarray(apply(rgba, **options)).save(
                FIXTURES / f"{name}.{effect}.png", optimize=True
            )
        print(f"{name}: {size[0]}×{size[1]}, {(rgba[..., 3] > 0).mean():.0%} of it shows")


if __name__ == "__main__":
    sys.exit(main())
