#!/usr/bin/env python3
"""Makes tests/fixtures/pixels/rembg_*: what rembg 2.0.86 does before and after the network, by its own
formulas and Pillow, for the unit tests of src/pipeline to compare with.

`normalize` is that of rembg/sessions/base.py with the numbers of sessions/u2net.py; the mask is that
of `predict` in sessions/birefnet_general.py. Synthesised from a fixed seed; .f32 files are
little-endian f32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "pixels"
RNG = np.random.default_rng(86)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def photo() -> Image.Image:
    """Nowhere white, so that dividing by its own maximum differs from dividing by 255."""
    y, x = np.mgrid[0:47, 0:61].astype(np.float64)
    red = 90 + 80 * np.sin(x / 5.0 + y / 11.0)
    green = 170.0 * x / 61
    blue = np.where((x // 7 + y // 5) % 2 == 0, 160.0, 20.0)
    noise = RNG.normal(0, 4, (47, 61, 3))
    return Image.fromarray((np.stack([red, green, blue], -1) + noise).clip(0, 180).astype(np.uint8))


def normalize(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    pixels = np.array(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    pixels = pixels / max(np.max(pixels), 1e-6)
    return ((pixels - MEAN) / STD).transpose((2, 0, 1)).astype("<f4")


def logits() -> np.ndarray:
    """A network's answer with hard edges, where Lanczos overshoots, on a slope."""
    y, x = np.mgrid[0:12, 0:16]
    return np.where((x // 4 + y // 3) % 2 == 0, 3.5, -3.0) + RNG.normal(0, 1.5, (12, 16))


def mask(answer: np.ndarray) -> Image.Image:
    pred = 1 / (1 + np.exp(-answer))
    pred = (pred - np.min(pred)) / (np.max(pred) - np.min(pred))
    return Image.fromarray((pred * 255).astype("uint8"))


def main() -> None:
    source = photo()
    source.save(OUT / "rembg_photo.png")
    for size in ((24, 18), (70, 12)):
        planes = normalize(source, size)
        (OUT / f"rembg_input_{size[0]}x{size[1]}.f32").write_bytes(planes.tobytes())
    answer = logits().astype("<f4")
    (OUT / "rembg_answer.f32").write_bytes(answer.tobytes())
    for size in ((50, 33), (5, 4), (3, 40), (16, 12)):
        resized = mask(answer).resize(size, Image.Resampling.LANCZOS)
        resized.save(OUT / f"rembg_mask_{size[0]}x{size[1]}.png")


if __name__ == "__main__":
    main()
