"""References of the large-kernel blocks: LKA, LSKA, LSK, MSCA, CAA, focal modulation, StarNet's block."""

from __future__ import annotations

import math

import numpy as np
from references import Array, State, conv, norm, sigmoid, silu


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def deep(x: Array, w: Array, bias: Array | None = None, dilation: int = 1) -> Array:
    """Depthwise: each output takes in turn the cells that it sees, zeros beyond the border."""
    c, h, wd = x.shape[1:]
    kh, kw = w.shape[2:]
    y = np.zeros_like(x)
    for i in range(h):
        for j in range(wd):
            for u in range(kh):
                for v in range(kw):
                    r, s = i + dilation * (u - (kh - 1) // 2), j + dilation * (v - (kw - 1) // 2)
                    if 0 <= r < h and 0 <= s < wd:
                        y[:, :, i, j] += x[:, :, r, s] * w[:, 0, u, v]
    return y if bias is None else y + bias.reshape(1, c, 1, 1)


def point(x: Array, p: State, key: str) -> Array:
    """A 1x1 convolution: one matrix for all pixels."""
    bias = p.get(f"{key}.bias")
    y = np.einsum("oc,bchw->bohw", p[f"{key}.weight"][:, :, 0, 0], x)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def wb(p: State, key: str) -> tuple[Array, Array]:
    return p[f"{key}.weight"], p[f"{key}.bias"]


def lka(x: Array, p: State) -> Array:
    near = deep(x, *wb(p, "near"))
    far = deep(near, *wb(p, "far.1"), dilation=3)
    assert p["near.weight"].shape[2:] == (5, 5)
    assert p["far.1.weight"].shape[2:] == (7, 7)
    return x * point(far, p, "mix")


def lska(x: Array, p: State) -> Array:
    t = deep(x, *wb(p, "near.0"))
    t = deep(t, *wb(p, "near.1"))
    t = deep(t, *wb(p, "far.0.1"), dilation=3)
    t = deep(t, *wb(p, "far.1"), dilation=3)
    shapes = [p[f"{key}.weight"].shape[2:] for key in ("near.0", "near.1", "far.0.1", "far.1")]
    assert shapes == [(1, 5), (5, 1), (1, 7), (7, 1)]
    return x * point(t, p, "mix")


def lsk(x: Array, p: State) -> Array:
    u1 = deep(x, *wb(p, "near"))
    u2 = deep(u1, *wb(p, "far.1"), dilation=3)
    a1, a2 = point(u1, p, "reduce.0"), point(u2, p, "reduce.1")
    assert a1.shape[1] == x.shape[1] // 2
    both = np.concatenate((a1, a2), 1)
    pooled = np.stack((both.mean(1), both.max(1)), 1)
    s = sigmoid(conv(pooled, *wb(p, "squeeze")))
    return x * point(a1 * s[:, 0:1] + a2 * s[:, 1:2], p, "mix")


def msca(x: Array, p: State) -> Array:
    u = deep(x, *wb(p, "near"))
    total = u.copy()
    for i, k in enumerate((7, 11, 21)):
        assert p[f"strips.{i}.0.weight"].shape[2:] == (1, k)
        assert p[f"strips.{i}.1.weight"].shape[2:] == (k, 1)
        total += deep(deep(u, *wb(p, f"strips.{i}.0")), *wb(p, f"strips.{i}.1"))
    return x * point(total, p, "mix")


def caa(x: Array, p: State) -> Array:
    h, w = x.shape[2:]
    pooled = np.zeros_like(x)
    for i in range(h):
        for j in range(w):
            pooled[:, :, i, j] = x[:, :, max(i - 3, 0) : i + 4, max(j - 3, 0) : j + 4].sum((2, 3)) / 49
    t = silu(norm(point(pooled, p, "before.0"), p, "before.1", eps=1e-3))
    t = deep(deep(t, *wb(p, "strips.0")), *wb(p, "strips.1"))
    assert p["strips.0.weight"].shape[2:] == (1, 11)
    assert p["strips.1.weight"].shape[2:] == (11, 1)
    return x * sigmoid(silu(norm(point(t, p, "after.0"), p, "after.1", eps=1e-3)))


def focal(x: Array, p: State) -> Array:
    z, g = point(x, p, "context"), point(x, p, "weigh")
    z1 = gelu(deep(z, p["focus.0.weight"]))
    z2 = gelu(deep(z1, p["focus.1.weight"]))
    z3 = gelu(z2.mean((2, 3), keepdims=True))
    assert p["focus.0.weight"].shape[2:] == (3, 3)
    assert p["focus.1.weight"].shape[2:] == (5, 5)
    modulator = point(g[:, 0:1] * z1 + g[:, 1:2] * z2 + g[:, 2:3] * z3, p, "modulate")
    return point(point(x, p, "query") * modulator, p, "project")


def star(x: Array, p: State) -> Array:
    u = norm(deep(x, p["before.0.weight"]), p, "before.1")
    one, two = point(u, p, "one"), point(u, p, "two")
    assert one.shape[1] == two.shape[1] == 3 * x.shape[1]
    v = np.clip(one, 0, 6) * two
    return x + deep(norm(point(v, p, "reduce.0"), p, "reduce.1"), *wb(p, "after"))


LOOPS = {f.__name__: f for f in (caa, focal, lka, lsk, lska, msca, star)}

OTHER_OPTIONS = {
    "caa": {"kernel_size": 5, "pool_size": 3, "norm": False},
    "focal": {"levels": 3, "window": 5, "factor": 0},
    "lka": {"kernel_size": 3, "far_size": 5, "dilation": 2},
    "lsk": {"kernel_size": 3, "far_size": 5, "dilation": 1},
    "lska": {"kernel_size": 11},
    "msca": {"strips": (3, 5), "kernel_size": 3},
    "star": {"ratio": 1, "kernel_size": 5},
}
