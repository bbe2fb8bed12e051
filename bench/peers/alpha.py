"""How far PNGs' alpha channels are apart: the mean over all pixels, 0 to 1.

    alpha.py PAIRS.json

PAIRS.json: {name: [[one, other], …]}; prints {name: mean}. Needs Pillow and NumPy, and runs in the
peers' environment: the comparison itself needs neither.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from PIL import Image


def alpha(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGBA"))[..., 3].astype(np.float32) / 255


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        pairs = json.load(file)
    print(
        json.dumps(
            {
                name: float(np.mean([np.abs(alpha(a) - alpha(b)).mean() for a, b in of_name]))
                for name, of_name in pairs.items()
            }
        )
    )


if __name__ == "__main__":
    main()
