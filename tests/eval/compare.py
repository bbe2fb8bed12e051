#!/usr/bin/env python3
"""Measures a folder of mattes with PySODMetrics and mmagic, to be put next to what `cutout eval` says of them.

    tests/eval/environment.sh    prints the environment
    python tests/eval/compare.py MATTES MASKS [REPORT.json]

Prints a table of means. With the JSON of `cutout eval --predictions MATTES MASKS`, prints both next to each other.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import reference


def grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def main() -> None:
    mattes, masks = Path(sys.argv[1]), Path(sys.argv[2])
    salient, rest = reference.Salient(), []
    for mask_file in sorted(masks.glob("*.png")):
        matte, mask = grey(mattes / mask_file.name), grey(mask_file)
        salient.step(matte, mask)
        rest.append({"boundary_iou": reference.boundary_iou(matte, mask), **reference.matting(matte, mask)})
    means = salient.results() | {name: float(np.mean([one[name] for one in rest])) for name in rest[0]}
    ours = None
    if len(sys.argv) > 3:
        ours = json.loads(Path(sys.argv[3]).read_text())["contenders"][0]["means"]
    print("| measure | theirs |" + (" ours | apart |" if ours else ""))
    print("|---|---|" + ("---|---|" if ours else ""))
    for name, theirs in means.items():
        line = f"| {name} | {theirs:.8f} |"
        if ours:
            value = ours[name]["mean"]
            line += f" {value:.8f} | {abs(value - theirs):.0e} |"
        print(line)


if __name__ == "__main__":
    main()
