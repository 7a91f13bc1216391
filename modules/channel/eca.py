"""ECA-Net, Wang, Wu, Zhu, Li, Zuo, Hu, CVPR 2020, arXiv:1910.03151."""

from __future__ import annotations

import math
from typing import Annotated

from torch import Tensor, nn

from modules.checks import Odd
from modules.forms import Gate
from modules.layers import mean
from modules.registry import attention


@attention("eca", paper="arXiv:1910.03151", family="channel")
class ECA(Gate):
    """Efficient channel attention: a 1-d convolution over the pooled channels.

    g = sigmoid(Conv1d_k(mean_HW x))   [B, C, 1, 1], along C, zero padding, no bias
    y = x * g                          [B, C, H, W]

    k = |log2(C) / 2 + 1 / 2| made odd unless `kernel_size` is given: 3 below 128 channels, then 5.
    timm.layers.EcaModule equals this but for its pooling, which sums in fp16.
    """

    def __init__(self, channels: int, kernel_size: Annotated[int, Odd(1)] | None = None) -> None:
        super().__init__()
        half = int((math.log2(channels) + 1) / 2)
        k = max(half + 1 - half % 2, 3) if kernel_size is None else kernel_size
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 1, 1]."""
        pooled = mean(x, (2, 3))  # [B, C]
        return self.conv(pooled.unsqueeze(1)).sigmoid().transpose(1, 2).unsqueeze(3)
