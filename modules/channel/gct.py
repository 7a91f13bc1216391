"""Gated Channel Transformation, Yang, Zhu, Wu, Yang, CVPR 2020, arXiv:1909.11519."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from modules.forms import Gate
from modules.layers import wide
from modules.registry import attention

EPS = 1e-5


@attention("gct", paper="arXiv:1909.11519", family="channel")
class GCT(Gate):
    """Gated channel transformation: channels compete or cooperate through their normalised lengths.

    s = alpha * sqrt(sum_HW x^2 + 1e-5)                     [B, C], global context embedding
    n = sqrt(C) s / sqrt(sum_C s^2 + 1e-5)                  [B, C], channel normalisation
    g = 1 + tanh(gamma * n + beta)                          [B, C], gating adaptation
    y = x * g                                               [B, C, H, W]

    alpha = 1, beta = 0 at the start as in the paper, but gamma = 1, not 0: with 0 the block is the identity, and
    under `Attend`, whose own weight starts at 0, no gradient would ever reach it. Lengths are fp32 under fp16,
    whose squares overflow in the published code.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 1, 1]."""
        s = self.alpha * (self.squares(x) + EPS).sqrt()
        n = s * (s.square().sum(1, keepdim=True) + EPS).rsqrt() * math.sqrt(x.shape[1])
        return 1 + (self.gamma * n + self.beta).tanh()

    def squares(self, x: Tensor) -> Tensor:
        """Sum of squares [B, C, 1, 1]; the length is found in one pass, but its gradient takes one more."""
        x = x.to(wide(x.dtype))
        if self.training:
            return x.square().sum((2, 3), keepdim=True)
        return torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True).square()
