#!/usr/bin/env python3
"""Makes docs/images/edges-*.png, the pictures of docs/quality.md: edges before and after.

    make pictures-edges

The built program cuts each sample out twice, with and without `--no-decontaminate`; here the cut-outs are
put on three colours, and their edges enlarged. And `refine.png`: parts of drawn photos of 8 megapixels
(scripts/make_large_set.py, target/large) with their masks, with and without `--refine`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
COLOURS = {"white": (255, 255, 255), "blue": (43, 108, 176), "red": (176, 32, 32)}

CROPS = {
    # name: (left, top, width, height, how many times enlarged)
    "cat": (320, 10, 80, 70, 3),
    "astronaut": (150, 10, 80, 70, 3),
}
LARGE = ROOT / "target" / "large"
LARGE_CROPS = {
    "dandelion": (900, 500, 260, 220, 1),
    "wheel": (1500, 900, 260, 220, 1),
    "horse": (700, 1500, 260, 220, 1),
}
GAP = 6
LABEL = 14


def program() -> Path:
    return Path(os.environ.get("CUTOUT_BIN", ROOT / "target" / "release" / "cutout"))


def cut(photo: Path, *flags: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "cut.png"
        command = [program(), "remove", photo, "-o", out, *flags]
        subprocess.run([str(part) for part in command], check=True, cwd=ROOT)
        return np.asarray(Image.open(out).convert("RGBA"))


def on(colour: np.ndarray, alpha: np.ndarray, behind: tuple[int, int, int]) -> np.ndarray:
    alpha = alpha[..., None]
    return colour * alpha + np.array(behind) * (1 - alpha)


def enlarged(picture: np.ndarray, crop: tuple[int, int, int, int, int]) -> Image.Image:
    left, top, width, height, times = crop
    part = np.rint(picture[top : top + height, left : left + width]).astype(np.uint8)
    return Image.fromarray(part).resize((width * times, height * times), Image.Resampling.NEAREST)


def sheet(rows: dict[str, list[np.ndarray]], crop: tuple[int, int, int, int, int]) -> Image.Image:
    """Rows with their names above them."""
    tile_width, tile_height = crop[2] * crop[4], crop[3] * crop[4]
    columns = max(map(len, rows.values()))
    size = (columns * (tile_width + GAP) - GAP, len(rows) * (tile_height + LABEL + GAP) - GAP)
    paper = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(paper)
    for row, (name, pictures) in enumerate(rows.items()):
        top = row * (tile_height + LABEL + GAP)
        draw.text((2, top), name, fill=(32, 32, 32))
        for column, picture in enumerate(pictures):
            paper.paste(enlarged(picture, crop), (column * (tile_width + GAP), top + LABEL))
    return paper


def grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))[..., None].repeat(3, 2).astype(float)


def refined() -> None:
    rows: dict[str, list[Image.Image]] = {}
    for name, crop in LARGE_CROPS.items():
        source = LARGE / "images" / f"{name}.jpg"
        plain, better = (cut(source, "--kind", "mask", *flags)[..., :3].astype(float) for flags in ([], ["--refine"]))
        seen = np.asarray(Image.open(source).convert("RGB")).astype(float)
        columns = {"photo": seen, "enlarged": plain, "refined": better, "true": grey(LARGE / "masks" / f"{name}.png")}
        for column, picture in columns.items():
            rows.setdefault(column, []).append(enlarged(picture, crop))
    width, height = rows["photo"][0].size
    paper = Image.new("RGB", (4 * (width + GAP) - GAP, LABEL + len(LARGE_CROPS) * (height + GAP) - GAP), (255, 255, 255))
    draw = ImageDraw.Draw(paper)
    for column, (name, tiles) in enumerate(rows.items()):
        left = column * (width + GAP)
        draw.text((left + 2, 0), name, fill=(32, 32, 32))
        for row, tile in enumerate(tiles):
            paper.paste(tile, (left, LABEL + row * (height + GAP)))
    save(paper, "refine")


def save(picture: Image.Image, name: str) -> None:
    path = IMAGES / f"{name}.png"
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size >> 10} KiB")


def main() -> None:
    refined()
    for name, crop in CROPS.items():
        source = ROOT / "samples" / f"{name}.jpg"
        seen = np.asarray(Image.open(source).convert("RGB")).astype(float)
        before, after = cut(source, "--no-decontaminate"), cut(source)
        if (before[..., 3] != after[..., 3]).any():
            sys.exit(f"{name}: alpha is not the same")
        alpha = before[..., 3] / 255
        rows = {
            "photo, matte": [seen, alpha[..., None].repeat(3, 2) * 255],
            "the photo's own colours (--no-decontaminate)": [
                on(before[..., :3], alpha, colour) for colour in COLOURS.values()
            ],
            "the subject's colours (default)": [
                on(after[..., :3], alpha, colour) for colour in COLOURS.values()
            ],
        }
        save(sheet(rows, crop), f"edges-{name}")


if __name__ == "__main__":
    main()
