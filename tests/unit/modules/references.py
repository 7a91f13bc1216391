"""The blocks once more, in NumPy fp64 from the papers' formulas, slow and plain; `scramble` for fair parity.

Each function takes the map [B, C, H, W] and the block's state dict as fp64 arrays, no code of the package.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]
State = dict[str, Array]


def scramble(block: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and running statistic random, so that no zero or symmetry hides a fault; eval mode."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in block.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
            if p.numel() == max(p.shape):
                p.add_(0.5 * p.sign())  # no scale or gate near zero
            else:
                p.mul_(p[0].numel() ** -0.5)
        for name, b in block.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(torch.randn(b.shape, generator=g))
            elif name.endswith("running_var"):
                b.copy_(torch.rand(b.shape, generator=g) + 0.5)
    return block.eval()


def state(block: nn.Module) -> State:
    return {key: value.double().numpy() for key, value in block.state_dict().items()}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def conv(x: Array, w: Array, bias: Array | None = None, groups: int = 1, dilation: int = 1) -> Array:
    """Correlation with zero padding to the same size; w: [O, C / groups, k, k']."""
    b, _, h, wd = x.shape
    o, per, kh, kw = w.shape
    y = np.zeros((b, o, h, wd))
    for out in range(o):
        first = out // (o // groups) * per
        for i in range(h):
            for j in range(wd):
                for u in range(kh):
                    for v in range(kw):
                        r, s = i + (u - kh // 2) * dilation, j + (v - kw // 2) * dilation
                        if 0 <= r < h and 0 <= s < wd:
                            y[:, out, i, j] += x[:, first : first + per, r, s] @ w[out, :, u, v]
    return y if bias is None else y + bias[:, None, None]


def norm(x: Array, p: State, key: str, eps: float = 1e-5) -> Array:
    """Batch norm at its running statistics."""
    m, v, g, b = (p[f"{key}.{n}"][:, None, None] for n in ("running_mean", "running_var", "weight", "bias"))
    return (x - m) / np.sqrt(v + eps) * g + b


def pool(x: Array) -> Array:
    return x.mean((2, 3), keepdims=True)


def eca(x: Array, p: State) -> Array:
    c = x.shape[1]
    (weight,) = p.values()
    k = weight.shape[-1]
    size = int(math.log2(c) / 2 + 0.5)
    assert k == (size if size % 2 else size + 1)
    z, y = x.mean((2, 3)), np.empty_like(x)
    for n in range(x.shape[0]):
        for i in range(c):
            near = range(max(i - k // 2, 0), min(i + k // 2, c - 1) + 1)
            y[n, i] = x[n, i] * sigmoid(sum(weight[0, 0, j - i + k // 2] * z[n, j] for j in near))
    return y


def simam(x: Array, p: State) -> Array:
    y = np.empty_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            t = x[n, c]
            d = (t - t.mean()) ** 2
            variance = d.sum() / (t.size - 1)
            y[n, c] = t * sigmoid(d / (4 * (variance + 1e-4)) + 0.5)
    return y


def shuffle(x: Array, p: State) -> Array:
    b, c = x.shape[:2]
    half = p["channel_weight"].size
    q = {key: value.reshape(-1) for key, value in p.items()}
    gated, y = np.empty_like(x), np.empty_like(x)
    for n in range(b):
        for i in range(c):
            t, in_group = x[n, i], i % (2 * half)
            k = in_group % half
            if in_group < half:
                gated[n, i] = t * sigmoid(q["channel_weight"][k] * t.mean() + q["channel_bias"][k])
            else:
                u = (t - t.mean()) / np.sqrt(t.var() + 1e-5) * q["norm.weight"][k] + q["norm.bias"][k]
                gated[n, i] = t * sigmoid(q["spatial_weight"][k] * u + q["spatial_bias"][k])
    for i in range(c):
        y[:, i] = gated[:, i // 2 + i % 2 * (c // 2)]
    return y


def triplet(x: Array, p: State) -> Array:
    total = np.zeros_like(x)
    for gate, axis in enumerate((2, 3, 1)):
        pooled = np.stack((x.max(axis), x.mean(axis)), 1)
        z = norm(conv(pooled, p[f"gates.{gate}.conv.0.weight"]), p, f"gates.{gate}.conv.1")
        total += x * np.expand_dims(sigmoid(z)[:, 0], axis)
    return total / 3


def parnet(x: Array, p: State) -> Array:
    skip = norm(x, p, "norm")
    sse = skip * sigmoid(conv(pool(skip), p["excite.weight"]))
    three = norm(conv(x, p["conv.0.weight"]), p, "conv.1")
    one = norm(conv(x, p["point.0.weight"]), p, "point.1")
    return silu(three + one + sse)


def sk(x: Array, p: State) -> Array:
    c = x.shape[1]
    groups = math.gcd(32, c)
    u1 = relu(norm(conv(x, p["near.0.weight"], groups=groups), p, "near.1"))
    u2 = relu(norm(conv(x, p["far.0.weight"], groups=groups, dilation=2), p, "far.1"))
    z = relu(norm(conv(pool(u1 + u2), p["squeeze.0.weight"]), p, "squeeze.1"))
    e1, e2 = np.exp(conv(z, p["select.weight"][:c])), np.exp(conv(z, p["select.weight"][c:]))
    return (e1 * u1 + e2 * u2) / (e1 + e2)


def s2(x: Array, p: State) -> Array:
    b, c, h, w = x.shape
    parts = np.split(conv(x, p["expand.weight"], p["expand.bias"]), 3, axis=1)
    # the neighbour that a cell of channel quarter 1, 2, 3, 4 takes its value from, in each of the two shifts
    sources = (((-1, 0), (1, 0), (0, -1), (0, 1)), ((0, -1), (0, 1), (-1, 0), (1, 0)))
    for part, source in zip(parts, sources, strict=False):
        before = part.copy()
        for i in range(c):
            dr, dc = source[i // (c // 4)]
            for r in range(h):
                for s in range(w):
                    inside = 0 <= r + dr < h and 0 <= s + dc < w
                    part[:, i, r, s] = before[:, i, r + dr, s + dc] if inside else before[:, i, r, s]
    t = conv(pool(sum(parts)), p["squeeze.weight"])
    gelu = 0.5 * t * (1 + np.vectorize(math.erf)(t / math.sqrt(2)))
    a = softmax(conv(gelu, p["select.weight"]).reshape(b, 3, c, 1, 1), 1)
    return conv(sum(a[:, k] * parts[k] for k in range(3)), p["project.weight"], p["project.bias"])


def cot(x: Array, p: State) -> Array:
    b, c, h, w = x.shape
    planes, groups, k = c // 8, 4, 3
    s = relu(norm(conv(x, p["static.0.weight"], groups=groups), p, "static.1"))
    t = relu(norm(conv(np.concatenate((x, s), 1), p["weigh.0.0.weight"]), p, "weigh.0.1"))
    t = conv(t, p["weigh.1.weight"], p["weigh.1.bias"]).reshape(b, planes, k * k, h, w)
    mean, var = t.mean((2, 3, 4), keepdims=True), t.var((2, 3, 4), keepdims=True)
    scale, shift = (p[f"weigh.2.{n}"].reshape(planes, k * k, 1, 1) for n in ("weight", "bias"))
    weight = (t - mean) / np.sqrt(var + 1e-5) * scale + shift
    v = norm(conv(x, p["value.0.weight"]), p, "value.1")
    o = np.zeros_like(v)
    for i in range(c):
        for r in range(h):
            for q in range(w):
                for u in range(k):
                    for z in range(k):
                        y, a = r + u - 1, q + z - 1
                        if 0 <= y < h and 0 <= a < w:
                            o[:, i, r, q] += weight[:, i % planes, u * k + z, r, q] * v[:, i, y, a]
    o = silu(norm(o, p, "dynamic.0"))
    g = conv(pool(o + s), p["select.0.weight"], p["select.0.bias"])
    g = conv(relu(norm(g, p, "select.1")), p["select.3.weight"], p["select.3.bias"])
    a = softmax(g.reshape(b, c, 2, 1, 1), 2)
    return a[:, :, 0] * o + a[:, :, 1] * s


def mhsa(x: Array, p: State, heads: int = 4) -> Array:
    b, c, h, w = x.shape
    d = c // heads
    q, k, v = np.split(conv(x, p["qkv.weight"]), 3, axis=1)

    def stretched(table: Array, n: int) -> Array:
        at = np.linspace(0, len(table) - 1, 2 * n - 1) if n > 1 else np.array([(len(table) - 1) / 2])
        return np.stack([np.interp(at, np.arange(len(table)), column) for column in table.T], 1)

    rh, rw = stretched(p["rows.table"], h), stretched(p["columns.table"], w)
    cells = [(r, s) for r in range(h) for s in range(w)]
    y = np.zeros_like(x)
    for n in range(b):
        for lo in range(0, c, d):
            part = slice(lo, lo + d)
            for r, s in cells:
                qi = q[n, part, r, s]
                keys = [k[n, part, i, j] + rh[i - r + h - 1] + rw[j - s + w - 1] for i, j in cells]
                a = softmax(np.array([qi @ key for key in keys]) / math.sqrt(d), 0)
                y[n, part, r, s] = sum(a[m] * v[n, part, i, j] for m, (i, j) in enumerate(cells))
    return y


LOOPS = {f.__name__: f for f in (cot, eca, mhsa, parnet, s2, shuffle, simam, sk, triplet)}

# every option of each block at a value other than its default, for the contract
OTHER_OPTIONS = {
    "cot": {"kernel_size": 5, "groups": 1, "share": 4},
    "eca": {"kernel_size": 7},
    "mhsa": {"num_heads": 1, "feat_size": 7},
    "mobilevit": {"dim": 40, "depth": 1, "num_heads": 8},
    "parnet": {"kernel_size": 5},
    "shuffle": {"groups": 1},
    "simam": {"e_lambda": 1e-2},
    "sk": {"groups": 1, "reduction": 4, "min_dim": 8},
    "triplet": {"kernel_size": 3},
}
