"""Channel prior convolutional attention, Huang, Chen, Zou, Lu, Chen, arXiv 2023, arXiv:2306.05196."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from modules.checks import Count, Ints, Odd
from modules.kernel.lka import innermost, strip_sum
from modules.layers import global_mean, like
from modules.registry import attention


class Strips(nn.Sequential):
    """Depthwise 1 x k, then k x 1."""

    def __init__(self, channels: int, k: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, (1, k), padding=(0, k // 2), groups=channels),
            nn.Conv2d(channels, channels, (k, 1), padding=(k // 2, 0), groups=channels),
        )


@attention("cpca", paper="arXiv:2306.05196", family="mixed")
class CPCA(nn.Module):
    """A channel gate, then a map of weights from depthwise strips of several lengths.

    u = GELU(W x);  f = u * (sigmoid(M mean_HW u) + sigmoid(M max_HW u))     M: C -> C/4, ReLU, -> C
    t = dw_5x5 f;   s = W(t + sum over k = 7, 11, 21 of dw_kx1(dw_1xk t))    [B, C, H, W]
    y = W(s * f)

    As the official code has it: one W (1x1, with bias) in all three places, and a sum of two sigmoids, where CBAM
    has one of the sum. On the CPU the map goes through as channels_last, in which depthwise convolutions, the
    1 x 21 above all, are several times as fast.
    """

    def __init__(
        self,
        channels: int,
        reduction: Count = 4,
        kernel_sizes: Annotated[Sequence[int], Ints(Odd(3))] = (7, 11, 21),
    ) -> None:
        super().__init__()
        narrow = max(channels // reduction, 1)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.act = nn.GELU()
        self.excite = nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, channels, 1))
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList([Strips(channels, k) for k in kernel_sizes])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        u = self.act(self.mix(innermost(x)))
        average, most = self.excite(torch.cat((global_mean(u), u.amax((2, 3), keepdim=True)))).sigmoid().chunk(2)
        f = u * (average + most)
        s = strip_sum(self.strips, self.local(f))
        return like(self.mix(self.mix(s) * f), x)
