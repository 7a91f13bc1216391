"""SA-Net (shuffle attention), Zhang, Yang, ICASSP 2021, arXiv:2102.00240."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.layers import global_mean
from modules.registry import attention


@attention("shuffle", paper="arXiv:2102.00240", family="mixed")
class ShuffleAttention(nn.Module):
    """Half of each channel group is gated by its mean, the other half by its normalised map.

    x -> G groups, each cut into x0, x1                   [B G, C/2G, H, W]
    x0 * sigmoid(w1 * mean_HW(x0) + b1)                   channel branch, eq. 2
    x1 * sigmoid(w2 * GroupNorm(x1) + b2)                 spatial branch, eq. 3, one channel per norm group
    concatenated, then channel shuffle by 2 groups. All groups share the C/2G weights; w = 0, b = 1 at start.

    G is the largest number <= `groups` with C % 2G == 0. The paper's 64 is meant for 256 to 2048 channels and
    would leave halves of one channel at 128; the default here is 8.
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
        self.norm = nn.GroupNorm(half, half)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        x0, x1 = x.reshape(b * self.groups, -1, h, w).chunk(2, dim=1)
        norm = self.norm
        # torch.group_norm, since the module refuses one value per channel, that is one group on a 1x1 map
        n1 = torch.group_norm(x1, norm.num_groups, norm.weight, norm.bias, norm.eps)
        y0 = x0 * (self.channel_weight * global_mean(x0) + self.channel_bias).sigmoid()
        y1 = x1 * (self.spatial_weight * n1 + self.spatial_bias).sigmoid()
        y = torch.cat((y0, y1), dim=1).to(x.dtype)
        return y.reshape(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
