"""BoTNet, Srinivas, Lin, Parmar, Shlens, Abbeel, Vaswani, CVPR 2021, arXiv:2101.11605."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.layers import hat, like, wide
from modules.quadratic.core import PixelAttention
from modules.registry import attention

FEW = 1024  # tokens whose logits are small enough to be held for all heads


class RelativePosition(nn.Module):
    """Vectors R[j - i] [d] for the offsets along one axis, learned at one length, stretched to others."""

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2 * length - 1, dim) * dim**-0.5)

    def forward(self, n: int, scale: float) -> Tensor:
        """Length n -> [n, n, d], [i, j] is scale R[j - i]: the table read linearly, its ends at -(n-1), n-1."""
        table = self.table * scale
        at = torch.arange(n, device=table.device, dtype=wide(table.dtype))
        centre = (table.shape[0] - 1) // 2
        position = (at - at[:, None]) * centre / at[-1:].clamp(min=1) + centre  # exact integers at the reference
        return hat(position, table.shape[0]).to(table.dtype) @ table


@attention("mhsa", paper="arXiv:2101.11605", family="quadratic", cost="quadratic")
class MHSA(nn.Module):
    """Every pixel attends to every pixel, with content and relative position.

    q, k, v = Conv1x1 x                                   each [B, heads, HW, d], no bias, d = C / heads
    l_ij = q_i . (k_j + Rh[row j - row i] + Rw[column j - column i]) / sqrt(d)    fig. 4
    y_i = sum_j softmax_j(l_ij) v_j                       [B, C, H, W]

    The paper's tables have 2H-1 and 2W-1 entries for its one map size; here they belong to a map of
    `feat_size` pixels a side (20: stride 32 at 640 pixels) and are resized linearly to any other. Heads: the
    largest divisor of C up to `num_heads`; beyond FEW pixels one after the other, so that the position logits of
    one are held at a time.
    """

    def __init__(self, channels: int, num_heads: Count = 4, feat_size: Count = 20) -> None:
        super().__init__()
        c = channels
        self.num_heads = divisor(c, num_heads)
        self.qkv = nn.Conv2d(c, 3 * c, 1, bias=False)
        nn.init.trunc_normal_(self.qkv.weight, std=c**-0.5)
        self.rows = RelativePosition(feat_size, c // self.num_heads)
        self.columns = RelativePosition(feat_size, c // self.num_heads)
        self.attend = PixelAttention((c // self.num_heads) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, (h, w) = x.shape[0], x.shape[2:]
        q, k, v = self.qkv(x).flatten(2).unflatten(1, (3, self.num_heads, -1)).unbind(1)  # each [B, heads, d, HW]
        along = self.position_logits(q.transpose(2, 3).reshape(b, self.num_heads, h, w, -1))
        at_once = self.num_heads if int(h * w) <= FEW else 1
        heads = []
        for i in range(0, self.num_heads, at_once):
            some = slice(i, i + at_once)
            heads.append(self.attend(q[:, some], k[:, some], v[:, some], (along[0][:, some], along[1][:, some])))
        y = torch.cat(heads, dim=1) if len(heads) > 1 else heads[0]
        return like(y.reshape(x.shape), x)

    def position_logits(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """q: [B, heads, H, W, d] -> q_i . Rh / sqrt(d) [B, heads, HW, H] and q_i . Rw / sqrt(d) [.., W]."""
        h, w, d = q.shape[2:]
        along_h = q @ self.rows(h, d**-0.5).transpose(1, 2).to(q.dtype)
        along_w = q.transpose(2, 3) @ self.columns(w, d**-0.5).transpose(1, 2).to(q.dtype)
        return along_h.flatten(2, 3), along_w.transpose(2, 3).flatten(2, 3)
