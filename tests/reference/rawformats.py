"""Writers for the files that Pillow cannot make: deep PNG and TIFF, broken PNG, ICC profiles, YCCK.

They follow the formats' specifications and nothing of the Rust code.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

_PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels to the PNG colour type: grey, grey + alpha, RGB, RGBA."""


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk with its length and CRC."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(header: tuple[int, int, int, int], filtered_rows: bytes, *extra: bytes) -> bytes:
    """A PNG of (width, height, depth, colour type) around rows that carry their filter byte."""
    ihdr = struct.pack(">IIBBBBB", *header, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", ihdr), *extra]
    chunks += [png_chunk(b"IDAT", zlib.compress(filtered_rows, 9)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png16(pixels: np.ndarray) -> bytes:
    """A 16-bit PNG of a uint16 array [height, width, channels]."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    unfiltered = np.hstack([np.zeros((height, 1), np.uint8), rows])
    return png((width, height, 16, _PNG_COLOUR[channels]), unfiltered.tobytes())


def png_bomb(side: int) -> bytes:
    """A well-formed black 1-bit PNG of side × side pixels, about a thousandth of its decoded size."""
    row = bytes(1 + (side + 7) // 8)
    return png((side, side, 1, 0), row * side)


def png_with_broken_crc(good: bytes) -> bytes:
    """The same PNG with one bit of the first IDAT's CRC turned over."""
    start = good.index(b"IDAT")
    length = struct.unpack(">I", good[start - 4 : start])[0]
    crc = start + 4 + length
    return good[:crc] + bytes([good[crc] ^ 1]) + good[crc + 1 :]


def tiff16(pixels: np.ndarray) -> bytes:
    """An uncompressed little-endian 16-bit RGB TIFF of a uint16 array [height, width, 3]."""
    height, width, channels = pixels.shape
    strip = pixels.astype("<u2").tobytes()
    short, long = 3, 4
    # Tag, type, count, value; 0 stands for the offset of the three bit depths, filled in below.
    entries = [
        (256, long, 1, width),
        (257, long, 1, height),
        (258, short, channels, 0),
        (259, short, 1, 1),  # no compression
        (262, short, 1, 2),  # RGB
        (273, long, 1, 8),  # the strip follows the header
        (277, short, 1, channels),
        (278, long, 1, height),
        (279, long, 1, len(strip)),
    ]
    depths = 8 + len(strip)
    directory = depths + 2 * channels
    body = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack("<HHII", tag, kind, count, depths if tag == 258 else value)
    header = struct.pack("<2sHI", b"II", 42, directory)
    return header + strip + struct.pack(f"<{channels}H", *[16] * channels) + body + bytes(4)


def icc_profile(name: str, colorants: tuple[tuple[float, float, float], ...], curve: bytes) -> bytes:
    """An ICC v4 display profile of three D50-adapted XYZ colorants and one tone curve; of grey, without colorants.

    Dates and identifiers are left at zero, so that the profile is the same each time.
    """

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ " + bytes(4) + b"".join(map(fixed, values))

    def text(value: str) -> bytes:
        encoded = value.encode("utf-16-be")
        return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded

    d50 = (0.9642, 1.0, 0.8249)
    tags = [(b"desc", text(name)), (b"cprt", text("CC0")), (b"wtpt", xyz(d50))]
    if colorants:
        space = b"RGB "
        tags += [(channel, xyz(colorant)) for channel, colorant in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants)]
        tags += [(channel, curve) for channel in (b"rTRC", b"gTRC", b"bTRC")]
    else:
        space = b"GRAY"
        tags.append((b"kTRC", curve))
    table, data = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for signature, value in tags:
        table += struct.pack(">4sII", signature, start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(data), bytes(4), 0x04000000, b"mntr", space, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + b"".join(map(fixed, d50))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def grey_of_gamma(gamma: float) -> bytes:
    """A profile of grey pixels."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    return icc_profile(f"Grey of gamma {gamma} (hand-built)", (), curve)


def display_p3() -> bytes:
    """Display P3: its published colorants, adapted to D50, with the sRGB tone curve."""
    srgb = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0)
    curve += b"".join(struct.pack(">i", round(value * 65536)) for value in srgb)
    colorants = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
    return icc_profile("Display P3 (hand-built)", colorants, curve)


def adobe_rgb() -> bytes:
    """Colours as in Adobe RGB (1998): its colorants, adapted to D50, and a gamma of 563/256."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, 563) + bytes(2)
    colorants = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
    return icc_profile("Adobe RGB compatible (hand-built)", colorants, curve)


def ycck_jpeg(cmyk: Image.Image, quality: int) -> bytes:
    """A JPEG whose four channels are YCbCr + K, as Photoshop writes CMYK, in Adobe's inverted form.

    Pillow stores the channels of a CMYK image as they are, inverted, and marks them as not
    transformed. So YCbCr + K go in as if they were CMYK, inverted beforehand, and the mark in the
    Adobe segment is set to YCCK afterwards.
    """
    cyan, magenta, yellow, black = cmyk.split()
    luma, blue, red = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    inverted = [channel.point(lambda level: 255 - level) for channel in (luma, blue, red)]
    buffer = io.BytesIO()
    Image.merge("CMYK", (*inverted, black)).save(buffer, "JPEG", quality=quality)
    data = bytearray(buffer.getvalue())
    transform = data.index(b"Adobe") + len(b"Adobe") + 6
    assert data[transform] == 0, "Pillow marks four-channel JPEGs as untransformed"
    data[transform] = 2
    return bytes(data)


def jpeg_with_size(data: bytes, width: int, height: int) -> bytes:
    """The same JPEG with another size in its frame header."""
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]
