"""Makes the ONNX graphs that the worker runs.

  # The production network, from its published checkpoint, with its manifest beside it.
  python -m models.export --mode base --checkpoint ckpt_base.pth \\
      --out models/inspyrenet-base.onnx --manifest

  # The same for a GPU: half precision, and a u8 mask that is a quarter of the transfer.
  python -m models.export --mode base --download --precision fp16 --mask uint8 --out base.onnx

  # No checkpoint at hand: weights made from a seed, for tests. The masks mean nothing.
  python -m models.export --mode fast --synthetic 7 --out fast.onnx --manifest

  # ISNet as published, with u8 pixels in.
  python -m models.export --isnet isnet-medium.onnx --out isnet-medium-u8.onnx --manifest
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from . import checkpoints, manifest
from .checkpoints import MODES, ExportError, digest

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache"


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        export_isnet(args) if args.isnet else export_inspyrenet(args)
    except ExportError as error:
        print(f"export: FAILED: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="a published .pth file")
    source.add_argument(
        "--download", action="store_true", help="fetch the published checkpoint into .cache/models"
    )
    source.add_argument(
        "--synthetic", type=int, metavar="SEED", help="weights made from a seed, for tests"
    )
    source.add_argument("--isnet", type=Path, metavar="FILE", help="ISNet's published .onnx file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the graph")
    parser.add_argument("--mode", choices=MODES, default="base", help="default: base")
    parser.add_argument(
        "--md5", help="the checkpoint's digest, where the manifest has none or you trained it"
    )
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp32")
    parser.add_argument(
        "--mask", choices=("float", "uint8"), default="float", help="the output's element type"
    )
    parser.add_argument("--optimize", choices=("none", "cpu", "cuda"), default="none")
    parser.add_argument(
        "--manifest", action="store_true", help="write the worker's manifest beside the graph"
    )
    parser.add_argument(
        "--photos",
        type=Path,
        default=ROOT / "samples",
        metavar="FOLDER",
        help="JPEGs to calibrate synthetic weights and to measure fp16 on; default: samples",
    )
    return parser.parse_args(arguments)


def export_isnet(args: argparse.Namespace) -> None:
    from . import graph, isnet, optimize

    if args.precision == "fp16":
        raise ExportError("ISNet's precision is that of its file: leave --precision out")
    model = isnet.with_edges(args.isnet, u8_mask=args.mask == "uint8")
    known = isnet_manifest(args.isnet) if args.manifest else None
    graph.save(optimize.optimize(model, args.optimize, half=True), args.out)
    report(args.out)
    if known is not None:
        known["name"] = args.out.stem
        known["provenance"] += "; edges added by models/export"
        known["input"] = {"name": graph.INPUT, "layout": "nhwc-u8"}
        known["output"]["name"] = graph.OUTPUT
        print(f"export: {manifest.write(known, args.out)}")


def isnet_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the published file `path`, found by its digest."""
    sha256 = digest(path, "sha256")
    for name in ("isnet-medium", "isnet-small"):
        known = manifest.template(name)
        if known["sha256"] == sha256:
            return known
    raise ExportError(
        f"{path} is neither of the files that models/isnet-*.toml describe: leave --manifest out, "
        "and write one by hand"
    )


def export_inspyrenet(args: argparse.Namespace) -> None:
    known = manifest.template(f"inspyrenet-{args.mode}")
    published = checkpoints.published(args.mode)
    expected = args.md5 or published.md5
    photos = sorted(args.photos.glob("*.jpg"))

    checkpoint = args.checkpoint
    if args.download:
        checkpoint = checkpoints.download(published, CACHE / "models")
    if checkpoint is not None:
        found = checkpoints.verify(checkpoint, expected)
        known["provenance"] += f"; checkpoint md5 {found}"
        if expected is None:
            print(
                f"export: {checkpoint} has md5 {found}; the publisher gives none for {args.mode}: "
                f"check it yourself, and pin it with --md5 {found}"
            )
    elif not photos:
        raise ExportError(f"{args.photos} holds no .jpg to calibrate on: name a folder by --photos")

    # Only now: it takes seconds, and everything above can fail without it.
    from . import compare, graph, network, optimize, synthetic

    if checkpoint is not None:
        net = network.load(args.mode, checkpoint)
    else:
        net = synthetic.synthesise(args.synthetic, args.mode, photos)
        known["description"] = f"SYNTHETIC weights, for tests: {known['description']}"
        known["provenance"] = f"made by models/export from seed {args.synthetic}; no training"
    half = args.precision == "fp16"
    started = time.monotonic()
    matting = network.Matting(net, half=half, u8_mask=args.mask == "uint8")
    model = optimize.optimize(graph.export(matting), args.optimize, half=half)
    graph.save(model, args.out)
    print(f"export: exported in {time.monotonic() - started:.0f} s")
    report(args.out)
    if args.manifest:
        print(f"export: {manifest.write(known, args.out)}")
    if half:
        side = checkpoints.BASE_SIDES["fast"]
        for name, gap in compare.on_photos(args.out, net, photos, side):
            print(
                f"export: {args.precision} against fp32 PyTorch, {name} at {side}×{side}: "
                f"max {gap.maximum:.2e}, mean {gap.mean:.2e}"
            )


def report(path: Path) -> None:
    print(f"export: {path}: {path.stat().st_size} bytes, sha256 {digest(path, 'sha256')}")


if __name__ == "__main__":
    sys.exit(main())
