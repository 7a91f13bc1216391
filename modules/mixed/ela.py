"""ELA: Efficient Local Attention, Xu, Wan, 2024, arXiv:2403.01123."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from modules.checks import Count, Kernel
from modules.layers import GroupNorm
from modules.mixed.coord import strip_means
from modules.registry import attention


@attention("ela", paper="arXiv:2403.01123", family="mixed")
class ELA(nn.Module):
    """A gate on each row and one on each column, each channel from its own means (ELA-B).

    g(z) = sigmoid(GroupNorm(Conv1d_k z))                 [B, C, L], depthwise, no bias
    y = x * g(mean_W x) * g(mean_H x)                     gates [B, C, H, 1] and [B, C, 1, W], g shared

    groups of the norm: gcd(groups, C), as not every channel count divides by the paper's 16. The defaults are the
    paper's ELA-B (k = 7, a norm in 16 groups); ELA-T has k = 5 and 32 groups. timm's EfficientLocalAttn is
    another block: two convolutions, norms of one group, and SiLU before the gate.
    """

    def __init__(self, channels: int, kernel_size: Kernel = 7, groups: Count = 16) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False)
        self.norm = GroupNorm(math.gcd(channels, groups), channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        rows, columns = strip_means(x)
        if not torch.jit.is_tracing() and x.shape[2] == x.shape[3]:
            rows, columns = self.gate(torch.cat((rows, columns))).chunk(2)  # one call for both
        else:
            rows, columns = self.gate(rows), self.gate(columns)
        return x * rows.unsqueeze(3).to(x.dtype) * columns.unsqueeze(2).to(x.dtype)

    def gate(self, z: Tensor) -> Tensor:
        """[B, C, L] -> the same, each image by itself."""
        return self.norm(self.conv(z)).sigmoid()
