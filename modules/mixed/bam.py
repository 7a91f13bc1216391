"""BAM: Bottleneck Attention Module, Park, Woo, Lee, Kweon, BMVC 2018, arXiv:1807.06514."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from modules.checks import Count, OneOf
from modules.forms import Branch
from modules.layers import conv_norm, global_mean
from modules.registry import attention


@attention("bam", paper="arXiv:1807.06514", family="mixed")
class BAM(Branch):
    """A channel gate from the means and a spatial gate from dilated convolutions, joined before the sigmoid.

    c = W2 ReLU(BN(W1 mean_HW x))                         [B, C, 1, 1], W1: C -> d
    s = W4 f(f(f_1x1(x)))                                 [B, 1, H, W], f = ReLU(BN(Conv3x3_dilation)), d channels
    y = x + x * sigmoid(c + s)                            eq. 1-2; fuse "product": c * s

    d = max(C / reduction, min_dim); the paper has no min_dim, which at 16 channels leaves one unit.
    The norms stand after the inner layers as in the authors' code, where the paper
    norms c and s themselves. The code multiplies c and s where eq. 2 adds; it also does not start (an undefined
    name) and pools by the map's height alone, wrong where H != W. No biases before a norm. The norm of the pooled
    vector takes its running statistics at batch 1, where the published one fails in train mode.
    """

    def __init__(
        self,
        channels: int,
        reduction: Count = 16,
        min_dim: Count = 4,
        dilation: Count = 4,
        fuse: Annotated[str, OneOf("sum", "product")] = "sum",
    ) -> None:
        super().__init__()
        d = max(channels // reduction, min_dim)
        self.fuse = fuse
        self.spatial = nn.Sequential(
            *conv_norm(channels, d, act=nn.ReLU()),
            *conv_norm(d, d, 3, dilation=dilation, act=nn.ReLU()),
            *conv_norm(d, d, 3, dilation=dilation, act=nn.ReLU()),
            nn.Conv2d(d, 1, 1),
        )
        self.channel = nn.Sequential(*conv_norm(channels, d, act=nn.ReLU()), nn.Conv2d(d, channels, 1))

    def mask(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> sigmoid of the joined gates, [B, C, H, W]."""
        c, s = self.channel(global_mean(x)), self.spatial(x)
        return (c + s if self.fuse == "sum" else c * s).sigmoid().to(x.dtype)

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> what is added to it."""
        return x * self.mask(x)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return torch.addcmul(x, x, self.mask(x))
