"""Visual Attention Network, Guo, Lu, Liu, Cheng, Hu, CVMJ 2023, arXiv:2202.09741."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.checks import Count, Kernel
from modules.forms import Gate
from modules.registry import attention


def innermost(x: Tensor) -> Tensor:
    """x as channels_last on a CPU, where oneDNN's depthwise convolutions then train up to 5 times as fast and infer
    no slower, the copy included; on another device x as it is."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def depthwise(channels: int, height: int, width: int, dilation: int = 1) -> nn.Module:
    """A depthwise convolution to the same size, with a bias.

    Dilated along W, it gets its zeros from a layer of their own: oneDNN has no fast kernel for a padding that
    wide (7x7 dilated by 3: 10 times as slow).
    """
    rows, columns = dilation * (height // 2), dilation * (width // 2)
    apart = columns if dilation > 1 else 0
    conv = nn.Conv2d(
        channels,
        channels,
        (height, width),
        padding=(rows, columns - apart),
        dilation=dilation,
        groups=channels,
    )
    return nn.Sequential(nn.ZeroPad2d((apart, apart, 0, 0)), conv) if apart else conv


def down(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A depthwise k x 1 convolution to the same size; weight: [C, 1, k, 1].

    Where k is longer than the map its zeros are made apart: oneDNN's gradient is several times as slow otherwise.
    """
    side = weight.shape[2] // 2
    if weight.shape[2] > x.shape[2]:
        x, side = F.pad(x, (0, 0, side, side)), 0
    return F.conv2d(x, weight, bias, padding=(side, 0), groups=len(weight))


def strip_sum(strips: nn.ModuleList, x: Tensor) -> Tensor:
    """x + sum_k dw_{k x 1} dw_{1 x k} x, of pairs of depthwise convolutions.

    In training on a CPU the 1 x k ones run down the transposed map: oneDNN's gradient of a weight [C, 1, 1, k] is
    3 to 10 times as slow as that of [C, 1, k, 1].
    """
    total = x
    turned = innermost(x.transpose(2, 3)) if strips.training and x.is_cpu else None
    for pair in strips:
        if turned is None:
            total = total + pair(x)
        else:
            row, column = cast(tuple[nn.Conv2d, nn.Conv2d], tuple(pair.children()))
            y = down(turned, row.weight.transpose(2, 3), row.bias).transpose(2, 3)
            total = total + down(innermost(y), column.weight, column.bias)
    return total


@attention("lka", paper="arXiv:2202.09741", family="kernel")
class LargeKernel(Gate):
    """Large kernel attention: a gate that sees 21 x 21, from three small convolutions.

    g = W (dw_7, dilation 3 (dw_5 x))     [B, C, H, W]; dw: depthwise k x k, W: 1x1, all with a bias
    y = x * g                             eq. 3-4; no sigmoid

    The paper splits K x K into (2 d - 1) x (2 d - 1) and, dilated by d, K / d x K / d: 5 and 7 for K = 21, d = 3;
    here the two sides and d are options. The 1x1 convolutions and GELU around it in VAN are not part of LKA.
    """

    def __init__(self, channels: int, kernel_size: Kernel = 5, far_size: Kernel = 7, dilation: Count = 3) -> None:
        super().__init__()
        self.near = depthwise(channels, kernel_size, kernel_size)
        self.far = depthwise(channels, far_size, far_size, dilation)
        self.mix = nn.Conv2d(channels, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.mix(self.far(self.near(innermost(x))))

    def last(self) -> nn.Module:
        """The layer to fold gamma into: y is linear in the gate."""
        return self.mix
