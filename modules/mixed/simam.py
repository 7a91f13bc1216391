"""SimAM, Yang, Zhang, Li, Xie, ICML 2021 (PMLR 139)."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from modules.checks import Positive
from modules.forms import Gate
from modules.registry import attention


@attention("simam", paper="PMLR 139 (ICML 2021), pp. 11863-11874", family="mixed")
class SimAM(Gate):
    """Parameter-free gate from each value's distance to its channel's mean.

    d = (x - mean_HW x)^2                              [B, C, H, W]
    v = sum_HW d / (HW - 1)                            [B, C, 1, 1]
    y = x * sigmoid(d / (4 (v + lambda)) + 1 / 2)      the inverse of the minimal energy

    With m = HW - 1 and n = HW, d / (4 (v + lambda)) is m / 4n times the square of a group norm of one channel a
    group with epsilon lambda m / n: one kernel, statistics in fp32 also under fp16 (whose sums overflow at 80 x 80).
    Where we leave the paper: the gate is sigmoid(1 / 2) on a map of one pixel (it would be 0 / 0). An ONNX file
    keeps the m / n of the size it was exported at in lambda, and there only.
    """

    def __init__(self, channels: int, e_lambda: Annotated[float, Positive()] = 1e-4) -> None:
        super().__init__()
        self.channels, self.e_lambda = channels, e_lambda

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        n = x.shape[2] * x.shape[3]
        eps = self.e_lambda * max(int(n) - 1, 1) / int(n)
        scale = x.new_ones(self.channels) * ((n - 1) / (4 * n)) ** 0.5
        # contiguous: on a CPU the norm of a channels_last map is E x^2 - (E x)^2, wrong far from zero
        z = torch.group_norm(x.contiguous(), self.channels, scale, None, eps)
        return torch.addcmul(z.new_full((1,), 0.5), z, z).sigmoid_()
