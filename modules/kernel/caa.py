"""Poly Kernel Inception Network, Cai, Lai, Wang, Wang, Sun, Yao, CVPR 2024, arXiv:2403.06258."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from modules.checks import Kernel, OneOf
from modules.forms import Gate
from modules.kernel.lka import depthwise, innermost
from modules.layers import BatchNorm
from modules.macs import counted
from modules.registry import attention


def _macs(module: BoxMean, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    return output.numel() * module.kernel_size**2


@counted(_macs, _macs)
class BoxMean(nn.Module):
    """AvgPool2d(k, stride 1, padding k // 2), zeros counted, as a depthwise convolution: 3 to 10 times as fast on
    a CPU, backward too."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.channels, self.kernel_size = channels, kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        c, k = self.channels, self.kernel_size
        return F.conv2d(x, x.new_full((c, 1, k, k), 1 / k**2), padding=k // 2, groups=c)


@attention("caa", paper="arXiv:2403.06258", family="kernel")
class ContextAnchor(Gate):
    """Context anchor attention: a sigmoid gate from a local mean and two long strips.

    p = f_1(mean_{7 x 7} x)                               [B, C, H, W]; zeros beyond the border count
    g = sigmoid(f_2(dw_{11 x 1} dw_{1 x 11} p))           dw: depthwise with a bias
    y = x * g

    f_i is SiLU(BN(1x1 convolution)), as the published module has it by default and as detectors use it. In PKINet
    itself f_i is the 1x1 convolution with a bias alone: `norm` False. Under the default, g >= sigmoid(min SiLU) = 0.43.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: Kernel = 11,
        pool_size: Kernel = 7,
        norm: Annotated[bool, OneOf(True, False)] = True,
    ) -> None:
        super().__init__()

        def point() -> nn.Module:
            conv = nn.Conv2d(channels, channels, 1, bias=not norm)
            return nn.Sequential(conv, BatchNorm(channels, eps=1e-3), nn.SiLU()) if norm else conv

        self.pool = BoxMean(channels, pool_size)
        self.before = point()
        self.strips = nn.Sequential(depthwise(channels, 1, kernel_size), depthwise(channels, kernel_size, 1))
        self.after = point()

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.after(self.strips(self.before(self.pool(innermost(x))))).sigmoid()
