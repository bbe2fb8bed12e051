"""How far a graph is from the network it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from transparent_background.InSPyReNet import InSPyReNet

from .graph import INPUT, OUTPUT
from .network import MEAN, STD


@dataclass(frozen=True)
class Difference:
    """Between two mattes, in units of the matte, 0..1."""

    maximum: float
    mean: float

    @classmethod
    def between(cls, one: np.ndarray, other: np.ndarray) -> Difference:
        gap = np.abs(one.astype(np.float64) - other.astype(np.float64))
        return cls(float(gap.max()), float(gap.mean()))


def photo(path: Path, width: int, height: int) -> np.ndarray:
    """A photo as the graph takes it, u8 `[height, width, 3]`."""
    picture = Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def session(graph: Path) -> onnxruntime.InferenceSession:
    """The graph on the CPU provider. Its arena is off: it would hold the largest size for good."""
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run(graph: onnxruntime.InferenceSession, pixels: np.ndarray) -> np.ndarray:
    """Mattes `[N, H, W]` of a batch of pictures u8 `[N, H, W, 3]`, f32 in 0..1."""
    (mask,) = graph.run([OUTPUT], {INPUT: pixels})
    if mask.dtype == np.uint8:
        mask = mask.astype(np.float32) / 255.0
    return mask[:, 0]


@torch.no_grad()
def eager(network: InSPyReNet, pixels: np.ndarray) -> np.ndarray:
    """What `Remover` gets from the network for one picture u8 `[H, W, 3]`, f32 `[H, W]`.

    Normalised with the operations of transparent-background's transforms, in their order.
    """
    x = pixels.astype(np.float32)
    x /= 255
    x -= MEAN
    x /= STD
    tensor = torch.from_numpy(x.transpose(2, 0, 1).copy()).float().unsqueeze(0)
    return network(tensor).numpy().squeeze((0, 1))


def spread(mask: np.ndarray) -> float:
    """The share of a matte that lies strictly between 0.1 and 0.9."""
    return float(((mask > 0.1) & (mask < 0.9)).mean())


def on_photos(
    graph: Path, network: InSPyReNet, photos: Sequence[Path], side: int
) -> list[tuple[str, Difference]]:
    """The graph against the network on each photo, squared to `side` pixels."""
    runtime = session(graph)
    found = []
    for path in photos:
        pixels = photo(path, side, side)
        mask = run(runtime, pixels[np.newaxis])[0]
        found.append((path.stem, Difference.between(mask, eager(network, pixels))))
    return found
