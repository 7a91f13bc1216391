"""Spatial Group-wise Enhance, Li, Hu, Yang, 2019, arXiv:1905.09646."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.layers import like, wide
from modules.registry import attention


@attention("sge", paper="arXiv:1905.09646", family="mixed")
class SpatialGroupEnhance(nn.Module):
    """Each channel group gates its pixels by their likeness to the group's mean vector.

    x -> G groups of C / G channels; for each group and pixel i
    t_i = <x_i, mean_HW x>                                [B, G, H, W]
    t_i' = (t_i - mean_HW t) / (std_HW t + 1e-5)          std unbiased
    y = x * sigmoid(w t' + b)                             w = 0, b = 1 at start, one each a group

    G is the largest divisor of C that is <= `groups`; the paper's 64 is meant for 256 to 2048 channels, the
    default here is 8. On a map of one pixel std is 0 (it would be 0 / 0). t is computed divided by C / G, which its
    normalisation undoes, so that the sum does not overflow in fp16.
    """

    def __init__(self, channels: int, groups: Count = 8) -> None:
        super().__init__()
        self.groups = divisor(channels, groups)
        self.weight = nn.Parameter(torch.zeros(self.groups))
        self.bias = nn.Parameter(torch.ones(self.groups))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        size = c // self.groups
        root = (h * w - 1 + 1e-12) ** 0.5  # std = norm / root
        mean = x.mean((2, 3), dtype=wide(x.dtype)).reshape(-1, 1, size) / size
        t = torch.bmm(mean.to(x.dtype), x.reshape(-1, size, h * w)).reshape(b, -1, h * w).to(wide(x.dtype))
        t = t - t.mean(2, keepdim=True)
        norm = torch.linalg.vector_norm(t, dim=2, keepdim=True)
        scale = (self.weight * root).unsqueeze(1) / (norm + 1e-5 / size * root)
        gate = torch.addcmul(self.bias.unsqueeze(1), t, scale).sigmoid().to(x.dtype)
        return like((x.reshape(b, -1, size, h * w) * gate.unsqueeze(2)).reshape(x.shape), x)
