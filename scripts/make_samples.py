#!/usr/bin/env python3
"""Makes the sample photos in `samples/` from the public-domain ones that scikit-image carries.

Run by `make fixtures` with the pinned Pillow of tests/reference/requirements.txt, which makes the
JPEGs the same to the byte. Origins and licences are in samples/README.md.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from provision import files
from provision.pins import Download

SCIKIT_IMAGE = Download(
    "pip",
    "scikit-image==0.26.0",
    "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311")
    + ("--platform", "manylinux_2_28_x86_64"),
)

# Sample name: file inside the wheel.
PHOTOS = {
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "astronaut": "astronaut.png",
    "rocket": "rocket.jpg",
    "cameraman": "camera.png",
}

QUALITY = 92
"""High enough that blocking is invisible, low enough that all samples stay under 400 KB."""


def main() -> None:
    cache = ROOT / ".cache"
    with files.exclusive(cache, print):
        package = files.obtain(SCIKIT_IMAGE, cache / "downloads", files.fetch_with_client, print)
    with zipfile.ZipFile(package) as wheel:
        for name, member in PHOTOS.items():
            with Image.open(io.BytesIO(wheel.read(f"skimage/data/{member}"))) as photo:
                target = ROOT / "samples" / f"{name}.jpg"
                photo.save(target, quality=QUALITY, subsampling="4:4:4", optimize=True)
                print(f"{target.name}: {photo.mode} {photo.size}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
