#!/usr/bin/env python3
"""Makes the named seeds in fuzz/corpus: small, one for each way that a format can be used.

Run with the reference environment (`make fixtures` makes it): .cache/venv-reference/bin/python
fuzz/make_seeds.py. Files that it does not know, past findings and what libFuzzer found
interesting, stay.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "reference"))

import rawformats  # noqa: E402

CORPUS = ROOT / "fuzz" / "corpus"
SIZE = (24, 18)


def write(target: str, name: str, data: bytes | str) -> None:
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def picture() -> Image.Image:
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    levels = np.stack([x * 10, y * 14, (x ^ y) * 8], axis=-1)
    return Image.fromarray(levels.astype(np.uint8), "RGB")


def jpegs(rgb: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    cmyk = rgb.convert("CMYK")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Without the time of day that LittleCMS writes into it.
    srgb = srgb[:24] + bytes(12) + srgb[36:]
    for name, image, options in [
        ("444", rgb, {"subsampling": 0}),
        ("422", rgb, {"subsampling": 1}),
        ("420", rgb, {"subsampling": 2}),
        ("progressive", rgb, {"progressive": True}),
        ("progressive-grey", rgb.convert("L"), {"progressive": True}),
        ("restarts", rgb, {"restart_marker_blocks": 1}),
        ("grey", rgb.convert("L"), {}),
        ("cmyk", cmyk, {}),
        ("cmyk-progressive", cmyk, {"progressive": True}),
        ("exif-6", rgb, {"exif": exif}),
        ("icc", rgb, {"icc_profile": rawformats.display_p3()}),
        ("icc-srgb", rgb.resize((2, 2)), {"icc_profile": srgb}),
        ("comment", rgb.resize((5, 3)), {"comment": b"rex"}),
    ]:
        write("decode", f"{name}.jpg", encode(image, "JPEG", quality=60, optimize=True, **options))
    plain = encode(rgb, "JPEG", quality=60, subsampling=0)
    frame = plain.index(b"\xff\xc0")
    for name, marker, change in [
        ("arithmetic", 0xC9, {}),
        ("lossless", 0xC3, {}),
        ("twelve-bits", 0xC1, {4: 12}),
        ("no-height", 0xC0, {5: 0, 6: 0}),
        ("sampled-4-by-4", 0xC0, {11: 0x44}),
        ("sampled-3-by-1", 0xC0, {11: 0x31}),
        ("one-row-of-4096", 0xC0, {5: 0, 6: 1, 7: 16, 8: 0}),
    ]:
        changed = bytearray(plain)
        changed[frame + 1] = marker
        for at, value in change.items():
            changed[frame + at] = value
        write("decode", f"{name}.jpg", bytes(changed))
    write("decode", "hundred-scans.jpg", many_scans(1024, 100))
    write("decode", "ycck.jpg", rawformats.ycck_jpeg(cmyk, 60))


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG that is nearly nothing but scans, each of which passes over every block in a few bits."""

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    def table(kind: int, symbol: int) -> bytes:
        return segment(0xC4, bytes([kind, 1]) + bytes(15) + bytes([symbol]))

    blocks = (side // 8) ** 2
    out = b"\xff\xd8" + segment(0xDB, bytes([0]) + bytes([1] * 64))
    out += segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0]))
    # One code each: "no difference", and "this many blocks have nothing more" with 14 bits that follow.
    out += table(0x00, 0x00) + table(0x10, 0xE0)
    out += segment(0xDA, bytes([1, 1, 0x00, 0, 0, 0x00])) + bytes(-(-blocks // 8))
    run = f"0{blocks - (1 << 14):014b}"
    bits = (run + "1" * (-len(run) % 8)).replace(" ", "")
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    for scan in range(scans - 1):
        out += segment(0xDA, bytes([1, 1, 0x00, 1 + scan % 63, 63, 0x00])) + data
    return out + b"\xff\xd9"


def adam7(pixels: np.ndarray) -> bytes:
    rows = b""
    for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        for row in pixels[y0::dy, x0::dx]:
            rows += b"\0" + row.tobytes()
    height, width, _ = pixels.shape
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    chunk = rawformats.png_chunk
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def lut_profile(space: bytes, grid: int, inputs: int, tags: int = 1, wide: bool = False, kind: bytes = b"") -> bytes:
    """A profile from `space` to Lab with a table of zeros of grid^inputs points, named by any number of tags."""
    sample = 2 if wide else 1
    clut = bytes(grid**inputs * 3 * sample)
    ramp = bytes(range(256))
    if kind == b"mAB ":
        curve = b"curv" + bytes(8)
        curves = curve * inputs + curve * 3
        table = struct.pack(">4s4xBB2xIIIII", kind, inputs, 3, 32 + 12 * inputs, 0, 0, 32 + len(curves), 32)
        table += curves + bytes([grid] * inputs).ljust(16, b"\0") + bytes([sample, 0, 0, 0]) + clut
    else:
        table = struct.pack(">4s4xBBBx9i", b"mft2" if wide else b"mft1", inputs, 3, grid, *([65536, 0, 0, 0] * 2 + [65536]))
        if wide:
            ends = struct.pack(">HH", 0, 65535)
            table += struct.pack(">HH", 2, 2) + ends * inputs + clut + ends * 3
        else:
            table += ramp * inputs + clut + ramp * 3
    header = struct.pack(">I4sI4s4s4s12x4s", 0, b"lcms", 0x02400000, b"prtr", space, b"Lab ", b"acsp")
    header = header.ljust(68, b"\0") + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    names = [b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"gamt"]
    body = header.ljust(128, b"\0") + struct.pack(">I", tags)
    body += b"".join(struct.pack(">4sII", names[n % 7], 132 + 12 * tags, len(table)) for n in range(tags)) + table
    return struct.pack(">I", len(body)) + body[4:]


def pngs(rgb: Image.Image) -> None:
    rgba = rgb.copy()
    rgba.putalpha(Image.linear_gradient("L").resize(SIZE))
    palette = rgb.quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 8
    for name, image, options in [
        ("rgb", rgb, {}),
        ("rgba", rgba, {}),
        ("grey", rgb.convert("L"), {}),
        ("grey-alpha", rgba.convert("LA"), {}),
        ("bilevel", rgb.convert("1"), {}),
        ("palette-4", palette, {"bits": 4}),
        ("palette-2", rgb.quantize(4), {"bits": 2}),
        ("palette-alpha", palette, {"transparency": bytes(range(0, 256, 16))}),
        ("colour-key", rgb, {"transparency": (0, 0, 0)}),
        ("grey-16", Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000), {}),
        ("exif-8", rgb, {"exif": exif}),
        ("icc", rgb, {"icc_profile": rawformats.display_p3()}),
        ("animated", rgb, {"save_all": True, "append_images": [rgb.rotate(180), rgb.resize((9, 7)).resize(SIZE)]}),
    ]:
        write("decode", f"{name}.png", encode(image, "PNG", optimize=name != "animated", **options))
    write("decode", "rgb-16.png", rawformats.png16(np.asarray(rgb).astype(np.uint16) * 257))
    write("decode", "rgba-16.png", rawformats.png16(np.asarray(rgba).astype(np.uint16)[:8, :8] * 257))
    write("decode", "interlaced.png", adam7(np.asarray(rgb)))
    # With profiles, EXIF and a place in it: tests/reference/make_colour.py.
    for name in ("deep-p3.png", "adobe.jpg", "p3.webp", "both.png"):
        write("decode", f"kept-{name}", (ROOT / "tests" / "fixtures" / "colour" / name).read_bytes())
    text = [rawformats.png_chunk(b"tEXt", b"Comment\0rex"), rawformats.png_chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b" * 99)), rawformats.png_chunk(b"gAMA", struct.pack(">I", 45455)), rawformats.png_chunk(b"pHYs", struct.pack(">IIB", 1, 2, 1))]
    write("decode", "chunks.png", rawformats.png((1, 1, 8, 0), b"\0\x80", *text))
    # Profiles that unpack to megabytes, out of some kilobytes of file: at the limits, above them,
    # and with tags that all name the same table.
    for name, profile in [
        ("at-the-limit", lut_profile(b"RGB ", 88, 3)),
        ("at-the-limit-16-bits", lut_profile(b"RGB ", 70, 3, wide=True)),
        ("at-the-limit-mab", lut_profile(b"RGB ", 88, 3, kind=b"mAB ")),
        ("too-large", lut_profile(b"RGB ", 137, 3)),
        ("of-seven-tags-with-one-table", lut_profile(b"RGB ", 137, 3, 7)),
        ("of-many-tags-with-one-table", lut_profile(b"RGB ", 80, 3, 20_000)),
        ("of-two-tags-with-one-table", lut_profile(b"RGB ", 88, 3, 2)),
    ]:
        chunk = rawformats.png_chunk(b"iCCP", b"p\0\0" + zlib.compress(profile, 9))
        write("decode", f"profile-{name}.png", rawformats.png((1, 1, 8, 2), b"\0\1\2\3", chunk))


def gifs_and_webps(rgb: Image.Image) -> None:
    frames = [rgb.rotate(90), rgb.rotate(180)]
    rgba = rgb.copy()
    rgba.putalpha(Image.linear_gradient("L").resize(SIZE))
    exif = Image.Exif()
    exif[0x0112] = 3
    palette = rgb.quantize(16)
    write("decode", "plain.gif", encode(palette, "GIF", interlace=0))
    write("decode", "interlaced.gif", encode(palette, "GIF", interlace=1))
    write("decode", "transparent.gif", encode(palette, "GIF", transparency=3))
    write("decode", "animated.gif", encode(palette, "GIF", save_all=True, append_images=[f.quantize(16) for f in frames], disposal=2, loop=0, comment=b"rex"))
    # A frame that lies within a larger screen.
    gif = bytearray(encode(rgb.resize((4, 3)).quantize(4), "GIF"))
    gif[6:10] = struct.pack("<HH", 9, 8)
    write("decode", "smaller-frame.gif", bytes(gif))
    gif[6:10] = struct.pack("<HH", 2, 2)
    write("decode", "larger-frame.gif", bytes(gif))
    write("decode", "huge-frame.gif", b"GIF89a\2\0\2\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\2\2\x4c\x01\0;")
    for name, image, options in [
        ("lossy", rgb, {"quality": 40}),
        ("lossless", rgb, {"lossless": True}),
        ("palette-lossless", palette.convert("RGB"), {"lossless": True}),
        ("alpha-lossy", rgba, {"quality": 40}),
        ("alpha-lossless", rgba, {"lossless": True}),
        ("animated", rgb, {"save_all": True, "append_images": frames, "lossless": True}),
        ("animated-lossy", rgba, {"save_all": True, "append_images": frames, "quality": 30}),
        ("exif-3", rgb, {"quality": 40, "exif": exif}),
        ("icc", rgb, {"quality": 40, "icc_profile": rawformats.display_p3()}),
    ]:
        write("decode", f"{name}.webp", encode(image, "WEBP", **options))


def bmp(width: int, height: int, bits: int, compression: int, pixels: bytes, between: bytes = b"", colours: int = 0) -> bytes:
    offset = 54 + len(between)
    head = struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 2835, 2835, colours, 0)
    return head + info + between + pixels


def bmps(rgb: Image.Image) -> None:
    rgba = rgb.convert("RGBA")
    for name, image in [("rgb", rgb), ("rgba", rgba), ("palette", rgb.quantize(256)), ("bilevel", rgb.convert("1")), ("grey", rgb.convert("L"))]:
        write("decode", f"{name}.bmp", encode(image.resize((11, 7)), "BMP"))
    core = struct.pack("<2sIHHIIHHHH", b"BM", 26 + 8, 0, 0, 26, 12, 2, 1, 1, 24)
    write("decode", "core-header.bmp", core + bytes(range(8)))
    write("decode", "rle8-jumps.bmp", bmp(300, 300, 8, 1, bytes([0, 2, 255, 255, 4, 1, 0, 2, 0, 40, 9, 0, 0, 1]), bytes(range(16)), 4))
    write("decode", "top-down.bmp", bmp(3, -2, 24, 0, bytes(range(24))))
    write("decode", "555.bmp", bmp(3, 2, 16, 0, bytes(range(16))))
    write("decode", "565.bmp", bmp(3, 2, 16, 3, bytes(range(16)), struct.pack("<III", 0xF800, 0x7E0, 0x1F)))
    colours = bytes([0, 0, 0, 0, 255, 255, 255, 0, 0, 0, 255, 0, 255, 0, 0, 0])
    write("decode", "rle8.bmp", bmp(6, 2, 8, 1, bytes([4, 1, 2, 2, 0, 0, 0, 3, 1, 2, 3, 0, 0, 2, 1, 0, 2, 1, 0, 1]), colours, 4))
    write("decode", "rle4.bmp", bmp(6, 2, 4, 2, bytes([4, 0x12, 2, 0x33, 0, 0, 0, 4, 0x12, 0x30, 2, 0x11, 0, 1]), colours, 4))


def tiff(entries: list[tuple[int, int, int, int]], blocks: list[bytes], order: str = "<") -> bytes:
    """A TIFF of tags (tag, type, count, value); the value of 273 or 324 is filled in."""
    data = b"".join(blocks)
    offsets, at = [], 8
    for block in blocks:
        offsets.append(at)
        at += len(block)
    extra = b""
    body = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in sorted(entries):
        if tag in (273, 324, 279, 325):
            values = offsets if tag in (273, 324) else [len(b) for b in blocks]
            count = len(values)
            value = values[0]
            if count > 1:
                value = 8 + len(data) + len(extra)
                extra += struct.pack(f"{order}{count}I", *values)
        if kind == 3 and count == 1 and order == ">":
            value <<= 16
        body += struct.pack(order + "HHII", tag, kind, count, value)
    mark = b"II" if order == "<" else b"MM"
    return struct.pack(order + "2sHI", mark, 42, 8 + len(data) + len(extra)) + data + extra + body + bytes(4)


def tiffs(rgb: Image.Image) -> None:
    small = rgb.resize((11, 7))
    for name, image, options in [
        ("raw", small, {}),
        ("lzw", rgb, {"compression": "tiff_lzw"}),
        ("deflate", rgb, {"compression": "tiff_adobe_deflate"}),
        ("packbits", small, {"compression": "packbits"}),
        ("jpeg", rgb, {"compression": "jpeg"}),
        ("g4", rgb.convert("1"), {"compression": "group4"}),
        ("g3", rgb.convert("1"), {"compression": "group3"}),
        ("bilevel", small.convert("1"), {}),
        ("grey", small.convert("L"), {}),
        ("grey-alpha", small.convert("LA"), {}),
        ("rgba", small.convert("RGBA"), {"compression": "tiff_lzw"}),
        ("cmyk", small.convert("CMYK"), {}),
        ("palette", small.quantize(16), {}),
        ("grey-16", Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000), {}),
        ("float", small.convert("F"), {}),
        ("int-32", small.convert("I"), {}),
        ("big", small, {"big_tiff": True}),
        ("pages", small, {"save_all": True, "append_images": [small.convert("L")]}),
        ("predictor", rgb, {"compression": "tiff_lzw", "tiffinfo": {317: 2}}),
        ("orientation-5", small, {"tiffinfo": {274: 5}}),
        ("icc", small, {"icc_profile": rawformats.display_p3()}),
    ]:
        write("decode", f"{name}.tiff", encode(image, "TIFF", **options))
    tile = bytes(range(256))
    common = [(258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    tiled = [*common, (256, 3, 1, 24), (257, 3, 1, 18), (322, 3, 1, 16), (323, 3, 1, 16), (324, 4, 0, 0), (325, 4, 0, 0)]
    write("decode", "tiled.tiff", tiff(tiled, [tile] * 4))
    strips = [*common, (256, 3, 1, 8), (257, 3, 1, 4), (278, 3, 1, 2), (273, 4, 0, 0), (279, 4, 0, 0)]
    write("decode", "big-endian.tiff", tiff(strips, [tile[:16], tile[16:32]], ">"))
    planar = [*common[1:2], (258, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3), (284, 3, 1, 2), (256, 3, 1, 4), (257, 3, 1, 4), (278, 3, 1, 4), (273, 4, 0, 0), (279, 4, 0, 0)]
    write("decode", "planar.tiff", tiff(planar, [tile[:16]] * 3))
    # Blocks that are much larger than the picture.
    for name, size_tags, where in [("tile", [(322, 4, 1, 16384), (323, 4, 1, 16384)], (324, 325)), ("strip", [(278, 4, 1, 2**32 - 1)], (273, 279))]:
        large = [(258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1), (256, 3, 1, 16), (257, 3, 1, 16), *size_tags, (where[0], 4, 0, 0), (where[1], 4, 0, 0)]
        write("decode", f"{name}-larger-than-the-picture.tiff", tiff(large, [zlib.compress(bytes(4 << 20), 9)]))
    floats = np.linspace(-0.5, 1.5, 48, dtype="<f4").tobytes()
    rgb32f = [(258, 3, 1, 32), (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3), (339, 3, 1, 3), (256, 3, 1, 4), (257, 3, 1, 4), (278, 3, 1, 4), (273, 4, 0, 0), (279, 4, 0, 0)]
    write("decode", "float-rgb.tiff", tiff(rgb32f, [floats]))


def heif() -> None:
    """Small files that tests/reference/make_heif.py made: encoders of these are in no standard library."""
    fixtures = ROOT / "tests" / "fixtures" / "heif"
    for name in ["turned-1.heic", "alpha.heic", "10-bits.heic", "turned-1.avif", "alpha.avif", "10-bits.avif", "grid.avif"]:
        write("decode", name, (fixtures / name).read_bytes())


def headers() -> None:
    fixtures = ROOT / "tests" / "fixtures" / "images"
    for name, data in [
        ("empty", b""),
        ("text", b"not a photo\n"),
        ("html", b"<!DOCTYPE html><html></html>"),
        ("svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'),
        ("text-cut-in-a-character", b"a" * 511 + "ü".encode()),
        ("pdf", b"%PDF-1.7\n"),
        ("zip", b"PK\x03\x04\x14\0"),
        ("psd", b"8BPS\0\1"),
        ("gzip", b"\x1f\x8b\x08\0"),
        ("heic", (fixtures / "heic-header.heic").read_bytes()),
        ("mp4", b"\0\0\0\x18ftypisom\0\0\2\0"),
        ("jxl", b"\0\0\0\x0cJXL \r\n\x87\n"),
        ("ico", b"\0\0\1\0\1\0"),
        ("unknown", bytes(range(128, 144))),
        ("huge.jpg", (fixtures / "header-65535x65535.jpg").read_bytes()[:700]),
        ("huge.png", (fixtures / "bomb-30000x30000.png").read_bytes()[:60]),
        ("huge.bmp", bmp(2**31 - 1, -(2**31) + 1, 24, 0, b"")),
        ("huge.gif", b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\0;"),
        ("huge.webp", b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff"),
    ]:
        write("sniff", name, data)


def jobs() -> None:
    full = {
        "version": 1,
        "job_id": "order-5512-front",
        "source": "gs://perkie-uploads/2026/11/rex.jpg#1732412345678901",
        "destination": "gs://perkie-results/2026/11/rex.png",
        "overwrite": False,
        "output": {"format": "png", "kind": "rgba", "background": None, "size": None, "crop": False, "padding": 0, "dpi": 300},
        "effects": [],
        "model": "inspyrenet-base",
        "metadata": {"order": "5512"},
    }
    write("job", "full.json", json.dumps(full))
    write("job", "least.json", '{"source":"gs://perkie-uploads/2026/rex.jpg"}')
    write("job", "local.json", '{"source":"inbox/rex.jpg","output":{"kind":"mask"}}')
    write("job", "unknown-field.json", '{"source":"rex.jpg","later":{"a":[1,null,1e9]}}')
    write("job", "array.json", '["rex.jpg"]')
    write("job", "two-objects.json", '{"source":"rex.jpg"}{"source":"rex.jpg"}')
    outputs: list[dict[str, object]] = [
        {"kind": "color:#1a2B3c", "format": "webp", "size": "1200x800", "upscale": True},
        {"kind": "image:gs://perkie-uploads/2026/wall.jpg#5", "background_fit": "cover"},
        {"background": "#ffffff", "size": 1200, "crop": True, "padding": "5%"},
        {"kind": "overlay", "threshold": 0.3, "reverse": True, "dpi": 10000},
        {"kind": "blur", "padding": "0.5%"},
        {"kind": "white"},
        {"kind": "green", "threshold": 1},
        {"kind": "white", "decontaminate": False},
    ]
    for number, output in enumerate(outputs):
        write("job", f"output-{number}.json", json.dumps({"source": "rex.jpg", "output": output}))
    write("job", "deep.json", '{"source":"rex.jpg","x":' + "[" * 200 + "]" * 200 + "}")


def messages() -> None:
    resource = {"kind": "storage#object", "name": "2026/rex.jpg", "bucket": "perkie-uploads", "generation": "17", "contentType": "image/jpeg", "size": "81234", "metadata": {"order": "5512"}}

    def text(attributes: dict[str, str], data: str = "") -> str:
        return "".join(f"{k}: {v}\n" for k, v in attributes.items()) + "\n" + data

    upload = {"notificationConfig": "projects/_/buckets/perkie-uploads/notificationConfigs/3", "eventType": "OBJECT_FINALIZE", "payloadFormat": "JSON_API_V1", "bucketId": "perkie-uploads", "objectId": "2026/rex.jpg", "objectGeneration": "17"}
    write("notification", "upload", text(upload, json.dumps(resource)))
    write("notification", "no-payload", text(upload | {"payloadFormat": "NONE"}))
    write("notification", "deleted", text(upload | {"eventType": "OBJECT_DELETE"}))
    write("notification", "folder", text(upload | {"objectId": "2026/", "payloadFormat": "NONE"}))
    write("notification", "empty", text(upload, json.dumps(resource | {"size": 0})))
    write("notification", "no-image", text(upload, json.dumps(resource | {"contentType": "text/plain"})))
    write("notification", "own", text(upload, json.dumps(resource | {"metadata": {"cutout-job": "k"}})))
    write("notification", "own-by-name", text(upload | {"objectId": "2026/rex.cutout.png", "payloadFormat": "NONE"}))
    write("notification", "local", text({k: v for k, v in upload.items() if k != "bucketId"} | {"objectId": "inbox/rex/1.jpg", "payloadFormat": "NONE"}))
    write("notification", "job", '\n\n{"source":"gs://perkie-uploads/2026/rex.jpg"}')
    # The job goes back with reasons, or with Pub/Sub's own.
    job = '{"job_id":"order-5512","source":"gs://perkie/rex.jpg#9"}'
    ours = {"shop": "perkie", "cutout-error-code": "image_corrupt", "cutout-error-class": "permanent", "cutout-error-message": "the JPEG ends early", "cutout-message-id": "17", "cutout-attempt": "3"}
    source = "CloudPubSubDeadLetterSource"
    theirs = {f"{source}DeliveryCount": "5", f"{source}Subscription": "cutout-worker", f"{source}SubscriptionProject": "perkie", f"{source}TopicPublishTime": "2026-11-25T03:04:05Z"}
    write("letter", "ours", text(ours, job))
    write("letter", "pubsub", text(theirs, job))
    write("letter", "both", text(ours | theirs, job))
    write("letter", "bare", "\n\n" + job)
    write("letter", "no-json", text(ours, "not JSON"))
    write("letter", "notification", text(upload | ours, json.dumps(resource)))
    write("letter", "claims", text(ours, '{"job_id":"x","source":"../etc","output":{"kind":"purple"}}'))
    write("letter", "many", text({f"key-{n:03}": "v" for n in range(110)}, job))
    for name, data in [("job", job), ("empty", ""), ("binary", None)]:
        content = base64.b64encode(bytes(range(256)) if data is None else data.encode()).decode()
        message = {"data": content, "messageId": "17", "attributes": ours, "publishTime": "2026-11-25T03:04:05.678Z", "orderingKey": "rex"}
        write("envelope", name, json.dumps({"receivedMessages": [{"ackId": "a", "deliveryAttempt": 2, "message": message}]}))
    write("envelope", "nothing", "{}")
    write("envelope", "least", '{"receivedMessages":[{"ackId":"a","message":{"messageId":"17"}}]}')
    write("envelope", "no-base64", '{"receivedMessages":[{"ackId":"a","message":{"messageId":"17","data":"?"}}]}')

    where = {"subscription": "projects/perkie/subscriptions/cutout-jobs", "deliveryAttempt": 2}
    time = "2026-11-25T03:04:05.678Z"
    for name, data in [("job", job), ("empty", ""), ("binary", None)]:
        content = base64.b64encode(bytes(range(256)) if data is None else data.encode()).decode()
        message = {"data": content, "attributes": ours, "orderingKey": "rex", "messageId": "17", "message_id": "17", "publishTime": time, "publish_time": time}
        write("push_envelope", name, json.dumps({"message": message, **where}))
    for name, message in [("least", {"message_id": "17"}), ("nulls", {"messageId": "17", "data": None, "attributes": None}), ("no-base64", {"messageId": "17", "data": "?"}), ("no-id", {"data": "e30="}), ("bad-time", {"messageId": "17", "publishTime": "yesterday"})]:
        write("push_envelope", name, json.dumps({"message": message, **where}))
    write("push_envelope", "nothing", "{}")
    write("push_envelope", "no-message", json.dumps(where))
    write("push_envelope", "no-subscription", '{"message":{"messageId":"17"}}')
    write("push_envelope", "unwrapped", job)
    write("push_envelope", "many-attempts", '{"message":{"messageId":"17"},"subscription":"s","deliveryAttempt":4294967296}')
    write("push_envelope", "no-attempts", '{"message":{"messageId":"17"},"subscription":"s","deliveryAttempt":0}')


def uploads() -> None:
    def form(*parts: tuple[str, str], end: str = "--X--\r\n") -> str:
        return "".join(f'--X\r\nContent-Disposition: form-data; name="{name}"; filename="rex.jpg"\r\n\r\n{value}\r\n' for name, value in parts) + end

    kind = "multipart/form-data; boundary=X\n"
    write("upload", "form", kind + "use_cache=false&effect=popart\n" + form(("output_format", "webp"), ("file", "photo")))
    behind = form(("size", "9x9"), ("shadow", "x=1%,blur=2"), ("background_file", "lawn"), ("file", "photo"))
    write("upload", "background", kind + "kind=rgba&profile=source\n" + behind)
    write("upload", "effects", kind + "effects=popart,none&effect_params=%7B%22grain%22:0.5%7D\n" + form(("form_effects", "dithering"), ("file", "photo")))
    write("upload", "no-file", kind + "\n" + form(("image", "photo")))
    write("upload", "two-files", kind + "\n" + form(("file", "a"), ("file", "b")))
    write("upload", "no-end", kind + "\n" + form(("file", "photo"), end=""))
    write("upload", "no-boundary", "multipart/form-data\n\n" + form(("file", "photo")))
    write("upload", "large", kind + "\n" + form(("file", "x" * 1001)))
    write("upload", "raw", "image/jpeg\nquality=95\nphoto")
    write("upload", "raw-large", "image/jpeg\n\n" + "x" * 1001)
    write("upload", "json", 'application/json\n\n{"url":"http://localhost/"}')
    write("upload", "empty", "\n\n")


def names() -> None:
    lines = ["gs://perkie-uploads/2026/11/rex.jpg#17", "gs://perkie/photo#1a.jpg", "inbox/rex.jpg", "../x", "/etc/passwd", ".cutout/meta/x", "a\\b", "file:///etc/passwd", "perkie-uploads", "gs://perkie-uploads/2026/", "rgba", "color:#1a2b3c", "#ffffff", "image:gs://perkie/wall.jpg", "1200x800", "1200", "5%", "0.25", "cover"]
    for number, line in enumerate(lines):
        write("names", f"name-{number:02}", line)
    templates = ["{dir}/{stem}.cutout.{ext}", "cutouts/{dir}/{stem}.{ext}", "outbox/{stem}.{ext}", "{dir}/cut/{stem}_{ext}", "a{dir}b/{stem}x", "{dir}{dir}/x{stem}y.{ext}"]
    for number, template in enumerate(templates):
        write("names", f"template-{number}", f"{template}\n2026/11/rex.jpg")
    # Each placeholder may take any part of the name: too many ways to try each.
    write("names", "template-of-many-folders", "x" + "{dir}" * 12 + "/x{stem}y.{ext}\n" + "a/b" * 9 + "/rex.jpg")
    write("names", "template-of-many-extensions", "{dir}/{stem}" + "{ext}" * 8 + ".x.{ext}\n" + "a." * 30 + "jpg")


def manifests() -> None:
    for path in [*ROOT.glob("models/*.toml"), *ROOT.glob("tests/fixtures/home/models/*.toml")]:
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        write("manifest", path.name, "\n".join(lines))


def main() -> None:
    rgb = picture()
    jpegs(rgb)
    pngs(rgb)
    gifs_and_webps(rgb)
    bmps(rgb)
    tiffs(rgb)
    heif()
    headers()
    jobs()
    messages()
    uploads()
    names()
    manifests()


if __name__ == "__main__":
    main()
