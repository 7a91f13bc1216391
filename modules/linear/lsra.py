"""PVT v2, Wang, Xie, Li, Fan, Song, Liang, Lu, Luo, Shao, CVMJ 2022, arXiv:2106.13797."""

from __future__ import annotations

from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.layers import adaptive_mean, like, tokens
from modules.registry import attention


@attention("lsra", paper="arXiv:2106.13797", family="linear")
class LinearSRA(nn.Module):
    """Linear spatial-reduction attention: every pixel attends to the 7 x 7 cells of a pooled map.

    r = GELU(LN(Ws pool_7x7(x)))                          [B, 49, C]
    q = Wq x;  k, v = Wkv r                               [B, heads, HW, d], [B, heads, 49, d], all with bias
    y = Wo(softmax(q k^T / sqrt(d)) v) + b                [B, C, H, W]

    Neither q nor the heads' outputs are formed: k Wq [heads 49, C] takes x to the logits, Wo v [C, heads 49]
    takes the weights to y. Heads: the largest divisor of C up to C / head_dim.
    """

    def __init__(self, channels: int, pool: Count = 7, head_dim: Count = 64) -> None:
        super().__init__()
        c = channels
        self.pool, self.num_heads = pool, divisor(c, max(c // head_dim, 1))
        self.query, self.key_value = nn.Linear(c, c), nn.Linear(c, 2 * c)
        self.reduce = nn.Sequential(nn.Linear(c, c), nn.LayerNorm(c), nn.GELU())
        self.softmax = nn.Softmax(dim=-2)
        self.project = nn.Linear(c, c)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        heads, d, m = self.num_heads, c // self.num_heads, self.pool**2
        r = self.reduce(tokens(adaptive_mean(x, self.pool, self.pool)))
        k, v = self.key_value(r).reshape(b, m, 2, heads, d).permute(2, 0, 3, 1, 4).unbind(0)
        k = k * d**-0.5
        to_logits = k @ self.query.weight.reshape(heads, d, c)
        logits = (to_logits.reshape(b, heads * m, c) @ x.flatten(2)).reshape(b, heads, m, h * w)
        weights = self.softmax(logits + k @ self.query.bias.reshape(heads, d, 1))
        # the weights of a head sum to 1, so that the bias may join the values
        out = v @ self.project.weight.transpose(0, 1).reshape(heads, d, c) + self.project.bias / heads
        y = out.reshape(b, heads * m, c).transpose(1, 2) @ weights.reshape(b, heads * m, h * w)
        return like(y.reshape(x.shape), x)

    def last(self) -> nn.Module:
        """The layer whose output is the block's."""
        return self.project
