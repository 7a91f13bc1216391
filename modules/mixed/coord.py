"""Coordinate Attention, Hou, Zhou, Feng, CVPR 2021, arXiv:2103.02907."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count
from modules.layers import conv_norm, mean
from modules.registry import attention


def strip_means(x: Tensor) -> tuple[Tensor, Tensor]:
    """Means along the rows and along the columns, [B, C, H, W] -> [B, C, H], [B, C, W]. Those along the rows are a
    product with a vector, at short rows twice as fast on a CPU as a reduction."""
    w = x.shape[3]
    return (x @ (x.new_ones(w, 1) / w)).squeeze(3).to(x.dtype), mean(x, 2)


@attention("coord", paper="arXiv:2103.02907", family="mixed")
class CoordAttention(nn.Module):
    """A gate on each row and one on each column, from the means along them, with channels mixed.

    f = hardswish(BN(W [mean_W x; mean_H x]))             [B, m, H + W], m = max(C / reduction, min_dim)
    y = x * sigmoid(W_h f_h) * sigmoid(W_w f_w)           gates [B, C, H, 1] and [B, C, 1, W]

    No bias before the norm. timm's CoordAttn(rd_channels=m, bias=True) equals this.
    """

    def __init__(self, channels: int, reduction: Count = 32, min_dim: Count = 8) -> None:
        super().__init__()
        m = max(min_dim, channels // reduction)
        self.squeeze = conv_norm(channels, m, act=nn.Hardswish())
        self.rows = nn.Conv2d(m, channels, 1)
        self.columns = nn.Conv2d(m, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        h, w = x.shape[2:]
        f = self.squeeze(torch.cat(strip_means(x), 2).unsqueeze(2))  # [B, m, 1, H + W]
        fh, fw = f.split((h, w), 3)
        gh, gw = self.rows(fh.transpose(2, 3)).sigmoid(), self.columns(fw).sigmoid()
        return x * gh.to(x.dtype) * gw.to(x.dtype)
