"""InSPyReNet as `transparent_background.Remover` builds it, and with the worker's edges."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transparent_background.InSPyReNet import InSPyReNet, InSPyReNet_SwinB
from transparent_background.modules.layers import Conv2d

from . import mixed, swin
from .checkpoints import BASE_SIDES, ExportError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of each channel in 0..1: what `Remover` normalises with."""

EPSILON = 1e-8
"""Keeps a flat picture's min–max from dividing by zero (original's)."""


def build(mode: str) -> InSPyReNet:
    """The network of `mode` without weights worth anything, in evaluation mode.

    `threshold=None` is what `Remover` passes: one forward pass, no pyramid of two resolutions.
    """
    side = BASE_SIDES[mode]
    return InSPyReNet_SwinB(
        depth=64, pretrained=False, threshold=None, base_size=[side, side]
    ).eval()


def load(mode: str, path: Path) -> InSPyReNet:
    """The network of `mode` with the weights of a checkpoint whose digest has been checked."""
    if not path.is_file():
        raise ExportError(f"there is no checkpoint {path}")
    network = build(mode)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        # Not PyTorch's own words: they advise to run whatever code the file holds.
        raise ExportError(f"{path} is not a PyTorch checkpoint of plain weights") from error
    except (RuntimeError, AttributeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"{path} does not hold InSPyReNet's weights: {reason}") from error
    return network


class Matting(nn.Module):
    """Pixels in, matte out: what the ONNX file holds.

    Input: u8 RGB `[N, H, W, 3]`, H and W multiples of 32. Output: `[N, 1, H, W]`, f32 in 0..1 or
    u8 in 0..255 (rounded), each image stretched by its own minimum and maximum. The original takes
    both over the whole tensor, which is the same only because it runs one image at a time.
    """

    def __init__(self, network: InSPyReNet, *, half: bool, u8_mask: bool) -> None:
        super().__init__()
        self.network = exportable(network, half=half)
        self.half_precision = half
        self.u8_mask = u8_mask
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.permute(0, 3, 1, 2).float()
        x = (x / 255.0 - self.mean) / self.std
        if self.half_precision:
            x = x.half()
        saliency = self.network.forward_inspyre(x)["saliency"][-1]
        p = torch.sigmoid(saliency.float())
        low = p.amin(dim=(1, 2, 3), keepdim=True)
        high = p.amax(dim=(1, 2, 3), keepdim=True)
        mask = (p - low) / (high - low + EPSILON)
        if self.u8_mask:
            return torch.round(mask * 255.0).to(torch.uint8)
        return mask


def exportable(network: InSPyReNet, *, half: bool) -> InSPyReNet:
    """A copy with batch norms folded away and the backbone free of fixed sizes."""
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, Conv2d) and module.bn is not None:
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = None
    swin.adapt(network)
    if half:
        mixed.halve(network)
    return network.requires_grad_(False)
