#!/usr/bin/env python3
"""Makes photos of about 8 megapixels with true masks: the subjects of tests/fixtures/eval, drawn in more detail.

    "$(tests/eval/environment.sh)/bin/python" scripts/make_large_set.py target/large [--times 8] [--apart 0] [--noise 2]

A network sees such a photo at an eighth of its detail or less, so the set tells what becomes of a matte on its way to
the photo's size (docs/quality.md). Alpha is drawn at that size; colours are enlarged, and have a fine grain of their own
over subject and background alike. `--apart N` puts each subject before the background of the one N places on, and draws
its hairs anew: other photos than those by which something was chosen. The same packages make the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import make_eval_set as small
import numpy as np
from PIL import Image

GRAIN = 0.05
"""Standard deviation of the grain's brightness, of 1; its grains are three pixels wide."""


class Canvas(small.Canvas):
    """Alpha twice: as the subject's drawing asks for it, and `TIMES` as large."""

    times = 1
    large: np.ndarray | None = None

    def alpha(self) -> np.ndarray:
        assert Canvas.large is None, "one canvas a subject"
        width, height = self.size
        times, finer = self.times, small.FINE // self.times
        fine = np.asarray(self.picture).reshape(height * times, finer, width * times, finer)
        Canvas.large = fine.mean(axis=(1, 3), dtype=np.float32) / 255
        return Canvas.large.reshape(height, times, width, times).mean(axis=(1, 3), dtype=np.float64)


def enlarged(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--apart", type=int, default=0, help="places from a subject's own background to that it gets")
    parser.add_argument("--noise", type=float, default=small.NOISE, help="standard deviation of the sensor's, levels")
    parser.add_argument("--times", type=int, default=8, help="larger than tests/fixtures/eval")
    args = parser.parse_args()
    small.FINE *= args.times
    small.Canvas, Canvas.times = Canvas, args.times
    for folder in ("images", "masks"):
        (args.folder / folder).mkdir(parents=True, exist_ok=True)
    backdrops = [backdrop for _, _, backdrop in small.SUBJECTS.values()]
    for number, (name, (size, subject, _)) in enumerate(small.SUBJECTS.items()):
        random = np.random.default_rng(number + args.apart * len(backdrops))
        backdrop = backdrops[(number + args.apart) % len(backdrops)]
        Canvas.large = None
        colour, _ = subject(size, random)
        mask = np.rint(Canvas.large * 255).astype(np.uint8)
        height, width = mask.shape
        layers = []
        for colours in (colour, backdrop(size)):
            large = np.dstack([enlarged(colours[..., i], (width, height)) for i in range(3)])
            grain = random.normal(0, GRAIN, (height // 3 + 1, width // 3 + 1))
            layers.append(large * (1 + enlarged(grain, (width, height))[..., None]))
        exact = mask[..., None] / 255
        picture = (layers[0] * exact + layers[1] * (1 - exact)) * 255
        picture += random.normal(0, args.noise, picture.shape)
        levels = np.rint(picture).clip(0, 255).astype(np.uint8)
        Image.fromarray(levels).save(args.folder / "images" / f"{name}.jpg", quality=small.QUALITY)
        Image.fromarray(mask).save(args.folder / "masks" / f"{name}.png")
        print(f"{name}: {width}×{height}", flush=True)


if __name__ == "__main__":
    main()
