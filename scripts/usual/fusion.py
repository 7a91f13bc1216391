"""The usual implementations of mlca, scsa, polarized, cpca, gam, split and epsa: what people paste today."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import SplitAttn
from torch import Tensor, nn


class MLCA(nn.Module):
    """Shape of wandahangFY/MLCA MLCA.py: adaptive pools there and back, views and transposes."""

    def __init__(self, channels: int, size: int = 5, weight: float = 0.5) -> None:
        super().__init__()
        t = int(abs(math.log2(channels) + 1) / 2)
        k = t if t % 2 else t + 1
        self.size, self.weight = size, weight
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)
        self.pool_local, self.pool_all = nn.AdaptiveAvgPool2d(size), nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        s = self.size
        local = self.pool_local(x)
        whole = self.pool_all(local)
        y_local = self.conv_local(local.view(b, c, -1).transpose(-1, -2).reshape(b, 1, -1))
        y_whole = self.conv(whole.view(b, c, -1).transpose(-1, -2))
        y_local = y_local.reshape(b, s * s, c).transpose(-1, -2).reshape(b, c, s, s)
        y_whole = F.adaptive_avg_pool2d(y_whole.view(b, -1, 1, 1).sigmoid(), [s, s])
        mixed = y_whole * (1 - self.weight) + y_local.sigmoid() * self.weight
        return x * F.adaptive_avg_pool2d(mixed, [h, w])


class SCSA(nn.Module):
    """Shape of HZAI-ZJNU/SCSA SCSA.py: eight 1-d convolutions, AvgPool2d, heads split by reshapes (its einops)."""

    def __init__(self, channels: int, heads: int = 1, window: int = 7) -> None:
        super().__init__()
        g = channels // 4
        self.heads, self.scale, self.g = heads, (channels // heads) ** -0.5, g
        self.convs = nn.ModuleList([nn.Conv1d(g, g, k, padding=k // 2, groups=g) for k in (3, 5, 7, 9)])
        self.norm_h, self.norm_w, self.norm = (nn.GroupNorm(n, channels) for n in (4, 4, 1))
        self.q, self.k, self.v = (nn.Conv2d(channels, channels, 1, groups=channels, bias=False) for _ in range(3))
        self.down = nn.AvgPool2d(window, window)

    def strip(self, t: Tensor, norm: nn.Module) -> Tensor:
        parts = torch.split(t, self.g, dim=1)
        return norm(torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], dim=1)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        rows = self.strip(x.mean(dim=3), self.norm_h).view(b, c, h, 1)
        columns = self.strip(x.mean(dim=2), self.norm_w).view(b, c, 1, w)
        x = x * rows * columns
        y = self.norm(self.down(x))
        h, w = y.shape[2:]
        q, k, v = (m(y).reshape(b, self.heads, c // self.heads, h * w) for m in (self.q, self.k, self.v))
        attn = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1) @ v
        attn = attn.reshape(b, c, h, w).mean((2, 3), keepdim=True).sigmoid()
        return attn * x


class PolarizedSequential(nn.Module):
    """Shape of DeLightCMU/PSA PSA.py PSA_s: both value maps formed, two gates one after the other; the softmax
    where the paper (and the port of xmu-xiaoma666) has it, at the same cost."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.q_right = nn.Conv2d(channels, 1, 1, bias=False)
        self.v_right = nn.Conv2d(channels, half, 1, bias=False)
        self.up = nn.Sequential(
            nn.Conv2d(half, half // 4, 1), nn.LayerNorm([half // 4, 1, 1]), nn.ReLU(), nn.Conv2d(half // 4, channels, 1)
        )
        self.q_left = nn.Conv2d(channels, half, 1, bias=False)
        self.v_left = nn.Conv2d(channels, half, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        value = self.v_right(x).view(b, c // 2, h * w)
        mask = self.q_right(x).view(b, 1, h * w).softmax(dim=2)
        context = torch.matmul(value, mask.transpose(1, 2)).unsqueeze(-1)
        x = x * self.up(context).sigmoid()
        query = self.pool(self.q_left(x)).view(b, c // 2, 1).permute(0, 2, 1).softmax(dim=2)
        value = self.v_left(x).view(b, c // 2, h * w)
        return x * torch.matmul(query, value).view(b, 1, h, w).sigmoid()


class CPCA(nn.Module):
    """Shape of Cuthbert-Huang/CPCANet CPCANet.py RepBlock: two passes of the channel MLP, seven depthwise convs."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()

        def dw(*k: int) -> nn.Conv2d:
            return nn.Conv2d(channels, channels, k, padding=(k[0] // 2, k[1] // 2), groups=channels)

        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)
        self.dw5 = dw(5, 5)
        self.pairs = nn.ModuleList([nn.Sequential(dw(1, k), dw(k, 1)) for k in (7, 11, 21)])
        self.conv = nn.Conv2d(channels, channels, 1)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        average = self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)), inplace=True)).sigmoid()
        most = self.fc2(F.relu(self.fc1(F.adaptive_max_pool2d(x, 1)), inplace=True)).sigmoid()
        x = (average + most) * x
        first = self.dw5(x)
        one, two, three = (pair(first) for pair in self.pairs)
        attention = self.conv(one + two + three + first)
        return self.conv(attention * x)


class GAM(nn.Module):
    """Shape of z1069614715/objectdetection_script GAM.py: the MLP as Linear on a permuted map, biases before norms."""

    def __init__(self, channels: int, rate: int = 4) -> None:
        super().__init__()
        narrow = channels // rate
        self.channel = nn.Sequential(nn.Linear(channels, narrow), nn.ReLU(inplace=True), nn.Linear(narrow, channels))
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, narrow, 7, padding=3),
            nn.BatchNorm2d(narrow),
            nn.ReLU(inplace=True),
            nn.Conv2d(narrow, channels, 7, padding=3),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        attention = self.channel(x.permute(0, 2, 3, 1).reshape(b, -1, c)).view(b, h, w, c)
        x = x * attention.permute(0, 3, 1, 2).sigmoid()
        return x * self.spatial(x).sigmoid()


class EPSA(nn.Module):
    """Shape of murufeng/EPSANet epsanet.py PSAModule: four convs, four SE calls, product, concat in a loop."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.part = part = channels // 4
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(channels, part, k, padding=k // 2, groups=g, bias=False)
                for k, g in ((3, 1), (5, 4), (7, 8), (9, 16))
            ]
        )
        self.fc1, self.fc2 = nn.Conv2d(part, part // 16, 1), nn.Conv2d(part // 16, part, 1)

    def weight(self, t: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(t, 1)), inplace=True)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        maps = [conv(x) for conv in self.convs]
        stacked = torch.cat(maps, dim=1).view(b, 4, self.part, h, w)
        weights = torch.cat([self.weight(t) for t in maps], dim=1).view(b, 4, self.part, 1, 1).softmax(dim=1)
        weighted = stacked * weights
        out = weighted[:, 0]
        for i in range(1, 4):
            out = torch.cat((weighted[:, i], out), dim=1)
        return out


def split(channels: int) -> nn.Module:
    """timm's class, as timm's ResNeSt builds it."""
    return SplitAttn(channels, norm_layer=nn.BatchNorm2d)


USUAL: dict[str, Callable[[int], nn.Module]] = {
    "cpca": CPCA,
    "epsa": EPSA,
    "gam": GAM,
    "mlca": MLCA,
    "polarized": PolarizedSequential,
    "scsa": SCSA,
    "split": split,
}
