#!/usr/bin/env python3
"""Makes tests/fixtures/colour: photos in other colours than sRGB, with 16 bits and with metadata, and what
LittleCMS (Pillow) and plain arithmetic in double precision make of them.

    pip install pillow==13.0.0 numpy==2.2.6
    python tests/reference/make_colour.py

Everything is synthesised, so the fixtures carry nobody's rights.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL.ImageCms import Flags, Intent

import rawformats

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "colour"
SIZE = (48, 36)
COLOURS = {"green": (120, 255, 155), "rose": (255, 0, 128), "white": (255, 255, 255)}


def scene() -> np.ndarray:
    """uint16 [height, width, 3]: saturated colours in smooth ramps, with content in the low bits."""
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(np.float64)
    r = x / (SIZE[0] - 1)
    g = y / (SIZE[1] - 1)
    b = 0.5 + 0.5 * np.sin((x + 2 * y) / 9)
    return np.rint(np.stack([r, g, b], axis=-1) * 65535).astype(np.uint16)


def subject(levels: np.ndarray) -> np.ndarray:
    """The scene within a soft disc on black."""
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(np.float64)
    disc = np.clip((11 - np.hypot(x - 20, y - 16)) / 5 + 0.5, 0, 1)
    bright = 0.4 * 65535 + 0.6 * levels
    return np.rint(bright * disc[..., None]).astype(np.uint16)


def exif(orientation: int) -> bytes:
    """Author, camera, time and place, as a phone writes them."""
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "Cutout"
    block[0x013B] = "Ada Lovelace"
    block[0x8298] = "(c) Ada Lovelace"
    details = block.get_ifd(0x8769)
    details[0x9003] = "2026:11:29 20:00:00"
    details[0x927C] = b"maker's notes: 52.5 N"
    place = block.get_ifd(0x8825)
    place[1], place[2] = "N", (52.0, 31.0, 12.0)
    place[3], place[4] = "E", (13.0, 24.0, 36.0)
    return block.tobytes().removeprefix(b"Exif\0\0")


def png(pixels: np.ndarray, profile: bytes | None, block: bytes | None) -> bytes:
    """8 or 16 bits, by the array's type."""
    height, width, channels = pixels.shape
    depth = 16 if pixels.dtype == np.uint16 else 8
    rows = pixels.astype(">u2" if depth == 16 else np.uint8).reshape(height, -1).view(np.uint8)
    rows = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()
    extra = []
    if profile is not None:
        extra.append(rawformats.png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile, 9)))
    if block is not None:
        extra.append(rawformats.png_chunk(b"eXIf", block))
    return rawformats.png((width, height, depth, {3: 2, 4: 6}[channels]), rows, *extra)


def table(profile_tags: list[tuple[bytes, bytes]], version: int) -> bytes:
    """A profile of RGB by tables to and from Lab."""
    name = "Tables (hand-built)".encode("ascii") + b"\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    tags = [(b"desc", described), (b"cprt", b"text\0\0\0\0CC0\0")]
    d50 = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    tags += [(b"wtpt", b"XYZ \0\0\0\0" + d50), *profile_tags]
    directory, data = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for signature, value in tags:
        value += bytes(-len(value) % 4)
        directory += struct.pack(">4sII", signature, start + len(data), len(value))
        data += value
    header = struct.pack(
        ">I4sI4s4s4s", start + len(data), bytes(4), version, b"scnr", b"RGB ", b"Lab "
    )
    # Relative colorimetric: for perceptual tables of version 4 LittleCMS moves the black point by itself.
    header += bytes(12) + b"acsp" + bytes(24) + struct.pack(">I", 1) + d50
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + directory + data


def lab_of_rgb(grid: int) -> np.ndarray:
    """A device somewhat like sRGB, [grid, grid, grid, 3] as L, a, b."""
    steps = np.linspace(0, 1, grid)
    r, g, b = np.meshgrid(steps, steps, steps, indexing="ij")
    light = 100 * (0.25 * r + 0.65 * g + 0.1 * b)
    return np.stack([light, 75 * (r - g), 55 * (0.5 * r + 0.5 * g - b)], axis=-1)


def mft2(grid: int, values: np.ndarray) -> bytes:
    """lut16Type; `values` are the table as 16-bit numbers."""
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    linear = struct.pack(">2H", 0, 65535)
    body = b"mft2\0\0\0\0" + bytes([3, 3, grid, 0]) + identity + struct.pack(">2H", 2, 2)
    return body + linear * 3 + values.astype(">u2").tobytes() + linear * 3


def mab(grid: int, values: np.ndarray) -> bytes:
    """lutAToBType with curves and a table, without a matrix (ICC.1:2022, 10.12)."""
    curves = b"curv\0\0\0\0\0\0\0\0" * 3
    clut = bytes([grid] * 3 + [0] * 13) + bytes([2, 0, 0, 0]) + values.astype(">u2").tobytes()
    clut += bytes(-len(clut) % 4)
    b_at = 32
    clut_at = b_at + len(curves)
    a_at = clut_at + len(clut)
    offsets = struct.pack(">5I", b_at, 0, 0, clut_at, a_at)
    return b"mAB \0\0\0\0" + bytes([3, 3, 0, 0]) + offsets + curves + clut + curves


def rgb_of_lab(grid: int) -> np.ndarray:
    """The way back, [grid, grid, grid, 3] of 0 to 1: three linear equations."""
    light, a, b = np.meshgrid(
        np.linspace(0, 100, grid), np.linspace(-128, 127, grid), np.linspace(-128, 127, grid), indexing="ij"
    )
    forward = np.array([[25, 65, 10], [75, -75, 0], [27.5, 27.5, -55]])
    return (np.stack([light, a, b], axis=-1) @ np.linalg.inv(forward).T).clip(0, 1)


def tables() -> dict[str, bytes]:
    grid = 9
    lab = lab_of_rgb(grid)
    old = np.stack([lab[..., 0] * 652.8, (lab[..., 1] + 128) * 256, (lab[..., 2] + 128) * 256], axis=-1)
    new = np.stack([lab[..., 0] * 655.35, (lab[..., 1] + 128) * 257, (lab[..., 2] + 128) * 257], axis=-1)
    forward = mft2(grid, old.round().clip(0, 65535))
    backward = mft2(17, (rgb_of_lab(17) * 65535).round())
    return {
        "mft": table([(b"A2B0", forward)], 0x02400000),
        "mab": table([(b"A2B0", mab(grid, new.round().clip(0, 65535)))], 0x04400000),
        "both": table([(b"A2B0", forward), (b"B2A0", backward)], 0x02400000),
    }


def transformed(pixels: np.ndarray, source, target, intent=Intent.PERCEPTUAL) -> np.ndarray:
    image = ImageCms.profileToProfile(
        Image.fromarray(pixels), source, target, outputMode="RGB", renderingIntent=intent,
        # The profile's own table, not a coarser one resampled from it.
        flags=Flags.NOOPTIMIZE,
    )
    return np.asarray(image)


def opened(profile: bytes):
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def decoded_p3(levels: np.ndarray) -> np.ndarray:
    """16-bit Display P3 to 16-bit sRGB in double precision, from the primaries of both."""

    def curve(v):
        return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)

    def inverse(v):
        v = v.clip(0, 1)
        return np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)

    to_xyz = np.array([[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
    # IEC 61966-2-1, adapted to D50 by Bradford.
    srgb = np.array([[0.436066, 0.385147, 0.143066], [0.222488, 0.716873, 0.060608], [0.013916, 0.097076, 0.714096]])
    linear = curve(levels / 65535) @ (np.linalg.inv(srgb) @ to_xyz).T
    return np.rint(inverse(linear) * 65535).astype(np.uint16)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    srgb = ImageCms.createProfile("sRGB")
    p3, adobe = rawformats.display_p3(), rawformats.adobe_rgb()
    deep = scene()
    shallow = np.rint(deep / 257).astype(np.uint8)
    ramp = np.tile(np.linspace(0, 65535, SIZE[0]).round().astype(np.uint16), (SIZE[1], 1))
    (OUT / "deep-p3.png").write_bytes(png(deep, p3, exif(6)))
    (OUT / "deep-p3-alpha.png").write_bytes(png(np.dstack([deep, ramp]), p3, None))
    (OUT / "deep-p3.srgb.png").write_bytes(rawformats.png16(decoded_p3(deep)))
    (OUT / "subject.png").write_bytes(png(subject(deep), p3, exif(6)))
    (OUT / "backdrop.png").write_bytes(png(shallow[::-1, ::2], None, None))
    jpeg = io.BytesIO()
    block = Image.Exif()
    block.load(b"Exif\0\0" + exif(8))
    Image.fromarray(shallow).save(jpeg, "JPEG", quality=95, subsampling="4:4:4", icc_profile=adobe, exif=block)
    (OUT / "adobe.jpg").write_bytes(jpeg.getvalue())
    (OUT / "adobe.png").write_bytes(png(shallow, adobe, None))
    Image.fromarray(transformed(shallow, opened(adobe), srgb)).save(OUT / "adobe.srgb.png", optimize=True)
    webp = io.BytesIO()
    Image.fromarray(shallow).save(webp, "WEBP", lossless=True, icc_profile=p3, exif=b"Exif\0\0" + exif(3))
    (OUT / "p3.webp").write_bytes(webp.getvalue())
    for name, profile in tables().items():
        (OUT / f"{name}.png").write_bytes(png(shallow, profile, None))
        expected = transformed(shallow, opened(profile), srgb, Intent.RELATIVE_COLORIMETRIC)
        Image.fromarray(expected).save(OUT / f"{name}.srgb.png", optimize=True)
    colours = {}
    for name, profile in {"p3": p3, "adobe": adobe, "both": tables()["both"]}.items():
        names = np.array([[*COLOURS.values()]], dtype=np.uint8)
        found = transformed(names, srgb, opened(profile), Intent.RELATIVE_COLORIMETRIC)
        colours[name] = {colour: found[0, i].tolist() for i, colour in enumerate(COLOURS)}
    (OUT / "colours.json").write_text(json.dumps(colours, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
