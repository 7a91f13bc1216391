"""CBAM, Woo, Park, Lee, Kweon, ECCV 2018, arXiv:1807.06521."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count, Kernel
from modules.layers import conv_norm, mean, peak
from modules.registry import attention


@attention("cbam", paper="arXiv:1807.06521", family="mixed")
class CBAM(nn.Module):
    """Convolutional block attention: a gate on each channel, then one on each pixel.

    c = sigmoid(M mean_HW(x) + M max_HW(x))               [B, C, 1, 1], M: C -> d -> C with ReLU
    u = x * c                                             [B, C, H, W]
    y = u * sigmoid(BN(Conv_k [max_C(u); mean_C(u)]))     [B, C, H, W], the gate [B, 1, H, W]

    d = max(C / reduction, min_dim); the paper has no min_dim, which at 16 channels leaves one unit.
    The norm after the convolution and the biases of M are the authors' code, not in the formula.
    timm's CbamModule(mlp_bias=True) with its two pooled maps swapped equals this.
    """

    def __init__(self, channels: int, reduction: Count = 16, min_dim: Count = 4, kernel_size: Kernel = 7) -> None:
        super().__init__()
        hidden = max(channels // reduction, min_dim)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial = conv_norm(2, 1, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        pooled = torch.stack((mean(x, (2, 3)), peak(x.flatten(2), 2, self.training)))
        channel = self.mlp(pooled).sum(0).sigmoid().to(x.dtype)
        u = x * channel[:, :, None, None]
        planes = torch.stack((peak(u, 1, self.training), mean(u, 1)), 1)
        return u * self.spatial(planes).sigmoid().to(x.dtype)
