#!/usr/bin/env python3
"""Makes tests/parity/fixture: what transparent-background answers, for the worker to answer too.

Runs the real `transparent_background.Remover` on small photos, with the synthetic weights of
models/export/synthetic.py, and records every stage: the picture that goes into the network, the
mask that comes out, and what `Remover.process` makes of it. README.md in the fixture says what each
file is. Run it with `make parity`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
CACHE = ROOT / ".cache"
# Where Remover keeps its configuration; it would use the home directory.
os.environ["TRANSPARENT_BACKGROUND_FILE_PATH"] = str(CACHE)

# First: it keeps the network's packages from talking when they are imported.
from models.export import compare, synthetic

# isort: split
import numpy as np
import torch
from PIL import Image
from transparent_background.Remover import Remover
from transparent_background.utils import dynamic_resize, static_resize

FIXTURE = ROOT / "tests" / "parity" / "fixture"
SAMPLES = ROOT / "samples"
SEED = 7

MIN_SPREAD = 0.2
"""Share of each mask that must lie strictly between 0.1 and 0.9, or comparing proves little."""

PHOTOS = {
    # name: (sample, box in it or None, size)
    "cat": ("cat.jpg", None, (250, 163)),
    "astronaut": ("astronaut.jpg", (60, 0, 360, 400), (150, 201)),
    "rocket": ("rocket.jpg", (0, 60, 640, 351), (176, 80)),
    "background": ("coffee.jpg", None, (90, 60)),
}

NETWORKS = {
    # name: (photo, mode, resize). The real short side is 1280: smaller here so that these small
    # photos are shrunk at all. The rocket's case keeps 1280, and so its size but for the rounding,
    # of 5½ and 2½ times 32, which go to the even neighbour.
    "cat-dynamic": ("cat", "base", {"policy": "dynamic", "short": 128, "multiple": 32}),
    "astronaut-static": ("astronaut", "fast", {"policy": "static", "width": 384, "height": 384}),
    "rocket-dynamic": ("rocket", "base", {"policy": "dynamic", "short": 1280, "multiple": 32}),
}

COLOUR = "[12, 34, 200]"
BACKGROUND = "background"
CASES = [
    # (network, type, threshold, reverse)
    ("cat-dynamic", "rgba", None, False),
    ("cat-dynamic", "map", None, False),
    ("cat-dynamic", "green", None, False),
    ("cat-dynamic", "white", None, False),
    ("cat-dynamic", COLOUR, None, False),
    ("cat-dynamic", "blur", None, False),
    ("cat-dynamic", "overlay", None, False),
    ("cat-dynamic", BACKGROUND, None, False),
    ("cat-dynamic", "rgba", 0.5, False),
    ("cat-dynamic", "map", 0.25, False),
    ("cat-dynamic", "green", 0.5, False),
    ("cat-dynamic", "overlay", 0.75, False),
    ("cat-dynamic", "rgba", None, True),
    ("cat-dynamic", "map", None, True),
    ("cat-dynamic", "white", None, True),
    ("cat-dynamic", "rgba", 0.5, True),
    ("cat-dynamic", "blur", 0.5, True),
    ("astronaut-static", "rgba", None, False),
    ("astronaut-static", "map", None, False),
    ("astronaut-static", "blur", None, False),
    ("astronaut-static", "overlay", None, True),
    ("rocket-dynamic", "rgba", None, False),
    ("rocket-dynamic", "green", None, True),
]

RESIZES = [
    # (photo, resize): the network's input alone, where only the resampling is asked.
    ("cat", {"policy": "static", "width": 384, "height": 384}),
    ("cat", {"policy": "static", "width": 96, "height": 96}),
    ("astronaut", {"policy": "dynamic", "short": 96, "multiple": 32}),
    ("astronaut", {"policy": "dynamic", "short": 1280, "multiple": 32}),
    ("rocket", {"policy": "dynamic", "short": 32, "multiple": 32}),
]

SHORT = 1280
MULTIPLE = 32


def main() -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.manual_seed(SEED)
    for folder in ("photos", "inputs", "masks", "outputs"):
        shutil.rmtree(FIXTURE / folder, ignore_errors=True)
        (FIXTURE / folder).mkdir(parents=True)
    photos = make_photos()
    removers = Removers()
    networks, masks = [], {}
    for name in NETWORKS:
        entry, mask = run_network(name, photos, removers)
        networks.append(entry)
        masks[name] = mask
    index = {
        "reference": "transparent-background 1.3.4, without pymatting",
        "seed": SEED,
        "networks": networks,
        "cases": [make_case(*case, photos, removers, masks) for case in CASES],
        "resizes": [make_resize(*resize, photos) for resize in RESIZES],
        "dynamic_sizes": {
            "short": SHORT,
            "multiple": MULTIPLE,
            "photo_to_network": dynamic_sizes(),
        },
    }
    (FIXTURE / "fixture.json").write_text(rendered(index), "utf-8")
    size = sum(file.stat().st_size for file in FIXTURE.rglob("*") if file.is_file())
    print(f"fixture: {len(CASES)} cases, {size / 1e6:.2f} MB")
    return 0


def make_photos() -> dict[str, Image.Image]:
    """Small pictures from the samples, as PNG: decoding JPEG is no part of this comparison."""
    photos = {}
    for name, (sample, box, size) in PHOTOS.items():
        picture = Image.open(SAMPLES / sample).convert("RGB")
        photos[name] = picture.resize(size, Image.Resampling.LANCZOS, box=box)
        save(photos[name], f"photos/{name}.png")
    return photos


class Removers:
    """The reference, one a mode and policy; the mask its network gave last is in `last_mask`.

    The weights are left in .cache as parity-MODE.pth, where check_onnx.py takes them.
    """

    def __init__(self) -> None:
        self.weights: dict[str, Path] = {}
        self.made: dict[tuple[str, str], Remover] = {}
        self.last_mask: np.ndarray | None = None

    def get(self, mode: str, resize: dict) -> Remover:
        key = (mode, resize["policy"])
        if key not in self.made:
            self.made[key] = self.make(mode, resize["policy"])
        remover = self.made[key]
        remover.transform.transforms[0] = transform(resize)
        return remover

    def make(self, mode: str, policy: str) -> Remover:
        checkpoint = CACHE / f"parity-{mode}.pth"
        if mode not in self.weights:
            torch.save(synthetic.weights(SEED, mode, sorted(SAMPLES.glob("*.jpg"))), checkpoint)
            self.weights[mode] = checkpoint
        remover = Remover(mode=mode, ckpt=str(checkpoint), device="cpu", resize=policy)
        if remover.matting_fn is not None:
            raise SystemExit("pymatting is installed here: `rgba` would not be the photo's colours")
        network = remover.model

        def watched(x: torch.Tensor) -> torch.Tensor:
            mask = network(x)
            self.last_mask = mask.numpy().squeeze((0, 1)).copy()
            return mask

        remover.model = watched
        return remover


def transform(resize: dict):
    """The reference's own resize; its sizes can be set, its roundings are as they are."""
    if resize["policy"] == "dynamic":
        return dynamic_resize(L=resize["short"])
    return static_resize([resize["width"], resize["height"]])


def run_network(name: str, photos: dict[str, Image.Image], removers: Removers):
    photo, mode, resize = NETWORKS[name]
    tensor = transform(resize)(photos[photo])
    save(tensor, f"inputs/{name}.png")
    removers.get(mode, resize).process(photos[photo], type="map")
    mask = removers.last_mask
    share = compare.spread(mask)
    print(f"fixture: {name}: {tensor.width}×{tensor.height}, {share:.0%} in (0.1, 0.9)")
    if share < MIN_SPREAD:
        raise SystemExit(f"the mask of {name} is too close to black and white to prove anything")
    save(Image.fromarray(np.rint(mask * 65535).astype(np.uint16)), f"masks/{name}.png")
    entry = {
        "name": name,
        "mode": mode,
        "photo": f"photos/{photo}.png",
        "resize": resize,
        "width": tensor.width,
        "height": tensor.height,
        "input": f"inputs/{name}.png",
        "mask": f"masks/{name}.png",
        "spread": round(share, 3),
    }
    return entry, mask


def make_case(network, kind, threshold, reverse, photos, removers, masks) -> dict:
    photo, mode, resize = NETWORKS[network]
    remover = removers.get(mode, resize)
    asked = str(FIXTURE / f"photos/{BACKGROUND}.png") if kind == BACKGROUND else kind
    # The network answers the same again; repeating its seconds for each type would change nothing.
    known = torch.from_numpy(masks[network]).reshape(1, 1, *masks[network].shape)
    watched, remover.model = remover.model, lambda _x: known
    try:
        result = remover.process(photos[photo], type=asked, threshold=threshold, reverse=reverse)
    finally:
        remover.model = watched
    short = "colour" if kind == COLOUR else "image" if kind == BACKGROUND else kind
    parts = [network, short, f"t{threshold}" if threshold else "", "reverse" if reverse else ""]
    name = "-".join(part for part in parts if part)
    save(result, f"outputs/{name}.png")
    case = {"name": name, "network": network, "type": short}
    if kind == COLOUR:
        case["colour"] = json.loads(COLOUR)
    if kind == BACKGROUND:
        case["background"] = f"photos/{BACKGROUND}.png"
    return case | {"threshold": threshold, "reverse": reverse, "output": f"outputs/{name}.png"}


def make_resize(photo: str, resize: dict, photos: dict[str, Image.Image]) -> dict:
    tensor = transform(resize)(photos[photo])
    file = f"inputs/{photo}-{resize['policy']}-{tensor.width}x{tensor.height}.png"
    save(tensor, file)
    return {
        "photo": f"photos/{photo}.png",
        "resize": resize,
        "width": tensor.width,
        "height": tensor.height,
        "input": file,
    }


class Sized:
    """Stands for a photo of any size: the reference's resize asks only these two things of it."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)

    def resize(self, size: tuple[int, int], _filter: int) -> tuple[int, int]:
        return size


def dynamic_sizes() -> list[list[int]]:
    """[photo width, photo height, network width, network height] by the reference's own rule.

    Sizes that it rounds to zero, on which it fails, are left out.
    """
    named = [
        (1280, 1280), (4032, 3024), (3024, 4032), (6000, 4000), (1920, 1080), (1280, 720),
        (1281, 1281), (1279, 2000), (80, 80), (112, 48), (48, 112), (5000, 33), (33, 5000),
        (5000, 1281), (1281, 5000), (16000, 1300), (2720, 1360),
    ]  # fmt: skip
    sides = np.random.default_rng(SEED).integers(17, 9000, size=(183, 2)).tolist()
    rule = dynamic_resize(L=SHORT)
    found = [[w, h, *rule(Sized(w, h))] for w, h in [*named, *sides]]
    return [row for row in found if min(row[2:]) > 0]


def save(picture: Image.Image, name: str) -> None:
    picture.save(FIXTURE / name, optimize=True)


def rendered(index: dict) -> str:
    """Indented JSON with the table of sizes one row a line."""
    text = json.dumps(index, indent=2, ensure_ascii=False)
    start = text.index('"photo_to_network": [')
    rows = ",\n".join(f"      {json.dumps(r)}" for r in index["dynamic_sizes"]["photo_to_network"])
    return f'{text[:start]}"photo_to_network": [\n{rows}\n    ]\n  }}\n}}\n'


if __name__ == "__main__":
    sys.exit(main())
