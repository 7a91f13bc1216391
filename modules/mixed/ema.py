"""Efficient Multi-Scale Attention, Ouyang, He, Zhan, Guo, Huang, Luo, Zhang, ICASSP 2023, arXiv:2305.13563."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.layers import GroupNorm, like, mean
from modules.mixed.coord import strip_means
from modules.registry import attention


def window_means(x: Tensor, rows: Tensor) -> Tensor:
    """Means over HW of x shifted to each tap of a 3x3 kernel, zeros coming in: [B, C, H, W] and its means along the
    rows [B, C, H] -> [B, C, 3, 3]. A tap's sum is the whole sum without the line that is shifted out."""
    h, w = x.shape[2:]
    row = torch.stack((rows - x[..., -1] / w, rows, rows - x[..., 0] / w), 3)  # [B, C, H, 3]
    whole = mean(row, 2)
    return torch.stack((whole - row[:, :, -1] / h, whole, whole - row[:, :, 0] / h), 2)


def correlate(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolution to one channel with a kernel [C, 9], zero padding: [B, C, H, W] -> [B, 1, H, W].

    A matrix product for the nine taps, then their shifted sum; faster than a convolution layer of one output."""
    b, c, h, w = x.shape
    by_column = kernel.reshape(c, 3, 3).permute(2, 1, 0).reshape(9, c)
    left, middle, right = (by_column @ x.flatten(2)).reshape(b, 9, h, w).chunk(3, 1)  # three rows each
    rows = F.pad(left[..., :-1], (1, 0)) + middle + F.pad(right[..., 1:], (0, 1))
    above, middle, below = rows.chunk(3, 1)
    return F.pad(above[:, :, :-1], (0, 0, 1, 0)) + middle + F.pad(below[:, :, 1:], (0, 0, 0, 1))


@attention("ema", paper="arXiv:2305.13563", family="mixed")
class EMA(nn.Module):
    """Cross-spatial learning: two branches weigh each other's channels into one gate a pixel, group by group.

    x -> G groups of c = C / G channels, all with the same weights; for each
    h, w = sigmoid(W [mean_W x; mean_H x])                [B G, c, H], [B G, c, W], W: 1x1
    x1 = GroupNorm(x * h * w)                             one channel a group of the norm
    x2 = Conv3x3 x
    y = x * sigmoid(softmax(mean_HW x1) x2 + softmax(mean_HW x2) x1)     softmax over c, gate [B G, 1, H, W]

    Computed without x2, to the same values and gradients: the mean of x1 is the norm's bias, so that its softmax
    does not depend on x and goes into the convolution, c -> 1; the mean of x2 follows from sums over x.
    G is the largest divisor of C that is <= `groups`; the paper's 32 leaves 2 channels a group at 64, the default
    here is 8.
    """

    def __init__(self, channels: int, groups: Count = 8) -> None:
        super().__init__()
        self.groups = divisor(channels, groups)
        c = channels // self.groups
        self.point = nn.Conv1d(c, c, 1)
        self.norm = GroupNorm(c, c)
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.softmax = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        g = x.reshape(b * self.groups, c // self.groups, h, w)
        rows, columns = strip_means(g)
        # a product, not self.point(...): for a convolution here torch 2.15's compiler writes a wrong gradient of x
        mixed = self.point.weight.squeeze(2) @ torch.cat((rows, columns), 2) + self.point.bias[:, None]  # type: ignore[index]
        gh, gw = mixed.sigmoid().to(x.dtype).split((h, w), 2)
        x1 = self.norm(g * gh.unsqueeze(3) * gw.unsqueeze(2))

        kernel, bias = self.conv.weight.flatten(1), self.conv.bias
        a1 = self.softmax(self.norm.bias)
        x2 = correlate(g, (a1 @ kernel).reshape(-1, 9)) + (a1 * bias).sum()
        logits = F.linear(window_means(g, rows).flatten(1), kernel, bias)  # the mean of x2
        a2 = self.softmax(logits).unsqueeze(1)
        gate = (x2 + (a2.to(x1.dtype) @ x1.flatten(2)).reshape(x2.shape)).sigmoid().to(x.dtype)
        return like((g * gate).reshape(x.shape), x)
