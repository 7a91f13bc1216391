"""EfficientViT: Multi-Scale Linear Attention, Cai, Li, Hu, Gan, Han, ICCV 2023, arXiv:2205.14756."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modules.checks import Count, Kernel, divisor
from modules.layers import conv_norm, like, wide
from modules.registry import attention


@attention("litemla", paper="arXiv:2205.14756", family="linear")
class LiteMLA(nn.Module):
    """Multi-scale linear attention with ReLU features, of the pixels and of their 5x5 neighbourhoods.

    t_1 = W x, t_2 = G DW_5 t_1                          [3C, N]: q, k, v of head 1, of head 2, ...; N = HW, no bias
    e = (sum_N v relu(k)^T) relu(q) / (sum_N relu(k)^T relu(q))      [d, N] in each of the 2 C / d heads
    y = BN(W_O [e of t_1's heads, e of t_2's heads])

    G: 1x1, one group for each d channels; d is the largest divisor of C up to `dim`. 0 / 0 is 0 (official
    denominator: + 1e-15; timm.models.efficientvit_mit.LiteMLA: + 1e-5, else equal). With s = sum_N relu(k) it is
    e = (v relu(k)^T / s) p, p = s relu(q) / (s^T relu(q)), a mean of means, safe in fp16; W_O is multiplied with the
    first factor, so that e is not made. Weights start as in the official training scripts, truncated normal of 0.02.
    """

    def __init__(self, channels: int, dim: Count = 8, kernel_size: Kernel = 5) -> None:
        super().__init__()
        self.dim, wide = divisor(channels, dim), 3 * channels
        self.qkv = nn.Conv2d(channels, wide, 1, bias=False)
        self.near = nn.Conv2d(wide, wide, kernel_size, padding=kernel_size // 2, groups=wide, bias=False)
        self.mix = nn.Conv2d(wide, wide, 1, groups=wide // self.dim, bias=False)
        self.out: Any = conv_norm(2 * channels, channels)
        layers: list[Any] = [self.qkv, self.near, self.mix, self.out[0]]
        for layer in layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        d, first = self.dim, self.qkv(x)
        second = self.mix.weight.reshape(-1, d, d) @ self.near(first).flatten(2).unflatten(1, (-1, d))
        q, k, v = torch.cat((first.flatten(2).unflatten(1, (-1, d)), second), 1).unflatten(1, (-1, 3)).unbind(2)
        low, high = first.dtype, wide(first.dtype)
        q, k = q.to(high).relu(), k.to(high).relu()  # [B, heads, d, N]
        mass = k.sum(3, keepdim=True)
        means = v @ (k / mass.clamp(min=1e-15)).to(low).transpose(2, 3)  # [B, heads, d of v, d of k]
        q = q * mass
        p = (q / (q.sum(2, keepdim=True) + 1e-15)).to(low)
        layer, norm = self.out
        weight = means.transpose(2, 3) @ layer.weight.reshape(len(layer.weight), -1, d).permute(1, 2, 0)
        y = weight.flatten(1, 2).transpose(1, 2) @ p.flatten(1, 2)
        if layer.bias is not None:  # folded
            y = y + layer.bias[:, None]
        return like(norm(y.unflatten(2, x.shape[2:])), x)

    def last(self) -> nn.Module:
        """The layer whose rows are the output's channels."""
        return self.out
