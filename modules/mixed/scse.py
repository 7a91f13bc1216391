"""Concurrent spatial and channel squeeze and excitation, Roy, Navab, Wachinger, MICCAI 2018, arXiv:1803.02579."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from modules.checks import Count, OneOf
from modules.layers import mean
from modules.registry import attention


@attention("scse", paper="arXiv:1803.02579", family="mixed")
class SCSE(nn.Module):
    """A channel gate and a spatial gate on the same map, added.

    c = sigmoid(W2 ReLU(W1 mean_HW x))                    [B, C, 1, 1], W1: C -> C / reduction
    s = sigmoid(w . x)                                    [B, 1, H, W], a 1x1 convolution to one channel
    y = c x + s x                                         fuse "max": max(c x, s x)

    The sum is the paper's; the maximum is the authors' code and their later paper's (arXiv:1808.08127). Biases as
    in the code.
    """

    def __init__(self, channels: int, reduction: Count = 2, fuse: Annotated[str, OneOf("sum", "max")] = "sum") -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.fuse = fuse
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        c = self.channel(mean(x, (2, 3))).sigmoid().to(x.dtype)[:, :, None, None]
        s = self.spatial(x).sigmoid().to(x.dtype)
        if self.fuse == "max":
            return torch.maximum(x * c, x * s)
        return x * (c + s)
