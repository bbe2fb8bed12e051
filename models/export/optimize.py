"""Work that ONNX Runtime would do at each start, done once: constants folded, nodes fused."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime

from .checkpoints import ExportError
from .graph import tidy

TARGETS = ("none", "cpu", "cuda")


def optimize(model: onnx.ModelProto, target: str, *, half: bool) -> onnx.ModelProto:
    """The same function as a graph that loads faster on `target`.

    - `none`: as exported, for every provider.
    - `cpu`: fused for the CPU provider. Not its layout level, which writes weights in the block
      size of the processor it runs on.
    - `cuda`: fused for CUDA where this machine's ONNX Runtime has that provider. Elsewhere only
      what suits every provider, and not for fp16: without a GPU the runtime would write casts to
      f32 around every node.
    """
    levels = onnxruntime.GraphOptimizationLevel
    if target == "none":
        return model
    if target == "cpu":
        return through_runtime(model, "CPUExecutionProvider", levels.ORT_ENABLE_EXTENDED)
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return through_runtime(model, "CUDAExecutionProvider", levels.ORT_ENABLE_EXTENDED)
    if half:
        raise ExportError(
            "--optimize cuda with --precision fp16 needs onnxruntime-gpu and a GPU on this "
            "machine; leave --optimize out, and the worker's runtime optimises when it loads"
        )
    return through_runtime(model, "CPUExecutionProvider", levels.ORT_ENABLE_BASIC)


def through_runtime(
    model: onnx.ModelProto, provider: str, level: onnxruntime.GraphOptimizationLevel
) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(result)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])
        return tidy(onnx.load(result))
