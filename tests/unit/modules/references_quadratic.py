"""The quadratic blocks once more, in NumPy fp64 loops over pixels, from the papers' formulas."""

from __future__ import annotations

import numpy as np
from references import Array, State, conv, norm, relu, silu, softmax


def attend(q: Array, k: Array, v: Array, scale: float) -> Array:
    """One image, one head: q [d, N], k [d, M], v [e, M] -> [e, N]; query by query."""
    y = np.zeros((v.shape[0], q.shape[1]))
    for i in range(q.shape[1]):
        a = softmax(np.array([scale * (q[:, i] @ k[:, j]) for j in range(k.shape[1])]), 0)
        y[:, i] = sum(a[j] * v[:, j] for j in range(k.shape[1]))
    return y


def pixels(x: Array) -> Array:
    return x.reshape(*x.shape[:2], -1)


def position_attention(x: Array, p: State, key: str, heads: int) -> Array:
    b, c, h, w = x.shape
    d, e = c // heads // 2, c // heads
    t = norm(conv(x, p[f"{key}.qkv.0.weight"]), p, f"{key}.qkv.1")
    q, k, v = t[:, : heads * d], t[:, heads * d : 2 * heads * d], t[:, 2 * heads * d :]
    y = np.zeros_like(x)
    for n in range(b):
        for i in range(heads):
            narrow, broad = slice(i * d, (i + 1) * d), slice(i * e, (i + 1) * e)
            one = attend(pixels(q)[n, narrow], pixels(k)[n, narrow], pixels(v)[n, broad], d**-0.5)
            y[n, broad] = one.reshape(e, h, w)
    y = y + norm(conv(v, p[f"{key}.position.0.weight"], groups=c), p, f"{key}.position.1")
    return norm(conv(y, p[f"{key}.project.0.weight"]), p, f"{key}.project.1")


def feed_forward(x: Array, p: State) -> Array:
    t = silu(norm(conv(x, p["mlp.0.0.weight"]), p, "mlp.0.1"))
    return norm(conv(t, p["mlp.1.0.weight"]), p, "mlp.1.1")


def psa(x: Array, p: State) -> Array:
    half = x.shape[1] // 2
    t = silu(norm(conv(x, p["enter.0.weight"]), p, "enter.1"))
    a, z = t[:, :half], t[:, half:]
    z = z + position_attention(z, p, "attention", 1)
    z = z + feed_forward(z, p)
    return silu(norm(conv(np.concatenate((a, z), 1), p["leave.0.weight"]), p, "leave.1"))


def psablock(x: Array, p: State) -> Array:
    z = x + position_attention(x, p, "attention", 1)
    return z + feed_forward(z, p)


def non_local(x: Array, p: State) -> Array:
    b, c, h, w = x.shape
    theta, phi, g = np.split(pixels(conv(x, p["embed.weight"], p["embed.bias"])), 3, axis=1)
    y = np.stack([attend(theta[n], phi[n], g[n], 1.0) for n in range(b)]).reshape(b, c // 2, h, w)
    return x + norm(conv(y, p["project.0.weight"]), p, "project.1")


def danet(x: Array, p: State) -> Array:
    b, c, h, w = x.shape
    r = c // 8
    t = pixels(conv(x, p["embed.weight"], p["embed.bias"]))
    y = np.array(x)
    for n in range(b):
        y[n] += p["alpha"] * attend(t[n, :r], t[n, r : 2 * r], t[n, 2 * r :], 1.0).reshape(c, h, w)
        for j in range(c):
            energy = np.array([(x[n, j] * x[n, i]).sum() for i in range(c)])
            a = softmax(energy.max() - energy, 0)
            y[n, j] += p["beta"] * sum(a[i] * x[n, i] for i in range(c))
    return y


def strided(x: Array, weight: Array, stride: int, bias: float | Array = 0.0) -> Array:
    """Depthwise correlation with a stride, zeros of half the kernel around: [B, C, H, W] -> smaller."""
    k, (b, c, h, w) = weight.shape[-1], x.shape
    pad = k // 2 if k % 2 else (k - 1) // 2
    rows, columns = (h + 2 * pad - k) // stride + 1, (w + 2 * pad - k) // stride + 1
    y = np.zeros((b, c, rows, columns))
    for i in range(rows):
        for j in range(columns):
            for u in range(k):
                for v in range(k):
                    r, s = i * stride + u - pad, j * stride + v - pad
                    if 0 <= r < h and 0 <= s < w:
                        y[:, :, i, j] += x[:, :, r, s] * weight[:, 0, u, v]
    return y + np.reshape(bias, (-1, 1, 1))


def mqa(x: Array, p: State) -> Array:
    b, c = x.shape[:2]
    heads = max(1, c // 32)
    d = c // heads
    q = np.einsum("oc,bcn->bon", p["query.weight"], pixels(x))
    maps = [strided(x, p[f"{name}_map.weight"], 2) for name in ("key", "value")]
    small = pixels(norm(np.concatenate(maps, 1), p, "norm"))
    k = np.einsum("oc,bcn->bon", p["key.weight"], small[:, :c])
    v = np.einsum("oc,bcn->bon", p["value.weight"], small[:, c:])
    y = np.zeros_like(pixels(x))
    for n in range(b):
        for i in range(heads):
            y[n, i * d : (i + 1) * d] = attend(q[n, i * d : (i + 1) * d], k[n], v[n], d**-0.5)
    return np.einsum("oc,bcn->bon", p["project.weight"], y).reshape(x.shape)


def shsa(x: Array, p: State) -> Array:
    b, _, h, w = x.shape
    part, d = 8, 16
    y = np.array(x)
    for n in range(b):
        a = x[n, :part]
        a = (a - a.mean()) / np.sqrt(a.var() + 1e-5)
        a = a * p["norm.weight"][:, None, None] + p["norm.bias"][:, None, None]
        t = pixels(norm(conv(a[None], p["qkv.0.weight"]), p, "qkv.1"))[0]
        y[n, :part] = attend(t[:d], t[d : 2 * d], t[2 * d :], d**-0.5).reshape(part, h, w)
    return x + norm(conv(relu(y), p["project.0.weight"]), p, "project.1")


def emsa(x: Array, p: State) -> Array:
    b, c, h, w = x.shape
    heads = 2
    d = c // heads
    q = pixels(conv(x, p["query.weight"]))
    small = pixels(strided(x, p["down.weight"], 4, p["down.bias"]))  # [B, C, M]
    small = (small - small.mean(1, keepdims=True)) / np.sqrt(small.var(1, keepdims=True) + 1e-5)
    small = small * p["norm.weight"][:, None]
    k, v = np.split(np.einsum("oc,bcm->bom", p["key_value.weight"], small), 2, axis=1)
    y = np.zeros_like(pixels(x))
    for n in range(b):
        by_head = [q[n, i * d : (i + 1) * d].T @ k[n, i * d : (i + 1) * d] / np.sqrt(d) for i in range(heads)]
        for g in range(heads):
            a = softmax(sum(p["mix"][g, i] * by_head[i] for i in range(heads)), 1)  # [N, M]
            a = (a - a.mean()) / np.sqrt(a.var() + 1e-5)
            y[n, g * d : (g + 1) * d] = v[n, g * d : (g + 1) * d] @ a.T
    return conv(y.reshape(b, c, h, w), p["project.weight"], p["project.bias"])


LOOPS = {f.__name__: f for f in (danet, emsa, mqa, non_local, psa, psablock, shsa)}

OTHER_OPTIONS = {
    "danet": {"reduction": 4},
    "emsa": {"num_heads": 4, "stride": 2},
    "mqa": {"num_heads": 4, "kv_stride": 1},
    "non_local": {"reduction": 4, "scaled": True},
    "psa": {"expansion": 0.25, "num_heads": 2},
    "psablock": {"key_ratio": 1.0, "num_heads": 4},
    "shsa": {"partial_dim": 12, "key_dim": 8},
}
