"""Efficient Attention: Attention with Linear Complexities, Shen, Zhang, Zhao, Yi, Li, WACV 2021, arXiv:1812.01243."""

from __future__ import annotations

from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.forms import Branch
from modules.layers import like, wide
from modules.registry import attention


@attention("efficient", paper="arXiv:1812.01243", family="linear")
class EfficientAttention(Branch):
    """Efficient attention: keys as weights of d global sums of the values, queries as mixtures of them.

    Q = softmax_d(W_Q x), K = softmax_N(W_K x), V = W_V x      [d, N] in each head; 1x1, biased; N = HW
    E = Q^T (K V^T)                                            [N, d]
    y = x + W_O [E of all heads]                               biased

    Heads (the official code's, not in the paper): the largest divisor of C up to num_heads. The rows of K and the
    columns of Q sum to 1. The bias of W_K cancels in its softmax.
    """

    def __init__(self, channels: int, num_heads: Count = 8) -> None:
        super().__init__()
        self.heads = divisor(channels, num_heads)
        self.query_key = nn.Conv2d(channels, 2 * channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.over_pixels, self.over_head = nn.Softmax(dim=2), nn.Softmax(dim=2)

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        query, key = self.query_key(x).flatten(2).to(wide(x.dtype)).chunk(2, 1)
        context = self.context(x, key)
        y = context @ self.over_head(self.by_head(query)).to(context.dtype)
        return self.out(like(y.reshape(x.shape), x))

    def context(self, x: Tensor, key: Tensor) -> Tensor:
        """x: [B, C, H, W], key: [B, C, N] -> V K^T of every head [B, heads, d of V, d of K]."""
        key = self.by_head(self.over_pixels(key).to(x.dtype))
        return self.by_head(self.value(x).flatten(2)) @ key.transpose(2, 3)

    def by_head(self, t: Tensor) -> Tensor:
        """[B, C, N] -> [B, heads, d, N]."""
        return t.unflatten(1, (self.heads, -1))

    def last(self) -> nn.Module:
        """The layer whose rows are the branch's channels."""
        return self.out
