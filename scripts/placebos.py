"""Blocks that cannot help, to stand where others stand: `same`, `mhsa_noise`, `mhsa_own` (a file for --modules)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.quadratic.mhsa import MHSA
from modules.registry import attention


@attention("same", paper="placebo", family="placebo")
class Same(nn.Module):
    """y = x, [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return x


@attention("mhsa_noise", paper="placebo", family="placebo", cost="quadratic")
class NoiseMHSA(MHSA):
    """mhsa of standard normal noise in place of x."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return super().forward(torch.randn_like(x))


@attention("mhsa_own", paper="placebo", family="placebo", cost="quadratic")
class OwnMHSA(MHSA):
    """mhsa whose attention matrix is the unit matrix: every pixel attends to itself alone, so y = v."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.qkv(x).chunk(3, dim=1)[2]
