"""EPSANet: pyramid squeeze attention, Zhang, Zu, Lu, Zou, Meng, ACCV 2022, arXiv:2105.14447."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from modules.checks import Count
from modules.layers import global_mean, like
from modules.registry import attention

SCALES = ((3, 1), (5, 4), (7, 8), (9, 16))  # kernel, groups
THIN = 4  # outputs a group


class Depthwise(nn.Module):
    """A grouped convolution of few outputs a group: for each of them a depthwise one, summed over the group.

    The same multiplications; oneDNN runs a group of 1 to 4 outputs at a tenth of the speed of a depthwise one.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        c, k = conv.in_channels, conv.kernel_size[0]
        weight = conv.weight.detach().unflatten(0, (conv.groups, -1))  # [groups, outputs, inputs, k, k]
        self.groups = conv.groups
        self.convs = nn.ModuleList()
        for i in range(weight.shape[1]):
            self.convs.append(nn.Conv2d(c, c, k, padding=k // 2, groups=c, bias=False))
            self.convs[i].weight = nn.Parameter(weight[:, i].reshape(c, 1, k, k).clone())

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, groups outputs, H, W]."""
        b, _, h, w = x.shape
        sums = [conv(x).reshape(b, self.groups, -1, h, w).sum(2) for conv in self.convs]
        return torch.stack(sums, 2).reshape(b, -1, h, w)


@attention("epsa", paper="arXiv:2105.14447", family="kernel")
class PyramidSqueeze(nn.Module):
    """Four convolutions of growing kernel and groups, a quarter of the channels each, weighed against each other.

    F_i = Conv_k_i x, groups G_i                             [B, C/4, H, W], (k, G) = (3, 1), (5, 4), (7, 8), (9, 16)
    w_i = sigmoid(W2 ReLU(W1 mean_HW F_i))                   [B, C/4], W1: C/4 -> C/64, one pair for all i
    a_1 .. a_4 = softmax over i of w_i
    y = concat(a_1 F_1, .., a_4 F_4)                         no norm: the paper's comes after the block

    Needs C % 4 = 0. G_i becomes gcd(G_i, C/4), since the paper's 16 needs C % 64 = 0; C/64 is at least 1.
    The official loop puts each scale before the last, from 4 to 1: the same but for the order of the channels.
    On the CPU the map goes through as channels_last where a group has fewer than four outputs.
    """

    def __init__(self, channels: int, reduction: Count = 16) -> None:
        super().__init__()
        part = channels // len(SCALES)
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(channels, part, k, padding=k // 2, groups=math.gcd(groups, part), bias=False)
                for k, groups in SCALES
            ]
        )
        self.turns = any(outputs(conv) < THIN for conv in self.convs)
        narrow = max(part // reduction, 1)
        self.excite = nn.Sequential(nn.Conv2d(part, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, part, 1))
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, n = x.shape[0], x.shape[1], len(SCALES)
        dense = x.contiguous(memory_format=torch.channels_last) if self.turns and x.is_cpu else x
        maps = torch.cat([conv(dense) for conv in self.convs], dim=1)
        w = self.excite(global_mean(maps).reshape(b * n, c // n, 1, 1)).sigmoid()
        a = self.softmax(w.reshape(b, n, c // n)).reshape(b, c, 1, 1)
        return like(maps * a.to(maps.dtype), x)

    def fold(self) -> None:
        """On the CPU, convolutions of up to four outputs a group as depthwise ones."""
        if not self.excite[0].weight.is_cpu:
            return
        for i, conv in enumerate(self.convs):
            if outputs(conv) <= THIN:
                self.convs[i] = Depthwise(conv).eval()  # type: ignore[arg-type]


def outputs(conv: Any) -> int:
    """Outputs a group of a convolution that is worth turning into another form, else a large number."""
    return conv.out_channels // conv.groups if isinstance(conv, nn.Conv2d) and conv.groups > 1 else THIN + 1
