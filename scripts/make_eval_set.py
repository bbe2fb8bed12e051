#!/usr/bin/env python3
"""Makes tests/fixtures/eval: photos whose true masks are known, because both were made here.

Run by tests/eval/make.sh. Each subject's alpha is drawn (at four times the size, then averaged) and rounded to the
256 levels of its mask; only then are subject and background laid over each other by exactly that alpha. Colours
and textures come from the free photos that scikit-image carries; tests/fixtures/eval/README.md names them. The
same packages make the same bytes.
"""

from __future__ import annotations

import importlib.resources
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

ROOT = Path(__file__).resolve().parent.parent
SET = ROOT / "tests" / "fixtures" / "eval"

FINE = 4
"""Times that subjects are drawn larger."""

QUALITY = 90
"""Of the JPEGs: as cameras and shops save them."""

NOISE = 2.0
"""Standard deviation of the sensor's noise, levels; over subject and background alike, so that it tells nothing."""

Size = tuple[int, int]
Drawing = tuple[np.ndarray, np.ndarray]
"""A subject's colour (height, width, 3) and alpha (height, width), 0 to 1."""


def photo(name: str) -> Image.Image:
    with importlib.resources.files("skimage.data").joinpath(name).open("rb") as file:
        return Image.open(file).convert("RGB")


def colours(picture: Image.Image, size: Size) -> np.ndarray:
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.float64) / 255


def tinted(name: str, size: Size, dark: str, bright: str, blur: float) -> np.ndarray:
    """A grey photo in the colours between two, out of focus."""
    grey = photo(name).convert("L").filter(ImageFilter.GaussianBlur(blur))
    grey = np.asarray(grey.resize(size, Image.Resampling.LANCZOS), np.float64)[..., None] / 255
    low, high = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) / 255 for c in (dark, bright))
    return low + (high - low) * grey


class Canvas:
    """Alpha, drawn large."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.picture = Image.new("L", (size[0] * FINE, size[1] * FINE))
        self.draw = ImageDraw.Draw(self.picture)

    def points(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * FINE, y * FINE) for x, y in points]

    def polygon(self, points: list[tuple[float, float]], fill: int = 255) -> None:
        self.draw.polygon(self.points(points), fill=fill)

    def ellipse(self, x: float, y: float, across: float, up: float, fill: int = 255) -> None:
        self.draw.ellipse(
            [(x - across) * FINE, (y - up) * FINE, (x + across) * FINE, (y + up) * FINE], fill=fill
        )

    def line(self, points: list[tuple[float, float]], width: float, fill: int = 255) -> None:
        width = max(1, round(width * FINE))
        self.draw.line(self.points(points), fill=fill, width=width, joint="curve")

    def hair(self, x: float, y: float, angle: float, length: float, bend: float, width: float) -> None:
        """A strand that gets thinner towards its end, and more transparent."""
        steps = 7
        at = (x, y)
        for step in range(steps):
            after = (
                at[0] + math.cos(angle) * length / steps,
                at[1] + math.sin(angle) * length / steps,
            )
            left = 1 - step / steps
            self.line([at, after], width * left, round(255 * min(1, 0.35 + left)))
            at, angle = after, angle + bend / steps

    def alpha(self) -> np.ndarray:
        width, height = self.size
        fine = np.asarray(self.picture, np.float64).reshape(height, FINE, width, FINE)
        return fine.mean(axis=(1, 3)) / 255


def shaded(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lit from the upper left, as a body of the alpha's shape would be."""
    height = ndimage.gaussian_filter(alpha, 14)
    slope_y, slope_x = np.gradient(height)
    light = 1 + 9 * (slope_x + slope_y)
    return np.clip(colour * light[..., None].clip(0.45, 1.5), 0, 1)


def fur(size: Size) -> np.ndarray:
    return colours(photo("chelsea.png").crop((138, 8, 258, 84)), size)


def horse(size: Size, random: np.random.Generator) -> Drawing:
    with importlib.resources.files("skimage.data").joinpath("horse.png").open("rb") as file:
        shape = Image.open(file).getchannel("R")
    shape = shape.point(lambda level: 255 - level)
    canvas = Canvas(size)
    across = round(size[0] * FINE * 0.82)
    up = across * shape.height // shape.width
    shape = shape.resize((across, up), Image.Resampling.BICUBIC)
    at = ((size[0] * FINE - across) // 2, (size[1] * FINE - up) * 2 // 3)
    canvas.picture.paste(shape.point(lambda level: 255 if level > 127 else 0), at)
    alpha = canvas.alpha()
    return shaded(fur(size), alpha), alpha


def plush(size: Size, random: np.random.Generator) -> Drawing:
    canvas = Canvas(size)
    width, height = size
    parts = [(0.5, 0.62, 0.23, 0.25), (0.5, 0.34, 0.17, 0.17), (0.37, 0.19, 0.06, 0.09), (0.63, 0.19, 0.06, 0.09)]
    for x, y, across, up in parts:
        x, y, across, up = x * width, y * height, across * width, up * height
        for _ in range(int(5.5 * (across + up))):
            angle = random.uniform(0, 2 * math.pi)
            canvas.hair(
                x + 0.97 * across * math.cos(angle),
                y + 0.97 * up * math.sin(angle),
                angle + random.normal(0.35, 0.3),
                random.uniform(7, 24),
                random.normal(0, 0.6),
                random.uniform(0.5, 1.4),
            )
    for x, y, across, up in parts:
        canvas.ellipse(x * width, y * height, across * width, up * height)
    alpha = canvas.alpha()
    colour = shaded(fur(size) * np.array([1.0, 0.86, 0.72]), alpha)
    face = Image.fromarray((colour * 255).astype(np.uint8))
    draw = ImageDraw.Draw(face)
    for x, y, r in ((0.44, 0.32, 0.018), (0.56, 0.32, 0.018), (0.5, 0.39, 0.026)):
        draw.ellipse([(x - r) * width, (y - r) * height, (x + r) * width, (y + r) * height], fill=(24, 16, 14))
    return np.asarray(face, np.float64) / 255, alpha


def cup(size: Size, random: np.random.Generator) -> Drawing:
    canvas = Canvas(size)
    scale = size[0] / 600
    canvas.ellipse(278 * scale, 257 * scale, 200 * scale, 132 * scale)
    canvas.ellipse(290 * scale, 100 * scale, 119 * scale, 80 * scale)
    canvas.polygon([(171 * scale, 100 * scale), (409 * scale, 100 * scale), (370 * scale, 240 * scale), (200 * scale, 240 * scale)])
    return colours(photo("coffee.png"), size), canvas.alpha()


def vase(size: Size, random: np.random.Generator) -> Drawing:
    """Glass: most of it lets the background through."""
    width, height = size

    def outline(inset: float) -> list[tuple[float, float]]:
        ys = np.linspace(0.1 + inset / 2, 0.92 - inset / 2, 120)
        half = 0.11 + 0.13 * np.exp(-(((ys - 0.66) / 0.17) ** 2)) + 0.05 * np.exp(-(((ys - 0.1) / 0.05) ** 2))
        left = [(width * (0.5 - (h - inset)), height * y) for h, y in zip(half, ys)]
        return left + [(width - x, y) for x, y in reversed(left)]

    canvas = Canvas(size)
    canvas.polygon(outline(0), 190)
    canvas.polygon(outline(0.018), 70)
    canvas.polygon([(x, max(y, 0.5 * height)) for x, y in outline(0.022)], 120)
    canvas.ellipse(width * 0.5, height * 0.905, width * 0.12, height * 0.03, 215)
    shine = [(0.425, 0.3), (0.445, 0.3), (0.395, 0.68), (0.365, 0.68)]
    canvas.polygon([(x * width, y * height) for x, y in shine], 235)
    alpha = canvas.alpha()
    colour = np.empty((height, width, 3))
    colour[:] = (0.72, 0.84, 0.86)
    colour[height // 2 :] = (0.45, 0.68, 0.78)
    colour[alpha > 0.85] = (0.98, 0.99, 1.0)
    return ndimage.gaussian_filter(colour, (1.2, 1.2, 0)), alpha


def wheel(size: Size, random: np.random.Generator) -> Drawing:
    """Thin, with the background between its spokes."""
    canvas = Canvas(size)
    x, y, radius = size[0] / 2, size[1] * 0.53, min(size) * 0.42
    canvas.ellipse(x, y, radius, radius)
    canvas.ellipse(x, y, radius * 0.88, radius * 0.88, 0)
    for spoke in range(24):
        angle = 2 * math.pi * spoke / 24
        lean = angle + (0.45 if spoke % 2 else -0.45)
        hub = (x + radius * 0.1 * math.cos(lean), y + radius * 0.1 * math.sin(lean))
        rim = (x + radius * 0.9 * math.cos(angle), y + radius * 0.9 * math.sin(angle))
        canvas.line([hub, rim], 1.3)
    canvas.ellipse(x, y, radius * 0.12, radius * 0.12)
    alpha = canvas.alpha()
    rows, columns = np.mgrid[: size[1], : size[0]]
    distance = np.hypot(rows - y, columns - x) / radius
    colour = np.where(distance[..., None] > 0.93, (0.09, 0.09, 0.1), (0.72, 0.74, 0.78))
    return shaded(colour, alpha), alpha


def fern(size: Size, random: np.random.Generator) -> Drawing:
    canvas = Canvas(size)
    width, height = size

    def leaf(x: float, y: float, angle: float, length: float) -> None:
        along = [
            (x + math.cos(angle) * length * t, y + math.sin(angle) * length * t, math.sin(math.pi * t) ** 0.8)
            for t in np.linspace(0, 1, 24)
        ]
        across = (-math.sin(angle) * length * 0.17, math.cos(angle) * length * 0.17)
        left = [(px + across[0] * w, py + across[1] * w) for px, py, w in along]
        right = [(px - across[0] * w, py - across[1] * w) for px, py, w in reversed(along)]
        canvas.polygon(left + right)

    for stem in (-0.55, -0.2, 0.15, 0.5):
        x, y, angle = width * 0.5, height * 0.97, -math.pi / 2 + stem * 0.6
        for step in range(15):
            after = (x + math.cos(angle) * height * 0.055, y + math.sin(angle) * height * 0.055)
            canvas.line([(x, y), after], 2.4 - step * 0.12)
            x, y = after
            angle += stem * 0.09
            if step > 2:
                length = height * 0.2 * (1 - step / 17) * random.uniform(0.85, 1.1)
                leaf(x, y, angle - 0.95, length)
                leaf(x, y, angle + 0.95, length)
    alpha = canvas.alpha()
    return shaded(tinted("grass.png", size, "#0d3a12", "#a6d977", 0.5), alpha), alpha


def bottle(size: Size, random: np.random.Generator) -> Drawing:
    """A product in a studio, hard edges."""
    canvas = Canvas(size)
    width, height = size
    x = width / 2
    canvas.draw.rounded_rectangle(
        [(x - 46) * FINE, 0.36 * height * FINE, (x + 46) * FINE, 0.93 * height * FINE], radius=16 * FINE, fill=255
    )
    canvas.polygon([(x - 46, 0.42 * height), (x - 17, 0.27 * height), (x + 17, 0.27 * height), (x + 46, 0.42 * height)])
    canvas.draw.rectangle([(x - 17) * FINE, 0.1 * height * FINE, (x + 17) * FINE, 0.28 * height * FINE], fill=255)
    alpha = canvas.alpha()
    colour = np.empty((height, width, 3))
    colour[:] = (0.16, 0.42, 0.36)
    colour[: int(0.2 * height)] = (0.86, 0.83, 0.78)
    colour[int(0.5 * height) : int(0.8 * height)] = (0.95, 0.93, 0.88)
    colour[int(0.58 * height) : int(0.62 * height), int(x) - 28 : int(x) + 28] = (0.75, 0.22, 0.17)
    colour[int(0.67 * height) : int(0.69 * height), int(x) - 22 : int(x) + 22] = (0.3, 0.3, 0.3)
    return shaded(colour, alpha), alpha


def dandelion(size: Size, random: np.random.Generator) -> Drawing:
    """Nothing but hair, and a stalk."""
    canvas = Canvas(size)
    x, y, radius = size[0] * 0.5, size[1] * 0.42, min(size) * 0.3
    canvas.line([(x, y), (x + 6, size[1] * 0.7), (x - 4, size[1])], 4)
    for _ in range(240):
        angle, reach = random.uniform(0, 2 * math.pi), radius * random.uniform(0.6, 1)
        end = (x + reach * math.cos(angle), y + reach * math.sin(angle))
        canvas.line([(x, y), end], 0.5, 150)
        for hair in range(9):
            canvas.hair(*end, angle + (hair - 4) * 0.28, radius * 0.16, random.normal(0, 0.2), 0.5)
    canvas.ellipse(x, y, radius * 0.12, radius * 0.12)
    alpha = canvas.alpha()
    rows, columns = np.mgrid[: size[1], : size[0]]
    white = (np.hypot(rows - y, columns - x) > radius * 0.14) & (rows < y + radius * 1.2)
    stalk = np.where((rows > y + radius * 0.1)[..., None] & (abs(columns - x) < 9)[..., None], (0.4, 0.55, 0.25), (0.93, 0.93, 0.9))
    return np.where(white[..., None], stalk, (0.42, 0.47, 0.24)), alpha


def sky(size: Size) -> np.ndarray:
    return colours(photo("rocket.jpg").crop((130, 10, 430, 235)).filter(ImageFilter.GaussianBlur(3)), size)


def table(size: Size) -> np.ndarray:
    return colours(photo("coffee.png").crop((486, 4, 600, 156)).filter(ImageFilter.GaussianBlur(1)), size)


def lawn(size: Size) -> np.ndarray:
    return tinted("grass.png", size, "#10270a", "#b7d37c", 1.2)


def wall(size: Size) -> np.ndarray:
    return tinted("brick.png", size, "#2b120c", "#e0a58a", 2.0)


def gravel(size: Size) -> np.ndarray:
    return tinted("gravel.png", size, "#191715", "#e6ded2", 1.0)


def studio(size: Size) -> np.ndarray:
    """Paper, brighter in the middle."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    distance = np.hypot(rows / size[1] - 0.45, columns / size[0] - 0.5)
    return (0.9 - 0.35 * distance**2)[..., None] * np.array([0.98, 0.99, 1.0])


SUBJECTS: dict[str, tuple[Size, Callable[[Size, np.random.Generator], Drawing], Callable[[Size], np.ndarray]]] = {
    "bottle": ((288, 384), bottle, studio),
    "cup": ((384, 256), cup, gravel),
    "dandelion": ((320, 400), dandelion, sky),
    "fern": ((360, 360), fern, wall),
    "horse": ((448, 320), horse, lawn),
    "plush": ((400, 400), plush, wall),
    "vase": ((300, 400), vase, table),
    "wheel": ((400, 320), wheel, sky),
}


def main() -> None:
    for folder in ("images", "masks"):
        shutil.rmtree(SET / folder, ignore_errors=True)
        (SET / folder).mkdir(parents=True)
    total = 0
    for number, (name, (size, subject, backdrop)) in enumerate(SUBJECTS.items()):
        random = np.random.default_rng(number)
        colour, alpha = subject(size, random)
        mask = np.rint(alpha * 255).astype(np.uint8)
        exact = mask[..., None] / 255
        picture = colour * exact + backdrop(size) * (1 - exact)
        picture = picture * 255 + random.normal(0, NOISE, picture.shape)
        image, truth = SET / "images" / f"{name}.jpg", SET / "masks" / f"{name}.png"
        levels = np.rint(picture).clip(0, 255).astype(np.uint8)
        Image.fromarray(levels).save(image, quality=QUALITY, subsampling="4:4:4", optimize=True)
        Image.fromarray(mask).save(truth, optimize=True)
        soft = np.mean((mask > 12) & (mask < 243))
        total += image.stat().st_size + truth.stat().st_size
        print(f"{name}: {size[0]}×{size[1]}, {exact.mean():.0%} subject, {soft:.1%} between")
    print(f"{len(SUBJECTS)} photos, {total} bytes")


if __name__ == "__main__":
    main()
