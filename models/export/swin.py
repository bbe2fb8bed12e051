"""The Swin backbone of transparent-background, rewritten where it cannot be exported for all sizes.

The originals (`backbones/SwinTransformer.py`, version 1.3.4) fix the picture's size while they are
traced: one assigns into slices whose bounds depend on it, one turns a symbolic size into a Python
`int`, one branches on whether padding is needed. Each class here computes the same values without
that. `adapt` swaps the classes of a network's modules, so its weights stay as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transparent_background.backbones.SwinTransformer import (
    BasicLayer,
    SwinTransformerBlock,
    WindowAttention,
    window_partition,
)

OTHER_REGION = -100.0
"""Added to the attention between pixels that only the cyclic shift made neighbours (original's)."""


def padded(size: int, window: int) -> int:
    """`size` rounded up to whole windows."""
    return (size + window - 1) // window * window


def merge_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Windows `[n*B, window, window, C]` to a map `[B, height, width, C]`.

    The original divides the number of windows to find B, with floats; `view` can infer it.
    """
    x = windows.view(-1, height // window, width // window, window, window, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, height, width, windows.shape[-1])


def rolled(x: Tensor, rows: int, columns: int) -> Tensor:
    """`[B, H, W, C]` whose first `rows` and `columns` go to the end.

    `torch.roll` would be exported as a gather with computed indices; this is two slices a side.
    """
    x = torch.cat([x[:, rows:], x[:, :rows]], dim=1)
    return torch.cat([x[:, :, columns:], x[:, :, :columns]], dim=2)


def region(size: int, window: int, shift: int, device: torch.device) -> Tensor:
    """For each of `size` rows: 0 in the body, 1 in the last window, 2 in the part shifted in."""
    row = torch.arange(size, device=device)
    return (row >= size - window).int() + (row >= size - shift).int()


def shift_mask(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """What to add to each window's attention, `[windows, window², window²]` f32.

    The original numbers nine regions by assigning to slices; comparing indices says the same.
    """
    rows = region(height, window, shift, device)
    columns = region(width, window, shift, device)
    number = (3 * rows[:, None] + columns[None, :]).to(torch.float32)
    number = window_partition(number[None, :, :, None], window).view(-1, window * window)
    differs = number.unsqueeze(1) != number.unsqueeze(2)
    return differs.to(torch.float32) * OTHER_REGION


class AnySizeAttention(WindowAttention):
    """Window attention whose scores, bias and softmax are f32 whatever the weights are."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        count, tokens, channels = x.shape
        heads = self.num_heads
        qkv = self.qkv(x).reshape(count, tokens, 3, heads, channels // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = ((q * self.scale) @ k.transpose(-2, -1)).float()

        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        bias = bias.view(tokens, tokens, heads).permute(2, 0, 1).contiguous()
        scores = scores + bias.float().unsqueeze(0)
        if mask is not None:
            scores = scores.view(-1, mask.shape[0], heads, tokens, tokens)
            scores = (scores + mask[None, :, None]).view(-1, heads, tokens, tokens)
        attention = self.softmax(scores).to(v.dtype)
        return self.proj((attention @ v).transpose(1, 2).reshape(count, tokens, channels))


class AnySizeBlock(SwinTransformerBlock):
    """A block that always pads to whole windows and crops again, by nothing where that fits."""

    def forward(self, x: Tensor, mask_matrix: Tensor) -> Tensor:
        batch, _, channels = x.shape
        height, width, window, shift = self.H, self.W, self.window_size, self.shift_size
        full_height, full_width = padded(height, window), padded(width, window)

        shortcut = x
        x = self.norm1(x).view(batch, height, width, channels)
        x = F.pad(x, (0, 0, 0, full_width - width, 0, full_height - height))
        if shift:
            x = rolled(x, shift, shift)
        x = window_partition(x, window).view(-1, window * window, channels)
        x = self.attn(x, mask=mask_matrix if shift else None)
        x = x.view(-1, window, window, channels)
        x = merge_windows(x, window, full_height, full_width)
        if shift:
            x = rolled(x, full_height - shift, full_width - shift)
        x = x[:, :height, :width, :].contiguous().view(batch, height * width, channels)

        x = shortcut + x
        return x + self.mlp(self.norm2(x))


class AnySizeLayer(BasicLayer):
    """A stage that finds the mask of its shifted blocks from the sizes alone."""

    def forward(self, x: Tensor, H: int, W: int):
        window = self.window_size
        mask = shift_mask(padded(H, window), padded(W, window), window, self.shift_size, x.device)
        for block in self.blocks:
            block.H, block.W = H, W
            x = block(x, mask)
        if self.downsample is None:
            return x, H, W, x, H, W
        return x, H, W, self.downsample(x, H, W), (H + 1) // 2, (W + 1) // 2


ADAPTED: dict[type[nn.Module], type[nn.Module]] = {
    WindowAttention: AnySizeAttention,
    SwinTransformerBlock: AnySizeBlock,
    BasicLayer: AnySizeLayer,
}


def adapt(network: nn.Module) -> None:
    """Makes the network's backbone exportable, in place. For inference only: no drop-out."""
    for module in network.modules():
        if replacement := ADAPTED.get(type(module)):
            module.__class__ = replacement
