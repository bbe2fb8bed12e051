"""Weights for InSPyReNet made from a seed, good enough to compare implementations with.

Freshly initialised, the network answers a saturated or constant mask, and any two implementations
agree on that. Here every part of it matters: attention looks at different places differently, batch
norms hold the statistics of real photos, and the logits are spread so that much of the mask lies
strictly between 0 and 1. The masks mean nothing; they only depend on everything.

The same seed gives the same weights on one machine and version of PyTorch. Elsewhere the batch
statistics may differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transparent_background.backbones.SwinTransformer import WindowAttention
from transparent_background.InSPyReNet import InSPyReNet
from transparent_background.modules.layers import SelfAttention

from .network import MEAN, STD, build

CALIBRATION_SIDE = 384
"""Pixels; the side of `fast`, and four times less work than 768."""

SHARES = {"d3": 1.6, "p2": 0.5, "p1": 0.3, "p0": 0.12}
"""Standard deviation that each level of the pyramid adds to the logits: mostly coarse shapes, as
masks have, with enough fine detail that a wrong finest level shows."""


def weights(seed: int, mode: str, photos: Sequence[Path]) -> dict[str, Tensor]:
    """A state dict for `mode`, as a checkpoint holds it."""
    return synthesise(seed, mode, photos).state_dict()


@torch.no_grad()
def synthesise(seed: int, mode: str, photos: Sequence[Path]) -> InSPyReNet:
    """The network of `mode` with weights made from `seed` and calibrated on `photos`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(mode)
        disturb(network)
        calibrate(network, normalised(photos))
    return network.eval()


def disturb(network: nn.Module) -> None:
    """Gives parameters that start at zero or one, and so do nothing, values that do something."""
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.normal_(1.0, 0.1)
            module.bias.normal_(0.0, 0.1)
        elif isinstance(module, WindowAttention):
            module.relative_position_bias_table.normal_(0.0, 0.5)
        elif isinstance(module, SelfAttention):
            module.gamma.fill_(0.5)


def normalised(photos: Sequence[Path]) -> Tensor:
    """The photos as one batch `[N, 3, side, side]`."""
    side = (CALIBRATION_SIDE, CALIBRATION_SIDE)
    pixels = np.stack(
        [
            np.asarray(Image.open(path).convert("RGB").resize(side, Image.Resampling.BILINEAR))
            for path in photos
        ]
    )
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255.0
    return (batch - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def calibrate(network: InSPyReNet, batch: Tensor) -> None:
    """Fills every batch norm with the statistics of `batch`, and spreads the logits by `SHARES`.

    One pass does both: what comes out of a batch norm has its weight as its deviation, and the
    one output without a batch norm is scaled on its way.
    """
    levels = ("p2", "p1", "p0")
    attentions = (network.attention2, network.attention1, network.attention0)
    for level, attention in zip(levels, attentions, strict=True):
        attention.conv_out4.bn.weight.fill_(SHARES[level])

    def scale(module: nn.Module, _inputs: tuple[Tensor, ...], d3: Tensor) -> Tensor:
        factor = SHARES["d3"] / d3.std()
        module.conv.weight.mul_(factor)
        return d3 * factor

    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        # None: a plain average over what is seen from here on.
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    hook = network.decoder.conv5.register_forward_hook(scale)
    network.forward_inspyre(batch)
    hook.remove()
    for norm in norms:
        norm.eval()
