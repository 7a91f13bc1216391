"""YOLOv12, Tian, Ye, Doermann, 2025, arXiv:2502.12524."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.checks import Count, Kernel, divisor
from modules.layers import ScaledDotProduct, conv_norm, like
from modules.registry import attention

AREA = 4


@attention("area", paper="arXiv:2502.12524", family="window", cost="quadratic", tokens=AREA)
class Area(nn.Module):
    """Area attention: the map, row by row, is cut into 4 runs, whose pixels attend to each other.

    q, k, v = BN(Conv1x1 x)                               [B, 4, heads, HW / 4, d] each
    y = BN(Conv1x1(softmax(q k^T / sqrt(d)) v + BN(DWConv7x7 v)))    [B, C, H, W]

    Where HW is no multiple of `area`, a run has ceil(HW / area) pixels and the last ones fewer, or none; the
    published code fails there. Heads: the largest divisor of C up to C / head_dim. The 7 x 7 position
    perceiver is the paper's and Ultralytics'; the authors' repository has come to 5 x 5.
    """

    def __init__(self, channels: int, area: Count = AREA, head_dim: Count = 32, kernel_size: Kernel = 7) -> None:
        super().__init__()
        c = channels
        self.area, self.num_heads = area, divisor(c, max(c // head_dim, 1))
        self.qkv = conv_norm(c, 3 * c)
        self.position = conv_norm(c, c, kernel_size, groups=c)
        self.project = conv_norm(c, c)
        self.attend = ScaledDotProduct()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        area, heads, pixels = self.area, self.num_heads, h * w
        run = (pixels + area - 1) // area
        qkv = self.qkv(x)
        t, bias = qkv.flatten(2), None
        # traced, the size is no int and the padding must stay in the graph
        if not isinstance(pixels, int) or pixels % area != 0:
            t = F.pad(t, (0, run * area - pixels))
            outside = (torch.arange(run * area, device=x.device) >= pixels).reshape(1, area, 1, 1, run)
            bias = (outside * (torch.finfo(t.dtype).min / 2)).to(t.dtype).expand(b, -1, -1, run, -1).flatten(0, 1)
        t = t.reshape(b, 3, heads, c // heads, area, run).permute(1, 0, 4, 2, 5, 3)
        q, k, v = t.contiguous().reshape(3, b * area, heads, run, c // heads).unbind(0)
        y = self.attend(q, k, v, bias).transpose(1, 2).reshape(b, area * run, c)[:, :pixels]
        return self.project(like(y.transpose(1, 2).reshape(x.shape), x) + self.position(qkv[:, 2 * c :]))

    def last(self) -> nn.Module:
        """The layer whose output is the block's."""
        return self.project
