"""Channel gates once more: se, ese, srm, gct, fca, nam, gc, ge."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from references import Array, State, relu, sigmoid, softmax


def se(x: Array, p: State) -> Array:
    y = np.empty_like(x)
    for n in range(x.shape[0]):
        z = np.array([plane.mean() for plane in x[n]])
        s = p["excite.weight"] @ relu(p["squeeze.weight"] @ z + p["squeeze.bias"]) + p["excite.bias"]
        for c in range(x.shape[1]):
            y[n, c] = x[n, c] / (1 + math.exp(-s[c]))
    return y


def ese(x: Array, p: State) -> Array:
    y = np.empty_like(x)
    for n in range(x.shape[0]):
        z = [plane.mean() for plane in x[n]]
        for c in range(x.shape[1]):
            t = sum(w * v for w, v in zip(p["excite.weight"][c], z, strict=True)) + p["excite.bias"][c]
            y[n, c] = x[n, c] * min(max(t + 3, 0), 6) / 6
    return y


def srm(x: Array, p: State) -> Array:
    u, v, var, mean, scale, shift = (
        p[key].reshape(-1)
        for key in ("mean_weight", "std_weight", "norm.running_var", "norm.running_mean", "norm.weight", "norm.bias")
    )
    y = np.empty_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            t = x[n, c]
            m = t.sum() / t.size
            s = math.sqrt(((t - m) ** 2).sum() / t.size + 1e-5)
            z = (u[c] * m + v[c] * s - mean[c]) / math.sqrt(var[c] + 1e-5) * scale[c] + shift[c]
            y[n, c] = t * sigmoid(z)
    return y


def gct(x: Array, p: State) -> Array:
    channels = x.shape[1]
    alpha, gamma, beta = (p[key].reshape(-1) for key in ("alpha", "gamma", "beta"))
    y = np.empty_like(x)
    for n in range(x.shape[0]):
        s = [alpha[c] * math.sqrt((x[n, c] ** 2).sum() + 1e-5) for c in range(channels)]
        total = math.sqrt(sum(value**2 for value in s) + 1e-5)
        for c in range(channels):
            y[n, c] = x[n, c] * (1 + math.tanh(gamma[c] * math.sqrt(channels) * s[c] / total + beta[c]))
    return y


# table of the 16 best (vertical, horizontal) frequencies
BEST_U = (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2)
BEST_V = (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2)


def fca(x: Array, p: State, frequencies: int = 16) -> Array:
    b, channels, h, w = x.shape
    groups = max(d for d in range(1, frequencies + 1) if channels % d == 0)
    y = np.empty_like(x)
    for n in range(b):
        z = np.zeros(channels)
        for c in range(channels):
            group = c // (channels // groups)
            u, v = BEST_U[group], BEST_V[group]
            for i in range(7):
                for j in range(7):
                    r, s = (i * h // 7, math.ceil((i + 1) * h / 7)), (j * w // 7, math.ceil((j + 1) * w / 7))
                    cell = x[n, c, r[0] : r[1], s[0] : s[1]].mean()
                    wave = math.cos(math.pi * u * (i + 0.5) / 7) * math.cos(math.pi * v * (j + 0.5) / 7)
                    z[c] += cell * wave * math.sqrt(2 if u else 1) * math.sqrt(2 if v else 1) / 7
        g = sigmoid(p["excite.weight"] @ relu(p["squeeze.weight"] @ z))
        for c in range(channels):
            y[n, c] = x[n, c] * g[c]
    return y


def nam(x: Array, p: State) -> Array:
    scale, shift, mean, var = (p[f"norm.{key}"] for key in ("weight", "bias", "running_mean", "running_var"))
    total = sum(abs(value) for value in scale)
    y = np.empty_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            normed = scale[c] * (x[n, c] - mean[c]) / math.sqrt(var[c] + 1e-5) + shift[c]
            y[n, c] = sigmoid(abs(scale[c]) / total * normed) * x[n, c]
    return y


def gc(x: Array, p: State, fusion: str = "add") -> Array:
    b, channels, h, w = x.shape
    y = np.empty_like(x)
    for n in range(b):
        pixels = [x[n, :, i, j] for i in range(h) for j in range(w)]
        a = softmax(np.array([p["attend"][0] @ pixel for pixel in pixels]), 0)
        context = sum(weight * pixel for weight, pixel in zip(a, pixels, strict=True))
        t = p["reduce.weight"] @ context + p["reduce.bias"]
        t = (t - t.mean()) / np.sqrt(t.var() + 1e-5) * p["norm.weight"] + p["norm.bias"]
        t = p["expand.weight"] @ relu(t) + p["expand.bias"]
        for c in range(channels):
            y[n, c] = x[n, c] + t[c] if fusion == "add" else x[n, c] * sigmoid(t[c])
    return y


def ge(x: Array, p: State, extent: int = 0) -> Array:
    h, w = x.shape[2:]
    y = np.empty_like(x)
    for i in range(h):
        for j in range(w):
            if extent == 0:
                window = x
            else:
                row, column = i // extent * extent, j // extent * extent
                top, left = max(row - extent + 1, 0), max(column - extent + 1, 0)
                window = x[:, :, top : row + extent, left : column + extent]
            y[:, :, i, j] = x[:, :, i, j] * sigmoid(window.mean((2, 3)))
    return y


LOOPS = {f.__name__: f for f in (se, ese, srm, gct, fca, nam, gc, ge)}

OTHER_OPTIONS: dict[str, dict[str, Any]] = {
    "se": {"reduction": 4},
    "fca": {"frequencies": 4, "reduction": 4},
    "gc": {"reduction": 4, "fusion": "mul"},
    "ge": {"extent": 4},
}
