"""CenterMask (VoVNetV2's eSE), Lee, Park, CVPR 2020, arXiv:1911.06667."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from modules.forms import Gate
from modules.layers import mean
from modules.registry import attention


@attention("ese", paper="arXiv:1911.06667", family="channel")
class ESE(Gate):
    """Effective squeeze-and-excitation: one full-width layer, so that no channel is lost in a bottleneck.

    g = hsigmoid(W mean_HW x + b)                  [B, C], W: C -> C; hsigmoid(t) = min(max(t + 3, 0), 6) / 6
    y = x * g                                      [B, C, H, W]

    The hard sigmoid is that of the published code. timm's EffectiveSEModule equals this.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.excite = nn.Linear(channels, channels)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 1, 1]."""
        z = mean(x, (2, 3))
        return F.hardsigmoid(self.excite(z)).reshape(*x.shape[:2], 1, 1)
