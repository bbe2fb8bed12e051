#!/usr/bin/env python3
"""Makes tests/fixtures/pixels: what Pillow makes of small pictures, for the unit tests of
src/pipeline to compare with.

    pip install pillow==13.0.0 numpy==2.4.6
    python tests/reference/make_pixels.py

Everything is synthesised from a fixed seed, so the fixtures carry nobody's rights.
"""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "pixels"
RNG = np.random.default_rng(20)


def scene(width, height):
    """Smooth colours with edges and some noise: what resampling and JPEG find hard."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    r = 128 + 127 * np.sin(x / 5.0 + y / 11.0)
    g = 255.0 * x / width
    b = np.where((x // 7 + y // 5) % 2 == 0, 230.0, 30.0)
    noise = RNG.normal(0, 6, (height, width, 3))
    return (np.stack([r, g, b], axis=-1) + noise).clip(0, 255).astype(np.uint8)


def save(image, name, **options):
    image.save(OUT / name, **options)


def resampling():
    source = Image.fromarray(scene(61, 47))
    save(source, "resize.png")
    for width, height in ((32, 24), (7, 5), (96, 64), (1, 1)):
        save(source.resize((width, height), Image.BILINEAR), f"resize_{width}x{height}.png")


def mattes():
    source = scene(16, 12)[..., 0]
    save(Image.fromarray(source), "matte.png")
    values = Image.fromarray(source.astype(np.float32))
    for width, height in ((50, 33), (5, 4), (3, 40), (1, 1)):
        exact = np.asarray(values.resize((width, height), Image.BILINEAR))
        rounded = np.floor(exact + 0.5).clip(0, 255).astype(np.uint8)
        save(Image.fromarray(rounded), f"matte_half_{width}x{height}.png")
        corners = np.floor(align_corners(source / 255.0, width, height) * 255 + 1e-9)
        save(Image.fromarray(corners.astype(np.uint8)), f"matte_corners_{width}x{height}.png")


def align_corners(source, width, height):
    """torch.nn.functional.interpolate(mode="bilinear", align_corners=True), from its definition."""

    def positions(count, target):
        at = np.arange(target) * ((count - 1) / (target - 1) if target > 1 else 0.0)
        low = np.minimum(at.astype(int), max(count - 2, 0))
        return low, np.minimum(low + 1, count - 1), at - low

    top, bottom, down = positions(source.shape[0], height)
    left, right, across = positions(source.shape[1], width)
    rows = source[top] * (1 - down)[:, None] + source[bottom] * down[:, None]
    return rows[:, left] * (1 - across) + rows[:, right] * across


def jpegs():
    """A phone's photo: 4:2:0, turned by EXIF; baseline and progressive."""
    picture = Image.fromarray(scene(64, 48)).resize((128, 96), Image.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, progressive in (("turned.jpg", False), ("turned_progressive.jpg", True)):
        save(picture, name, quality=90, subsampling=2, exif=exif, progressive=progressive)
        with Image.open(OUT / name) as stored:
            save(ImageOps.exif_transpose(stored), name.replace(".jpg", ".png"))


def cmyk_jpegs():
    cmyk = np.dstack([scene(40, 30), scene(40, 30)[..., 1] // 3])
    save(Image.fromarray(cmyk, mode="CMYK"), "cmyk.jpg", quality=95)
    # YCCK: the samples that the file shall hold are handed over complemented, because Pillow
    # complements CMYK on writing; then Adobe's marker is told that they are YCCK.
    ycc = np.asarray(Image.fromarray(scene(40, 30)).convert("YCbCr"))
    samples = np.dstack([ycc, 255 - cmyk[..., 3]])
    stream = io.BytesIO()
    Image.fromarray(255 - samples, mode="CMYK").save(stream, "JPEG", quality=95)
    data = bytearray(stream.getvalue())
    data[data.index(b"Adobe") + 11] = 2
    (OUT / "ycck.jpg").write_bytes(data)
    for name in ("cmyk", "ycck"):
        with Image.open(OUT / f"{name}.jpg") as stored:
            save(stored.convert("RGB"), f"{name}.png")
    profile = press_profile()
    save(Image.fromarray(cmyk, mode="CMYK"), "cmyk_icc.jpg", quality=95, icc_profile=profile)
    with Image.open(OUT / "cmyk_icc.jpg") as stored:
        save(to_srgb(stored, profile), "cmyk_icc.png")


def display_p3():
    profile = rgb_profile()
    picture = Image.fromarray(scene(40, 30))
    save(picture, "p3.png", icc_profile=profile)
    save(to_srgb(picture, profile), "p3_srgb.png")


def to_srgb(picture, profile):
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(
        picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB",
        renderingIntent=ImageCms.Intent.PERCEPTUAL,
        # The profile's own table, not a coarser one resampled from it.
        flags=ImageCms.Flags.NOOPTIMIZE,
    )


def icc(device_class, space, pcs, tags):
    """A version 2 profile: header, tag table, tag data (ICC.1:2001-04)."""
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags:
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"\0" * 4, 0x02400000, device_class, space, pcs)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    header += struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def text_tags():
    name = b"cutout test\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 78
    return [(b"desc", described), (b"cprt", b"text\0\0\0\0" + b"public domain\0")]


def xyz(x, y, z):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))


def rgb_profile():
    """Display P3's primaries, adapted to D50, with a gamma of 2.2."""
    gamma = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    return icc(b"mntr", b"RGB ", b"XYZ ", text_tags() + [
        (b"wtpt", xyz(0.9642, 1.0, 0.8249)),
        (b"rXYZ", xyz(0.515102, 0.241182, -0.001049)),
        (b"gXYZ", xyz(0.291965, 0.692236, 0.041882)),
        (b"bXYZ", xyz(0.157153, 0.066581, 0.784378)),
        (b"rTRC", gamma), (b"gTRC", gamma), (b"bTRC", gamma),
    ])


def press_profile(grid=7):
    """A make-believe press: ink takes light away multiplicatively; a table from CMYK to Lab."""
    steps = np.linspace(0, 1, grid)
    c, m, y, k = np.meshgrid(steps, steps, steps, steps, indexing="ij")
    light = 1 - 0.95 * k
    lab_l = 100 * light * (1 - 0.35 * c) * (1 - 0.45 * m) * (1 - 0.08 * y)
    lab_a = light * (-35 * c + 72 * m - 6 * y)
    lab_b = light * (-48 * c - 4 * m + 90 * y)
    table = np.stack([lab_l * 652.8, (lab_a + 128) * 256, (lab_b + 128) * 256], axis=-1)
    table = table.round().clip(0, 65535).astype(">u2").tobytes()
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    linear = struct.pack(">2H", 0, 65535)
    lut = b"mft2\0\0\0\0" + bytes([4, 3, grid, 0]) + identity + struct.pack(">2H", 2, 2)
    lut += linear * 4 + table + linear * 3
    return icc(b"prtr", b"CMYK", b"Lab ", text_tags() + [
        (b"wtpt", xyz(0.9642, 1.0, 0.8249)), (b"A2B0", lut),
    ])


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for make in (resampling, mattes, jpegs, cmyk_jpegs, display_p3):
        make()
