#!/usr/bin/env python3
"""ISNet for smaller inputs: the embedded networks, whose sizes are constants of the graph, with others.

    bench/smaller_isnet.py FOLDER [--side 384]

Needs NumPy and onnx, in an environment of their own:

    python3 -m venv .cache/venv-int8 && .cache/venv-int8/bin/pip install numpy==2.2.6 onnx==1.19.1

Writes FOLDER/models/NAME-SIDE.onnx and .toml, for `--home FOLDER` and `--model FOLDER/models/NAME-SIDE.toml`. The mattes
are worse, as the networks were trained at 1024; what a run costs is 7 times less at 384. For measurements that take
thousands of runs on a slow machine.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path

import onnx
from onnx import numpy_helper

ROOT = Path(__file__).resolve().parent.parent
TRAINED = 1024


class Sizes:
    """The constants that say to which size the graph resizes."""

    def __init__(self, graph: onnx.GraphProto, side: int) -> None:
        self.side = side
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.done: set[str] = set()

    def change(self, name: str) -> None:
        if name in self.done:
            return
        self.done.add(name)
        tensor = self.weights.get(name)
        if tensor is None:
            node = self.makers[name]
            if node.op_type in ("Cast", "Concat"):
                # Of a Concat the last part is height and width; the first is that of the input.
                return self.change(node.input[-1])
            (tensor,) = (attribute.t for attribute in node.attribute if attribute.name == "value")
        sizes = numpy_helper.to_array(tensor).copy()
        sizes[-2:] = sizes[-2:] * self.side // TRAINED
        tensor.CopyFrom(numpy_helper.from_array(sizes, tensor.name))


def smaller(name: str, side: int, folder: Path) -> None:
    model = onnx.load(ROOT / ".cache" / "models" / f"{name}.onnx")
    sizes = Sizes(model.graph, side)
    for node in model.graph.node:
        if node.op_type == "Resize":
            sizes.change(node.input[3])
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim[2:]:
            dimension.dim_value = dimension.dim_value * side // TRAINED
    # What is known of the values between is of the old sizes.
    del model.graph.value_info[:]
    file = folder / f"{name}-{side}.onnx"
    onnx.save(model, file)
    content = file.read_bytes()
    manifest = (ROOT / "models" / f"{name}.toml").read_text()
    # Measured at the size that it was trained at.
    manifest = re.sub(r"(#[^\n]*\n)*\[bf16\][^\[]*", "", manifest)
    for key, value in {
        "name": f'"{name}-{side}"',
        "file": f'"{file.name}"',
        "bytes": len(content),
        "sha256": f'"{hashlib.sha256(content).hexdigest()}"',
        "width": side,
        "height": side,
    }.items():
        manifest = re.sub(rf"^{key} = .*", f"{key} = {value}", manifest, count=1, flags=re.MULTILINE)
    file.with_suffix(".toml").write_text(manifest)
    print(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=384, help="pixels, a multiple of 64")
    args = parser.parse_args()
    if args.side % 64:
        parser.error("--side is no multiple of 64")
    folder = args.folder / "models"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("isnet-medium", "isnet-small"):
        smaller(name, args.side, folder)


if __name__ == "__main__":
    main()
