"""CCNet, Huang, Wang, Huang, Huang, Wei, Liu, ICCV 2019, arXiv:1811.11721."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count
from modules.forms import Branch
from modules.layers import Pointwise
from modules.registry import attention


@attention("crisscross", paper="arXiv:1811.11721", family="window")
class CrissCross(Branch):
    """Every pixel attends to the H + W - 1 pixels of its own row and column; cost N (H + W).

    q, k = Wq x, Wk x, C / reduction channels             [B, HW, C / 8], with bias
    v = Wv x                                              [B, HW, C], with bias
    y_i = x_i + sum_j softmax_j(q_i . k_j) v_j            j in row and column of i, i once, eq. 1-2

    The paper's scalar gain on the sum, zero at the start, is left out: gamma of `Attend` is it, and two zeros
    in a row would let no gradient through. Applied once; two in a row are the paper's recurrence R = 2.
    """

    def __init__(self, channels: int, reduction: Count = 8) -> None:
        super().__init__()
        self.inner = max(channels // reduction, 1)
        self.query_key = Pointwise(channels, 2 * self.inner)
        self.value = Pointwise(channels, channels)

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        h = x.shape[2]
        x = x.contiguous(memory_format=torch.channels_last)
        q, k = self.query_key(x).permute(0, 2, 3, 1).split(self.inner, dim=-1)  # [B, H, W, C / 8] each
        v = self.value(x).permute(0, 2, 3, 1)
        place = torch.arange(h, device=x.device)
        column = q.transpose(1, 2) @ k.permute(0, 2, 3, 1)  # [B, W, H, H]
        column = column.masked_fill_(place == place[:, None], torch.finfo(column.dtype).min)
        row = q @ k.transpose(2, 3)  # [B, H, W, W]
        # one softmax over both, without joining them: in place, and the sum divided out of the shorter map
        top = torch.maximum(column.detach().amax(-1, keepdim=True).transpose(1, 2), row.detach().amax(-1, keepdim=True))
        column, row = column.sub_(top.transpose(1, 2)).exp_(), row.sub_(top).exp_()
        total = column.sum(-1, keepdim=True).transpose(1, 2) + row.sum(-1, keepdim=True)
        y = (row @ v).add_((column @ v.transpose(1, 2)).transpose(1, 2)) / total
        return y.permute(0, 3, 1, 2)

    def last(self) -> nn.Module:
        """The layer whose scale is the branch's: the weights of a pixel sum to 1."""
        return self.value
