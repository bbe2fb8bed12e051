#!/usr/bin/env python3
"""Makes the HEIC and AVIF files in tests/fixtures/heif and their README.

All come from the samples, small. NAME.expected.png beside each is what a second decoder makes of the very
file, 8-bit sRGB: libheif with libde265 (pillow-heif) of HEIC, libavif with dav1d or libaom (Pillow,
imagecodecs) of AVIF. Encoders differ between builds and machines, so that files come out anew but not the
same; the decoded pictures are compared, not the files.

    python -m pip install -r tests/reference/requirements-heif.txt
    python tests/reference/make_heif.py
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
from PIL import Image, ImageCms, ImageDraw, ImageOps

import make_colour
import rawformats

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "tests" / "fixtures" / "heif"
pillow_heif.register_heif_opener()

rows: list[str] = []


def write(name: str, data: bytes, what: str, expected: Image.Image) -> None:
    (FOLDER / name).write_bytes(data)
    expected.save(FOLDER / f"{name}.expected.png", optimize=True, icc_profile=None, exif=b"")
    rows.append(f"| `{name}` | {len(data)} | {what} |")


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def seen(data: bytes, mode: str = "RGB", form: str | None = None) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=[form] if form else None) as image:
        return ImageOps.exif_transpose(image).convert(mode)


def photo(size: tuple[int, int]) -> Image.Image:
    with Image.open(ROOT / "samples" / "coffee.jpg") as picture:
        return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def marked(size: tuple[int, int]) -> Image.Image:
    """No two corners alike, so that every turn and flip shows."""
    picture = photo(size)
    draw = ImageDraw.Draw(picture)
    (width, height), side = size, size[1] // 3
    for corner, colour in {
        (0, 0): "red", (width - side, 0): "lime", (0, height - side): "blue", (width - side, height - side): "white",
    }.items():
        draw.rectangle((*corner, corner[0] + side - 1, corner[1] + side - 1), fill=colour)
    return picture


def soft_alpha(size: tuple[int, int]) -> Image.Image:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    far = np.hypot((x - size[0] / 2) / size[0], (y - size[1] / 2) / size[1])
    return Image.fromarray(np.clip(450 - 1000 * far, 0, 255).astype(np.uint8))


def rgba(size: tuple[int, int]) -> Image.Image:
    picture = photo(size)
    picture.putalpha(soft_alpha(size))
    return picture


def to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
    return ImageCms.profileToProfile(picture, embedded, srgb, intent, outputMode="RGB")


def grey_with_profile(name: str, form: str, **options: object) -> None:
    """Whose levels are not sRGB's."""
    profile = rawformats.grey_of_gamma(1.8)
    data = encode(photo((96, 72)).convert("L"), form, quality=90, icc_profile=profile, **options)
    write(name, data, "one channel, with an ICC profile for grey", to_srgb(seen(data, "L"), profile))


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def wide(size: tuple[int, int], bits: int) -> np.ndarray:
    """A photo with levels between those of 8 bits."""
    big = np.asarray(photo((size[0] * 4, size[1] * 4)), np.float64).reshape(size[1], 4, size[0], 4, 3).mean((1, 3))
    return np.round(big / 255 * (2**bits - 1)).astype(np.uint16)


def deep(name: str, what: str, data: bytes, levels: np.ndarray, bits: int, profile: bytes | None = None) -> None:
    """A file with the decoder's levels, in sRGB and 8 bits, and in its own colours and 16 bits."""
    shallow = narrow(levels, bits)
    write(name, data, what, to_srgb(shallow, profile) if profile else shallow)
    full = np.round(levels.astype(np.float64) * 65535 / (2**bits - 1)).astype(np.uint16)
    (FOLDER / f"{name}.expected-16.png").write_bytes(rawformats.png16(full))


def described() -> bytes:
    """EXIF with author, camera, time and place."""
    return b"Exif\0\0" + make_colour.exif(6)


def narrow(levels: np.ndarray, bits: int) -> Image.Image:
    return Image.fromarray(np.round(levels / (2**bits - 1) * 255).astype(np.uint8))


def heic() -> None:
    def plain(name: str, picture: Image.Image, what: str, mode: str = "RGB", **options: object) -> None:
        data = encode(picture, "HEIF", quality=90, **options)
        write(name, data, what, seen(data, mode))

    plain("photo.heic", photo((160, 120)), "4:2:0, BT.601, full range")
    plain("grid.heic", marked((200, 150)), "a grid of 4×3 tiles of 64×64, beyond the edges", tile_size=64)
    plain("grid-turned.heic", marked((200, 150)), "the grid, with `irot` and the same orientation in EXIF, which does not count",
          tile_size=64, exif=exif(6))
    for orientation in range(1, 9):
        plain(f"turned-{orientation}.heic", marked((64, 48)), f"`irot` and `imir` for EXIF's orientation {orientation}",
              exif=exif(orientation))
    plain("odd.heic", photo((67, 45)), "odd sides")
    plain("444.heic", photo((96, 72)), "4:4:4", chroma=444)
    plain("422.heic", photo((96, 72)), "4:2:2", chroma=422)
    plain("limited.heic", photo((96, 72)), "BT.709, limited range", matrix_coefficients=1, full_range_flag=0)
    plain("grey.heic", photo((96, 72)).convert("L"), "one channel", "RGB")
    grey_with_profile("grey-icc.heic", "HEIF")
    plain("alpha.heic", rgba((96, 72)), "transparency as an auxiliary picture", "RGBA")

    profile = rawformats.display_p3()
    data = encode(photo((96, 72)), "HEIF", quality=90, icc_profile=profile)
    write("display-p3-icc.heic", data, "Display P3 by an ICC profile", to_srgb(seen(data), profile))
    data = encode(photo((96, 72)), "HEIF", quality=90, color_primaries=12, transfer_characteristic=13)
    write("display-p3-nclx.heic", data, "Display P3 by code points alone", to_srgb(seen(data), profile))

    for bits in (10, 12):
        data, found = deep_heic(wide((96, 72), 16), bits, quality=90)
        write(f"{bits}-bits.heic", data, f"{bits} bits a channel", narrow(found, 16))
    plain("described.heic", marked((64, 48)), "EXIF with author, camera, time and place", exif=described())
    # libheif moves ten bits to the upper end of sixteen.
    data, found = deep_heic(wide((96, 72), 16), 10, profile, quality=90, chroma=444)
    deep("deep-444.heic", "4:4:4, 10 bits a channel, Display P3 by an ICC profile", data, found >> 6, 10, profile)
    clear = np.dstack([wide((96, 72), 16), np.asarray(soft_alpha((96, 72))).astype(np.uint16) * 257])
    data, found = deep_heic(clear, 10, quality=90, chroma=444)
    deep("deep-alpha.heic", "4:4:4, 10 bits a channel, with transparency", data, found >> 6, 10)


def deep_heic(levels: np.ndarray, bits: int, profile: bytes | None = None, **options: object) -> tuple[bytes, np.ndarray]:
    """Levels of 16 bits in 10 or 12, and what libheif makes of them, in 16."""
    pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    buffer = io.BytesIO()
    mode = {3: "RGB;16", 4: "RGBA;16"}[levels.shape[2]]
    file = pillow_heif.from_bytes(mode, levels.shape[1::-1], levels.tobytes())
    if profile:
        file.info.update(icc_profile=profile, icc_profile_type="prof")
    file.save(buffer, **options)
    decoded = pillow_heif.open_heif(io.BytesIO(buffer.getvalue()), convert_hdr_to_8bit=False)
    return buffer.getvalue(), np.asarray(decoded)


def box(name: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I4s", len(data) + 8, name) + data


def full(name: bytes, version: int, *content: bytes) -> bytes:
    return box(name, bytes([version, 0, 0, 0]), *content)


def boxes(data: bytes) -> dict[bytes, bytes]:
    found, at = {}, 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        found[name] = data[at + 8 : at + size]
        at += size
    return found


def avif_grid(picture: Image.Image, tile: int) -> bytes:
    """A grid of tiles that Pillow encodes one by one: it writes none itself."""
    columns, rows_ = -(-picture.width // tile), -(-picture.height // tile)
    tiles, config, nclx = [], b"", b""
    for y in range(rows_):
        for x in range(columns):
            part = picture.crop((x * tile, y * tile, (x + 1) * tile, (y + 1) * tile))
            alone = boxes(encode(part, "AVIF", quality=90))
            properties = boxes(boxes(boxes(alone[b"meta"][4:])[b"iprp"])[b"ipco"])
            config, nclx = properties[b"av1C"], properties[b"colr"]
            tiles.append(alone[b"mdat"])
    count = len(tiles)
    grid = struct.pack(">BBBBHH", 0, 0, rows_ - 1, columns - 1, picture.width, picture.height)
    ids = range(2, count + 2)
    ipco = box(b"ipco", full(b"ispe", 0, struct.pack(">II", *picture.size)), full(b"ispe", 0, struct.pack(">II", tile, tile)),
               box(b"av1C", config), box(b"colr", nclx))
    ipma = full(b"ipma", 0, struct.pack(">I", count + 1), struct.pack(">HBBB", 1, 2, 1, 4),
                *(struct.pack(">HBBBB", i, 3, 2, 0x83, 4) for i in ids))
    infe = [full(b"infe", 2, struct.pack(">HH4sx", 1, 0, b"grid")), *(full(b"infe", 2, struct.pack(">HH4sx", i, 0, b"av01")) for i in ids)]

    def meta(at: int) -> bytes:
        places, where = [struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(grid))], at
        for i, data in zip(ids, tiles):
            places.append(struct.pack(">HHHHII", i, 0, 0, 1, where, len(data)))
            where += len(data)
        return full(
            b"meta", 0, full(b"hdlr", 0, struct.pack(">I4s12xx", 0, b"pict")), full(b"pitm", 0, struct.pack(">H", 1)),
            full(b"iloc", 1, struct.pack(">BBH", 0x44, 0, count + 1), *places),
            full(b"iinf", 0, struct.pack(">H", count + 1), *infe),
            full(b"iref", 0, box(b"dimg", struct.pack(f">HH{count}H", 1, count, *ids))),
            box(b"iprp", ipco, ipma), box(b"idat", grid),
        )

    start = box(b"ftyp", b"mif1", bytes(4), b"mif1avifmiaf")
    head = len(start) + len(meta(0)) + 8
    return start + meta(head) + box(b"mdat", *tiles)


def avif() -> None:
    def plain(name: str, picture: Image.Image, what: str, mode: str = "RGB", **options: object) -> None:
        data = encode(picture, "AVIF", quality=90, **options)
        write(name, data, what, seen(data, mode))

    plain("photo.avif", photo((160, 120)), "4:2:0, BT.601, full range")
    plain("odd.avif", photo((67, 45)), "odd sides")
    plain("444.avif", photo((96, 72)), "4:4:4", subsampling="4:4:4")
    plain("422.avif", photo((96, 72)), "4:2:2", subsampling="4:2:2")
    plain("limited.avif", photo((96, 72)), "limited range", range="limited")
    plain("grey.avif", photo((96, 72)).convert("L"), "one channel", "RGB", subsampling="4:0:0")
    grey_with_profile("grey-icc.avif", "AVIF", subsampling="4:0:0")
    plain("alpha.avif", rgba((96, 72)), "transparency as an auxiliary picture", "RGBA")
    plain("premultiplied.avif", rgba((96, 72)), "colours multiplied by their transparency", "RGBA", alpha_premultiplied=True)
    for orientation in range(1, 9):
        plain(f"turned-{orientation}.avif", marked((64, 48)), f"`irot` and `imir` for EXIF's orientation {orientation}",
              exif=exif(orientation))
    profile = rawformats.display_p3()
    data = encode(photo((96, 72)), "AVIF", quality=90, icc_profile=profile)
    write("display-p3-icc.avif", data, "Display P3 by an ICC profile", to_srgb(seen(data), profile))
    for bits in (10, 12):
        data = imagecodecs.avif_encode(wide((96, 72), bits), level=90, bitspersample=bits, pixelformat="420")
        write(f"{bits}-bits.avif", data, f"{bits} bits a channel", narrow(imagecodecs.avif_decode(data), bits))
    plain("described.avif", marked((64, 48)), "EXIF with author, camera, time and place", exif=described())
    data = imagecodecs.avif_encode(wide((96, 72), 10), level=90, bitspersample=10, pixelformat="444")
    deep("deep-444.avif", "4:4:4, 10 bits a channel", data, imagecodecs.avif_decode(data), 10)
    data = avif_grid(marked((160, 120)), 64)
    write("grid.avif", data, "a grid of 3×2 tiles of 64×64, beyond the edges, brand `mif1`", seen(data, form="AVIF"))


def large() -> None:
    """Plain pictures of some size: what decoding them takes is held against what is announced."""
    y, x = np.mgrid[0:1500, 0:3000]
    ramp = Image.fromarray(np.stack([x * 255 // 3000, y * 255 // 1500, (x + y) * 255 // 4500], 2).astype(np.uint8))
    clear = ramp.copy()
    clear.putalpha(Image.fromarray((x * 255 // 3000).astype(np.uint8)))
    for name, data in {
        "plain.heic": encode(ramp, "HEIF", quality=30),
        "444-alpha.heic": encode(clear, "HEIF", quality=30, chroma=444),
        "grid.heic": encode(ramp, "HEIF", quality=30, tile_size=512),
        "10-bits.heic": deep_heic(np.asarray(ramp).astype(np.uint16) << 8, 10, quality=30, chroma=444)[0],
        "plain.avif": encode(ramp, "AVIF", quality=30),
        "444-alpha.avif": encode(clear, "AVIF", quality=30, subsampling="4:4:4"),
        "12-bits.avif": imagecodecs.avif_encode(np.asarray(ramp).astype(np.uint16) << 4, level=30, bitspersample=12, pixelformat="444"),
    }.items():
        (FOLDER / "large" / name).write_bytes(data)


def main() -> None:
    (FOLDER / "large").mkdir(parents=True, exist_ok=True)
    for old in [*FOLDER.glob("*.*"), *FOLDER.glob("large/*.*")]:
        old.unlink()
    heic()
    avif()
    large()
    (FOLDER / "README.md").write_text(
        "# HEIC and AVIF\n\nMade by `tests/reference/make_heif.py`, which says how. Beside each is the picture that a second decoder"
        " makes of it.\n\n| file | bytes | what it is |\n|---|---:|---|\n" + "\n".join(rows) + "\n\n`large` holds plain pictures of 3000×1500 pixels, for what decoding takes.\n"
    )


if __name__ == "__main__":
    main()
