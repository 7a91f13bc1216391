"""Restormer, Zamir, Arora, Khan, Hayat, Khan, Yang, CVPR 2022, arXiv:2111.09881."""

from __future__ import annotations

from torch import Tensor, nn

from modules.checks import Count, Kernel, divisor
from modules.layers import like
from modules.linear.xca import ChannelAttention
from modules.registry import attention


@attention("mdta", paper="arXiv:2111.09881", family="linear")
class TransposedAttention(nn.Module):
    """Multi-Dconv head transposed attention: attention between channels that have seen their neighbours.

    q, k, v = DW_3(W x)                                  [d, N] in each head; 1x1, then depth-wise, no bias; N = HW
    a = softmax over rows of t (q / |q|) (k / |k|)^T     [d, d], norms over N, t learned per head from 1
    y = W_O [a v of all heads]                           no bias

    d is the largest divisor of C up to head_dim (the paper's 48). The layer norm before it in Restormer's
    transformer block is not part of it.
    """

    def __init__(self, channels: int, head_dim: Count = 48, kernel_size: Kernel = 3) -> None:
        super().__init__()
        wide = 3 * channels
        self.qkv = nn.Conv2d(channels, wide, 1, bias=False)
        self.near = nn.Conv2d(wide, wide, kernel_size, padding=kernel_size // 2, groups=wide, bias=False)
        self.attend = ChannelAttention(channels // divisor(channels, head_dim))
        self.out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        c = x.shape[1]
        qk, v = self.near(self.qkv(x)).flatten(2).split((2 * c, c), 1)
        y = self.attend.weights(qk) @ self.attend.heads(v)
        return self.out(like(y.reshape(x.shape), x))

    def last(self) -> nn.Module:
        """The layer whose rows are the output's channels."""
        return self.out
