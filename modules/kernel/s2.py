"""S2-MLPv2 (spatial shift), Yu, Li, Cai, Sun, Li, 2021, arXiv:2108.01072."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.layers import global_mean
from modules.registry import attention

MOVES = ((2, True), (2, False), (3, True), (3, False))  # of the channel quarters in the first of the three maps


def step(x: Tensor, axis: int, forward: bool) -> Tensor:
    """Move [B, C, H, W] by one cell towards the end or start of an axis; the border line keeps its value."""
    size = x.shape[axis]
    if forward:
        return torch.cat((x.narrow(axis, 0, 1), x.narrow(axis, 0, size - 1)), dim=axis)
    return torch.cat((x.narrow(axis, 1, size - 1), x.narrow(axis, size - 1, 1)), dim=axis)


@attention("s2", paper="arXiv:2108.01072", family="kernel")
class S2Attention(nn.Module):
    """Three copies of the map, two of them shifted by a pixel, mixed per channel by split attention.

    x1, x2, x3 = split(W1 x + b1)                         each [B, C, H, W]
    x1 <- shift(H, W), x2 <- shift(W, H), x3 as it is     eq. 1 and 8, all cells at once
    a = softmax over k of W4 GELU(W3 mean_HW(x1 + x2 + x3))    [B, 3, C], eq. 2, W3 and W4 without bias
    y = W2 (a_1 x1 + a_2 x2 + a_3 x3) + b2

    Where we leave the paper: eq. 2 sums over HW (its text says "averages"); a sum saturates the softmax at
    detection sizes and overflows fp16, so it is the mean here. Algorithm 1's in-place slices smear the border
    line over the map; the equations are followed. C not divisible by 4 is cut into nearly equal quarters.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 3 * channels, 1)
        self.squeeze = nn.Conv2d(channels, channels, 1, bias=False)
        self.act = nn.GELU()
        self.select = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.softmax = nn.Softmax(dim=1)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c = x.shape[:2]
        moved = self.shifted(self.expand(x))  # of each quarter the three maps
        pooled = torch.cat([global_mean(x1) + global_mean(x2) + global_mean(x3) for x1, x2, x3 in moved], dim=1)
        logits = self.select(self.act(self.squeeze(pooled)))
        a = self.softmax(logits.reshape(b, 3, c, 1, 1)).to(moved[0][0].dtype)
        weights = zip(*(part.tensor_split(4, dim=1) for part in a.unbind(1)), strict=True)
        mixed = [
            torch.addcmul(torch.addcmul(a3 * x3, a1, x1), a2, x2)
            for (x1, x2, x3), (a1, a2, a3) in zip(moved, weights, strict=True)
        ]
        return self.project(torch.cat(mixed, dim=1))

    @staticmethod
    def shifted(x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """[B, 3 C, H, W] -> its thirds by channel quarters, each [B, C / 4, H, W]: the first third moved by +1 and -1
        along H and along W, the second along W and along H, the last as it is."""
        quarters = zip(*(third.tensor_split(4, dim=1) for third in x.chunk(3, dim=1)), strict=True)
        return [
            (step(x1, axis, forward), step(x2, 5 - axis, forward), x3)
            for (x1, x2, x3), (axis, forward) in zip(quarters, MOVES, strict=True)
        ]

    def last(self) -> nn.Module:
        """The layer whose output is the block's (deploy.py)."""
        return self.project
