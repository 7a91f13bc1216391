"""Focal Modulation Networks, Yang, Li, Dai, Yuan, Gao, NeurIPS 2022, arXiv:2203.11926."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from modules.checks import Count, Int, Kernel
from modules.layers import global_mean
from modules.registry import attention


@attention("focal", paper="arXiv:2203.11926", family="kernel")
class FocalModulation(nn.Module):
    """Each query is modulated by contexts of growing reach, up to the whole map, gated at each pixel.

    z_0 = W_z x;  z_l = GELU(dw_{k_l} z_{l-1}),  k_l = window + factor (l - 1),  l = 1 .. L     [B, C, H, W], eq. 4
    z_{L+1} = GELU(mean_HW z_L)                                                                 [B, C, 1, 1]
    m = W_h (sum_{l=1}^{L+1} g_l z_l),  g = W_g x                                               g: [B, L+1, H, W], eq. 5
    y = W_o ((W_q x) * m)                                                                       eq. 6

    W: 1x1 with a bias; dw: depthwise without. W_q, W_z and W_g are one layer in the published code. g has no
    softmax and no sigmoid. timm.models.focalnet.FocalModulation equals this.
    """

    def __init__(
        self, channels: int, levels: Count = 2, window: Kernel = 3, factor: Annotated[int, Int(0)] = 2
    ) -> None:
        super().__init__()
        self.levels = levels
        self.query = nn.Conv2d(channels, channels, 1)
        self.context = nn.Conv2d(channels, channels, 1)
        self.weigh = nn.Conv2d(channels, levels + 1, 1)
        sizes = [window + factor * level for level in range(levels)]
        self.focus = nn.ModuleList(
            nn.Conv2d(channels, channels, k, padding=k // 2, groups=channels, bias=False) for k in sizes
        )
        self.modulate = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        z, g = self.context(x), self.weigh(x).split(1, 1)
        total: Tensor | None = None
        for conv, weight in zip(self.focus, g, strict=False):
            z = self.act(conv(z))
            total = z * weight if total is None else torch.addcmul(total, z, weight)
        assert total is not None
        total = torch.addcmul(total, self.act(global_mean(z)), g[-1])
        return self.project(self.query(x) * self.modulate(total))

    def last(self) -> nn.Module:
        """The layer to fold gamma into."""
        return self.project
