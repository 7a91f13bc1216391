"""SCSA, Si, Xu, Zhu, Zhang, Dong, Chen, Li, Neurocomputing 2025, arXiv:2407.05128."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.forms import Gate
from modules.layers import GroupNorm, mean
from modules.registry import attention

KERNELS = (3, 5, 7, 9)
GAP = KERNELS[-1] // 2  # zeros between the two strips, so that one convolution pads both


def windows(n: int, size: int, x: Tensor) -> Tensor:
    """Average pooling along an axis in steps of `size`, [n // size, n]; an axis shorter than that is one window."""
    rows = n // size + (n < size)
    at = torch.arange(n, device=x.device).div(size, rounding_mode="floor")
    inside = (at == torch.arange(rows, device=x.device).unsqueeze(1)).to(x.dtype)
    return inside / inside.sum(1, keepdim=True)


@attention("scsa", paper="arXiv:2407.05128", family="mixed")
class SCSA(Gate):
    """Spatial gates from strips, four reaches for four channel quarters, then attention among the channels.

    u_H = mean_W x, u_W = mean_H x                       [B, C, H], [B, C, W]
    a_H = sigmoid(GN_4(dw u_H)), a_W likewise            dw: depthwise, kernel 3, 5, 7, 9 for quarter 1 to 4 of C
    z = GN_1(avg_pool_7x7(x a_H a_W))                    [B, C, n], n = floor(H / 7) floor(W / 7)
    A = softmax((q z)(k z)^T / sqrt(d))                  [B, C, C] for one head, d = C; q, k, v: a weight a channel
    y = x * a_H * a_W * sigmoid(mean_n A (v z))

    mean_n A (v z) = A (v mean_n z), and the pooled map comes straight from x with a_H and a_W put into the
    pooling matrices. An axis shorter than the window is one window; the official code fails there. One head,
    as in the paper's models; num_heads becomes the largest divisor of C up to it.
    """

    def __init__(self, channels: int, window: Count = 7, num_heads: Count = 1) -> None:
        super().__init__()
        self.window, self.heads = window, divisor(channels, num_heads)
        self.scale = (channels // self.heads) ** -0.5
        quarter = channels // 4
        self.strips = nn.ModuleList([nn.Conv1d(quarter, quarter, k, padding=k // 2, groups=quarter) for k in KERNELS])
        self.norm_h, self.norm_w, self.norm = GroupNorm(4, channels), GroupNorm(4, channels), GroupNorm(1, channels)
        self.q, self.k, self.v = (nn.Parameter(torch.empty(channels, 1).uniform_(-1, 1)) for _ in range(3))
        self.softmax = nn.Softmax(dim=-1)

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        u_h, u_w = mean(x, 3), mean(x, 2)
        u = torch.cat((F.pad(u_h, (0, GAP)), u_w), dim=2)
        if len(self.strips) == 1:
            u = self.strips[0](u)
        else:
            u = torch.cat([conv(part) for conv, part in zip(self.strips, u.chunk(4, dim=1), strict=True)], dim=1)
        a_h, a_w = self.norm_h(u[..., :h]).sigmoid(), self.norm_w(u[..., h + GAP :]).sigmoid()

        rows = windows(h, self.window, x) * a_h.unsqueeze(2).to(x.dtype)  # [B, C, n_H, H]
        columns = windows(w, self.window, x) * a_w.unsqueeze(2).to(x.dtype)
        z = self.norm(rows @ (x @ columns.transpose(2, 3))).flatten(2)
        q, k, v = z * self.q, z * self.k, z.mean(2, keepdim=True) * self.v
        q, k, v = (t.reshape(b, self.heads, c // self.heads, -1) for t in (q, k, v))
        g = (self.softmax(q @ k.transpose(2, 3) * self.scale) @ v).reshape(b, c, 1).sigmoid()
        return (a_h * g).unsqueeze(3) * a_w.unsqueeze(2)

    @torch.no_grad()
    def fold(self) -> None:
        """The four depthwise convolutions as one of the longest kernel, the shorter ones padded with zeros."""
        if len(self.strips) == 1:
            return
        weights = [F.pad(s.weight, ((KERNELS[-1] - k) // 2,) * 2) for s, k in zip(self.strips, KERNELS, strict=True)]  # type: ignore[arg-type]
        weight, bias = torch.cat(weights), torch.cat([s.bias for s in self.strips])  # type: ignore[misc]
        merged = nn.Conv1d(len(bias), len(bias), KERNELS[-1], padding=KERNELS[-1] // 2, groups=len(bias))
        merged.weight, merged.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.strips = nn.ModuleList([merged]).eval()
