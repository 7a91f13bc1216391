"""SegNeXt, Guo, Lu, Hou, Liu, Cheng, Hu, NeurIPS 2022, arXiv:2209.08575."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from modules.checks import Ints, Kernel, Odd
from modules.forms import Gate
from modules.kernel.lka import depthwise, innermost, strip_sum
from modules.registry import attention


@attention("msca", paper="arXiv:2209.08575", family="kernel")
class MultiScaleConvolution(Gate):
    """Multi-scale convolutional attention: strips of several lengths side by side, summed to a gate.

    u = dw_5 x;  s_k = dw_{k x 1} dw_{1 x k} u,  k = 7, 11, 21     [B, C, H, W], depthwise with a bias
    g = W (u + sum_k s_k)                                          eq. 1; W: 1x1
    y = x * g                                                      eq. 2

    The strips are not merged for inference: an 11 x 11 depthwise convolution takes longer than both short pairs.
    """

    def __init__(
        self, channels: int, strips: Annotated[Sequence[int], Ints(Odd(3))] = (7, 11, 21), kernel_size: Kernel = 5
    ) -> None:
        super().__init__()
        self.near = depthwise(channels, kernel_size, kernel_size)
        self.strips = nn.ModuleList(nn.Sequential(depthwise(channels, 1, k), depthwise(channels, k, 1)) for k in strips)
        self.mix = nn.Conv2d(channels, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.mix(strip_sum(self.strips, self.near(innermost(x))))

    def last(self) -> nn.Module:
        """The layer to fold gamma into: y is linear in the gate."""
        return self.mix
