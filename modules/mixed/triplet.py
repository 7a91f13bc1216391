"""Triplet attention, Misra, Nalamada, Arasanipalai, Hou, WACV 2021, arXiv:2010.03045."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from modules.checks import Odd
from modules.forms import Gate
from modules.layers import conv_norm, mean, peak
from modules.registry import attention


class PlaneGate(nn.Module):
    """sigmoid(BN(Conv_k [max; mean])), max and mean over one axis (1, 2 or 3) of [B, C, H, W]."""

    def __init__(self, axis: int, kernel_size: int) -> None:
        super().__init__()
        self.axis = axis
        self.conv = conv_norm(2, 1, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same with size 1 at `axis`."""
        # on a CPU the maximum over the rows takes longer than to bring them to the front
        lines, axis = (x.transpose(1, 2).contiguous(), 1) if self.axis == 2 else (x, self.axis)
        pooled = torch.stack((peak(lines, axis, self.training), mean(x, self.axis)), dim=1)  # [B, 2, rows, columns]
        return self.conv(pooled).sigmoid().squeeze(1).unsqueeze(self.axis)


@attention("triplet", paper="arXiv:2010.03045", family="mixed")
class TripletAttention(Gate):
    """Three gates, one for each pair of the axes C, H, W.

    gate_a = sigmoid(BN(Conv7x7([max_a x; mean_a x])))    over the plane of the two axes other than a
    y = x * (gate_H + gate_W + gate_C) / 3

    The paper turns x so that the pooled axis comes first; pooling along it needs no copies. The plane of
    a = W lies as C x H here, H x C there: the same kernels, transposed.
    """

    def __init__(self, channels: int, kernel_size: Annotated[int, Odd(1)] = 7) -> None:
        super().__init__()
        self.gates = nn.ModuleList([PlaneGate(axis, kernel_size) for axis in (2, 3, 1)])

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        cw, ch, hw = (gate(x) / 3 for gate in self.gates)
        return (cw + ch).add_(hw)
