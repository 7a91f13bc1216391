"""Polarized self-attention, Liu, Liu, Fan, Huang, 2021, arXiv:2107.00782."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from modules.checks import OneOf
from modules.forms import Gate
from modules.layers import GroupNorm, global_mean
from modules.registry import attention


@attention("polarized", paper="arXiv:2107.00782", family="mixed")
class PolarizedAttention(Gate):
    """A gate over the channels and one over the pixels, each from attention that collapses the other axis.

    channels: a(x) = sigmoid(Wz(Wv x softmax_HW(Wq x)))              [B, C, 1, 1], eq. 3; Wq: C -> 1, Wv: C -> C/2
    pixels:   s(x) = sigmoid(softmax_C/2(mean_HW Uq x)^T Uv x)       [B, 1, H, W], eq. 4; Uq, Uv: C -> C/2
    sequential: z = x a(x), y = z s(z), eq. 6; parallel: y = x (a(x) + s(x)), eq. 5

    Wz as in the official code: C/2 -> C/8, LayerNorm, ReLU, -> C (sequential); C/2 -> C without bias (parallel).
    C/8 is at least 8: LayerNorm makes of two values their order alone. PyTorch's initialisation, not the official
    Kaiming one, whose logits saturate s where activations are not centred.
    Wv x and Uv x are never formed: by linearity Wv takes x's weighted mean and Uv^T goes to the softmax, so all
    work on the map is four products with vectors. Official bug: eq. 4's softmax over the C/2 channels of the
    query stands over the pixels, of the product (PSA_p) or of Uv x (PSA_s): s is 1/2 + O(1 / HW) everywhere.
    """

    def __init__(self, channels: int, mode: Annotated[str, OneOf("sequential", "parallel")] = "sequential") -> None:
        super().__init__()
        half, narrow = channels // 2, max(channels // 8, 8)
        self.parallel = mode == "parallel"
        self.query = nn.Conv2d(channels, 1, 1, bias=False)
        self.value = nn.Conv2d(channels, half, 1, bias=False)
        if self.parallel:
            self.expand = nn.Sequential(nn.Conv2d(half, channels, 1, bias=False))
        else:
            self.expand = nn.Sequential(
                nn.Conv2d(half, narrow, 1), GroupNorm(1, narrow), nn.ReLU(), nn.Conv2d(narrow, channels, 1)
            )
        self.pixel_query = nn.Conv2d(channels, half, 1, bias=False)
        self.pixel_value = nn.Conv2d(channels, half, 1, bias=False)
        self.softmax = nn.Softmax(dim=2)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        rows = x.flatten(2)  # [B, C, HW]
        weights = self.softmax(self.query(x).reshape(b, 1, -1)).to(x.dtype)
        focus = (rows @ weights.transpose(1, 2)).unsqueeze(3)
        a = self.expand(self.value(focus)).sigmoid()

        mean = global_mean(x) if self.parallel else a * global_mean(x)
        q = self.softmax(self.pixel_query(mean).reshape(b, 1, -1))
        key = q @ self.pixel_value.weight.flatten(1)  # [B, 1, C]
        if not self.parallel:
            key = key * a.reshape(b, 1, c)
        s = (key.to(x.dtype) @ rows).sigmoid().reshape(b, 1, h, w)
        return a + s if self.parallel else a * s
