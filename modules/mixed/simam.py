"""SimAM, Yang, Zhang, Li, Xie, ICML 2021 (PMLR 139)."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from modules.checks import Positive
from modules.layers import wide
from modules.registry import attention


@attention("simam", paper="PMLR 139 (ICML 2021), pp. 11863-11874", family="mixed")
class SimAM(nn.Module):
    """Parameter-free gate from each value's distance to its channel's mean.

    d = (x - mean_HW x)^2                              [B, C, H, W]
    v = sum_HW d / (HW - 1)                            [B, C, 1, 1]
    y = x * sigmoid(d / (4 (v + lambda)) + 1 / 2)      the inverse of the minimal energy

    Where we leave the paper: v = 0 on a map of one pixel (it would be 0 / 0); d and v are fp32 under fp16,
    whose sums overflow at 80 x 80.
    """

    def __init__(self, channels: int, e_lambda: Annotated[float, Positive()] = 1e-4) -> None:
        super().__init__()
        self.e_lambda = e_lambda

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        wx = x.to(wide(x.dtype))
        d = (wx - wx.mean((2, 3), keepdim=True)).square()
        pixels = x.shape[2] * x.shape[3]
        v = d.sum((2, 3), keepdim=True) / (pixels - 1 + 1e-12)  # at one pixel 0 / 1e-12 = 0; else no change
        return x * (d / (4 * (v + self.e_lambda)) + 0.5).sigmoid().to(x.dtype)
