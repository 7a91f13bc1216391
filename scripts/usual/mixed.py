"""The mixed gates as they are pasted today: the same operations in the same order as the code named at each."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CBAM(nn.Module):
    """Jongchan/attention-module, cbam.py: window poolings of the map's size, expand_as, torch.max with indices."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        size = (x.size(2), x.size(3))
        logits = self.mlp(F.avg_pool2d(x, size, stride=size)) + self.mlp(F.max_pool2d(x, size, stride=size))
        x = x * torch.sigmoid(logits).unsqueeze(2).unsqueeze(3).expand_as(x)
        planes = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
        return x * torch.sigmoid(self.norm(self.conv(planes)))


class BAM(nn.Module):
    """Jongchan/attention-module, bam.py, with the paper's sum for its product and its two faults mended."""

    def __init__(self, channels: int, reduction: int = 16, dilation: int = 4) -> None:
        super().__init__()
        d = max(channels // reduction, 1)
        self.channel = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, d), nn.BatchNorm1d(d), nn.ReLU(), nn.Linear(d, channels)
        )
        layers: list[nn.Module] = [nn.Conv2d(channels, d, 1), nn.BatchNorm2d(d), nn.ReLU()]
        for _ in range(2):
            conv = nn.Conv2d(d, d, 3, padding=dilation, dilation=dilation)
            layers += [conv, nn.BatchNorm2d(d), nn.ReLU()]
        self.spatial = nn.Sequential(*layers, nn.Conv2d(d, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        size = (x.size(2), x.size(3))
        channel = self.channel(F.avg_pool2d(x, size, stride=size)).unsqueeze(2).unsqueeze(3).expand_as(x)
        spatial = self.spatial(x).expand_as(x)
        return (1 + torch.sigmoid(channel + spatial)) * x


class SCSE(nn.Module):
    """qubvel/segmentation_models.pytorch, SCSEModule: two gated maps, added."""

    def __init__(self, channels: int, reduction: int = 2) -> None:
        super().__init__()
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.channel(x) + x * self.spatial(x)


class SGE(nn.Module):
    """implus/PytorchInsight, resnet_sge.py: the product with the mean as a map, then its sum; 8 groups."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.groups = groups
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.weight = nn.Parameter(torch.zeros(1, groups, 1, 1))
        self.bias = nn.Parameter(torch.ones(1, groups, 1, 1))
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        x = x.view(b * self.groups, -1, h, w)
        t = (x * self.pool(x)).sum(dim=1, keepdim=True).view(b * self.groups, -1)
        t = t - t.mean(dim=1, keepdim=True)
        t = t / (t.std(dim=1, keepdim=True) + 1e-5)
        t = t.view(b, self.groups, h, w) * self.weight + self.bias
        return (x * self.sigmoid(t.view(b * self.groups, 1, h, w))).view(b, c, h, w)


class MCAGate(nn.Module):
    """One branch of MCA; the axis that is gated comes second."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv2d(1, 1, (1, kernel_size), padding=(0, kernel_size // 2), bias=False)
        self.weight = nn.Parameter(torch.rand(2))

    def forward(self, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        mean, std = self.pool(x), x.view(b, c, -1).std(dim=2, keepdim=True).reshape(b, c, 1, 1)
        weight = torch.sigmoid(self.weight)
        z = 1 / 2 * (mean + std) + weight[0] * mean + weight[1] * std
        z = self.conv(z.permute(0, 3, 2, 1).contiguous()).permute(0, 3, 2, 1).contiguous()
        return x * torch.sigmoid(z).expand_as(x)


class MCA(nn.Module):
    """ndsclark/MCANet, mca_module.py: the map turned and copied for each axis, and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        k = round(abs((math.log2(channels) - 1) / 1.5))
        self.rows, self.columns = MCAGate(3), MCAGate(3)
        self.channels = MCAGate(k if k % 2 else k - 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows(x.permute(0, 2, 1, 3).contiguous()).permute(0, 2, 1, 3).contiguous()
        columns = self.columns(x.permute(0, 3, 2, 1).contiguous()).permute(0, 3, 2, 1).contiguous()
        return 1 / 3 * (self.channels(x) + rows + columns)


class HSwish(nn.Module):
    """x ReLU6(x + 3) / 6 in three operations."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.relu(x + 3) / 6)


class CoordAtt(nn.Module):
    """houqb/CoordAttention, coordatt.py: adaptive poolings to one row and one column."""

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        self.pool_h, self.pool_w = nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveAvgPool2d((1, None))
        m = max(8, channels // reduction)
        self.conv, self.norm, self.act = nn.Conv2d(channels, m, 1), nn.BatchNorm2d(m), HSwish()
        self.conv_h, self.conv_w = nn.Conv2d(m, channels, 1), nn.Conv2d(m, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        y = torch.cat((self.pool_h(x), self.pool_w(x).permute(0, 1, 3, 2)), dim=2)
        y_h, y_w = torch.split(self.act(self.norm(self.conv(y))), [h, w], dim=2)
        gate_h, gate_w = self.conv_h(y_h).sigmoid(), self.conv_w(y_w.permute(0, 1, 3, 2)).sigmoid()
        return x * gate_w * gate_h


class ELA(nn.Module):
    """The port that goes round (HZAI-ZJNU/SCSA, ELA.py): a Conv1d and a GroupNorm, each called twice."""

    def __init__(self, channels: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False)
        self.norm = nn.GroupNorm(16, channels)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        rows, columns = x.mean(3, keepdim=True).view(b, c, h), x.mean(2, keepdim=True).view(b, c, w)
        gate_h = self.sigmoid(self.norm(self.conv(rows))).view(b, c, h, 1)
        gate_w = self.sigmoid(self.norm(self.conv(columns))).view(b, c, 1, w)
        return x * gate_w * gate_h


class EMA(nn.Module):
    """YOLOonMe/EMA-attention-module with factor 8, as detectors' ports have it: both branches in full."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.groups = groups
        c = channels // groups
        self.softmax, self.pool = nn.Softmax(-1), nn.AdaptiveAvgPool2d((1, 1))
        self.pool_h, self.pool_w = nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveAvgPool2d((1, None))
        self.norm, self.point, self.conv = nn.GroupNorm(c, c), nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        n = b * self.groups
        g = x.reshape(n, -1, h, w)
        strips = self.point(torch.cat((self.pool_h(g), self.pool_w(g).permute(0, 1, 3, 2)), dim=2))
        rows, columns = torch.split(strips, [h, w], dim=2)
        x1 = self.norm(g * rows.sigmoid() * columns.permute(0, 1, 3, 2).sigmoid())
        x2 = self.conv(g)
        a1 = self.softmax(self.pool(x1).reshape(n, -1, 1).permute(0, 2, 1))
        a2 = self.softmax(self.pool(x2).reshape(n, -1, 1).permute(0, 2, 1))
        both = torch.matmul(a1, x2.reshape(n, -1, h * w)) + torch.matmul(a2, x1.reshape(n, -1, h * w))
        return (g * both.reshape(n, 1, h, w).sigmoid()).reshape(b, c, h, w)


USUAL: dict[str, Callable[[int], nn.Module]] = {
    "bam": lambda channels: BAM(channels),
    "cbam": lambda channels: CBAM(channels),
    "coord": lambda channels: CoordAtt(channels),
    "ela": lambda channels: ELA(channels),
    "ema": lambda channels: EMA(channels),
    "mca": lambda channels: MCA(channels),
    "scse": lambda channels: SCSE(channels),
    "sge": lambda channels: SGE(channels),
}
