"""YOLOv10, Wang, Chen, Liu, Chen, Lin, Han, Ding, NeurIPS 2024, arXiv:2405.14458."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from modules.checks import Count, Positive, divisor
from modules.layers import conv_norm, like
from modules.quadratic.core import PixelAttention
from modules.registry import attention


class PositionAttention(nn.Module):
    """The attention of PSA: heads of C / h channels, keys of `key_ratio` as many, 3x3 positions on the values.

    q, k, v = BN(Conv1x1 x);  y = BN(Conv1x1(softmax(q^T k / sqrt(d)) v + BN(DWConv3x3 v)))    [B, C, H, W]
    """

    def __init__(self, channels: int, num_heads: int, key_ratio: float = 0.5) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.key_dim = max(1, int(channels // num_heads * key_ratio))
        self.qkv = conv_norm(channels, channels + 2 * num_heads * self.key_dim)
        self.attend = PixelAttention(self.key_dim**-0.5)
        self.position = conv_norm(channels, channels, 3, groups=channels)
        self.project = conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        keys = self.num_heads * self.key_dim
        q, k, v = self.qkv(x).split((keys, keys, x.shape[1]), 1)
        y = self.attend(*(t.flatten(2).unflatten(1, (self.num_heads, -1)) for t in (q, k, v)))
        return self.project(self.position(v) + like(y.reshape(x.shape), x))


def feed_forward(channels: int) -> nn.Sequential:
    """Two 1x1 convolutions with twice the channels between: [B, C, H, W] -> the same."""
    return nn.Sequential(conv_norm(channels, 2 * channels, act=nn.SiLU()), conv_norm(2 * channels, channels))


def heads(channels: int, num_heads: int | None) -> int:
    """Those of YOLOv10, one for 64 channels, or the number given; the next lower one that divides the channels."""
    return divisor(channels, max(1, channels // 64) if num_heads is None else num_heads)


@attention("psa", paper="arXiv:2405.14458", family="quadratic", cost="quadratic")
class PSA(nn.Module):
    """YOLOv10's partial self-attention: one half of the channels passes by, the other attends.

    a, b = SiLU(BN(Conv1x1 x))                                      each [B, C', H, W], C' = expansion C
    b = b + PositionAttention(b);  b = b + BN(Conv1x1 SiLU(BN(Conv1x1 b)))    2 C' channels between
    y = SiLU(BN(Conv1x1 [a, b]))                                    [B, C, H, W]

    Heads: C' / 64, or the next lower divisor of C' (YOLOv10's own needs a whole number: 480 = C' fails there).
    q, k and v are the rows of one convolution, each with all heads together, where YOLOv10's has them by head.
    """

    def __init__(
        self, channels: int, expansion: Annotated[float, Positive(1)] = 0.5, num_heads: Count | None = None
    ) -> None:
        super().__init__()
        self.hidden = max(1, int(channels * expansion))
        self.enter = conv_norm(channels, 2 * self.hidden, act=nn.SiLU())
        self.attention = PositionAttention(self.hidden, heads(self.hidden, num_heads))
        self.mlp = feed_forward(self.hidden)
        self.leave = conv_norm(2 * self.hidden, channels, act=nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        a, b = self.enter(x).split(self.hidden, 1)
        b = b + self.attention(b)
        return self.leave(torch.cat((a, b + self.mlp(b)), 1))
