"""GCNet, Cao, Xu, Lin, Wei, Hu, ICCV Workshop 2019, arXiv:1904.11492."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from modules.checks import Count, OneOf
from modules.forms import Branch
from modules.registry import attention


@attention("gc", paper="arXiv:1904.11492", family="channel")
class GC(Branch):
    """Global context block: one attention map for all pixels, its context added to each of them.

    a = softmax_HW(w . x)                          [B, HW], w: C -> 1
    c = sum_j a_j x_j                              [B, C]
    t = W_2 ReLU(LN(W_1 c))                        [B, C], W_1: C -> d with bias, d = max(C / reduction, 8)
    y = x + t                                      [B, C, H, W]; fusion "mul": y = x * sigmoid(t)

    Where we leave the paper: w has no bias, which a softmax does not see; d is at least 8, since a norm over one
    value is constant; W_2 and its bias start as PyTorch has them, not at 0, since under `Attend`, whose own
    weight starts at 0, no gradient would ever reach them.
    """

    def __init__(
        self, channels: int, reduction: Count = 16, fusion: Annotated[str, OneOf("add", "mul")] = "add"
    ) -> None:
        super().__init__()
        self.fusion, self.pooled = fusion, fusion == "add"
        dim = max(channels // reduction, 8)
        self.attend = nn.Parameter(nn.init.kaiming_normal_(nn.Linear(channels, 1).weight.detach()))
        self.softmax = nn.Softmax(dim=-1)
        self.reduce = nn.Linear(channels, dim)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, channels)

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 1, 1], or [B, C, H, W] where it multiplies."""
        pixels = x.flatten(2)
        a = self.softmax(self.attend @ pixels)  # [B, 1, HW]
        context = (pixels @ a.transpose(1, 2)).flatten(1)
        t = self.expand(self.norm(self.reduce(context)).relu()).reshape(*x.shape[:2], 1, 1)
        return t if self.fusion == "add" else x * (t.sigmoid() - 1)

    def last(self) -> nn.Module | None:
        """The layer whose output is the branch's."""
        return self.expand if self.fusion == "add" else None
