"""The rewritten parts compute what the originals compute."""

import unittest

# First: it keeps the network's packages from talking when they are imported.
from models.export import mixed, swin

# isort: split
import torch
from torch import nn
from transparent_background.backbones.SwinTransformer import BasicLayer, window_partition
from transparent_background.modules.attention_module import SICA
from transparent_background.modules.layers import SelfAttention

WINDOW = 4
SHIFT = 2
SIZES = [(4, 4), (8, 12), (7, 13), (1, 9), (5, 1), (3, 3)]
"""Rows × columns of a feature map: whole windows, parts of them, and less than one."""


def seen_mask(height: int, width: int) -> torch.Tensor:
    """The mask that the original computes, caught on its way to a block."""
    layer = BasicLayer(dim=8, depth=1, num_heads=2, window_size=WINDOW)
    seen = []

    class Block(nn.Module):
        def forward(self, x, mask):
            seen.append(mask)
            return x

    layer.blocks = nn.ModuleList([Block()])
    layer(torch.zeros(1, height * width, 8), height, width)
    return seen[0]


class Backbone(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)

    def test_the_shift_mask_is_the_originals_at_every_size(self):
        for height, width in SIZES:
            with self.subTest(height=height, width=width):
                full = swin.padded(height, WINDOW), swin.padded(width, WINDOW)
                mask = swin.shift_mask(*full, WINDOW, SHIFT, torch.device("cpu"))
                self.assertTrue(torch.equal(mask, seen_mask(height, width)))

    def test_windows_merge_back_to_the_map_they_were_cut_from(self):
        x = torch.randn(3, 8, 12, 5)
        windows = window_partition(x, WINDOW)
        self.assertTrue(torch.equal(swin.merge_windows(windows, WINDOW, 8, 12), x))

    def test_slices_roll_like_roll(self):
        x = torch.randn(2, 8, 12, 5)
        there = swin.rolled(x, SHIFT, SHIFT)
        self.assertTrue(torch.equal(there, torch.roll(x, (-SHIFT, -SHIFT), (1, 2))))
        self.assertTrue(torch.equal(swin.rolled(there, 8 - SHIFT, 12 - SHIFT), x))

    def test_an_adapted_stage_answers_as_before_at_every_size_and_batch(self):
        layer = BasicLayer(dim=8, depth=2, num_heads=2, window_size=WINDOW).eval()
        for block in layer.blocks:
            # Starts at almost zero: a wrong bias would hardly show.
            nn.init.normal_(block.attn.relative_position_bias_table)
        for height, width in SIZES:
            for batch in (1, 3):
                x = torch.randn(batch, height * width, 8)
                with self.subTest(height=height, width=width, batch=batch), torch.no_grad():
                    expected = layer(x, height, width)[0]
                    swin.adapt(layer)
                    found = layer(x, height, width)[0]
                    restore(layer)
                    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def restore(network: nn.Module) -> None:
    originals = {new: old for old, new in swin.ADAPTED.items()}
    for module in network.modules():
        module.__class__ = originals.get(type(module), type(module))


class HalfPrecision(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(2)

    def test_the_attention_with_wide_sums_is_the_originals_in_f32(self):
        for channels, maps in ((16, 1), (8, 2)):
            module = SICA(channels, depth=8, base_size=(16, 16), stage=0, lmap_in=maps == 2).eval()
            inputs = [torch.randn(2, channels, 12, 20), *(torch.randn(2, 1, 6, 10),) * maps]
            with self.subTest(maps=maps), torch.no_grad():
                expected = module(*inputs)
                module.__class__ = mixed.MixedAttention
                for found, wanted in zip(module(*inputs), expected, strict=True):
                    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)

    def test_sums_over_the_picture_do_not_overflow_a_half(self):
        module = SICA(4, depth=4, base_size=(512, 512), stage=0).eval()
        mixed.halve(module)
        for convolution in (*module.conv_key, *module.conv_value):
            convolution.bn.running_var.fill_(1e10)
        with torch.no_grad():
            x = torch.full((1, 4, 8, 8), 4.0).half()
            refined, saliency = module(x, torch.full((1, 1, 8, 8), 9.0))
        # The context here is 0.5 × 4 × 512², some eight times the largest half.
        self.assertTrue(torch.isfinite(refined).all() and torch.isfinite(saliency).all())
        self.assertEqual(saliency.dtype, torch.float32)

    def test_softmax_and_norms_stay_f32_inside_and_half_outside(self):
        network = nn.ModuleDict({"norm": nn.LayerNorm(8), "attention": SelfAttention(8, "h")})
        mixed.halve(network.eval())
        self.assertEqual(network["norm"].weight.dtype, torch.float32)
        # Their squares exceed the largest half, so a norm in half would answer zeros.
        x = torch.linspace(-400, 400, 8).half()
        self.assertEqual(network["norm"](x).dtype, torch.float16)
        torch.testing.assert_close(
            network["norm"](x).float(), nn.LayerNorm(8)(x.float()), atol=1e-3, rtol=1e-3
        )
        self.assertIsInstance(network["attention"].softmax, mixed.WideSoftmax)


if __name__ == "__main__":
    unittest.main()
