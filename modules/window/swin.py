"""Swin Transformer, Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo, ICCV 2021, arXiv:2103.14030."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.checks import Count, OneOf, divisor
from modules.layers import Pointwise, ScaledDotProduct, like
from modules.registry import attention


@attention("swin", paper="arXiv:2103.14030", family="window")
class Swin(nn.Module):
    """W-MSA: the pixels of each 7 x 7 window attend to each other, with content and relative position.

    q, k, v = Wqkv x + b                                  [B windows, heads, 49, d] each
    y = Wo(softmax(q k^T / sqrt(d) + T) v) + b            [B, C, H, W], T_ij = table[i - j], eq. 4

    A map that is no multiple of the window is padded with zeros below and to the right, before Wqkv, and the
    padding is attended to, as torchvision has it. shift: SW-MSA, the windows moved by half their side, cyclic,
    where pixels from opposite borders do not see each other; no shift along an axis of one window. Heads: the
    largest divisor of C up to C / head_dim.
    """

    index: Tensor

    def __init__(
        self,
        channels: int,
        window: Count = 7,
        head_dim: Count = 32,
        shift: Annotated[bool, OneOf(False, True)] = False,
    ) -> None:
        super().__init__()
        c = channels
        self.window, self.shift = window, window // 2 if shift else 0
        self.num_heads = divisor(c, max(c // head_dim, 1))
        self.qkv, self.project = Pointwise(c, 3 * c), Pointwise(c, c)
        self.table = nn.Parameter(torch.empty((2 * window - 1) ** 2, self.num_heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        cell = torch.arange(window)
        offset = cell[:, None] - cell + window - 1  # [window, window]
        index = offset[:, None, :, None] * (2 * window - 1) + offset[None, :, None, :]
        self.register_buffer("index", index.reshape(window**2, window**2), persistent=False)
        self.attend, self.softmax = ScaledDotProduct(), nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        s, heads = self.window, self.num_heads
        rows, columns = (h + s - 1) // s, (w + s - 1) // s
        x_ = F.pad(x, (0, columns * s - w, 0, rows * s - h))
        down, right = self.shift * (rows > 1), self.shift * (columns > 1)
        bias = self.table[self.index].permute(2, 0, 1).unsqueeze(0)
        if self.shift:
            x_ = rolled(rolled(x_, 2, down), 3, right)
            apart = self.apart(rows, down, columns, right)  # [windows, s^2, s^2]
            bias = bias.masked_fill(apart.unsqueeze(1), float("-inf")).expand(b, -1, -1, -1, -1).flatten(0, 1)
        t = x_.reshape(b, c, rows, s, columns, s).permute(0, 2, 4, 3, 5, 1).reshape(-1, s, s, c)
        qkv = self.qkv(t.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(-1, s * s, 3, heads, c // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        t = self.attended(q, k, v, bias.to(q.dtype)).transpose(1, 2).reshape(-1, s, s, c)
        t = self.project(t.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = t.reshape(b, rows, columns, s, s, c).transpose(2, 3).reshape(b, rows * s, columns * s, c)
        if self.shift:
            y = rolled(rolled(y, 1, rows * s - down), 2, columns * s - right)
        return like(y[:, :h, :w].permute(0, 3, 1, 2), x)

    def attended(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """[B windows, heads, s^2, d] each -> the same."""
        if q.device.type == "cpu" and bias.requires_grad:  # no fused kernel for this: torch's fallback is slower
            logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            return self.softmax(logits.add_(bias)) @ v
        return self.attend(q, k, v, bias)

    def apart(self, rows: int, down: int, columns: int, right: int) -> Tensor:
        """Which pixels of a shifted window come from opposite borders: [windows, s^2, s^2]."""
        s, device = self.window, self.index.device

        def wrapped(count: int, by: int) -> Tensor:
            """Whether a line of the shifted map came round from the other end: [windows, s]."""
            return (torch.arange(count * s, device=device) >= count * s - by).reshape(count, s)

        one, two = wrapped(rows, down), wrapped(columns, right)
        region = one[:, None, :, None].int() * 2 + two[None, :, None, :].int()
        region = region.reshape(-1, s * s)
        return region.unsqueeze(1) != region.unsqueeze(2)

    def last(self) -> nn.Module:
        """The layer whose output is the block's."""
        return self.project


def rolled(x: Tensor, dim: int, by: int) -> Tensor:
    """x moved by that many lines towards 0, round the border; torch.roll does not export a traced number."""
    return torch.cat((x.narrow(dim, by, x.shape[dim] - by), x.narrow(dim, 0, by)), dim)
