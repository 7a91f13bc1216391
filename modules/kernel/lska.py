"""Large Separable Kernel Attention, Lau, Po, Rehman, Expert Systems with Applications 2024, arXiv:2309.01439."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from modules.checks import OneOf
from modules.forms import Gate
from modules.kernel.lka import depthwise, innermost
from modules.registry import attention


@attention("lska", paper="arXiv:2309.01439", family="kernel")
class LargeSeparableKernel(Gate):
    """LKA with each depthwise convolution split into a row and a column.

    g = W (dw_{n x 1, dilation d} dw_{1 x n, dilation d} dw_{m x 1} dw_{1 x m} x)     [B, C, H, W], all with a bias
    y = x * g

    m = 2 d - 1, n = floor(K / d), d = 2 for K = 7 and 11, else 3: the paper's table. K = 23, its choice, is
    m = 5, n = 7. The 1x1 convolutions and GELU around it in VAN are not part of it.
    """

    def __init__(self, channels: int, kernel_size: Annotated[int, OneOf(7, 11, 23, 35, 41, 53)] = 23) -> None:
        super().__init__()
        dilation = 2 if kernel_size <= 11 else 3
        near, far = 2 * dilation - 1, kernel_size // dilation
        self.near = nn.Sequential(depthwise(channels, 1, near), depthwise(channels, near, 1))
        self.far = nn.Sequential(depthwise(channels, 1, far, dilation), depthwise(channels, far, 1, dilation))
        self.mix = nn.Conv2d(channels, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        t = x if self.training else innermost(x)  # oneDNN's weight gradient of a dilated row is slower so
        return self.mix(self.far(self.near(t)))

    def last(self) -> nn.Module:
        """The layer to fold gamma into: y is linear in the gate."""
        return self.mix
