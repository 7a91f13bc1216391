"""Gather-Excite, Hu, Shen, Albanie, Sun, Vedaldi, NeurIPS 2018, arXiv:1810.12348."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from modules.checks import Int
from modules.forms import Gate
from modules.layers import global_mean, like
from modules.registry import attention


@attention("ge", paper="arXiv:1810.12348", family="channel")
class GatherExcite(Gate):
    """Gather-excite without parameters (GE-theta-minus): a gate from the mean of a neighbourhood.

    z = the mean of windows of side 2e - 1, at every e-th row and column       [B, C, H/e, W/e], gather
    y = x * sigmoid(z enlarged by nearest neighbour)                           [B, C, H, W], excite

    e is the extent; 0, the default as in the plain GE-theta-minus, is the whole map: z = mean_HW x. Windows are cut
    at the border. Where e does not divide H or W, pixel i takes cell floor(i / e), which its window holds;
    resizing to H, as timm's GatherExcite does, can put it into another.
    """

    def __init__(self, channels: int, extent: Annotated[int, Int(0)] = 0) -> None:
        super().__init__()
        self.extent = extent

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 1, 1], or [B, C, H, W] where the extent is not the whole map."""
        e = self.extent
        if e == 0:
            return global_mean(x).sigmoid()
        z = F.avg_pool2d(x, 2 * e - 1, e, e - 1, count_include_pad=False).sigmoid()
        z = z[:, :, :, :, None].expand(-1, -1, -1, -1, e).flatten(3)  # along rows first, the smaller copy
        z = z[:, :, :, None].expand(-1, -1, -1, e, -1).flatten(2, 3)
        return like(z[:, :, : x.shape[2], : x.shape[3]], x)
