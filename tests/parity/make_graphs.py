#!/usr/bin/env python3
"""Makes tests/fixtures/home: a network of a few hundred bytes, for tests that need no weights.

It has InSPyReNet's ports (models/export/graph.py): u8 RGB `pixels` [N, H, W, 3] of any size in,
`mask` [N, 1, H, W] out. The mask is the picture's brightness, stretched to 0…1 for each image, so
that a test can say what must come out. Run it with `make parity`.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import onnx
from models.export import graph, manifest
from onnx import TensorProto, helper, numpy_helper

FOLDER = ROOT / "tests" / "fixtures" / "home" / "models"

KINDS = {
    # What the mask is made of, and the steps from 0…1 to it.
    "brightness": (TensorProto.FLOAT, []),
    "brightness-u8": (
        TensorProto.UINT8,
        [
            helper.make_node("Mul", ["stretched", "levels"], ["scaled"]),
            helper.make_node("Round", ["scaled"], ["rounded"]),
            helper.make_node("Cast", ["rounded"], [graph.OUTPUT], to=TensorProto.UINT8),
        ],
    ),
    # Not a mask: the worker refuses it at start.
    "brightness-i64": (
        TensorProto.INT64,
        [helper.make_node("Cast", ["stretched"], [graph.OUTPUT], to=TensorProto.INT64)],
    ),
}


MANIFEST = {
    "description": "for tests: the mask is the photo's brightness",
    "licence": "MIT",
    "provenance": "tests/parity/make_graphs.py",
    "resize": {"policy": "static", "width": 64, "height": 64},
    "any_size": {"multiple": 32, "side": 64, "short": 128},
    "input": {"name": graph.INPUT, "layout": "nhwc-u8"},
    "output": {
        "name": graph.OUTPUT,
        "activation": "probability",
        "min_max": False,
        "resize": "bilinear-align-corners",
    },
}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (kind, steps) in KINDS.items():
        path = FOLDER / f"{name}.onnx"
        graph.save(brightness(kind, steps), path)
        manifest.write({"name": name, **MANIFEST}, path)


def brightness(kind: int, steps: list[onnx.NodeProto]) -> onnx.ModelProto:
    constants = {
        "levels": np.float32(255),
        "epsilon": np.float32(1e-8),
        "channels": np.array([3], np.int64),
        "image": np.array([1, 2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Cast", [graph.INPUT], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "channels"], ["grey"], keepdims=1),
        helper.make_node("Transpose", ["grey"], ["plane"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMin", ["plane", "image"], ["least"], keepdims=1),
        helper.make_node("ReduceMax", ["plane", "image"], ["most"], keepdims=1),
        helper.make_node("Sub", ["plane", "least"], ["above"]),
        helper.make_node("Sub", ["most", "least"], ["span"]),
        helper.make_node("Add", ["span", "epsilon"], ["range"]),
        helper.make_node("Div", ["above", "range"], ["stretched"]),
        *(steps or [helper.make_node("Identity", ["stretched"], [graph.OUTPUT])]),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "brightness",
            [
                helper.make_tensor_value_info(
                    graph.INPUT, TensorProto.UINT8, ["batch", "height", "width", 3]
                )
            ],
            [
                helper.make_tensor_value_info(
                    graph.OUTPUT, kind, ["batch", 1, "height", "width"]
                )
            ],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        producer_name="cutout",
        opset_imports=[helper.make_opsetid("", graph.OPSET)],
        ir_version=9,
    )


if __name__ == "__main__":
    main()
