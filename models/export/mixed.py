"""Half precision with islands of f32 where half would lose the picture.

What stays f32, and why:
- layer norms and every softmax: sums of squares and of exponentials overflow or lose their tail;
- the context of the attention modules: a sum of features over up to 1024² positions, far above
  65504, the largest half; its two small convolutions see those sums too, on 3 or 5 positions only;
- the saliency pyramid, sigmoid and min–max: one channel, so f32 costs nothing, and logits are
  added there.
Everything wide, the convolutions and matrix products, is half.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transparent_background.backbones.SwinTransformer import WindowAttention
from transparent_background.modules.attention_module import SICA
from transparent_background.modules.decoder_module import PAA_d


class WideNorm(nn.LayerNorm):
    """A layer norm that computes in f32 and answers in its input's type."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class WideSoftmax(nn.Softmax):
    """A softmax that computes in f32 and answers in its input's type."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class MixedDecoder(PAA_d):
    """Answers the coarsest saliency map in f32."""

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        feature, saliency = super().forward(features)
        return feature, saliency.float()


class MixedAttention(SICA):
    """The original's attention with its sums over the picture in f32.

    Takes the f32 saliency (and Laplacian) maps so far and gives the next one in f32.
    """

    def forward(self, x: Tensor, smap: Tensor, lmap: Tensor | None = None):
        batch, _, height, width = x.shape
        parts = split(smap, self.threshold.float(), (height, width), confusion=True)
        if lmap is not None:
            parts += split(lmap, self.lthreshold.float(), (height, width), confusion=False)

        positions = self.stage_size[0] * self.stage_size[1]
        feature = resized(x, self.stage_size).view(batch, positions, -1).float()
        weight = resized(torch.cat(parts, dim=1), self.stage_size).view(batch, self.ctx, positions)
        context = torch.bmm(weight, feature).permute(0, 2, 1).unsqueeze(3)

        query = self.conv_query(x).view(batch, self.depth, -1).permute(0, 2, 1)
        # Scaled before the product, while it is f32, so that the scores fit a half.
        key = self.conv_key(context).view(batch, self.depth, -1) * self.depth**-0.5
        value = self.conv_value(context).view(batch, self.depth, -1).permute(0, 2, 1)
        scores = torch.bmm(query, key.to(x.dtype)).float()
        attention = F.softmax(scores, dim=-1).to(x.dtype)
        refined = torch.bmm(attention, value.to(x.dtype)).permute(0, 2, 1).contiguous()
        refined = self.conv_out1(refined.view(batch, -1, height, width))

        x = self.conv_out3(self.conv_out2(torch.cat([x, refined], dim=1)))
        return x, self.conv_out4(x).float()


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def split(logits: Tensor, threshold: Tensor, size: tuple[int, int], *, confusion: bool):
    """How much each position is in front of, behind and (if asked) close to the threshold."""
    p = torch.sigmoid(resized(logits, size)) - threshold
    parts = [torch.clip(p, 0, 1), torch.clip(-p, 0, 1)]
    return [*parts, threshold - torch.abs(p)] if confusion else parts


REPLACED: dict[type[nn.Module], type[nn.Module]] = {
    nn.LayerNorm: WideNorm,
    nn.Softmax: WideSoftmax,
    PAA_d: MixedDecoder,
    SICA: MixedAttention,
}


def halve(network: nn.Module) -> None:
    """Makes the network half precision with f32 islands, in place.

    Batch norms must be folded into their convolutions before: they would overflow on the context.
    """
    network.half()
    for module in network.modules():
        if replacement := REPLACED.get(type(module)):
            module.__class__ = replacement
        if isinstance(module, nn.LayerNorm):
            module.float()
        elif isinstance(module, WindowAttention):
            table = module.relative_position_bias_table
            table.data = table.data.float()
        elif isinstance(module, SICA):
            module.conv_key.float()
            module.conv_value.float()
