"""Selective Kernel Networks, Li, Wang, Hu, Yang, CVPR 2019, arXiv:1903.06586."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from modules.checks import Count
from modules.layers import conv_norm, global_mean
from modules.registry import attention


@attention("sk", paper="arXiv:1903.06586", family="kernel")
class SelectiveKernel(nn.Module):
    """Two grouped convolutions of different reach, mixed per channel by a softmax.

    U_i = ReLU(BN(Conv3x3_dilation_i x)), i = 1, 2        [B, C, H, W]; the dilated one stands for 5x5
    z = ReLU(BN(W mean_HW(U_1 + U_2)))                    [B, d], d = max(C / reduction, min_dim), eq. 3-4
    a_1, a_2 = softmax over i of A_i z                    [B, C], eq. 5
    y = a_1 U_1 + a_2 U_2                                 eq. 6

    groups is gcd(groups, C), since not every map of a detector divides by the paper's 32. The norm of z takes
    its running statistics at batch 1 (layers.BatchNorm), where timm's otherwise equal SelectiveKernel fails.
    """

    def __init__(self, channels: int, groups: Count = 32, reduction: Count = 16, min_dim: Count = 32) -> None:
        super().__init__()
        groups = math.gcd(channels, groups)
        dim = max(channels // reduction, min_dim)
        self.near = conv_norm(channels, channels, 3, groups=groups, act=nn.ReLU(inplace=True))
        self.far = conv_norm(channels, channels, 3, groups=groups, dilation=2, act=nn.ReLU(inplace=True))
        self.squeeze = conv_norm(channels, dim, act=nn.ReLU())
        self.select = nn.Conv2d(dim, 2 * channels, 1, bias=False)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c = x.shape[:2]
        near, far = self.near(x), self.far(x)
        logits = self.select(self.squeeze(global_mean(near) + global_mean(far)))
        a = self.softmax(logits.reshape(b, 2, c, 1, 1)).to(near.dtype)
        return torch.lerp(far, near, a[:, 0])
