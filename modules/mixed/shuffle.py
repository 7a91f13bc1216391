"""SA-Net (shuffle attention), Zhang, Yang, ICASSP 2021, arXiv:2102.00240."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.layers import GroupNorm, global_mean, like
from modules.registry import attention


@attention("shuffle", paper="arXiv:2102.00240", family="mixed")
class ShuffleAttention(nn.Module):
    """Half of each channel group is gated by its mean, the other half by its normalised map.

    x -> G groups, each cut into x0, x1                   [B G, C/2G, H, W]
    x0 * sigmoid(w1 * mean_HW(x0) + b1)                   channel branch, eq. 2
    x1 * sigmoid(w2 * GroupNorm(x1) + b2)                 spatial branch, eq. 3, one channel per norm group
    concatenated, then channel shuffle by 2 groups. All groups share the C/2G weights; w = 0, b = 1 at start.

    G is the largest number <= `groups` with C % 2G == 0. The paper's 64 is meant for 256 to 2048 channels and
    would leave halves of one channel at 128; the default here is 8. With even G the shuffle takes the first and
    the last G/2 groups in turn: one copy concatenates and shuffles.
    """

    def __init__(self, channels: int, groups: Count = 8) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"shuffle: channels is {channels}, allowed: an even int")
        self.groups = divisor(channels // 2, groups)
        half = channels // (2 * self.groups)
        self.channel_weight = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.channel_bias = nn.Parameter(torch.ones(1, half, 1, 1))
        self.spatial_weight = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.spatial_bias = nn.Parameter(torch.ones(1, half, 1, 1))
        self.norm = GroupNorm(half, half)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        x0, x1 = x.reshape(b * self.groups, 2, -1, h, w).unbind(1)  # each [B G, C / 2G, H, W]
        mean = global_mean(x0)
        y0 = x0 * torch.addcmul(self.channel_bias, self.channel_weight, mean).sigmoid()
        y1 = x1 * self.spatial(x1).sigmoid_()
        sides = 2 - self.groups % 2
        shape = (b, sides, self.groups // sides, -1, h, w)
        y = torch.stack([y.reshape(shape).permute(0, 2, 3, 1, 4, 5) for y in (y0, y1)], dim=2)
        if sides == 1:
            y = y.reshape(b, 2, c // 2, h, w).transpose(1, 2)
        return like(y.reshape(b, c, h, w).to(x.dtype), x)

    def spatial(self, x: Tensor) -> Tensor:
        """w2 * GroupNorm(x) + b2, [B G, C/2G, H, W] -> the same: one affine map after the normalisation."""
        norm, weight = self.norm, self.spatial_weight.flatten()
        bias = torch.addcmul(self.spatial_bias.flatten(), weight, norm.bias)
        return torch.group_norm(x, norm.num_groups, weight * norm.weight, bias, norm.eps)
