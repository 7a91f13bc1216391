"""Squeeze-and-Excitation Networks, Hu, Shen, Albanie, Sun, Wu, CVPR 2018, arXiv:1709.01507."""

from __future__ import annotations

from torch import Tensor, nn

from modules.checks import Count
from modules.forms import Gate
from modules.layers import mean
from modules.registry import attention


@attention("se", paper="arXiv:1709.01507", family="channel")
class SE(Gate):
    """Squeeze-and-excitation: channel weights from a two-layer network on the pooled channels.

    z = mean_HW x                                  [B, C], eq. 2
    g = sigmoid(W_2 ReLU(W_1 z + b_1) + b_2)       [B, C], W_1: C -> d, eq. 3
    y = x * g                                      [B, C, H, W]

    d = C / reduction, and at least 8 (the paper's narrowest map, of 256 channels, has 16). torchvision's
    SqueezeExcitation(C, d) and timm's SEModule(C, rd_channels=d) equal this; here the layers are linear ones on
    [B, C].
    """

    def __init__(self, channels: int, reduction: Count = 16) -> None:
        super().__init__()
        dim = max(channels // reduction, 8)
        self.squeeze = nn.Linear(channels, dim)
        self.excite = nn.Linear(dim, channels)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 1, 1]."""
        z = mean(x, (2, 3))
        return self.excite(self.squeeze(z).relu()).sigmoid().reshape(*x.shape[:2], 1, 1)
