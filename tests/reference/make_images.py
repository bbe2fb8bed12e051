#!/usr/bin/env python3
"""Makes the odd inputs in tests/fixtures/images and their README.

All come from the samples, small. Where a picture is expected, NAME.expected.png beside it is what
Pillow makes of the very file: upright, 8-bit, sRGB, RGB or RGBA. For 16-bit inputs, which Pillow
reads only in part, it is computed from the pixels that were written, level / 257 rounded.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageOps

import rawformats

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGES = ROOT / "tests" / "fixtures" / "images"
QUALITY = 95
SIZE = (64, 48)

# EXIF orientation to what a camera that writes it has done to the upright picture.
ORIENTATIONS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

rows: list[str] = []


def write(name: str, data: bytes, what: str, outcome: str, expected: Image.Image | None = None) -> None:
    """Writes one input, the picture expected of it, and its line for the README."""
    (IMAGES / name).write_bytes(data)
    shown = ""
    if expected is not None:
        picture = f"{name}.expected.png"
        # Without a profile: sRGB is understood, and LittleCMS writes the time of day into its own.
        expected.save(IMAGES / picture, optimize=True, icc_profile=None)
        shown = f"`{picture}`"
    rows.append(f"| `{name}` | {what} | {outcome} | {shown} |")


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def seen(data: bytes, mode: str = "RGB") -> Image.Image:
    """What Pillow makes of a file: its first frame, upright, in `mode`."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert(mode)


def decodes(name: str, data: bytes, what: str, mode: str = "RGB") -> None:
    """An input that Pillow reads rightly by itself."""
    write(name, data, what, "decodes", seen(data, mode))


def upright() -> Image.Image:
    """A small photo in which no two corners are alike, so that every turn and flip shows."""
    with Image.open(ROOT / "samples" / "coffee.jpg") as photo:
        picture = photo.convert("RGB").resize(SIZE, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    width, height = SIZE
    for corner, colour in {
        (0, 0): "red",
        (width - 16, 0): "lime",
        (0, height - 16): "blue",
        (width - 16, height - 16): "white",
    }.items():
        draw.rectangle((*corner, corner[0] + 15, corner[1] + 15), fill=colour)
    return picture


def with_alpha(picture: Image.Image) -> Image.Image:
    """The picture under an alpha ramp from clear at the left to opaque at the right."""
    ramp = np.linspace(0, 255, picture.width).round().astype(np.uint8)
    alpha = Image.fromarray(np.tile(ramp, (picture.height, 1)))
    return Image.merge("RGBA", (*picture.split(), alpha))


def deep(picture: Image.Image) -> np.ndarray:
    """A picture as uint16 [height, width, channels] with content in the low bits too."""
    levels = np.asarray(picture, dtype=np.uint16)
    levels = levels.reshape(picture.height, picture.width, -1)
    noise = np.random.default_rng(20).integers(-128, 129, levels.shape)
    return np.clip(levels.astype(np.int64) * 257 + noise, 0, 65535).astype(np.uint16)


def shallow(levels: np.ndarray) -> Image.Image:
    """16-bit levels as the nearest 8-bit ones."""
    return Image.fromarray(np.rint(levels / 257.0).astype(np.uint8).squeeze())


def orientations(picture: Image.Image) -> None:
    picture.save(IMAGES / "orientation-reference.png", optimize=True)
    for number, done in ORIENTATIONS.items():
        stored = picture if done is None else picture.transpose(done)
        exif = Image.Exif()
        exif[0x0112] = number
        data = encode(stored, "JPEG", quality=QUALITY, subsampling="4:4:4", exif=exif)
        what = f"EXIF orientation {number}, stored {stored.width}×{stored.height}"
        outcome = "upright: like `orientation-reference.png` but for JPEG's loss"
        write(f"orientation-{number}.jpg", data, what, outcome)


def depths_and_channels(picture: Image.Image) -> None:
    grey = picture.convert("L")
    clear = with_alpha(picture)
    for name, source in {"rgb16": picture, "rgba16": clear, "grey16": grey}.items():
        levels = deep(source)
        expected = shallow(levels)
        expected = expected.convert("RGB") if name == "grey16" else expected
        write(f"{name}.png", rawformats.png16(levels), f"16-bit {source.mode} PNG", "decodes", expected)
    decodes("grey8.png", encode(grey, "PNG"), "8-bit grey PNG")
    decodes("grey8.jpg", encode(grey, "JPEG", quality=QUALITY), "JPEG with one channel")
    decodes("grey1.png", encode(picture.convert("1"), "PNG"), "1-bit PNG")
    decodes("rgba.png", encode(clear, "PNG"), "RGBA PNG", "RGBA")
    decodes("la.png", encode(clear.convert("LA"), "PNG"), "grey + alpha PNG", "RGBA")
    keyed = encode(picture, "PNG", transparency=(255, 0, 0))
    decodes("rgb-colour-key.png", keyed, "RGB PNG whose pure red is transparent (tRNS)", "RGBA")
    palette = picture.quantize(32)
    decodes("palette.png", encode(palette, "PNG"), "palette PNG, 32 colours")
    alphas = bytes(range(0, 256, 8))
    transparent = encode(palette, "PNG", transparency=alphas)
    decodes("palette-alpha.png", transparent, "palette PNG with an alpha for each colour", "RGBA")
    decodes("1x1.png", encode(picture.crop((0, 0, 1, 1)), "PNG"), "a single pixel")


def print_colours(picture: Image.Image) -> None:
    # Pillow's own RGB → CMYK leaves K at zero; half of the common ink moves there, as in print.
    inks = 255 - np.asarray(picture, dtype=np.int16)
    black = inks.min(axis=2, keepdims=True) // 2
    channels = np.concatenate([inks - black, black], axis=2).astype(np.uint8)
    cmyk = Image.fromarray(channels, "CMYK")
    adobe = encode(cmyk, "JPEG", quality=QUALITY)
    decodes("cmyk.jpg", adobe, "CMYK JPEG, Adobe's inverted form, no profile")
    ycck = rawformats.ycck_jpeg(cmyk, QUALITY)
    decodes("ycck.jpg", ycck, "CMYK JPEG stored as YCbCr + K (Adobe transform 2), no profile")
    decodes("cmyk.tiff", encode(cmyk, "TIFF", compression="tiff_lzw"), "CMYK TIFF, LZW, no profile")


def profiles(picture: Image.Image) -> None:
    srgb = ImageCms.createProfile("sRGB")
    for name, form, profile in [
        ("display-p3.jpg", "JPEG", rawformats.display_p3()),
        ("display-p3.png", "PNG", rawformats.display_p3()),
        ("adobe-rgb.jpg", "JPEG", rawformats.adobe_rgb()),
    ]:
        options = {"quality": QUALITY, "subsampling": "4:4:4"} if form == "JPEG" else {}
        data = encode(picture, form, icc_profile=profile, **options)
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        expected = ImageCms.profileToProfile(
            seen(data), embedded, srgb, ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
        what = f"{form} with an embedded ICC profile: {ImageCms.getProfileName(embedded).strip()}"
        write(name, data, what, "decodes to sRGB (within 2 levels of LittleCMS)", expected)


def other_formats(picture: Image.Image) -> None:
    clear = with_alpha(picture)
    options = {"quality": QUALITY, "progressive": True}
    decodes("progressive.jpg", encode(picture, "JPEG", **options), "progressive JPEG, 4:2:0")
    decodes("lossy.webp", encode(picture, "WEBP", quality=QUALITY), "lossy WebP")
    decodes("lossless.webp", encode(picture, "WEBP", lossless=True), "lossless WebP")
    alpha = encode(clear, "WEBP", lossless=True, exact=True)
    decodes("alpha.webp", alpha, "lossless WebP with alpha", "RGBA")
    frames = [picture, ImageOps.invert(picture), ImageOps.mirror(picture)]
    for name, form, extra in [("animated.gif", "GIF", {}), ("animated.webp", "WEBP", {"lossless": True})]:
        moving = {"save_all": True, "append_images": frames[1:], "duration": 100, "loop": 0}
        data = encode(frames[0], form, **moving, **extra)
        decodes(name, data, f"animated {form} of 3 frames, of which the first counts")
    decodes("rgb.bmp", encode(picture, "BMP"), "24-bit BMP")
    decodes("rgb.tiff", encode(picture, "TIFF"), "RGB TIFF, uncompressed")
    decodes("lzw.tiff", encode(picture, "TIFF", compression="tiff_lzw"), "RGB TIFF, LZW")
    levels = deep(picture)
    write("rgb16.tiff", rawformats.tiff16(levels), "16-bit RGB TIFF", "decodes", shallow(levels))
    png = encode(picture, "PNG")
    decodes("png-named.jpg", png, "a PNG with a .jpg name: content counts, not the name")


def broken(picture: Image.Image) -> None:
    corrupt, unsupported, large = "`image_corrupt`", "`unsupported_format`", "`image_too_large`"
    with Image.open(ROOT / "samples" / "coffee.jpg") as photo:
        whole = encode(photo.resize((300, 200)), "JPEG", quality=85)
    write("truncated.jpg", whole[: len(whole) // 2], "a 300×200 JPEG cut at half its bytes", corrupt)
    png = encode(picture, "PNG")
    write("broken-crc.png", rawformats.png_with_broken_crc(png), "a PNG whose pixel data fails its checksum (one bit of the CRC in IDAT)", corrupt)
    write("truncated.png", png[: len(png) // 2], "a PNG cut at half its bytes", corrupt)
    text = b"This is a text file. Its name says JPEG, its content does not.\n"
    write("text.jpg", text, "a text file", unsupported)
    write("empty.jpg", b"", "no bytes at all", unsupported)
    heic = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(40)
    write("heic-header.heic", heic, "the first box of a HEIC file", corrupt)
    bomb = rawformats.png_bomb(30_000)
    what = "a well-formed 30000×30000 PNG, 112 MB unpacked at 1 bit, 2.7 GB as RGB"
    write("bomb-30000x30000.png", bomb, what, f"{large}, from the header, nothing decoded")
    small = encode(picture, "JPEG", quality=QUALITY)
    huge = rawformats.jpeg_with_size(small, 65535, 65535)
    what = "a JPEG whose header says 65535×65535"
    write("header-65535x65535.jpg", huge, what, f"{large}, from the header, nothing decoded")


def write_readme() -> None:
    text = f"""# Odd inputs

Made by `tests/reference/make_images.py` (`make fixtures`), which writes this file too. All are made
from the sample photos; most show the {SIZE[0]}×{SIZE[1]} picture of `orientation-reference.png`.

*Expected* is what Pillow, or for profiles LittleCMS, makes of the same file, in 8-bit sRGB. Lossless
inputs match it exactly. CMYK without a profile becomes (255 - C)(255 - K) / 255 and so on. JPEG and
lossy WebP decoders may differ by rounding and by how they enlarge the colour channels. For 16-bit
inputs it is each level / 257, rounded; a decoder that drops the low byte differs by one level.
The codes are those of the job's result.

| file | what it is | what should happen | expected picture |
|---|---|---|---|
"""
    (IMAGES / "README.md").write_text(text + "\n".join(rows) + "\n", encoding="utf-8")


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    for old in IMAGES.iterdir():
        old.unlink()
    picture = upright()
    orientations(picture)
    depths_and_channels(picture)
    print_colours(picture)
    profiles(picture)
    other_formats(picture)
    broken(picture)
    write_readme()
    total = sum(path.stat().st_size for path in IMAGES.iterdir())
    print(f"{len(rows)} images with their expected pictures, {total} bytes")


if __name__ == "__main__":
    main()
