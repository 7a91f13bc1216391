"""No block: softmax attention of pixels over pixels, tile by tile; the core of the blocks beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from modules.macs import counted

TILE = 320_000  # logits at a time: 1.3 MB in fp32, which stays in the cache


def products(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """q^T k and v a^T: B heads N M (d + e)."""
    q, k, v = inputs[:3]
    b, heads, d, n = q.shape
    return b * heads * n * k.shape[-1] * (d + v.shape[-2])


def macs(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """The two products and the softmax by thop's rule, 3 M - 1 a query."""
    b, heads, _, n = inputs[0].shape
    return products(module, inputs, output) + b * heads * n * (3 * inputs[1].shape[-1] - 1)


@counted(macs, products)
class PixelAttention(nn.Module):
    """softmax(scale q^T k) v on channels-first pixels, as convolutions leave them.

    Nothing of size N x M is ever held where N x M is large. PyTorch's fused attention does that too, but on a CPU
    for d = e only, and zeros to that end cost up to half the time (d = 16, e = 128): there it goes by tiles, forward
    and backward. Low precision on a CPU takes PyTorch's for any d and e, whose logits are fp32.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q: [B, heads, d, N], k: [B, heads or 1, d, M], v: [B, heads or 1, e, M] -> [B, heads, e, N]."""
        k, v = (t.expand(-1, q.shape[1], -1, -1) for t in (k, v))
        if torch.jit.is_tracing():
            return v @ ((q * self.scale).transpose(-1, -2) @ k).softmax(-1).transpose(-1, -2)
        exact = q.dtype in (torch.float32, torch.float64)
        if q.device.type == "cpu" and exact and q.shape[2] != v.shape[2] and not torch.compiler.is_compiling():
            y = _Tiled.apply(*(t.flatten(0, 1) for t in (q * self.scale, k, v)))
            return y.unflatten(0, q.shape[:2])
        q, k, v = (t.transpose(-1, -2).contiguous() for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(-1, -2)


class _Tiled(torch.autograd.Function):
    """q: [G, d, N], k: [G, d, M], v: [G, e, M] -> [G, e, N]; a single tile is kept for the backward pass, which
    makes several once more."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.shape[0] * q.shape[2] * k.shape[2] <= TILE:
            a = torch.bmm(q.transpose(1, 2), k).softmax(-1)
            y = torch.bmm(v, a.transpose(1, 2))
            ctx.save_for_backward(q, k, v, y, a)
            return y
        y = v.new_empty(v.shape[0], v.shape[1], q.shape[2])
        for g, n in tiles(q.shape[0], q.shape[2], k.shape[2]):
            a = torch.bmm(q[g, :, n].transpose(1, 2), k[g]).softmax(-1)
            y[g, :, n] = torch.bmm(v[g], a.transpose(1, 2))
        ctx.save_for_backward(q, k, v, y, None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, y, kept = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        mean = (dy * y).sum(1).unsqueeze(-1)  # [G, N, 1], of each query's gradient under its attention
        for g, n in tiles(q.shape[0], q.shape[2], k.shape[2]):
            a = torch.bmm(q[g, :, n].transpose(1, 2), k[g]).softmax(-1) if kept is None else kept
            dv[g].baddbmm_(dy[g, :, n], a)
            da = torch.bmm(dy[g, :, n].transpose(1, 2), v[g]).sub_(mean[g, n]).mul_(a)
            dq[g, :, n] = torch.bmm(k[g], da.transpose(1, 2))
            dk[g].baddbmm_(q[g, :, n], da)
        return dq, dk, dv


def tiles(groups: int, n: int, m: int) -> Iterator[tuple[slice, slice]]:
    """Groups and queries of at most TILE logits, or one query's: many whole groups, or some queries of one."""
    several, rows = max(1, TILE // (n * m)), min(n, max(1, TILE // m))
    for group in range(0, groups, several):
        for row in range(0, n, rows):
            yield slice(group, group + several), slice(row, row + rows)
