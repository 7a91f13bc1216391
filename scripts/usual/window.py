"""The usual implementations of the window family and of tssa, aft, agent and lsra, for the speed benchmark."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.models.pvt_v2 import Attention
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention


def heads(channels: int, width: int) -> int:
    """Those of our defaults at these channels."""
    wanted = max(channels // width, 1)
    return next(k for k in range(wanted, 0, -1) if channels % k == 0)


class Tokens(nn.Module):
    """A layer on tokens [B, HW, C] in a detector: flatten, transpose, and back."""

    def __init__(self, layer: nn.Module, sized: bool = False) -> None:
        super().__init__()
        self.layer, self.sized = layer, sized

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        t = x.flatten(2).transpose(1, 2)
        t = self.layer(t, [h, w]) if self.sized else self.layer(t)
        return t.transpose(1, 2).reshape(b, c, h, w)


class TokenStatistics(nn.Module):
    """As RobinWu218/ToST's AttentionTSSA computes: heads split off and merged by permutes, normalize, matmul."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.subspaces = nn.Linear(dim, dim, bias=False)
        self.temperature = nn.Parameter(torch.ones(num_heads, 1))
        self.project = nn.Linear(dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        b, n, c = t.shape
        w = self.subspaces(t).reshape(b, n, self.num_heads, -1).permute(0, 2, 1, 3)
        unit = F.normalize(w, dim=-2) ** 2
        member = torch.softmax(unit.sum(-1) * self.temperature, dim=1)
        share = member / (member.sum(-1, keepdim=True) + 1e-8)
        shrink = 1.0 / (1 + torch.matmul(share.unsqueeze(-2), w**2))
        y = -(w * member.unsqueeze(-1) * shrink)
        return self.project(y.permute(0, 2, 1, 3).reshape(b, n, c))


class AttentionFree(nn.Module):
    """As rish-16/aft-pytorch's AFTSimple computes, inner width C: three linear layers, softmax, sum, gate."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value, self.project = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        q, k, v = self.query(t), self.key(t), self.value(t)
        context = (torch.softmax(k, dim=1) * v).sum(dim=1, keepdim=True)
        return self.project(torch.sigmoid(q) * context)


class AgentAttention(nn.Module):
    """As LeapLabTHU/Agent-Attention's agent_pvt computes at sr_ratio 1, without the biases tied to a map size."""

    def __init__(self, dim: int, num_heads: int, pool: int = 7) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.pool = nn.AdaptiveAvgPool2d(pool)
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.softmax = nn.Softmax(dim=-1)
        self.project = nn.Linear(dim, dim)

    def split(self, t: Tensor) -> Tensor:
        return t.reshape(*t.shape[:2], self.num_heads, -1).permute(0, 2, 1, 3)

    def forward(self, t: Tensor, size: list[int]) -> Tensor:
        b, n, c = t.shape
        h, w = size
        q = self.query(t)
        k, v = self.key_value(t).reshape(b, n, 2, c).permute(2, 0, 1, 3)
        agents = self.pool(q.reshape(b, h, w, c).permute(0, 3, 1, 2)).reshape(b, c, -1).permute(0, 2, 1)
        q, k, v, agents = self.split(q), self.split(k), self.split(v), self.split(agents)
        gathered = self.softmax((agents * self.scale) @ k.transpose(-2, -1)) @ v
        y = self.softmax((q * self.scale) @ agents.transpose(-2, -1)) @ gathered
        y = y.transpose(1, 2).reshape(b, n, c)
        v = v.transpose(1, 2).reshape(b, h, w, c).permute(0, 3, 1, 2)
        return self.project(y + self.local(v).permute(0, 2, 3, 1).reshape(b, n, c))


class CrissCrossAttention(nn.Module):
    """As speedinghzl/CCNet's functions.py computes: permuted copies of q, k, v for columns and rows, bmm, an
    infinite diagonal, concatenation. Its diagonal is made on CUDA; here on the map's device."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(dim, dim // 8, 1), nn.Conv2d(dim, dim // 8, 1)
        self.value = nn.Conv2d(dim, dim, 1)
        self.softmax = nn.Softmax(dim=3)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape

        def columns(t: Tensor) -> Tensor:
            return t.permute(0, 3, 1, 2).contiguous().view(b * w, -1, h)

        def rows(t: Tensor) -> Tensor:
            return t.permute(0, 2, 1, 3).contiguous().view(b * h, -1, w)

        q, k, v = self.query(x), self.key(x), self.value(x)
        own = -torch.diag(torch.full((h,), float("inf"), device=x.device)).unsqueeze(0).repeat(b * w, 1, 1)
        column = (torch.bmm(columns(q).permute(0, 2, 1), columns(k)) + own).view(b, w, h, h).permute(0, 2, 1, 3)
        row = torch.bmm(rows(q).permute(0, 2, 1), rows(k)).view(b, h, w, w)
        a = self.softmax(torch.cat([column, row], 3))
        of_column = a[..., :h].permute(0, 2, 1, 3).contiguous().view(b * w, h, h)
        of_row = a[..., h:].contiguous().view(b * h, w, w)
        y = torch.bmm(columns(v), of_column.permute(0, 2, 1)).view(b, w, -1, h).permute(0, 2, 3, 1)
        z = torch.bmm(rows(v), of_row.permute(0, 2, 1)).view(b, h, -1, w).permute(0, 2, 1, 3)
        return self.gamma * (y + z) + x


class Windows(nn.Module):
    """torchvision's ShiftedWindowAttention on a map: to channels last and back."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer = ShiftedWindowAttention(dim, [7, 7], [0, 0], heads(dim, 32))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


def area_attention(channels: int) -> nn.Module:
    """Ultralytics' AAttn, as in its yolo12 models: explicit softmax(q^T k)."""
    from ultralytics.nn.modules.block import AAttn

    return AAttn(channels, heads(channels, 32), area=4)


USUAL: dict[str, Callable[[int], nn.Module]] = {
    "aft": lambda channels: Tokens(AttentionFree(channels)),
    "agent": lambda channels: Tokens(AgentAttention(channels, heads(channels, 64)), sized=True),
    "area": area_attention,
    "crisscross": CrissCrossAttention,
    # timm's own layer, which uses scaled_dot_product_attention
    "lsra": lambda channels: Tokens(Attention(channels, heads(channels, 64), linear_attn=True), sized=True),
    "swin": Windows,
    "tssa": lambda channels: Tokens(TokenStatistics(channels, max(channels // 32, 2))),
}
