"""MCA: Multidimensional collaborative attention, Yu, Zhang, Cheng, Song, Tang, EAAI 126 (2023) 107079."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from modules.checks import Odd
from modules.layers import wide
from modules.registry import attention


class AxisGate(nn.Module):
    """sigmoid(Conv1d_k(z)), z = (1/2 + sigmoid a) mean + (1/2 + sigmoid b) std, along one axis: [B, L]."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.rand(2))
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, mean: Tensor, square: Tensor, n: int) -> Tensor:
        """Means of x and x^2 [B, L] over n values each -> [B, L]; std is unbiased, 0 where there is one value."""
        variance = torch.addcmul(square, mean, mean, value=-1) * (n * (n - 1) / ((n - 1) ** 2 + 1e-12))
        a, b = (0.5 + self.mix.sigmoid()).unbind()
        z = a * mean + b * variance.clamp(min=1e-12).sqrt()
        return self.conv(z.unsqueeze(1).to(self.conv.weight.dtype)).squeeze(1).sigmoid()


@attention("mca", paper="doi:10.1016/j.engappai.2023.107079", family="mixed")
class MCA(nn.Module):
    """Three gates, one along each of the axes H, W, C, from mean and deviation over the other two.

    z_a = (1/2 + sigmoid p_a) mean_a + (1/2 + sigmoid q_a) std_a     a = H: [B, H], W: [B, W], C: [B, C]
    g_a = sigmoid(Conv1d_k z_a)                           along a, zero padding, no bias
    y = x (g_H + g_W + g_C) / 3

    k = `kernel_size` for H and W; for C round((log2 C - 1) / 1.5) made odd downwards, 3 at 64 and 128 channels, 5
    at 256 to 1280, unless `channel_kernel` is given. All six statistics come from means of x and x^2, in fp32, with
    no turned copies; a deviation of 0 (a map of one pixel, a constant axis) has gradient 0, not nan.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: Annotated[int, Odd(1)] = 3,
        channel_kernel: Annotated[int, Odd(1)] | None = None,
    ) -> None:
        super().__init__()
        if channel_kernel is None:
            k = round(abs((math.log2(channels) - 1) / 1.5))
            channel_kernel = k if k % 2 else max(k - 1, 1)
        self.rows, self.columns, self.channels = map(AxisGate, (kernel_size, kernel_size, channel_kernel))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        c, h, w = x.shape[1:]
        wx = x.to(wide(x.dtype))
        square = wx * wx
        plane, planes = wx.mean(1), square.mean(1)  # [B, H, W]
        rows = self.rows(plane.mean(2), planes.mean(2), c * w)
        columns = self.columns(plane.mean(1), planes.mean(1), c * h)
        channels = self.channels(wx.mean((2, 3)), square.mean((2, 3)), h * w)
        spatial = (rows[:, None, :, None] + columns[:, None, None, :]) / 3
        return x * (spatial + channels[:, :, None, None] / 3).to(x.dtype)
