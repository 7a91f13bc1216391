"""Token Statistics Transformer, Wu, Ding, Lu, Pai, Zhang, Wang, Yu, Ma, Haeffele, ICLR 2025, arXiv:2412.17810."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.layers import Pointwise, like, wide
from modules.registry import attention


@attention("tssa", paper="arXiv:2412.17810", family="linear")
class TSSA(nn.Module):
    """Token statistics self-attention: each subspace shrinks its tokens by their second moments, no pair compared.

    w = U^T x, in K heads of d channels                   [B, K, d, HW], no bias
    P_n = softmax_K(t_k sum_d (w_dn / |w_d|)^2)           [B, K, HW], |w_d| over the pixels, eq. 10
    m_d = sum_n P_n w_dn^2 / (sum_n P_n + 1e-8)           [B, K, d]
    y = Wo(-P_n w_dn / (1 + m_d)) + b                     [B, C, H, W], eq. 9

    t_k is learned from 1. Heads: the largest divisor of C up to C / head_dim, but 2 at the least, since the
    softmax over one head is 1. The statistics are fp32 under fp16, whose squares overflow.
    """

    def __init__(self, channels: int, head_dim: Count = 32) -> None:
        super().__init__()
        self.num_heads = divisor(channels, max(channels // head_dim, 2))
        self.subspaces = nn.Conv2d(channels, channels, 1, bias=False)
        self.temperature = nn.Parameter(torch.ones(self.num_heads))
        self.softmax = nn.Softmax(dim=1)
        self.project = Pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        tokens = self.subspaces(x).reshape(b, self.num_heads, c // self.num_heads, h * w)
        squares = tokens.to(wide(tokens.dtype)).square()
        temperature = self.temperature.to(squares.dtype).reshape(-1, 1, 1)
        share = temperature / squares.sum(-1, keepdim=True).clamp(min=1e-24)
        member = self.softmax((squares * share).sum(2)).unsqueeze(2)
        moment = (squares * member).sum(-1, keepdim=True) / (member.sum(-1, keepdim=True) + 1e-8)
        shrunk = tokens * member.to(tokens.dtype) * (-1 / (1 + moment)).to(tokens.dtype)
        return like(self.project(shrunk.reshape(b, c, h, w)), x)

    def last(self) -> nn.Module:
        """The layer whose rows are the block's output."""
        return self.project
