"""ResT, Zhang, Yang, NeurIPS 2021, arXiv:2105.13677."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from modules.checks import Count, OneOf, divisor
from modules.layers import like, tokens, wide
from modules.registry import attention


@attention("emsa", paper="arXiv:2105.13677", family="quadratic", cost="quadratic", tokens=4)
class EMSA(nn.Module):
    """Efficient multi-head self-attention: keys from a smaller map, heads that see each other, instance norm.

    q = Conv1x1 x;  k, v = W LN(DWConv_stride x)       [B, C, N], [B, C, M], M = N / stride^2, kernel stride + 1
    a_g = softmax_m(sum_h T_gh q_h^T k_h / sqrt(d))    [B, heads, N, M], T: the 1x1 convolution over heads, eq. 4
    y = Conv1x1 (IN(a) v)                              [B, C, H, W], IN: each a_g to mean 0, variance 1

    Computed without q and without IN: T and the convolution of q go onto the keys, the last convolution onto the
    values, all of M pixels; and since rows of a sum to 1, IN(a) = (a - 1 / M) / sqrt(mean (a - 1 / M)^2 + eps). For
    the same reason biases of T, of the norm, of k and of v vanish from y; they are left out. Heads: C / 64, at
    least 2 for T to mix, or the next lower divisor of C.
    """

    def __init__(
        self, channels: int, num_heads: Count | None = None, stride: Annotated[int, OneOf(2, 4, 8)] = 4
    ) -> None:
        super().__init__()
        c = channels
        self.num_heads = divisor(c, max(2, c // 64) if num_heads is None else num_heads)
        self.query = nn.Conv2d(c, c, 1, bias=False)
        self.down = nn.Conv2d(c, c, stride + 1, stride, stride // 2, groups=c)
        self.norm = nn.LayerNorm(c, bias=False)
        self.key_value = nn.Linear(c, 2 * c, bias=False)
        self.mix = nn.Parameter(torch.empty(self.num_heads, self.num_heads))
        nn.init.kaiming_uniform_(self.mix, a=5**0.5)
        self.softmax = nn.Softmax(dim=-2)
        self.project = nn.Conv2d(c, c, 1)

    def last(self) -> nn.Module:
        """The layer whose output is the block's."""
        return self.project

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        _, c, h, w = x.shape
        heads, d = self.num_heads, c // self.num_heads
        k, v = self.key_value(self.norm(tokens(self.down(x)))).split(c, -1)  # [B, M, C]
        mix = (self.mix * d**-0.5).repeat_interleave(d, 1).unsqueeze(1)  # [heads, 1, C]
        k = (k.unsqueeze(1) * mix.to(k.dtype)).flatten(1, 2) @ self.query.weight.flatten(1)  # [B, heads M, C]
        a = self.softmax((k @ x.flatten(2)).unflatten(1, (heads, -1)))  # [B, heads, M, N]
        share = a.detach().mean((2, 3), keepdim=True, dtype=wide(a.dtype))  # 1 / M, of which ONNX would make a constant
        a = a - share.to(a.dtype)
        variance = torch.linalg.vector_norm(a, dim=(2, 3), keepdim=True, dtype=share.dtype).square() * share
        scale = (variance / (h * w) + 1e-5).rsqrt()
        v = self.project.weight.reshape(c, heads, d).transpose(0, 1) @ v.unflatten(-1, (heads, d)).permute(0, 2, 3, 1)
        v = (v * scale.to(v.dtype)).transpose(1, 2).flatten(2)  # [B, C, heads M]
        y = (v @ a.flatten(1, 2)).add_(self.project.bias.to(v.dtype).unsqueeze(1))  # type: ignore[union-attr]
        return like(y.reshape(x.shape), x)
