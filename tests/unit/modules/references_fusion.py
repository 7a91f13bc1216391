"""References of the mixed blocks mlca, scsa, polarized, cpca, gam and of the kernel blocks split and epsa."""

import math

import numpy as np
from references import Array, State, conv, norm, pool, relu, sigmoid, softmax


def _cells(n: int, size: int, i: int) -> range:
    """Cell i of adaptive pooling from n to size."""
    return range(i * n // size, -(-(i + 1) * n // size))


def _adaptive(t: Array, h: int, w: int) -> Array:
    """Adaptive average pooling of one channel."""
    y = np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            y[i, j] = np.mean([t[r, s] for r in _cells(t.shape[0], h, i) for s in _cells(t.shape[1], w, j)])
    return y


def _row_conv(row: Array, weight: Array) -> Array:
    """1-d correlation with zero padding."""
    k, y = len(weight), np.zeros_like(row)
    for i in range(len(row)):
        for u in range(k):
            if 0 <= i + u - k // 2 < len(row):
                y[i] += weight[u] * row[i + u - k // 2]
    return y


def mlca(x: Array, p: State, size: int = 5) -> Array:
    b, c, h, w = x.shape
    t = int(abs(math.log2(c) + 1) / 2)
    assert p["local.weight"].shape[-1] == p["whole.weight"].shape[-1] == (t if t % 2 else t + 1)
    y = np.empty_like(x)
    for n in range(b):
        patches = np.stack([_adaptive(x[n, i], size, size) for i in range(c)])
        row = np.concatenate([patches[:, r, s] for r in range(size) for s in range(size)])
        row = sigmoid(_row_conv(row, p["local.weight"].ravel()))
        whole = sigmoid(_row_conv(patches.mean((1, 2)), p["whole.weight"].ravel()))
        for i in range(c):
            near = np.array([[row[(r * size + s) * c + i] for s in range(size)] for r in range(size)])
            y[n, i] = x[n, i] * _adaptive(0.5 * near + 0.5 * whole[i], h, w)
    return y


def _group_norm(x: Array, p: State, key: str, groups: int) -> Array:
    y = np.empty_like(x)
    for n in range(len(x)):
        for part in np.split(np.arange(x.shape[1]), groups):
            t = x[n, part]
            y[n, part] = (t - t.mean()) / np.sqrt(t.var() + 1e-5)
    shape = (-1, *[1] * (x.ndim - 2))
    return y * p[f"{key}.weight"].reshape(shape) + p[f"{key}.bias"].reshape(shape)


def scsa(x: Array, p: State, window: int = 7) -> Array:
    b, c, h, w = x.shape

    def strip(u: Array, key: str) -> Array:
        y = np.empty_like(u)
        for n in range(b):
            for i in range(c):
                quarter, at = divmod(i, c // 4)
                weight = p[f"strips.{quarter}.weight"]
                assert weight.shape[-1] == (3, 5, 7, 9)[quarter]
                y[n, i] = _row_conv(u[n, i], weight[at, 0]) + p[f"strips.{quarter}.bias"][at]
        return sigmoid(_group_norm(y, p, key, 4))

    gated = x * strip(x.mean(3), "norm_h")[:, :, :, None] * strip(x.mean(2), "norm_w")[:, :, None, :]
    kh, kw = min(window, h), min(window, w)
    rows, columns = h // kh, w // kw
    z = np.empty((b, c, rows, columns))
    for r in range(rows):
        for s in range(columns):
            z[:, :, r, s] = gated[:, :, r * kh : (r + 1) * kh, s * kw : (s + 1) * kw].mean((2, 3))
    z = _group_norm(z, p, "norm", 1).reshape(b, c, -1)
    y = np.empty_like(x)
    for n in range(b):
        q, k, v = (z[n] * p[key] for key in "qkv")
        mixed = softmax(q @ k.T / math.sqrt(c), 1) @ v  # [C, windows]
        for i in range(c):
            y[n, i] = gated[n, i] * sigmoid(mixed[i].mean())
    return y


def polarized(x: Array, p: State) -> Array:
    b, c = x.shape[:2]
    v, q = conv(x, p["value.weight"]).reshape(b, c // 2, -1), conv(x, p["query.weight"]).reshape(b, 1, -1)
    context = (v * softmax(q, 2)).sum(2).reshape(b, -1, 1, 1)
    t = conv(context, p["expand.0.weight"], p["expand.0.bias"])
    mean, var = t.mean(1, keepdims=True), t.var(1, keepdims=True)
    t = (t - mean) / np.sqrt(var + 1e-5) * p["expand.1.weight"][:, None, None] + p["expand.1.bias"][:, None, None]
    z = x * sigmoid(conv(relu(t), p["expand.3.weight"], p["expand.3.bias"]))
    query = softmax(pool(conv(z, p["pixel_query.weight"])), 1)
    value = conv(z, p["pixel_value.weight"])
    return z * sigmoid((query * value).sum(1, keepdims=True))


def cpca(x: Array, p: State) -> Array:
    c = x.shape[1]

    def layer(x: Array, key: str, groups: int = 1) -> Array:
        return conv(x, p[f"{key}.weight"], p[f"{key}.bias"], groups)

    def mlp(t: Array) -> Array:
        return sigmoid(layer(relu(layer(t, "excite.0")), "excite.2"))

    t = layer(x, "mix")
    u = 0.5 * t * (1 + np.vectorize(math.erf)(t / math.sqrt(2)))
    f = u * (mlp(pool(u)) + mlp(u.max((2, 3), keepdims=True)))
    first = layer(f, "local", c)
    s = first.copy()
    for i, k in enumerate((7, 11, 21)):
        assert p[f"strips.{i}.0.weight"].shape[2:] == (1, k)
        s += layer(layer(first, f"strips.{i}.0", c), f"strips.{i}.1", c)
    return layer(layer(s, "mix") * f, "mix")


def gam(x: Array, p: State) -> Array:
    hidden = relu(conv(x, p["channel.0.weight"], p["channel.0.bias"]))
    z = x * sigmoid(conv(hidden, p["channel.2.weight"], p["channel.2.bias"]))
    t = relu(norm(conv(z, p["squeeze.0.weight"]), p, "squeeze.1"))
    return z * sigmoid(norm(conv(t, p["spread.0.weight"]), p, "spread.1"))


def split(x: Array, p: State) -> Array:
    b, c = x.shape[:2]
    u = relu(norm(conv(x, p["conv.0.weight"], groups=2), p, "conv.1"))
    u1, u2 = u[:, :c], u[:, c:]
    z = relu(norm(conv(pool(u1 + u2), p["squeeze.0.weight"]), p, "squeeze.1"))
    a = softmax(conv(z, p["select.weight"], p["select.bias"]).reshape(b, 2, c, 1, 1), 1)
    return a[:, 0] * u1 + a[:, 1] * u2


def epsa(x: Array, p: State) -> Array:
    part = x.shape[1] // 4
    maps, weights = [], []
    for i, (k, groups) in enumerate(((3, 1), (5, 4), (7, 8), (9, 16))):
        weight = p[f"convs.{i}.weight"]
        assert weight.shape[2] == k
        f = conv(x, weight, groups=math.gcd(groups, part))
        t = relu(conv(pool(f), p["excite.0.weight"], p["excite.0.bias"]))
        maps.append(f)
        weights.append(sigmoid(conv(t, p["excite.2.weight"], p["excite.2.bias"])))
    a = softmax(np.stack(weights), 0)
    return np.concatenate([a[i] * maps[i] for i in range(4)], axis=1)


LOOPS = {f.__name__: f for f in (cpca, epsa, gam, mlca, polarized, scsa, split)}

OTHER_OPTIONS = {
    "cpca": {"reduction": 2, "kernel_sizes": [3, 5]},
    "epsa": {"reduction": 2},
    "gam": {"reduction": 8, "kernel_size": 3},
    "mlca": {"local_size": 3, "local_weight": 0.8, "kernel_size": 7},
    "polarized": {"mode": "parallel"},
    "scsa": {"window": 4, "num_heads": 4},
    "split": {"radix": 4, "reduction": 2, "min_dim": 8},
}
