"""What one run of a network costs an accelerator at least: by operator, the slower of its arithmetic
and its traffic.

The graph is run once on the CPU for the shapes, so this takes a minute or two, and a Python that has
onnxruntime and numpy. Two graphs bound what a runtime makes of it: `fused` counts convolutions and matrix
products alone, as if all else rode along; `unfused` has every operator read and write memory.
"""

from __future__ import annotations

import json
import os
import tempfile

# NVIDIA's data sheet of the L4: fp16 tensor cores without sparsity, and memory bandwidth.
PEAK_FLOPS = 121e12
PEAK_BYTES = 300e9
HALF = 2  # bytes of a value

CASES = {
    # share of the arithmetic peak, share of the bandwidth, whether everything else is fused
    "fast": (0.7, 0.9, True),
    "fused": (0.5, 0.8, True),
    "unfused": (0.5, 0.8, False),
    "slow": (0.3, 0.7, False),
}
VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Identity", "Shape", "Flatten"}


def roofline(graph: str, side: int) -> dict:
    """Counts of one run at `side`², and seconds on an L4 by case."""
    macs = everything = products = 0
    seconds = dict.fromkeys(CASES, 0.0)
    for operator, inputs, outputs in _operators(graph, side):
        if operator in VIEWS:
            continue
        work = multiplications(operator, inputs, outputs)
        moved = HALF * sum(map(_size, inputs + outputs))
        macs += work
        everything += moved
        products += moved if work else 0
        for name, (arithmetic, bandwidth, fused) in CASES.items():
            if work or not fused:
                seconds[name] += max(
                    2 * work / (PEAK_FLOPS * arithmetic), moved / (PEAK_BYTES * bandwidth)
                )
    return {
        "gmac": macs / 1e9,
        "gigabytes": {"fused": products / 1e9, "unfused": everything / 1e9},
        "milliseconds": {name: s * 1e3 for name, s in seconds.items()},
    }


def multiplications(operator: str, inputs: list[list[int]], outputs: list[list[int]]) -> int:
    """Multiply-accumulates of one operator; 0 for those that are bound by memory anyway."""
    if operator in ("Conv", "FusedConv"):
        return _size(outputs[0]) * _size(inputs[1][1:])
    if operator in ("MatMul", "FusedMatMul", "Gemm"):
        # The left side has m·k values whichever way round it lies, the output m rows; but the
        # right side of a plain product may be a vector.
        left = inputs[0]
        if len(left) < 2 or len(outputs[0]) < 2:
            return _size(outputs[0]) * left[-1]
        return _size(outputs[0]) * (left[-1] * left[-2] // outputs[0][-2])
    return 0


def _size(shape: list[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _operators(graph: str, side: int):
    import numpy
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "profile")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        port = session.get_inputs()[0]
        if "uint8" in port.type:
            picture = numpy.zeros((1, side, side, 3), numpy.uint8)
        else:
            picture = numpy.zeros((1, 3, side, side), numpy.float32)
        session.run(None, {port.name: picture})
        with open(session.end_profiling(), encoding="utf-8") as file:
            events = json.load(file)
    for event in events:
        told = event.get("args", {})
        if event["name"].endswith("_kernel_time") and told.get("output_type_shape"):
            shapes = (told["input_type_shape"], told["output_type_shape"])
            inputs, outputs = ([next(iter(s.values())) for s in side if s] for side in shapes)
            yield told["op_name"], inputs, outputs
