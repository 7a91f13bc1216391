"""FcaNet: Frequency Channel Attention Networks, Qin, Zhang, Wu, Li, ICCV 2021, arXiv:2012.11879."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from modules.checks import Count, OneOf, divisor
from modules.forms import Gate
from modules.layers import wide
from modules.registry import attention

SIDE = 7
# (u, v), vertical and horizontal, of the paper's 16 best components of a 7 x 7 cosine transform, the best first
FREQUENCIES = (
    *((0, 0), (0, 1), (6, 0), (0, 5), (0, 2), (1, 0), (1, 2), (4, 0)),
    *((5, 0), (1, 6), (3, 0), (0, 4), (0, 6), (0, 3), (3, 5), (2, 2)),
)


@attention("fca", paper="arXiv:2012.11879", family="channel")
class FCA(Gate):
    """Multi-spectral channel attention: each group of channels pooled with a cosine wave of its own.

    p = x pooled to 7 x 7, as adaptive average pooling                             [B, C, 7, 7]
    z_c = sum_ij p_c[i, j] a_u(i) a_v(j),  (u, v) of c's group                     [B, C]
    a_k(i) = cos(pi k (i + 1/2) / 7) sqrt((1 if k = 0 else 2) / 7)
    g = sigmoid(W_2 ReLU(W_1 z))                                                   [B, C], no bias
    y = x * g                                                                      [B, C, H, W]

    The groups are equal and take the paper's best `frequencies` components in order; where C does not divide by
    their number, its largest divisor below. W_1: C -> d = C / reduction, and at least 8. The transform of the
    pooled map is one weight on each pixel, so that nothing is pooled. The published code pools to 56 x 56 ... 7 x 7
    stage by stage; here it is 7 x 7 at every level, the space in which the components are numbered.
    """

    rows: Tensor
    columns: Tensor
    steps: Tensor

    def __init__(
        self,
        channels: int,
        frequencies: Annotated[int, OneOf(1, 2, 4, 8, 16)] = 16,
        reduction: Count = 16,
    ) -> None:
        super().__init__()
        self.groups = divisor(channels, frequencies)
        dim = max(channels // reduction, 8)
        self.squeeze = nn.Linear(channels, dim, bias=False)
        self.excite = nn.Linear(dim, channels, bias=False)
        us, vs = zip(*FREQUENCIES[: self.groups], strict=True)
        self.register_buffer("rows", torch.tensor([wave(u) for u in us]), persistent=False)
        self.register_buffer("columns", torch.tensor([wave(v) for v in vs]), persistent=False)
        self.register_buffer("steps", 2 * torch.arange(SIDE)[:, None], persistent=False)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 1, 1]."""
        h, w = x.shape[2:]
        vertical = self.pooling(h, x)
        square = not torch.jit.is_tracing() and h == w  # a trace would keep the answer for every size
        rows = self.rows.to(x.dtype) @ vertical
        columns = self.columns.to(x.dtype) @ (vertical if square else self.pooling(w, x))
        weight = (rows[:, :, None] * columns[:, None]).flatten(1)[:, None]  # [groups, 1, HW]
        z = (x.flatten(2).unflatten(1, (self.groups, -1)) * weight).sum(3, dtype=wide(x.dtype)).to(x.dtype).flatten(1)
        return self.excite(self.squeeze(z).relu()).sigmoid().reshape(*x.shape[:2], 1, 1)

    def pooling(self, n: int, x: Tensor) -> Tensor:
        """Rows of adaptive average pooling from n cells, [7, n]: cell j counts in row i if -7 < 7 j - i n < n."""
        twice = torch.arange(SIDE - n, (2 * SIDE - 1) * n + SIDE, 2 * SIDE, device=x.device)  # 14 j + 7 - n
        inside = ((twice - self.steps * n).abs() < SIDE + n).to(x.dtype)
        return inside / inside.sum(1, keepdim=True)


def wave(k: int) -> list[float]:
    """The k-th cosine of length 7, of unit norm."""
    return [math.cos(math.pi * k * (i + 0.5) / SIDE) * math.sqrt((2 if k else 1) / SIDE) for i in range(SIDE)]
