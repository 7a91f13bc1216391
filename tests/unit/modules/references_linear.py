"""References of the family "linear", part one: see references.py."""

import math

import numpy as np
from references import Array, State, conv, norm, relu, softmax


def flat(x: Array) -> Array:
    """[B, C, H, W] -> [B, C, N]."""
    return x.reshape(*x.shape[:2], -1)


def a2(x: Array, p: State) -> Array:
    width = p["out.weight"].shape[1]
    t = flat(conv(x, p["project.weight"], p["project.bias"]))
    features, logits = t[:, :width], t[:, width:]
    z = np.zeros((len(x), width, features.shape[2]))
    for n in range(len(x)):
        pixels = [softmax(logits[n, word], 0) for word in range(width)]
        descriptors = [features[n] @ pixels[word] for word in range(width)]  # eq. 3: gather
        for i in range(features.shape[2]):
            mixture = softmax(logits[n, width:, i], 0)
            z[n, :, i] = sum(mixture[word] * descriptors[word] for word in range(width))  # eq. 4: distribute
    return x + conv(z.reshape(len(x), width, *x.shape[2:]), p["out.weight"], p["out.bias"])


def efficient(x: Array, p: State, heads: int = 8) -> Array:
    c, d = x.shape[1], x.shape[1] // heads
    q, k = np.split(flat(conv(x, p["query_key.weight"], p["query_key.bias"])), 2, axis=1)
    v = flat(conv(x, p["value.weight"], p["value.bias"]))
    e = np.zeros_like(v)
    for n in range(len(x)):
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            weight = softmax(k[n, part], 1)
            context = np.zeros((d, d))
            for i in range(v.shape[2]):
                context += np.outer(weight[:, i], v[n, part, i])
            for i in range(v.shape[2]):
                e[n, part, i] = context.T @ softmax(q[n, part, i], 0)
    assert heads * d == c
    return x + conv(e.reshape(x.shape), p["out.weight"], p["out.bias"])


def external(x: Array, p: State) -> Array:
    f, m = flat(conv(x, p["project.weight"])), p["memory"]
    y = np.zeros_like(f)
    for n in range(len(x)):
        a = np.zeros((len(m), f.shape[2]))
        for i in range(f.shape[2]):
            a[:, i] = m @ f[n, :, i]
        for row in range(len(m)):
            a[row] = softmax(a[row], 0)
        for i in range(f.shape[2]):
            y[n, :, i] = m.T @ (a[:, i] / a[:, i].sum())
    return x + norm(conv(y.reshape(x.shape), p["out.0.weight"]), p, "out.1")


def between_channels(q: Array, k: Array, v: Array, temperature: Array) -> Array:
    """[C, N] each -> [C, N]: heads one after the other, each d x d."""
    d = len(q) // len(temperature)
    out = np.zeros_like(v)
    for head, t in enumerate(temperature.reshape(-1)):
        for i in range(head * d, (head + 1) * d):
            near = range(head * d, (head + 1) * d)
            cosine = [q[i] @ k[j] / math.sqrt((q[i] @ q[i]) * (k[j] @ k[j])) for j in near]
            a = softmax(t * np.array(cosine), 0)
            out[i] = sum(weight * v[j] for weight, j in zip(a, near, strict=True))
    return out


def xca(x: Array, p: State) -> Array:
    q, k = np.split(flat(conv(x, p["query_key.weight"])), 2, axis=1)
    v = flat(conv(x, p["value.weight"]))
    assert len(p["attend.temperature"]) == max(x.shape[1] // 32, 1)
    mixed = np.stack([between_channels(*t, p["attend.temperature"]) for t in zip(q, k, v, strict=True)])
    return conv(mixed.reshape(x.shape), p["out.weight"], p["out.bias"])


def mdta(x: Array, p: State) -> Array:
    c = x.shape[1]
    qkv = conv(conv(x, p["qkv.weight"]), p["near.weight"], groups=3 * c)
    q, k, v = np.split(flat(qkv), 3, axis=1)
    mixed = np.stack([between_channels(*t, p["attend.temperature"]) for t in zip(q, k, v, strict=True)])
    return conv(mixed.reshape(x.shape), p["out.weight"])


def litemla(x: Array, p: State, d: int = 8) -> Array:
    c = x.shape[1]
    first = conv(x, p["qkv.weight"])
    second = conv(conv(first, p["near.weight"], groups=3 * c), p["mix.weight"], groups=3 * c // d)
    t = flat(np.concatenate((first, second), 1))
    e = np.zeros((len(x), 2 * c, t.shape[2]))
    for n in range(len(x)):
        for head in range(2 * c // d):
            q, k, v = (t[n, (3 * head + part) * d : (3 * head + part + 1) * d] for part in range(3))
            q, k = relu(q), relu(k)
            for i in range(t.shape[2]):
                similar = np.array([q[:, i] @ k[:, j] for j in range(t.shape[2])])
                if similar.sum() > 0:
                    e[n, head * d : (head + 1) * d, i] = v @ similar / similar.sum()
    return norm(conv(e.reshape(len(x), 2 * c, *x.shape[2:]), p["out.0.weight"]), p, "out.1")


def additive(x: Array, p: State) -> Array:
    q, k = np.split(flat(conv(x, p["query_key.weight"], p["query_key.bias"])), 2, axis=1)
    t = np.zeros_like(q)
    for n in range(len(x)):
        pixels = range(q.shape[2])
        qs = [q[n, :, i] / np.sqrt(q[n, :, i] @ q[n, :, i]) for i in pixels]
        ks = [k[n, :, i] / np.sqrt(k[n, :, i] @ k[n, :, i]) for i in pixels]
        a = np.array([p["weigh"] @ qs[i] / math.sqrt(len(p["weigh"])) for i in pixels])
        a = a / np.sqrt(a @ a)
        g = sum(a[i] * qs[i] for i in pixels)
        for i in pixels:
            t[n, :, i] = p["project.weight"][:, :, 0, 0] @ (g * ks[i]) + p["project.bias"] + qs[i]
    return conv(t.reshape(x.shape), p["final.weight"], p["final.bias"])


LOOPS = {f.__name__: f for f in (a2, additive, efficient, external, litemla, mdta, xca)}

OTHER_OPTIONS = {
    "a2": {"reduction": 2},
    "additive": {"expand": 2},
    "efficient": {"num_heads": 2},
    "external": {"memory": 16},
    "litemla": {"dim": 16, "kernel_size": 3},
    "mdta": {"head_dim": 8, "kernel_size": 5},
    "xca": {"head_dim": 8},
}
