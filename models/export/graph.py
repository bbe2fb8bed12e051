"""One ONNX graph for every batch, height and width."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import onnx
import torch

from .network import Matting

OPSET = 18
"""The lowest that the exporter writes without converting; ONNX Runtime 1.14 and later read it."""

MULTIPLE = 32
"""Height and width are multiples of this: the backbone halves the picture five times."""

INPUT = "pixels"
OUTPUT = "mask"


def export(matting: Matting) -> onnx.ModelProto:
    """Exports with symbolic batch, height and width; the result holds its weights."""
    sides = {1: MULTIPLE * torch.export.Dim("rows"), 2: MULTIPLE * torch.export.Dim("columns")}
    sizes = {0: torch.export.Dim("batch"), **sides}
    # No size is 1 or equal to another, else the exporter would take it for a constant.
    pixels = torch.zeros(2, 12 * MULTIPLE, 13 * MULTIPLE, 3, dtype=torch.uint8)
    with quiet(), torch.no_grad():
        program = torch.export.export(
            matting.eval(), (pixels,), dynamic_shapes=(sizes,), strict=False
        )
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    model = exported.model_proto
    name_sizes(model)
    return tidy(model)


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Takes off what varies between machines: source paths, stack traces, notes, versions."""
    model.producer_name = "cutout"
    model.producer_version = ""
    model.doc_string = ""
    del model.metadata_props[:]
    scrub(model.graph)
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        for node in function.node:
            scrub_node(node)
    return model


def name_sizes(model: onnx.ModelProto) -> None:
    """The exporter writes sizes as formulas (`32*rows`); people and checkers read names."""
    for port, names in (
        (model.graph.input[0], ("batch", "height", "width", 3)),
        (model.graph.output[0], ("batch", 1, "height", "width")),
    ):
        for dimension, name in zip(port.type.tensor_type.shape.dim, names, strict=True):
            if isinstance(name, str):
                dimension.dim_param = name
            else:
                dimension.dim_value = name


def scrub(graph: onnx.GraphProto) -> None:
    graph.doc_string = ""
    graph.name = "cutout"
    del graph.metadata_props[:]
    # Guesses about shapes inside the graph: the runtime makes its own.
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    for node in graph.node:
        scrub_node(node)


def scrub_node(node: onnx.NodeProto) -> None:
    node.doc_string = ""
    del node.metadata_props[:]


def save(model: onnx.ModelProto, path: Path) -> None:
    """Checks and writes the model; the same model gives the same bytes."""
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(model.SerializeToString(deterministic=True))
    partial.replace(path)


@contextlib.contextmanager
def quiet():
    """Keeps the exporter's progress and advice, which ask nothing of anybody, off the terminal."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
