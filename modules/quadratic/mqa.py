"""MobileNetV4, Qin, Leichner, Delakis, Fornoni, Luo, Yang, Wang, Banbury, Ye, Akin, Aggarwal, Zhu, Moro, Howard, ECCV 2024, arXiv:2404.10518."""  # noqa: E501

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modules import deploy
from modules.checks import Count, divisor
from modules.layers import BatchNorm, Pointwise, ScaledDotProduct, like, tokens
from modules.registry import attention


@attention("mqa", paper="arXiv:2404.10518", family="quadratic", cost="quadratic", tokens=2)
class MobileMQA(nn.Module):
    """Multi-query attention: the heads share one set of keys and values, from a map of half the side.

    q = Conv1x1 x                                      [B, heads, d, HW]
    k, v = Conv1x1 BN(DWConv3x3_stride x)              each [B, d, HW / stride^2], with convolutions of its own
    y = Conv1x1 softmax(q^T k / sqrt(d)) v             [B, C, H, W], Mobile MQA, no biases

    d = C / heads; heads: C / 32, or the next lower divisor of C. One BN for the maps of k and of v: in one of its
    own for k, the shift would cancel in the softmax. The 3x3 convolutions pad by 1 on every side, as in
    timm.layers.attention2d.MultiQueryAttention2d, which equals this (strides 1 and 2); TensorFlow's "same" pads even
    maps by 0 and 1. With stride 1 there is neither 3x3 nor BN.
    """

    def __init__(self, channels: int, num_heads: Count | None = None, kv_stride: Count = 2) -> None:
        super().__init__()
        c = channels
        self.num_heads = divisor(c, max(1, c // 32) if num_heads is None else num_heads)
        d = c // self.num_heads
        self.query = Pointwise(c, c, bias=False)
        self.key, self.value = (Pointwise(c, d, bias=False) for _ in range(2))
        self.key_map, self.value_map = (reduced(c, kv_stride) for _ in range(2))
        self.norm = BatchNorm(2 * c) if kv_stride > 1 else None
        self.attend = ScaledDotProduct()
        self.project = Pointwise(c, c, bias=False)
        for layer in (self.query, self.key, self.value, self.project):
            nn.init.xavier_uniform_(layer.weight)

    def last(self) -> nn.Module:
        """The layer whose output is the block's."""
        return self.project

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        k, v = self.key_map(x), self.value_map(x)
        if self.norm is not None:
            k, v = self.norm(torch.cat((k, v), 1)).chunk(2, 1)
        k, v = (tokens(t).unsqueeze(1).contiguous() for t in (self.key(k), self.value(v)))
        b, c, h, w = x.shape
        y = self.attend(self.queries(x), k, v).reshape(b, h, w, c)
        return like(self.project(y.permute(0, 3, 1, 2)), x)

    def queries(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 1, HW heads, d]: those of all heads, one after another."""
        q = tokens(self.query(x.contiguous(memory_format=torch.channels_last)))
        return q.reshape(x.shape[0], 1, -1, x.shape[1] // self.num_heads)

    @torch.no_grad()
    def fold(self) -> None:
        """The norm goes into the 3x3 convolutions."""
        if self.norm is not None:
            scale, shift = deploy.affine(self.norm)
            convs: tuple[Any, ...] = (self.key_map, self.value_map)
            for conv, a, b in zip(convs, scale.chunk(2), shift.chunk(2), strict=True):
                conv.weight *= a.reshape(-1, 1, 1, 1)
                conv.bias = nn.Parameter(b.clone())
            self.norm = None


def reduced(channels: int, stride: int) -> nn.Module:
    """Depthwise 3x3 with that stride, where there is one: [B, C, H, W] -> [B, C, H / stride, W / stride]."""
    if stride == 1:
        return nn.Identity()
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
