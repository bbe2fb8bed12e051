#!/usr/bin/env python3
"""Times libjpeg-turbo on a JPEG, whole and scaled by its cosine transform, and says how far the
network's input moves when it is made from the scaled picture.

    bench/jpeg_decoders.py target/tmp/photo-12mp.jpg

`make bench-pixels` writes that photo and times zune-jpeg on it. Needs Pillow and simplejpeg
(`pip install Pillow simplejpeg numpy`), which both bring libjpeg-turbo with them.
"""

import io
import pathlib
import statistics
import sys
import time

import numpy
import PIL.features
import simplejpeg
from PIL import Image

ROUNDS = 15
SIDE = (1024, 1024)


def timed(name, decode) -> None:
    decode()
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        decode()
        times.append(time.perf_counter() - begun)
    print(f"{name:24} {statistics.median(times) * 1e3:6.1f} ms")


def shrunk(data: bytes, factor: int) -> Image.Image:
    """The network's input, made from the picture at a fraction of its size."""
    photo = Image.open(io.BytesIO(data))
    photo.draft("RGB", (photo.width // factor, photo.height // factor))
    return photo.convert("RGB").resize(SIDE, Image.BILINEAR)


def main() -> None:
    data = pathlib.Path(sys.argv[1]).read_bytes()
    photo = Image.open(io.BytesIO(data))
    print(f"libjpeg-turbo {PIL.features.version('libjpeg_turbo')} in Pillow {PIL.__version__}")
    timed("simplejpeg", lambda: simplejpeg.decode_jpeg(data, "RGB"))
    for factor in (2, 4):
        size = {"min_width": photo.width // factor, "min_height": photo.height // factor}
        timed(f"simplejpeg, 1/{factor}", lambda: simplejpeg.decode_jpeg(data, "RGB", min_factor=1, **size))
    timed("Pillow", lambda: Image.open(io.BytesIO(data)).load())
    whole = numpy.asarray(shrunk(data, 1), int)
    moved = numpy.abs(whole - numpy.asarray(shrunk(data, 2), int))
    print(f"input from 1/2: {moved.mean():.3f} levels away on average, {moved.max()} at most")


if __name__ == "__main__":
    main()
