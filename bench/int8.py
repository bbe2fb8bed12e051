#!/usr/bin/env python3
"""Quantises ISNet to 8 bits, calibrated on photos, and shows what that costs and gains.

    bench/int8.py GRAPH FOLDER-OF-JPEGS [WORK-FOLDER]

Half of the photos calibrate, the other half judge. For ONNX Runtime's own kernels and for OpenVINO,
prints the core seconds of a run and how far the matte moves from the f32 graph's: mean absolute
difference in levels of 255, share of pixels off by more than a level, and worst pixel; and the IoU
of the mattes cut at one half. The same figures for bf16, beside it. Runs are interleaved.

Needs numpy, pillow, onnx and onnxruntime-openvino, in an environment of their own:

    python3 -m venv .cache/venv-int8 && .cache/venv-int8/bin/pip install \
        numpy==2.2.6 pillow==13.0.0 onnx==1.19.1 onnxruntime-openvino==1.24.1
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime import quantization
from PIL import Image

SIDE = 1024
ROUNDS = 3


def tensor(path: Path) -> np.ndarray:
    """The photo as ISNet eats it (models/isnet-medium.toml)."""
    photo = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    planes = (np.asarray(photo, np.float32) - 128) / 256
    return planes.transpose(2, 0, 1)[None]


def only_the_matte(graph: Path, folder: Path) -> Path:
    """The graph in f32, with one output: ISNet is written in halves, which quantise to nothing."""
    model = onnx.load(graph)
    half, whole = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    del model.graph.output[1:]
    del model.graph.value_info[:]

    def widen(value: onnx.TensorProto) -> None:
        if value.data_type == half:
            wide = onnx.numpy_helper.to_array(value).astype(np.float32)
            value.CopyFrom(onnx.numpy_helper.from_array(wide, value.name))

    for value in model.graph.initializer:
        widen(value)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                widen(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i = whole
    target = folder / "f32.onnx"
    onnx.save(model, target)
    return target


class Photos(quantization.CalibrationDataReader):
    def __init__(self, name: str, photos: list[Path]):
        self.name, self.left = name, list(photos)

    def get_next(self):
        return {self.name: tensor(self.left.pop())} if self.left else None


def quantised(graph: Path, photos: list[Path], folder: Path) -> Path:
    prepared, target = folder / "prepared.onnx", folder / "int8.onnx"
    quantization.quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
    name = onnx.load(prepared, load_external_data=False).graph.input[0].name
    quantization.quantize_static(
        str(prepared),
        str(target),
        Photos(name, photos),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        # What the networks' time goes into; the rest gains nothing from 8 bits.
        op_types_to_quantize=["Conv"],
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
    return target


def session(graph: Path, provider: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.enable_mem_pattern = False
    if provider == "cpu":
        return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    config = json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": provider}})
    settings = {"device_type": "CPU", "num_of_threads": str(threads()), "load_config": config}
    made = ort.InferenceSession(
        str(graph), options, providers=[("OpenVINOExecutionProvider", settings)]
    )
    assert made.get_providers()[0] == "OpenVINOExecutionProvider", "OpenVINO was not taken"
    return made


def threads() -> int:
    import os

    return len(os.sched_getaffinity(0))


def main() -> None:
    graph, photos = Path(sys.argv[1]), sorted(Path(sys.argv[2]).glob("*.jpg"))
    folder = Path(sys.argv[3] if len(sys.argv) > 3 else ".cache/int8")
    folder.mkdir(parents=True, exist_ok=True)
    exact = only_the_matte(graph, folder)
    small = quantised(exact, photos[::2], folder)
    judges = photos[1::2]
    contenders = {
        "cpu f32": (exact, "cpu"),
        "cpu int8": (small, "cpu"),
        "openvino f32": (exact, "f32"),
        "openvino bf16": (exact, "bf16"),
        "openvino int8": (small, "f32"),
    }
    sessions = {name: session(*what) for name, what in contenders.items()}
    took = {name: [] for name in sessions}
    moved = {name: [] for name in sessions}
    for photo in judges:
        pixels = tensor(photo)
        for number in range(ROUNDS):
            answers = {}
            for name, made in sessions.items():
                begun = time.process_time()
                answers[name] = made.run(None, {made.get_inputs()[0].name: pixels})[0]
                if number:  # The first is the warm-up.
                    took[name].append(time.process_time() - begun)
        reference = answers["cpu f32"]
        for name, answer in answers.items():
            off = np.abs(answer - reference)
            cut, true = answer > 0.5, reference > 0.5
            iou = (cut & true).sum() / max((cut | true).sum(), 1)
            moved[name].append((off.mean() * 255, (off > 1 / 255).mean(), off.max() * 255, iou))
    print(f"{len(judges)} photos, {ROUNDS - 1} runs each, {threads()} cores")
    print(f"{'':16} {'core s':>7} {'mean':>7} {'off':>7} {'worst':>7} {'IoU':>8}")
    for name in sessions:
        mean, off, worst, iou = np.array(moved[name]).T
        print(
            f"{name:16} {np.median(took[name]):7.2f} {mean.mean():7.3f} {off.mean():7.1%} "
            f"{worst.max():7.1f} {iou.min():8.5f}"
        )


if __name__ == "__main__":
    main()
