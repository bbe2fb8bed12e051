#!/usr/bin/env python3
"""Makes mixed photos out of the samples: 0.2 to 12 megapixels, JPEG, PNG and WebP.

    bench/mixed_photos.py COUNT FOLDER

Needs Pillow (`make fixtures` has it in .cache/venv-reference). The same COUNT gives the same photos.
"""

import pathlib
import random
import sys

from PIL import Image, ImageOps

# Width and height: a thumbnail, a web picture, 3 MP, 8 MP, and the 12 MP of a phone either way up.
SIZES = [(640, 400), (1600, 1200), (2048, 1536), (3264, 2448), (4032, 3024), (3024, 4032)]
FORMATS = ["jpg", "jpg", "jpg", "png", "webp"]


def main() -> None:
    count, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    samples = sorted((pathlib.Path(__file__).parent.parent / "samples").glob("*.jpg"))
    chance = random.Random(7)
    for number in range(count):
        photo = Image.open(chance.choice(samples)).convert("RGB")
        size, extension = chance.choice(SIZES), chance.choice(FORMATS)
        photo = ImageOps.fit(photo, size, Image.Resampling.BICUBIC)
        options = {"jpg": {"quality": 88}, "png": {"compress_level": 1}, "webp": {"quality": 85, "method": 0}}
        photo.save(folder / f"photo-{number:03}.{extension}", **options[extension])


if __name__ == "__main__":
    main()
