"""YOLOv10, Wang, Chen, Liu, Chen, Lin, Han, Ding, NeurIPS 2024, arXiv:2405.14458 (as in Ultralytics' YOLO11)."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from modules.checks import Count, Positive
from modules.forms import Branch
from modules.quadratic.psa import PositionAttention, feed_forward, heads
from modules.registry import attention


@attention("psablock", paper="arXiv:2405.14458", family="quadratic", cost="quadratic")
class PSABlock(Branch):
    """The inside of PSA on all channels: attention and feed-forward, a residual around each.

    z = x + PositionAttention(x)                                    [B, C, H, W], see psa.py
    y = z + BN(Conv1x1 SiLU(BN(Conv1x1 z)))                         2 C channels between

    Ultralytics' PSABlock, whose default of 4 heads is C / 64 where YOLO11 and C2PSA use it, as here.
    """

    def __init__(
        self, channels: int, key_ratio: Annotated[float, Positive(1)] = 0.5, num_heads: Count | None = None
    ) -> None:
        super().__init__()
        self.attention = PositionAttention(channels, heads(channels, num_heads), key_ratio)
        self.mlp = feed_forward(channels)

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> what is added to it."""
        y = self.attention(x)
        return y + self.mlp(x + y)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        z = x + self.attention(x)
        return z + self.mlp(z)
