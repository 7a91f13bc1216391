"""References of the window family and of the linear attentions tssa, aft, agent, lsra; see references.py."""

import math
from statistics import NormalDist

import numpy as np
from references import Array, State, conv, norm, sigmoid, softmax


def pixels(x: Array) -> list[tuple[int, int]]:
    return [(r, s) for r in range(x.shape[2]) for s in range(x.shape[3])]


def pooled(x: Array, size: int) -> Array:
    """Adaptive average pooling to size x size."""
    b, c, h, w = x.shape
    y = np.zeros((b, c, size, size))
    for i in range(size):
        for j in range(size):
            top, bottom = math.floor(i * h / size), math.ceil((i + 1) * h / size)
            left, right = math.floor(j * w / size), math.ceil((j + 1) * w / size)
            y[:, :, i, j] = x[:, :, top:bottom, left:right].mean((2, 3))
    return y


def heads_of(c: int, wanted: int) -> int:
    return max(k for k in range(1, max(wanted, 1) + 1) if c % k == 0)


def attend(q: Array, k: Array, v: Array, bias: Array | float = 0.0) -> Array:
    """q: [N, d], k, v: [M, d], bias: [N, M] -> [N, d]."""
    return softmax(q @ k.T / math.sqrt(q.shape[1]) + bias, 1) @ v


def tssa(x: Array, p: State, head_dim: int = 32) -> Array:
    b, c, h, w = x.shape
    k = heads_of(c, max(c // head_dim, 2))
    d = c // k
    t = conv(x, p["subspaces.weight"])
    y = np.zeros_like(x)
    for n in range(b):
        length = np.sqrt((t[n] ** 2).sum((1, 2)))  # of each coordinate's row of pixels
        member = np.zeros((k, h, w))
        for r, s in pixels(x):
            unit = (t[n, :, r, s] / length) ** 2
            member[:, r, s] = softmax(p["temperature"] * np.array([unit[i * d : i * d + d].sum() for i in range(k)]), 0)
        for i in range(c):
            of = member[i // d]
            moment = (of * t[n, i] ** 2).sum() / of.sum()
            y[n, i] = -of * t[n, i] / (1 + moment)
    return conv(y, p["project.weight"][:, :, None, None], p["project.bias"])


def aft(x: Array, p: State) -> Array:
    b, c = x.shape[:2]
    q, k = conv(x, p["query_key.weight"][:c]), conv(x, p["query_key.weight"][c:])
    v = conv(x, p["value.weight"][:, :, None, None])
    y = np.zeros_like(x)
    for n in range(b):
        for i in range(c):
            weights = np.exp(k[n, i])
            y[n, i] = sigmoid(q[n, i]) * (weights * v[n, i]).sum() / weights.sum()
    return conv(y, p["project.weight"][:, :, None, None], p["project.bias"])


def agent(x: Array, p: State, pool: int = 7, head_dim: int = 64) -> Array:
    b, c, h, w = x.shape
    d = c // heads_of(c, c // head_dim)
    q = conv(x, p["query.weight"][:, :, None, None], p["query.bias"])
    k = conv(x, p["key.weight"][:, :, None, None])
    v = conv(x, p["value.weight"], p["value.bias"])
    a = pooled(q, pool)
    y = conv(v, p["local.weight"], p["local.bias"], groups=c)
    for n in range(b):
        for lo in range(0, c, d):
            q_, k_, v_, a_ = (t[n, lo : lo + d].reshape(d, -1).T for t in (q, k, v, a))
            y[n, lo : lo + d] += attend(q_, a_, attend(a_, k_, v_)).T.reshape(d, h, w)
    return conv(y, p["project.weight"], p["project.bias"])


def lsra(x: Array, p: State, pool: int = 7, head_dim: int = 64) -> Array:
    b, c, h, w = x.shape
    d = c // heads_of(c, c // head_dim)
    q = conv(x, p["query.weight"][:, :, None, None], p["query.bias"])
    r = conv(pooled(x, pool), p["reduce.0.weight"][:, :, None, None], p["reduce.0.bias"])
    mean, variance = r.mean(1, keepdims=True), r.var(1, keepdims=True)
    weight, shift = p["reduce.1.weight"][:, None, None], p["reduce.1.bias"][:, None, None]
    r = (r - mean) / np.sqrt(variance + 1e-5) * weight + shift
    r *= np.vectorize(NormalDist().cdf)(r)  # GELU
    k, v = np.split(conv(r, p["key_value.weight"][:, :, None, None], p["key_value.bias"]), 2, axis=1)
    y = np.zeros_like(x)
    for n in range(b):
        for lo in range(0, c, d):
            q_, k_, v_ = (t[n, lo : lo + d].reshape(d, -1).T for t in (q, k, v))
            y[n, lo : lo + d] = attend(q_, k_, v_).T.reshape(d, h, w)
    return conv(y, p["project.weight"][:, :, None, None], p["project.bias"])


def crisscross(x: Array, p: State) -> Array:
    b, c, h, w = x.shape
    inner = c // 8
    qk = conv(x, p["query_key.weight"][:, :, None, None], p["query_key.bias"])
    v = conv(x, p["value.weight"][:, :, None, None], p["value.bias"])
    y = x.copy()
    for n in range(b):
        for r, s in pixels(x):
            cross = [(i, s) for i in range(h) if i != r] + [(r, j) for j in range(w)]
            q = qk[n, :inner, r, s]
            a = softmax(np.array([q @ qk[n, inner:, i, j] for i, j in cross]), 0)
            y[n, :, r, s] += sum(a[m] * v[n, :, i, j] for m, (i, j) in enumerate(cross))
    return y


def swin(x: Array, p: State, window: int = 7, head_dim: int = 32) -> Array:
    b, c, h, w = x.shape
    d = c // heads_of(c, c // head_dim)
    z = np.zeros((b, c, -(-h // window) * window, -(-w // window) * window))
    z[:, :, :h, :w] = x
    q, k, v = np.split(conv(z, p["qkv.weight"][:, :, None, None], p["qkv.bias"]), 3, axis=1)
    cells = [(r, s) for r in range(window) for s in range(window)]
    middle, side = window - 1, 2 * window - 1
    y = np.zeros_like(z)
    for top in range(0, z.shape[2], window):
        for left in range(0, z.shape[3], window):
            for head, lo in enumerate(range(0, c, d)):
                at = [[(i - r + middle) * side + j - s + middle for r, s in cells] for i, j in cells]
                place = (slice(lo, lo + d), slice(top, top + window), slice(left, left + window))
                for n in range(b):
                    q_, k_, v_ = (t[n][place].reshape(d, -1).T for t in (q, k, v))
                    y[n][place] = attend(q_, k_, v_, p["table"][at, head]).T.reshape(d, window, window)
    return conv(y, p["project.weight"][:, :, None, None], p["project.bias"])[:, :, :h, :w]


def area(x: Array, p: State, area: int = 4, head_dim: int = 32) -> Array:
    b, c, h, w = x.shape
    d = c // heads_of(c, c // head_dim)
    qkv = norm(conv(x, p["qkv.0.weight"]), p, "qkv.1")
    q, k, v = np.split(qkv.reshape(b, 3 * c, h * w), 3, axis=1)
    run = -(-h * w // area)
    y = np.zeros((b, c, h * w))
    for start in range(0, h * w, run):
        for n in range(b):
            for lo in range(0, c, d):
                q_, k_, v_ = (t[n, lo : lo + d, start : start + run].T for t in (q, k, v))
                y[n, lo : lo + d, start : start + run] = attend(q_, k_, v_).T
    position = norm(conv(qkv[:, 2 * c :], p["position.0.weight"], groups=c), p, "position.1")
    return norm(conv(y.reshape(x.shape) + position, p["project.0.weight"]), p, "project.1")


LOOPS = {f.__name__: f for f in (aft, agent, area, crisscross, lsra, swin, tssa)}

OTHER_OPTIONS = {
    "agent": {"pool": 3, "head_dim": 8},
    "area": {"area": 3, "head_dim": 16, "kernel_size": 5},
    "crisscross": {"reduction": 4},
    "lsra": {"pool": 3, "head_dim": 8},
    "swin": {"window": 4, "head_dim": 8, "shift": True},
    "tssa": {"head_dim": 4},
}
