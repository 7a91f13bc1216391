"""What an attention block has to be better than: plain convolutions of the same cost. In no list of blocks."""

from __future__ import annotations

from torch import Tensor, nn

from modules.checks import Count
from modules.forms import Branch
from modules.layers import conv_norm
from modules.registry import CONTROL, attention


@attention("plain_conv", paper="none", family=CONTROL)
class PlainConv(Branch):
    """y = x + W2 SiLU(BN(W1 x))    W1: 3x3 to `width` channels, W2: 1x1 back, no bias; [B, C, H, W]

    10 x C x width multiply-adds a pixel, so that a width can be had for any cost.
    """

    def __init__(self, channels: int, width: Count = 8) -> None:
        super().__init__()
        self.narrow = conv_norm(channels, width, 3)
        self.act = nn.SiLU()
        self.back = nn.Conv2d(width, channels, 1, bias=False)

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same."""
        return self.back(self.act(self.narrow(x)))

    def last(self) -> nn.Module:
        """What gamma may be folded into."""
        return self.back
