"""Mixed local channel attention, Wan, Lu, Shen, Xu, Lang, Ren, Eng. Appl. of AI 123 (2023), 106442."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from modules.checks import Count, Odd, Positive
from modules.forms import Gate
from modules.registry import attention


def overlap(n: int, size: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Adaptive average pooling along an axis from n to `size` and from `size` to n: [size, n], [n, size].

    Cell j of n takes part in cell i of `size` where [j / n, (j + 1) / n) and [i / size, (i + 1) / size) overlap;
    one matrix serves both ways, divided by its row sums or its column sums.
    """
    j = torch.arange(n, device=x.device) * size
    i = torch.arange(size, device=x.device).unsqueeze(1) * n
    inside = ((j < i + n) & (j > i - size)).to(x.dtype)
    return inside / inside.sum(1, keepdim=True), (inside / inside.sum(0)).transpose(0, 1)


@attention("mlca", paper="doi:10.1016/j.engappai.2023.106442", family="mixed")
class MLCA(Gate):
    """ECA twice: over the channels of 5 x 5 patches and over those of the whole map, mixed.

    p = adaptive_avg_pool_5x5 x                                 [B, C, 5, 5]
    l = sigmoid(Conv1d_k of p's values in one row, patch by patch)    [B, C, 5, 5]
    g = sigmoid(Conv1d_k' over C of mean_5x5 p)                       [B, C, 1, 1]
    y = x * unpool(w l + (1 - w) g)                             w = local_weight; unpool: adaptive, to H x W

    k = |log2(C) / 2 + 1 / 2| made odd unless `kernel_size` is given, as in ECA. In the row of 25 C values the
    kernel reaches over from the last channels of a patch to the first of the next, as in the official code.
    Pooling and unpooling are products with small matrices, the unpooling pools from 5 to H as the official one.
    """

    def __init__(
        self,
        channels: int,
        local_size: Count = 5,
        local_weight: Annotated[float, Positive(1.0)] = 0.5,
        kernel_size: Annotated[int, Odd(1)] | None = None,
    ) -> None:
        super().__init__()
        if kernel_size is None:
            size = channels.bit_length() // 2  # floor((log2 C + 1) / 2)
            kernel_size = size if size % 2 else size + 1
        self.local_size, self.local_weight = local_size, local_weight
        self.local = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.whole = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        s = self.local_size
        (pool_h, unpool_h), (pool_w, unpool_w) = overlap(h, s, x), overlap(w, s, x)
        patches = (pool_h @ (x @ pool_w.transpose(0, 1))).flatten(2)  # [B, C, s s]
        row = self.local(patches.transpose(1, 2).reshape(b, 1, -1))
        near = row.reshape(b, s * s, c).transpose(1, 2).sigmoid()
        far = self.whole(patches.mean(2).unsqueeze(1)).sigmoid().reshape(b, c, 1)
        gate = torch.lerp(far, near, self.local_weight).contiguous().reshape(b, c, s, s)  # products of strided maps lag
        return unpool_h @ (gate @ unpool_w.transpose(0, 1))
