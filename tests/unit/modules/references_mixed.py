"""CBAM, BAM, scSE, SGE, MCA, coordinate attention, ELA and EMA in NumPy fp64, from the papers' formulas."""

import math

import numpy as np
from references import Array, State, conv, norm, pool, relu, sigmoid, softmax


def dense(v: Array, p: State, key: str) -> Array:
    return p[f"{key}.weight"] @ v + p[f"{key}.bias"]


def group_norm(v: Array, groups: int, weight: Array, bias: Array) -> Array:
    """One image's [C, L]."""
    y = np.empty_like(v)
    per = len(v) // groups
    for lo in range(0, len(v), per):
        part = v[lo : lo + per]
        y[lo : lo + per] = (part - part.mean()) / np.sqrt(part.var() + 1e-5)
    return y * weight[:, None] + bias[:, None]


def conv1d(v: Array, w: Array) -> Array:
    """Correlation of a vector with zero padding to the same length."""
    k, n = len(w), len(v)
    return np.array([sum(w[t] * v[i + t - k // 2] for t in range(k) if 0 <= i + t - k // 2 < n) for i in range(n)])


def cbam(x: Array, p: State) -> Array:
    y = np.empty_like(x)
    for n, image in enumerate(x):
        c = sum(dense(relu(dense(v, p, "mlp.0")), p, "mlp.2") for v in (image.mean((1, 2)), image.max((1, 2))))
        y[n] = image * sigmoid(c)[:, None, None]
    planes = np.stack((y.max(1), y.mean(1)), 1)
    return y * sigmoid(norm(conv(planes, p["spatial.0.weight"]), p, "spatial.1"))


def bam(x: Array, p: State) -> Array:
    c = relu(norm(conv(pool(x), p["channel.0.weight"]), p, "channel.1"))
    c = conv(c, p["channel.3.weight"], p["channel.3.bias"])
    s = relu(norm(conv(x, p["spatial.0.weight"]), p, "spatial.1"))
    s = relu(norm(conv(s, p["spatial.3.weight"], dilation=4), p, "spatial.4"))
    s = relu(norm(conv(s, p["spatial.6.weight"], dilation=4), p, "spatial.7"))
    s = conv(s, p["spatial.9.weight"], p["spatial.9.bias"])
    return x + x * sigmoid(c + s)


def scse(x: Array, p: State) -> Array:
    y = np.empty_like(x)
    w, b = p["spatial.weight"][0, :, 0, 0], p["spatial.bias"][0]
    for n, image in enumerate(x):
        c = sigmoid(dense(relu(dense(image.mean((1, 2)), p, "channel.0")), p, "channel.2"))
        s = sigmoid(np.einsum("c,chw->hw", w, image) + b)
        y[n] = c[:, None, None] * image + s * image
    return y


def sge(x: Array, p: State) -> Array:
    y = np.empty_like(x)
    groups = len(p["weight"])
    per = x.shape[1] // groups
    for n in range(len(x)):
        for k in range(groups):
            part = x[n, k * per : (k + 1) * per]
            vector = part.mean((1, 2))
            t = sum(vector[i] * part[i] for i in range(per))
            t = (t - t.mean()) / (t.std(ddof=1) + 1e-5)
            y[n, k * per : (k + 1) * per] = part * sigmoid(p["weight"][k] * t + p["bias"][k])
    return y


def mca(x: Array, p: State) -> Array:
    k = round((math.log2(x.shape[1]) - 1) / 1.5)
    assert p["channels.conv.weight"].size == (k if k % 2 else k - 1)
    total = np.zeros_like(x)
    for n, image in enumerate(x):
        for name, axis in (("rows", 1), ("columns", 2), ("channels", 0)):
            a, b = p[f"{name}.mix"]
            slices = np.moveaxis(image, axis, 0)
            mean, std = (np.array([f(part) for part in slices]) for f in (np.mean, lambda part: part.std(ddof=1)))
            z = (mean + std) / 2 + sigmoid(a) * mean + sigmoid(b) * std
            gate = sigmoid(conv1d(z, p[f"{name}.conv.weight"][0, 0]))
            total[n] += image * np.expand_dims(gate, [i for i in range(3) if i != axis])
    return total / 3


def coord(x: Array, p: State) -> Array:
    def squeezed(z: Array) -> Array:
        f = norm(conv(z, p["squeeze.0.weight"]), p, "squeeze.1")
        return f * np.clip(f + 3, 0, 6) / 6

    rows = conv(squeezed(x.mean(3, keepdims=True)), p["rows.weight"], p["rows.bias"])
    columns = conv(squeezed(x.mean(2, keepdims=True)), p["columns.weight"], p["columns.bias"])
    return x * sigmoid(rows) * sigmoid(columns)


def ela(x: Array, p: State) -> Array:
    def gate(z: Array) -> Array:
        f = np.stack([conv1d(line, w[0]) for line, w in zip(z, p["conv.weight"], strict=True)])
        return sigmoid(group_norm(f, 16, p["norm.weight"], p["norm.bias"]))

    y = np.empty_like(x)
    for n, image in enumerate(x):
        y[n] = image * gate(image.mean(2))[:, :, None] * gate(image.mean(1))[:, None, :]
    return y


def ema(x: Array, p: State, groups: int = 8) -> Array:
    y = np.empty_like(x)
    c = x.shape[1] // groups
    w1, b1 = p["point.weight"][:, :, 0], p["point.bias"][:, None]
    for n in range(len(x)):
        for lo in range(0, x.shape[1], c):
            part = x[n, lo : lo + c]
            h, w = (sigmoid(w1 @ part.mean(axis) + b1) for axis in (2, 1))
            u = (part * h[:, :, None] * w[:, None, :]).reshape(c, -1)
            x1 = group_norm(u, c, p["norm.weight"], p["norm.bias"]).reshape(part.shape)
            x2 = conv(part[None], p["conv.weight"], p["conv.bias"])[0]
            s1, s2 = softmax(x1.mean((1, 2)), 0), softmax(x2.mean((1, 2)), 0)
            y[n, lo : lo + c] = part * sigmoid(sum(s1[i] * x2[i] + s2[i] * x1[i] for i in range(c)))
    return y


LOOPS = {f.__name__: f for f in (bam, cbam, coord, ela, ema, mca, scse, sge)}

OTHER_OPTIONS = {
    "bam": {"reduction": 4, "min_dim": 1, "dilation": 1, "fuse": "product"},
    "cbam": {"reduction": 4, "min_dim": 1, "kernel_size": 3},
    "coord": {"reduction": 4, "min_dim": 2},
    "ela": {"kernel_size": 5, "groups": 32},
    "ema": {"groups": 2},
    "mca": {"kernel_size": 1, "channel_kernel": 7},
    "scse": {"reduction": 4, "fuse": "max"},
    "sge": {"groups": 64},
}
