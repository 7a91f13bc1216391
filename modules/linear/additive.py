"""SwiftFormer, Shaker, Maaz, Rasheed, Khan, Yang, Khan, ICCV 2023, arXiv:2303.15446."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.checks import Count
from modules.layers import like, wide
from modules.registry import attention


@attention("additive", paper="arXiv:2303.15446", family="linear")
class EfficientAdditiveAttention(nn.Module):
    """Efficient additive attention: one global query weighs the keys.

    q = W_Q x / |W_Q x|, k = W_K x / |W_K x|      [D, N], norms over the D channels of a pixel, 1x1, biased; N = HW
    a = w^T q / |w^T q|                           [N], norm over the pixels; the paper's 1 / sqrt(D) cancels
    g = sum_N a q                                 [D]
    y = W_F (W_P (g * k) + q)                     1x1, biased

    D = expand C (the official code's "num_heads", 1). Deployed, the last two layers are one product of
    [W_F, W_F W_P diag(g)] and [q; k]. timm.models.swiftformer.EfficientAdditiveAttention equals this; the norms of q
    and k are as in the official code.
    """

    def __init__(self, channels: int, expand: Count = 1) -> None:
        super().__init__()
        self.width = expand * channels
        self.query_key = nn.Conv2d(channels, 2 * self.width, 1)
        self.weigh = nn.Parameter(torch.randn(self.width))
        self.project: nn.Conv2d | None = nn.Conv2d(self.width, self.width, 1)
        self.final: nn.Conv2d | None = nn.Conv2d(self.width, channels, 1)
        self.out: nn.Conv2d | None = None  # once folded: the two above in one

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        qk = self.query_key(x).flatten(2).unflatten(1, (2, self.width))  # [B, 2, D, N]
        high = wide(qk.dtype)
        qk = qk * qk.to(high).square().sum(2, keepdim=True).clamp(min=1e-24).rsqrt().to(qk.dtype)
        q = qk[:, 0]
        a = (self.weigh.reshape(1, 1, -1) @ q).to(high)  # [B, 1, N]
        a = a * a.square().sum(2, keepdim=True).clamp(min=1e-24).rsqrt()
        g = q @ a.transpose(1, 2).to(q.dtype)  # [B, D, 1]
        if self.out is None:
            assert self.project is not None and self.final is not None and self.project.bias is not None
            mixed = (self.project.weight.flatten(1) * g.transpose(1, 2)) @ qk[:, 1] + q
            y = self.final(mixed.unsqueeze(3)).squeeze(3) + self.final.weight.flatten(1) @ self.project.bias[:, None]
        else:
            assert self.out.bias is not None
            scale = F.pad(g, (0, 0, self.width, 0), value=1.0).transpose(1, 2)  # 1 for q, g for k: [B, 1, 2D]
            y = (self.out.weight.flatten(1) * scale) @ qk.flatten(1, 2) + self.out.bias[:, None]
        return like(y.unflatten(2, x.shape[2:]), x)

    @torch.no_grad()
    def fold(self) -> None:
        """The last two layers as one."""
        if self.project is None or self.final is None:
            return
        final = self.final.weight.flatten(1)
        weight = torch.cat((final, final @ self.project.weight.flatten(1)), 1)
        layer = nn.Conv2d(2 * self.width, len(final), 1, device=final.device, dtype=final.dtype).eval()
        assert layer.bias is not None and self.project.bias is not None and self.final.bias is not None
        layer.weight.copy_(weight[:, :, None, None])
        layer.bias.copy_(final @ self.project.bias + self.final.bias)
        self.out, self.project, self.final = layer, None, None

    def last(self) -> nn.Module | None:
        """The layer whose rows are the output's channels."""
        return self.out or self.final
