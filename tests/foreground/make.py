#!/usr/bin/env python3
"""Makes tests/fixtures/foreground: what PyMatting's estimate_foreground_ml answers, for ours to answer too.

Nothing of the Rust code went into this; `make fixtures` runs it. Each case is a photo with its matte
(`NAME.seen.png`, RGBA) and PyMatting's foreground in bytes, made of floats as transparent-background does
(`NAME.pymatting.png`, RGB); of the fur, whose true colours are known, also those (`fur.true.png`).
`veil.doubles.png` is what PyMatting's code answers in 64 bits. `NETWORK.rgba.png` belongs to tests/parity/fixture.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from pymatting import estimate_foreground_ml

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fur import fur  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "foreground"


def whole(levels: np.ndarray) -> np.ndarray:
    """Bytes of 0 to 1, by transparent-background's rounding."""
    return (255 * np.clip(levels, 0, 1) + 0.5).astype(np.uint8)


def sample(name: str, size: tuple[int, int]) -> np.ndarray:
    """A sample photo with its reference mask as alpha, reduced."""
    with Image.open(ROOT / "samples" / f"{name}.jpg") as file:
        rgb = np.asarray(file.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    with Image.open(ROOT / "tests" / "fixtures" / "masks" / f"{name}.mask.png") as file:
        alpha = np.asarray(file.convert("L").resize(size, Image.Resampling.LANCZOS))
    return np.dstack([rgb, alpha])


def noise(width: int, height: int, alpha: int | None = None) -> np.ndarray:
    """Nothing that resembles a photo; `alpha` everywhere, or noise too."""
    rgba = np.random.default_rng(width * height).integers(0, 256, (height, width, 4), np.uint8)
    if alpha is not None:
        rgba[..., 3] = alpha
    return rgba


def nearest(target: np.ndarray, source: np.ndarray) -> None:
    rows, columns = (np.arange(to) * of // to for to, of in zip(target.shape[:2], source.shape[:2]))
    target[:] = source[rows][:, columns]


def in_doubles(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """PyMatting's own code with floats of 64 bits and without Numba: slow, and without its loss of bits."""
    function = sys.modules["pymatting.foreground.estimate_foreground_ml"]._estimate_fb_ml.py_func
    code = inspect.getsource(function)
    code = code[code.index("def ") :].replace("np.float32", "np.float64")
    names = {"np": np, "prange": range}
    names["_resize_nearest"] = names["_resize_nearest_multichannel"] = nearest
    exec(code, names)  # noqa: S102
    defaults = inspect.signature(estimate_foreground_ml).parameters
    options = [
        defaults[name].default
        for name in ("regularization", "n_small_iterations", "n_big_iterations", "small_size", "gradient_weight")
    ]
    return names["_estimate_fb_ml"](image, alpha, *options)[0]


def enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear with corners aligned, as torch's `interpolate` does for the reference."""

    def along(length: int, to: int):
        at = np.arange(to) * ((length - 1) / max(to - 1, 1))
        first = np.minimum(at.astype(int), length - 1)
        return first, np.minimum(first + 1, length - 1), at - first

    (top, bottom, down), (left, right, across) = along(mask.shape[0], size[1]), along(mask.shape[1], size[0])
    rows = mask[top] * (1 - down[:, None]) + mask[bottom] * down[:, None]
    return (rows[:, left] * (1 - across) + rows[:, right] * across).astype(np.float32)


def parity() -> None:
    """`rgba` of the parity fixture's photos and masks, as `Remover.process` makes it of them where PyMatting is
    installed; the fixture itself was made where it is not."""
    fixture = ROOT / "tests" / "parity" / "fixture"
    for network in json.loads((fixture / "fixture.json").read_text())["networks"]:
        image = np.asarray(Image.open(fixture / network["photo"]).convert("RGB"))
        mask = np.asarray(Image.open(fixture / network["mask"])).astype(np.float32) / 65535
        alpha = enlarged(mask, (image.shape[1], image.shape[0]))
        colour = whole(estimate_foreground_ml(image / 255.0, alpha))
        rgba = np.dstack([colour, (alpha * 255).astype(np.uint8)])
        Image.fromarray(rgba).save(FIXTURES / f"{network['name']}.rgba.png", optimize=True)


def main() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    photo, alpha, true = fur(300, 260)
    Image.fromarray(whole(true)).save(FIXTURES / "fur.true.png", optimize=True)
    cases = {
        "fur": np.dstack([whole(photo), whole(alpha)]),
        "cat": sample("cat", (321, 213)),
        "coffee": sample("coffee", (300, 200)),
        "cameraman": sample("cameraman", (256, 256)),
        # Sides that are no multiple of anything, and levels that do not halve.
        "strip": sample("cat", (7, 301)),
        "line": sample("astronaut", (257, 1)),
        "noise": noise(61, 83),
        # No gradient anywhere: only the regularisation joins neighbours, and a 32-bit float is short of bits.
        "veil": noise(40, 150, 128),
        "tiny": noise(2, 3),
    }
    for name, seen in cases.items():
        rgb, alpha = seen[..., :3] / 255, seen[..., 3] / 255
        Image.fromarray(seen).save(FIXTURES / f"{name}.seen.png", optimize=True)
        answer = whole(estimate_foreground_ml(rgb, alpha))
        Image.fromarray(answer).save(FIXTURES / f"{name}.pymatting.png", optimize=True)
        if name == "veil":
            Image.fromarray(whole(in_doubles(rgb, alpha))).save(FIXTURES / "veil.doubles.png", optimize=True)
        between = ((alpha > 0) & (alpha < 1)).mean()
        print(f"{name}: {seen.shape[1]}×{seen.shape[0]}, {between:.0%} between 0 and 1")
    parity()


if __name__ == "__main__":
    sys.exit(main())
