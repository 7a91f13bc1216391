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
    columns of Q sum to 1, so that K V^T = (K x^T) W_V^T and W_O E = (W_O V K^T) Q, biases included: neither V nor
    E is made. The bias of W_K cancels in its softmax.
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
        c, h = x.shape[1], self.heads
        query, key = self.query_key(x).flatten(2).to(wide(x.dtype)).chunk(2, 1)
        seen = self.over_pixels(key).to(x.dtype) @ x.flatten(2).transpose(1, 2)  # [B, C of K, C of x]
        value, out = self.value, self.out
        assert value.bias is not None and out.bias is not None
        context = seen.unflatten(1, (h, -1)) @ value.weight.reshape(h, -1, c).transpose(1, 2)
        context = context + value.bias.reshape(h, 1, -1)  # [B, heads, d of K, d of V]
        mixed = context @ out.weight.reshape(c, h, -1).permute(1, 2, 0) + out.bias / h  # [B, heads, d of K, C]
        query = self.over_head(query.unflatten(1, (h, -1))).flatten(1, 2)
        y = mixed.flatten(1, 2).transpose(1, 2) @ query.to(mixed.dtype)
        return like(y.unflatten(2, x.shape[2:]), x)

    def last(self) -> nn.Module:
        """The layer whose rows are the branch's channels."""
        return self.out
