"""ResNeSt, Zhang, Wu, Zhang, Zhu, Lin, Zhang, Sun, He, Mueller, Manmatha, Li, Smola, CVPRW 2022, arXiv:2004.08955."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from modules.checks import Count, OneOf
from modules.layers import conv_norm, global_mean
from modules.registry import attention


@attention("split", paper="arXiv:2004.08955", family="kernel")
class SplitAttention(nn.Module):
    """A grouped 3x3 convolution to `radix` maps, mixed per channel by a softmax (cardinality 1).

    U_1, U_2 = ReLU(BN(Conv3x3_groups=radix x))           each [B, C, H, W]
    z = ReLU(BN(W1 mean_HW(U_1 + U_2)))                   [B, d], d = max(radix C / reduction, min_dim)
    a_1, a_2 = softmax over i of W2_i z + b_i             [B, C]
    y = a_1 U_1 + a_2 U_2

    timm.layers.SplitAttn with a norm layer equals this; its bias before the norm of z is idle, and left out.
    That norm takes its running statistics at batch 1 (layers.BatchNorm). The maps are pooled one by one, and two
    of them mixed as U_2 + a_1 (U_1 - U_2).
    """

    def __init__(
        self, channels: int, radix: Annotated[int, OneOf(2, 4)] = 2, reduction: Count = 4, min_dim: Count = 32
    ) -> None:
        super().__init__()
        self.radix = radix
        dim = max(channels * radix // reduction, min_dim)
        self.conv = conv_norm(channels, radix * channels, 3, groups=radix, act=nn.ReLU())
        self.squeeze = conv_norm(channels, dim, act=nn.ReLU())
        self.select = nn.Conv2d(dim, radix * channels, 1)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c = x.shape[:2]
        maps = self.conv(x)
        pooled = global_mean(maps).reshape(b, self.radix, c, 1, 1).sum(1)
        logits = self.select(self.squeeze(pooled)).reshape(b, self.radix, c, 1, 1)
        a = self.softmax(logits).to(maps.dtype)
        parts = maps.chunk(self.radix, dim=1)
        if self.radix == 2:
            return torch.lerp(parts[1], parts[0], a[:, 0])
        y = parts[0] * a[:, 0]
        for i in range(1, self.radix):
            y = torch.addcmul(y, parts[i], a[:, i])
        return y
