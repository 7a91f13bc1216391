"""Global attention mechanism, Liu, Shao, Hoffmann, 2021, arXiv:2112.05561."""

from __future__ import annotations

from torch import Tensor, nn

from modules.checks import Count, Kernel
from modules.forms import Gate
from modules.layers import conv_norm
from modules.registry import attention


@attention("gam", paper="arXiv:2112.05561", family="mixed")
class GAM(Gate):
    """A gate from each pixel's channels, then one from a 13 x 13 neighbourhood, neither of them pooled.

    a = sigmoid(W2 ReLU(W1 x))                                     [B, C, H, W], W1: C -> C/4, W2: C/4 -> C
    z = x * a
    y = z * sigmoid(BN(Conv7x7(ReLU(BN(Conv7x7 z)))))              C -> C/4 -> C, without the idle biases

    The paper's MLP on the permuted map is two 1x1 convolutions. No official code; the common port is followed.
    Heavy: 25 C^2 weights, all but C^2 / 2 of them in the 7x7 convolutions.
    """

    def __init__(self, channels: int, reduction: Count = 4, kernel_size: Kernel = 7) -> None:
        super().__init__()
        narrow = max(channels // reduction, 1)
        self.channel = nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, channels, 1))
        self.squeeze = conv_norm(channels, narrow, kernel_size, act=nn.ReLU())
        self.spread = conv_norm(narrow, channels, kernel_size)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        a = self.channel(x).sigmoid()
        return a * self.spread(self.squeeze(x * a)).sigmoid()
