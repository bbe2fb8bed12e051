#!/usr/bin/env python3
"""Prints the layers of an image with their sizes: image_layers.py docker|podman|buildah TAG [VARIANT].

With a variant, more than its budget is a failure.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

BUDGETS = {"cpu": 300, "cuda": 3000}
"""Most megabytes, uncompressed and with isnet-medium, by variant."""


def main(builder: str, tag: str, variant: str = "") -> int:
    layers = of_buildah(tag) if builder == "buildah" else of_docker(builder, tag)
    total = sum(size for size, _ in layers)
    print(f"image: {'MB':>8}  layer")
    for size, what in layers:
        print(f"image: {size / 1e6:8.1f}  {what}")
    print(f"image: {total / 1e6:8.1f}  in all, uncompressed")
    budget = BUDGETS.get(variant)
    if budget and total > budget * 1e6:
        print(f"image: OVER the budget of {budget} MB")
        return 1
    return 0


def output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def of_buildah(tag: str) -> list[tuple[int, str]]:
    """Sizes are in the records of the store, what made a layer in the image's history."""
    inspected = json.loads(output(["buildah", "inspect", "--type", "image", tag]))
    store = Path(json.loads(output(["buildah", "info"]))["store"]["GraphRoot"])
    sizes = {}
    for listing in store.glob("*-layers/layers.json"):
        for layer in json.loads(listing.read_text()):
            sizes[layer.get("diff-digest")] = layer.get("diff-size", 0)
    image = inspected["OCIv1"]
    made = [entry.get("created_by", "") for entry in image["history"] if not entry.get("empty_layer")]
    # buildah tells the digest of what was copied, the Dockerfile its name.
    copies = iter(last_stage_copies((ROOT / "Dockerfile").read_text()))
    made = [next(copies, text) if "COPY " in text else shown(text) for text in made]
    return [(sizes[digest], made[index]) for index, digest in enumerate(image["rootfs"]["diff_ids"])]


def last_stage_copies(dockerfile: str) -> list[str]:
    stage = dockerfile.rsplit("\nFROM ", 1)[-1]
    return re.findall(r"^COPY .*", stage, re.M)


def of_docker(builder: str, tag: str) -> list[tuple[int, str]]:
    lines = output([builder, "history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", tag])
    rows = [line.split("\t", 1) for line in reversed(lines.splitlines())]
    return [(int(size), shown(made)) for size, made in rows if int(size)]


def shown(made: str) -> str:
    made = re.sub(r"^/bin/sh -c (#\(nop\) )?|\s*# buildkit$|^\|\d+ ", "", made)
    made = re.sub(r"(file|dir|multi):[0-9a-f]+", r"\1", made)
    return "the base" if made in ("", "/bin/sh") else made[:100]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
