"""Rewrite the Stars (StarNet), Ma, Dai, Bai, Wang, Fu, CVPR 2024, arXiv:2403.19967."""

from __future__ import annotations

from torch import Tensor, nn

from modules.checks import Count, Kernel
from modules.forms import Branch
from modules.kernel.lka import depthwise, innermost
from modules.layers import conv_norm
from modules.registry import attention


@attention("star", paper="arXiv:2403.19967", family="kernel")
class Star(Branch):
    """StarNet's block: two linear maps multiplied with each other ("star operation") between depthwise convolutions.

    u = BN(dw_7 x)                                        [B, C, H, W]
    v = ReLU6(W_1 u) * (W_2 u)                            [B, r C, H, W], 1x1 with a bias
    y = x + dw_7(BN(W_3 v))                               W_3: 1x1, the last dw with a bias

    The convolutions before a BN have no bias, which the BN would take out again (the published code gives them
    one). W_1 and W_2 are two layers: as one they train slower on a CPU. timm.models.starnet.Block equals this.
    """

    def __init__(self, channels: int, ratio: Count = 3, kernel_size: Kernel = 7) -> None:
        super().__init__()
        self.before = conv_norm(channels, channels, kernel_size, groups=channels)
        self.one = nn.Conv2d(channels, ratio * channels, 1)
        self.two = nn.Conv2d(channels, ratio * channels, 1)
        self.act = nn.ReLU6(inplace=True)  # of a convolution's output
        self.reduce = conv_norm(ratio * channels, channels)
        self.after = depthwise(channels, kernel_size, kernel_size)

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        u = self.before(innermost(x))
        return self.after(self.reduce(self.act(self.one(u)) * self.two(u)))

    def last(self) -> nn.Module:
        """The layer to fold gamma into."""
        return self.after
