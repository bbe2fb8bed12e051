#!/usr/bin/env python3
"""Makes many different photos out of a few, for a long run of `cutout compare`:

    "$(tests/effects/environment.sh)/bin/python" tests/compare/variants.py samples 1000 target/variants

Each is a crop of one of the photos, mirrored or not, scaled, darker or brighter, by a seed: the same files every time.
They are no fair sample of anything; they are as many different inputs as asked for.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

SEED = 20261129

LONGEST = (480, 1600)
"""Pixels of the longer side, least and most: what shops' photos have."""

LEAST_CROP = 0.7
"""Share of either side that is left at least: the subject stays mostly in the picture."""


def variant(photo: Image.Image, chance: random.Random) -> Image.Image:
    width, height = photo.size
    crop_width = round(width * chance.uniform(LEAST_CROP, 1))
    crop_height = round(height * chance.uniform(LEAST_CROP, 1))
    left = chance.randint(0, width - crop_width)
    top = chance.randint(0, height - crop_height)
    made = photo.crop((left, top, left + crop_width, top + crop_height))
    if chance.random() < 0.5:
        made = ImageOps.mirror(made)
    longest = chance.randint(*LONGEST)
    scale = longest / max(made.size)
    made = made.resize([max(1, round(side * scale)) for side in made.size], Image.Resampling.LANCZOS)
    return ImageEnhance.Brightness(made).enhance(chance.uniform(0.7, 1.3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    sources = sorted(path for path in arguments.photos.iterdir() if path.suffix in {".jpg", ".png"})
    if not sources:
        parser.error(f"there is no .jpg or .png in {arguments.photos}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.count):
        source = sources[number % len(sources)]
        chance = random.Random(SEED + number)
        with Image.open(source) as photo:
            made = variant(ImageOps.exif_transpose(photo).convert("RGB"), chance)
        made.save(arguments.folder / f"{number:05d}-{source.stem}.jpg", quality=90)
    print(f"{arguments.count} photos in {arguments.folder}")


if __name__ == "__main__":
    main()
