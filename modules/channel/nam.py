"""NAM: Normalization-based Attention Module, Liu, Shao, Teng, Hoffmann, NeurIPS Workshop 2021, arXiv:2111.12419."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.deploy import affine
from modules.forms import Gate
from modules.registry import attention


class WeightedBatchNorm(nn.BatchNorm2d):
    """k * BN(x), k = |scale| / sum |scale| [C], as one batch norm; at one value a channel by running statistics."""

    def weights(self) -> Tensor:
        """k."""
        size = self.weight.abs()
        return size / size.sum()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        k, training = self.weights(), self.training and x.shape[0] * x.shape[2] * x.shape[3] > 1
        mean, var, momentum = self.running_mean, self.running_var, self.momentum or 0.0
        return F.batch_norm(x, mean, var, self.weight * k, self.bias * k, training, momentum, self.eps)


@attention("nam", paper="arXiv:2111.12419", family="channel")
class NAM(Gate):
    """Normalisation-based channel attention: a batch norm's scales tell which channels matter.

    k = |s| / sum_C |s|                            [C], s: the scale of BN
    y = x * sigmoid(k * BN(x))                     [B, C, H, W]

    This is the channel part, the only one in the paper's published code. There k is cut off from the gradient;
    here s learns through it too. k goes into the norm's scale and shift, so that no pass is added.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = WeightedBatchNorm(channels)
        self.register_buffer("scale", None, persistent=False)  # of the whole affine map, once folded
        self.register_buffer("shift", None, persistent=False)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        if self.scale is None or self.shift is None:
            return self.norm(x).sigmoid_()
        return (x * self.scale).add_(self.shift).sigmoid_()

    @torch.no_grad()
    def fold(self) -> None:
        """The norm at its running statistics and k become one scale and one shift."""
        if self.scale is None:
            k = self.norm.weights()
            self.scale, self.shift = ((k * t).reshape(1, -1, 1, 1) for t in affine(self.norm))
