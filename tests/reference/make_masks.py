#!/usr/bin/env python3
"""Makes the reference masks in tests/fixtures/masks: the default network, run without the Rust code.

For each sample photo: EXIF orientation applied, RGB, resized to 1024×1024 with Pillow's antialiased
bilinear filter, (x - 128) / 256, one run of ISNet medium, first output. Nothing else is done to the
mask: no min-max stretch, no threshold. Two files come out of it, 8-bit grey, 255 = subject:

    NAME.mask1024.png   the network's own mask
    NAME.mask.png       the same resized to the photo's size with Pillow's bilinear filter

The resize works on the float mask; each file is rounded once, at the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / ".cache" / "models" / "isnet-medium.onnx"
MASKS = ROOT / "tests" / "fixtures" / "masks"
SIDE = 1024
"""The network's fixed input size."""


def network_input(photo: Image.Image) -> np.ndarray:
    """An upright RGB photo as the network's input, f32 [1, 3, SIDE, SIDE]."""
    small = photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pixels = (np.asarray(small, dtype=np.float32) - 128.0) / 256.0
    return pixels.transpose(2, 0, 1)[np.newaxis]


def save(mask: Image.Image, path: Path) -> None:
    """Writes a float mask in 0..1 as 8-bit grey."""
    levels = np.rint(np.clip(np.asarray(mask), 0.0, 1.0) * 255.0).astype(np.uint8)
    Image.fromarray(levels).save(path, optimize=True)
    print(f"{path.name}: {levels.shape[1]}×{levels.shape[0]}, mean {levels.mean():.2f}")


def main() -> None:
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    MASKS.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "samples").glob("*.jpg")):
        with Image.open(path) as file:
            photo = ImageOps.exif_transpose(file).convert("RGB")
        output = session.run(None, {source: network_input(photo)})[0]
        assert output.shape == (1, 1, SIDE, SIDE), output.shape
        mask = Image.fromarray(output[0, 0])
        save(mask, MASKS / f"{path.stem}.mask1024.png")
        save(mask.resize(photo.size, Image.Resampling.BILINEAR), MASKS / f"{path.stem}.mask.png")


if __name__ == "__main__":
    main()
