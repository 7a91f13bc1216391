"""ECA-Net, Wang, Wu, Zhu, Li, Zuo, Hu, CVPR 2020, arXiv:1910.03151."""

from __future__ import annotations

from typing import Annotated

from timm.layers import EcaModule
from torch import Tensor, nn

from modules.checks import Odd
from modules.registry import attention


@attention("eca", paper="arXiv:1910.03151", family="channel")
class ECA(nn.Module):
    """Efficient channel attention: a 1-d convolution over the pooled channels.

    g = sigmoid(Conv1d_k(mean_HW x))   [B, C], along C, zero padding, no bias
    y = x * g                          [B, C, H, W]

    k = |log2(C) / 2 + 1 / 2| made odd unless `kernel_size` is given: 3 below 128 channels, then 5.
    timm.layers.EcaModule equals this.
    """

    def __init__(self, channels: int, kernel_size: Annotated[int, Odd(1)] | None = None) -> None:
        super().__init__()
        if kernel_size is None:
            self.eca = EcaModule(channels)
        else:
            self.eca = EcaModule(None, kernel_size=kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.eca(x)
