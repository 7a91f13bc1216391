"""Non-deep Networks (ParNet), Goyal, Bochkovskiy, Deng, Koltun, NeurIPS 2022, arXiv:2110.07641."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modules.checks import Kernel
from modules.deploy import merged
from modules.layers import BatchNorm, conv_norm, global_mean
from modules.registry import attention


@attention("parnet", paper="arXiv:2110.07641", family="kernel")
class ParNet(nn.Module):
    """The RepVGG-SSE block: two convolutions and a skip-squeeze-excitation side by side.

    s = BN(x);  SSE = s * sigmoid(W mean_HW s)            W: 1x1, no bias
    y = SiLU(BN(Conv_k x) + BN(Conv1x1 x) + SSE)          [B, C, H, W]

    For inference the two convolutions are one k x k convolution, the 1x1 at its centre.
    """

    point: nn.Sequential | None

    def __init__(self, channels: int, kernel_size: Kernel = 3) -> None:
        super().__init__()
        self.conv = conv_norm(channels, channels, kernel_size)
        self.point = conv_norm(channels, channels)
        self.norm = BatchNorm(channels)
        self.excite = nn.Conv2d(channels, channels, 1, bias=False)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        skip = self.norm(x)
        gate = self.excite(global_mean(skip)).sigmoid()
        y = self.conv(x) if self.point is None else self.conv(x) + self.point(x)
        return self.act(torch.addcmul(y, skip.to(y.dtype), gate.to(y.dtype)))

    @torch.no_grad()
    def fold(self) -> None:
        """Add the 1x1 convolution to the k x k one (deploy.py)."""
        if self.point is None:
            return
        conv: Any = merged(*self.conv)
        point: Any = merged(*self.point)
        middle = conv.kernel_size[0] // 2
        conv.weight[:, :, middle, middle] += point.weight[:, :, 0, 0]
        conv.bias += point.bias
        self.conv, self.point = nn.Sequential(conv).eval(), None
