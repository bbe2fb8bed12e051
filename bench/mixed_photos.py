#!/usr/bin/env python3
"""Makes mixed photos out of the samples: 0.2 to 12 megapixels, JPEG, PNG and WebP.

    bench/mixed_photos.py COUNT FOLDER [--sizes 1600x1200,4032x3024]

Needs Pillow (`make fixtures` has it in .cache/venv-reference). The same COUNT and sizes give the
same photos.
"""

from __future__ import annotations

import argparse
import pathlib
import random

from PIL import Image, ImageOps

# Width and height: a thumbnail, a web picture, 3 MP, 8 MP, and the 12 MP of a phone either way up.
SIZES = [(640, 400), (1600, 1200), (2048, 1536), (3264, 2448), (4032, 3024), (3024, 4032)]
FORMATS = ["jpg", "jpg", "jpg", "png", "webp"]


def sizes(text: str) -> list[tuple[int, int]]:
    pairs = [tuple(int(side) for side in size.split("x")) for size in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise argparse.ArgumentTypeError("write sizes as 1600x1200,4032x3024")
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--sizes", type=sizes, default=SIZES, help="to choose among: WxH,WxH…")
    args = parser.parse_args()

    args.folder.mkdir(parents=True, exist_ok=True)
    samples = sorted((pathlib.Path(__file__).parent.parent / "samples").glob("*.jpg"))
    chance = random.Random(7)
    for number in range(args.count):
        photo = Image.open(chance.choice(samples)).convert("RGB")
        size, extension = chance.choice(args.sizes), chance.choice(FORMATS)
        photo = ImageOps.fit(photo, size, Image.Resampling.BICUBIC)
        options = {
            "jpg": {"quality": 88},
            "png": {"compress_level": 1},
            "webp": {"quality": 85, "method": 0},
        }
        photo.save(args.folder / f"photo-{number:03}.{extension}", **options[extension])


if __name__ == "__main__":
    main()
