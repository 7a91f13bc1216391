"""No block: softmax attention of pixels over pixels, tile by tile; the core of the blocks beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from modules.macs import counted

TILE = 640_000  # logits at a time: 2.6 MB in fp32, which stays in the cache
Along = tuple[Tensor, Tensor]  # what is added to the logits of a query for each row and each column of the keys


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
    """softmax(scale q^T k + bias) v on channels-first pixels, as convolutions leave them.

    Nothing of size N x M is held where N x M is large, but for a bias where PyTorch's fused attention is used. On a CPU
    that is slower than explicit products where N x M is small, and takes d = e only (zeros to that end cost up to
    half the time: d = 16, e = 128): there it goes by tiles, forward and backward. Low precision on a CPU takes
    PyTorch's for any d and e, whose logits are fp32.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor, along: Along | None = None) -> Tensor:
        """q: [B, heads, d, N], k: [B, heads or 1, d, M], v: [B, heads or 1, e, M] -> [B, heads, e, N]; `along`, where
        M = H W: [B, heads, N, H] and [B, heads, N, W], whose sum is the bias."""
        k, v = (t.expand(-1, q.shape[1], -1, -1) for t in (k, v))
        if unfused(q, k, fusible=along is None and q.shape[2] == v.shape[2]):
            flat = [t.flatten(0, 1) for t in (q, k, v, *(along or ()))]
            return (whole if held(q, k) else _Tiled.apply)(self.scale, *flat).unflatten(0, q.shape[:2])
        bias = None if along is None else (along[0].unsqueeze(-1) + along[1].unsqueeze(-2)).flatten(3)
        if torch.jit.is_tracing():
            logits = (q * self.scale).transpose(-1, -2) @ k
            return v @ (logits if bias is None else logits + bias).softmax(-1).transpose(-1, -2)
        q, k, v = (t.transpose(-1, -2).contiguous() for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, bias, scale=self.scale).transpose(-1, -2)


def unfused(q: Tensor, k: Tensor, fusible: bool) -> bool:
    """Whether the products are faster one by one; the fused kernel, which takes d = e, has the faster gradient of
    many logits."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling() or q.device.type != "cpu":
        return False
    if q.dtype not in (torch.float32, torch.float64):
        return False
    return held(q, k) or not (fusible and torch.is_grad_enabled() and q.requires_grad)


def held(q: Tensor, k: Tensor) -> bool:
    """Whether all logits are held, for the backward pass where there is one: one map's few, or few altogether."""
    groups = 1 if torch.is_grad_enabled() and q.requires_grad else q.shape[:2].numel()
    return groups * q.shape[3] * k.shape[3] <= TILE


def whole(scale: float, q: Tensor, k: Tensor, v: Tensor, *along: Tensor) -> Tensor:
    """What `_Tiled` computes, in one piece."""
    return torch.bmm(weights(scale, q.transpose(1, 2), k, along), v.transpose(1, 2)).transpose(1, 2)


class _Tiled(torch.autograd.Function):
    """q: [G, d, N], k: [G, d, M], v: [G, e, M], along: [G, N, H], [G, N, W] or none -> [G, e, N]. The backward
    pass makes each tile once more."""

    @staticmethod
    def forward(ctx: Any, scale: float, q: Tensor, k: Tensor, v: Tensor, *along: Tensor) -> Tensor:
        q, v, ctx.scale = q.transpose(1, 2), v.transpose(1, 2), scale
        y = v.new_empty(v.shape[0], q.shape[1], v.shape[2])
        for g, n in tiles(q.shape[0], q.shape[1], k.shape[2]):
            y[g, n] = torch.bmm(weights(scale, q[g, n], k[g], [t[g, n] for t in along]), v[g])
        ctx.save_for_backward(q, k, v, y, *along)
        return y.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        s, (q, k, v, y, *along) = ctx.scale, ctx.saved_tensors
        dy = dy.transpose(1, 2).contiguous()
        mean = (dy * y).sum(2, keepdim=True)  # [G, N, 1], of each query's gradient under its attention
        dq, dk, dv = q.new_empty(q.shape), torch.zeros_like(k), v.new_zeros(v.shape)
        dalong = [torch.empty_like(t) for t in along]
        for g, n in tiles(q.shape[0], q.shape[1], k.shape[2]):
            a = weights(s, q[g, n], k[g], [t[g, n] for t in along])
            dv[g].baddbmm_(a.transpose(1, 2), dy[g, n])
            da = torch.bmm(dy[g, n], v[g].transpose(1, 2)).sub_(mean[g, n]).mul_(a)
            dq[g, n] = torch.bmm(da, k[g].transpose(1, 2)).mul_(s)
            dk[g].baddbmm_(q[g, n].transpose(1, 2), da, alpha=s)
            for dt, axis in zip(dalong, (3, 2), strict=False):
                dt[g, n] = da.unflatten(2, (along[0].shape[2], -1)).sum(axis)
        return None, dq.transpose(1, 2), dk, dv.transpose(1, 2), *dalong


def weights(scale: float, q: Tensor, k: Tensor, along: Sequence[Tensor]) -> Tensor:
    """softmax(scale q k + bias) of q: [G, n, d], k: [G, d, M], along: [G, n, H], [G, n, W] or none, without a
    gradient in the memory of the logits."""
    logits = torch.baddbmm(q.new_empty(1), q, k, beta=0, alpha=scale)
    if along:
        grid = logits.unflatten(2, (along[0].shape[2], along[1].shape[2]))
        add = torch.add if logits.requires_grad else Tensor.add_  # a view changed in place costs copies of gradients
        logits = add(grid, along[0].unsqueeze(3)).add_(along[1].unsqueeze(2)).flatten(2)
    if logits.requires_grad:
        return logits.softmax(-1)
    return torch.softmax(logits, -1, out=logits)  # row by row, each read before it is written


def tiles(groups: int, n: int, m: int) -> Iterator[tuple[slice, slice]]:
    """Groups and queries of at most TILE logits, or one query's: many whole groups, or some queries of one."""
    several, rows = max(1, TILE // (n * m)), min(n, max(1, TILE // m))
    for group in range(0, groups, several):
        for row in range(0, n, rows):
            yield slice(group, group + several), slice(row, row + rows)
