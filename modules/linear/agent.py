"""Agent Attention, Han, Ye, Han, Xia, Pan, Wan, Song, Huang, ECCV 2024, arXiv:2312.08874."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.layers import adaptive_mean, like, tokens
from modules.registry import attention


@attention("agent", paper="arXiv:2312.08874", family="linear")
class Agent(nn.Module):
    """A few pooled queries, the agents, gather from all pixels and hand back to all pixels.

    q, k, v = Wq x, Wk x, Wv x                            each [B, heads, HW, d]
    a = pool_7x7(q)                                       [B, heads, 49, d]
    u = softmax(a k^T / sqrt(d)) v                        [B, heads, 49, d], over the pixels
    y = Wo(softmax(q a^T / sqrt(d)) u + DW3x3(v))         [B, C, H, W], over the agents, eq. 6

    q and k are not formed: pooling commutes with Wq, and a Wk and a Wq [heads 49, C] take x to both sets of
    logits in one product. The position biases are left out, whose tables are made for one map size. Wk has no
    bias, since the softmax cancels it. Heads: the largest divisor of C up to C / head_dim.
    """

    def __init__(self, channels: int, pool: Count = 7, head_dim: Count = 64) -> None:
        super().__init__()
        c = channels
        self.pool, self.num_heads = pool, divisor(c, max(c // head_dim, 1))
        self.query, self.key = nn.Linear(c, c), nn.Linear(c, c, bias=False)
        self.value = nn.Conv2d(c, c, 1)
        self.gather, self.broadcast = nn.Softmax(dim=-1), nn.Softmax(dim=-2)
        self.local = nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.project = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        heads, d, m = self.num_heads, c // self.num_heads, self.pool**2
        agents = self.query(tokens(adaptive_mean(x, self.pool, self.pool))) * d**-0.5
        agents = agents.reshape(b, m, heads, d).transpose(1, 2)
        to_keys = agents @ self.key.weight.reshape(heads, d, c)
        to_queries = agents @ self.query.weight.reshape(heads, d, c)
        logits = torch.cat((to_keys, to_queries), 1).reshape(b, 2 * heads * m, c) @ x.flatten(2)
        of_keys, of_queries = logits.reshape(b, 2, heads, m, h * w).unbind(1)
        shift = agents @ self.query.bias.reshape(heads, d, 1)
        v = self.value(x)
        u = self.gather(of_keys) @ v.reshape(b, heads, d, h * w).transpose(2, 3)
        y = u.transpose(2, 3) @ self.broadcast(of_queries + shift)
        return self.project(like(y.reshape(x.shape), x) + self.local(v))

    def last(self) -> nn.Module:
        """The layer whose output is the block's."""
        return self.project
