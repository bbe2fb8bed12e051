"""Fur whose true colours are known: hairs drawn far larger than they are seen, on a loud background.

What a camera does to a hair is done here: a pixel's alpha is the share of it that hairs cover, and its
colour the mean of what is in it. So alpha, foreground and background are all known, which they are of no
photo.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

SCALE = 8
"""How many times larger hairs are drawn than they are seen."""


def fur(width: int, height: int, seed: int = 1, hairs_a_pixel: float = 0.06):
    """Photo, alpha and true foreground: float arrays, 0 to 1."""
    random = np.random.default_rng(seed)
    canvas = Image.new("L", (width * SCALE, height * SCALE), 0)
    draw = ImageDraw.Draw(canvas)
    size = min(width, height)
    centre, radius = (width / 2, height / 2), size * 0.27
    box = [(c + s * radius) * SCALE for s in (-1, 1) for c in centre]
    draw.ellipse(box, fill=255)
    for _ in range(int(width * height * hairs_a_pixel)):
        hair(draw, random, centre, radius, size)
    alpha = np.asarray(canvas.resize((width, height), Image.Resampling.BOX), np.float64) / 255

    # Warm fur with darker bands, which follow the body and not the edge.
    y, x = np.mgrid[0:height, 0:width] / size
    bands = 0.5 + 0.5 * np.sin(18 * (x + 0.4 * np.sin(5 * y)))
    light, dark = np.array([0.87, 0.72, 0.53]), np.array([0.48, 0.31, 0.2])
    foreground = light + (dark - light) * bands[..., None] * 0.8
    photo = alpha[..., None] * foreground + (1 - alpha[..., None]) * background(width, height)
    return photo, alpha, foreground


def hair(draw, random, centre, radius, size) -> None:
    """One hair: begins on the body, leans, tapers."""
    angle = random.uniform(0, 2 * math.pi)
    lean = angle + random.normal(0.35, 0.25)
    start = radius * random.uniform(0.9, 1.0)
    length = size * random.uniform(0.03, 0.17)
    at = np.array(centre) + start * np.array([math.cos(angle), math.sin(angle)])
    steps = 6
    for step in range(steps):
        bent = lean + 0.08 * step
        to = at + length / steps * np.array([math.cos(bent), math.sin(bent)])
        thickness = max(1, round(SCALE * 0.7 * (1 - step / steps)))
        draw.line([*(at * SCALE), *(to * SCALE)], fill=255, width=thickness)
        at = to


def background(width: int, height: int) -> np.ndarray:
    """A lawn in the sun: strong green, blotched as out of focus."""
    y, x = np.mgrid[0:height, 0:width] / min(width, height)
    blotches = 0.5 + 0.25 * np.sin(9 * x + 2 * y) + 0.25 * np.sin(7 * y - 3 * x)
    sun, shade = np.array([0.55, 0.92, 0.1]), np.array([0.05, 0.42, 0.08])
    return shade + (sun - shade) * blotches[..., None]
