"""Non-local Neural Networks, Wang, Girshick, Gupta, He, CVPR 2018, arXiv:1711.07971."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from modules.checks import Count, OneOf
from modules.forms import Branch
from modules.layers import conv_norm, like
from modules.quadratic.core import PixelAttention
from modules.registry import attention


@attention("non_local", paper="arXiv:1711.07971", family="quadratic", cost="quadratic")
class NonLocal(Branch):
    """Every pixel takes a mean of all, weighted by an embedded Gaussian.

    t, p, g = Conv1x1 x                                each [B, C', HW], C' = C / reduction
    z_i = sum_j softmax_j(t_i . p_j) g_j               eq. 1, 2 and 4; the official code divides by sqrt(C'): `scaled`
    y = x + BN(Conv1x1 z)                              [B, C, H, W], eq. 6

    Where we leave the paper: the BN's scale starts at 1, not at 0, since `Attend` has a gain of its own that does;
    no bias before the BN, which would take it away; pixels of the keys are not pooled. Convolutions start at
    std 0.01, as in the official code.
    """

    def __init__(
        self, channels: int, reduction: Count = 2, scaled: Annotated[bool, OneOf(False, True)] = False
    ) -> None:
        super().__init__()
        self.inner = max(1, channels // reduction)
        self.embed = nn.Conv2d(channels, 3 * self.inner, 1)
        self.attend = PixelAttention(self.inner**-0.5 if scaled else 1.0)
        self.project = conv_norm(self.inner, channels)
        nn.init.normal_(self.embed.weight, std=0.01)
        nn.init.normal_(self.project[0].weight, std=0.01)  # type: ignore[arg-type]
        nn.init.zeros_(self.embed.bias)  # type: ignore[arg-type]

    def last(self) -> nn.Module:
        """The layer whose output is the branch's."""
        return self.project

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> what is added to it."""
        t, p, g = self.embed(x).flatten(2).unsqueeze(1).split(self.inner, 2)
        z = self.attend(t, p, g)
        return self.project(like(z.reshape(x.shape[0], -1, *x.shape[2:]), x))
