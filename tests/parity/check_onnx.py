#!/usr/bin/env python3
"""Compares an exported graph with the network it was made from, and prints the table for the docs.

    check_onnx.py                 small sizes, portrait and landscape, batches of 1 and 3: minutes
    check_onnx.py --full          also 1280×1280, 1280×1696 and 1696×1280: a minute and GBs each
    check_onnx.py --precision fp16
    check_onnx.py --graph g.onnx  a graph that is there already, exported with --mask float

The reference is eager PyTorch running transparent-background's own code, unpatched, one picture at
a time; the graph runs on ONNX Runtime's CPU provider. `CPU s` is what the graph took, over all
cores: it depends less on what else the machine does than the time on the clock. Both have the
synthetic weights that make_fixture.py left in .cache, or those of --checkpoint.

Exits with 1 if a bound is broken or a mask is too close to black and white to prove anything.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

# First: it keeps the network's packages from talking when they are imported.
from models.export import compare, graph, network

# isort: split
import numpy as np
from PIL import Image

FIXTURE = ROOT / "tests" / "parity" / "fixture"

MIN_SPREAD = 0.2

SMALL = [(384, 384), (256, 320), (320, 224), (32, 256), (416, 96)]
"""Width × height. Thin ones too: one row of the coarsest features, less than one window."""
LARGE = [(1280, 1280), (1280, 1696), (1696, 1280)]

BOUNDS = {"fp32": (2e-3, 1e-4), "fp16": (5e-2, 1e-2)}
"""Largest maximum and mean difference. fp32: sums of a million terms in another order reach 1.6e-3
at 1024². fp16: eleven bits through a hundred layers of random weights, which damp no error; twice
what was seen."""
BATCH_BOUND = 1e-4
"""Between a batch of three and the same three pictures alone."""


@dataclass
class Check:
    """Prints what is found and remembers what is wrong with it."""

    faults: list[str] = field(default_factory=list)

    def row(self, what: str, batch: int, gap: compare.Difference, share: float, seconds: float):
        print(
            f"| {what} | {batch} | {gap.maximum:.1e} | {gap.mean:.1e} | {share:.0%} "
            f"| {seconds:.1f} |",
            flush=True,
        )

    def require(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", choices=network.BASE_SIDES, default="base")
    parser.add_argument("--precision", choices=BOUNDS, default="fp32")
    parser.add_argument("--checkpoint", type=Path, help="default: .cache/parity-MODE.pth")
    parser.add_argument("--graph", type=Path, help="default: exported anew into .cache")
    parser.add_argument("--full", action="store_true", help="also the large sizes")
    args = parser.parse_args()

    photos = sorted((ROOT / "samples").glob("*.jpg"))
    net = network.load(args.mode, args.checkpoint or ROOT / ".cache" / f"parity-{args.mode}.pth")
    path = args.graph
    if path is None:
        path = ROOT / ".cache" / f"parity-{args.mode}-{args.precision}.onnx"
        matting = network.Matting(net, half=args.precision == "fp16", u8_mask=False)
        graph.save(graph.export(matting), path)
    started = time.monotonic()
    runtime = compare.session(path)
    print(
        f"{path.name}: {path.stat().st_size / 1e6:.0f} MB, loaded in "
        f"{time.monotonic() - started:.1f} s; {args.precision} graph against fp32 PyTorch\n\n"
        "| width × height | batch | max difference | mean difference | mask in (0.1, 0.9) "
        "| CPU s |\n"
        "|---|---|---|---|---|---|",
        flush=True,
    )
    check = Check()
    fixture_inputs(check, args.mode, args.precision, runtime, net)
    for width, height in SMALL + (LARGE if args.full else []):
        one_size(check, args.precision, runtime, net, photos, (width, height))
    print(f"\npeak memory {peak_gb():.1f} GB, PyTorch's reference included")
    for fault in check.faults:
        print(f"FAILED: {fault}")
    return 1 if check.faults else 0


def fixture_inputs(check, mode, precision, runtime, net) -> None:
    """The very pictures that went into the network when the fixture was made."""
    index = json.loads((FIXTURE / "fixture.json").read_text("utf-8"))
    for entry in index["networks"]:
        if entry["mode"] == mode:
            pixels = np.asarray(Image.open(FIXTURE / entry["input"]))
            started = time.process_time()
            mask = compare.run(runtime, pixels[np.newaxis])[0]
            what = f"fixture, {entry['name']}: {entry['width']}×{entry['height']}"
            against_reference(
                check, precision, what, net, pixels, mask, time.process_time() - started
            )


def one_size(check, precision, runtime, net, photos, size) -> None:
    """One picture against the reference, and for small sizes three different ones in a batch."""
    width, height = size
    what = f"{width}×{height}"
    batch = np.stack([compare.photo(path, width, height) for path in photos[:3]])
    count = 3 if size in SMALL else 1
    singles = []
    for pixels in batch[:count]:
        started = time.process_time()
        mask = compare.run(runtime, pixels[np.newaxis])[0]
        seconds = time.process_time() - started
        singles.append(mask)
        if len(singles) == 1:
            against_reference(check, precision, what, net, pixels, mask, seconds)
    if count == 1:
        return
    started = time.process_time()
    together = compare.run(runtime, batch)
    seconds = time.process_time() - started
    gap = compare.Difference.between(together, np.stack(singles))
    check.row(f"{what}, against three singles", 3, gap, compare.spread(together), seconds)
    bound = BATCH_BOUND if precision == "fp32" else BOUNDS["fp16"][0]
    check.require(
        gap.maximum <= bound, f"{what}: a batch differs from its pictures alone by {gap.maximum}"
    )
    for index, mask in enumerate(together):
        # Per image: with the batch's own extremes, only one picture would reach 0 and one 1.
        check.require(
            mask.min() <= 1e-6 and mask.max() >= 1 - 1e-6,
            f"{what}: picture {index} of the batch spans {mask.min()}..{mask.max()}, not 0..1",
        )


def against_reference(check, precision, what, net, pixels, mask, seconds) -> None:
    gap = compare.Difference.between(mask, compare.eager(net, pixels))
    share = compare.spread(mask)
    check.row(what, 1, gap, share, seconds)
    maximum, mean = BOUNDS[precision]
    check.require(
        gap.maximum <= maximum and gap.mean <= mean,
        f"{what}: differs by {gap.maximum} at most and {gap.mean} on average; allowed are "
        f"{maximum} and {mean}",
    )
    check.require(share >= MIN_SPREAD, f"{what}: only {share:.0%} of the mask is in (0.1, 0.9)")


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    sys.exit(main())
