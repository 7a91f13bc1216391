"""Large Selective Kernel Network, Li, Hou, Zheng, Cheng, Yang, Li, ICCV 2023, arXiv:2303.09030."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count, Kernel
from modules.forms import Gate
from modules.kernel.lka import depthwise, innermost
from modules.layers import wide
from modules.registry import attention


@attention("lsk", paper="arXiv:2303.09030", family="kernel")
class LargeSelectiveKernel(Gate):
    """Two depthwise kernels of growing reach, weighed against each other at each pixel.

    u_1 = dw_5 x,  u_2 = dw_7, dilation 3 (u_1)           [B, C, H, W], eq. 3
    a_i = W_i u_i                                         [B, C / 2, H, W], 1x1, eq. 4
    s_1, s_2 = sigmoid(Conv_7 [mean_C a; max_C a])        [B, 1, H, W] each, over both a_1 and a_2, eq. 5-8
    g = W (a_1 s_1 + a_2 s_2);  y = x * g                 eq. 9-10; W: 1x1. All convolutions have a bias

    Mean and maximum come from a_1 and a_2 as they are, not from a copy of both; an odd C has (C - 1) / 2 channels
    in each.
    """

    def __init__(self, channels: int, kernel_size: Kernel = 5, far_size: Kernel = 7, dilation: Count = 3) -> None:
        super().__init__()
        half = max(channels // 2, 1)
        self.near = depthwise(channels, kernel_size, kernel_size)
        self.far = depthwise(channels, far_size, far_size, dilation)
        self.reduce = nn.ModuleList(nn.Conv2d(channels, half, 1) for _ in range(2))
        self.squeeze = nn.Conv2d(2, 2, 7, padding=3)
        self.mix = nn.Conv2d(half, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        u = self.near(innermost(x))
        a, b = self.reduce[0](u), self.reduce[1](self.far(u))
        mean = ((a + b).mean(1, keepdim=True, dtype=wide(a.dtype)) / 2).to(a.dtype)
        top = torch.maximum(a.amax(1, keepdim=True), b.amax(1, keepdim=True))
        s = self.squeeze(torch.cat((mean, top), 1)).sigmoid()
        return self.mix(torch.addcmul(a * s[:, :1], b, s[:, 1:]))

    def last(self) -> nn.Module:
        """The layer to fold gamma into: y is linear in the gate."""
        return self.mix
