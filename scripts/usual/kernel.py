"""Large-kernel blocks as people paste them today, for scripts/bench: the published order of operations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.models.focalnet import FocalModulation
from timm.models.starnet import Block
from torch import Tensor, nn


def depthwise(channels: int, height: int, width: int, dilation: int = 1) -> nn.Conv2d:
    """A depthwise convolution to the same size."""
    padding = (dilation * (height // 2), dilation * (width // 2))
    return nn.Conv2d(channels, channels, (height, width), padding=padding, dilation=dilation, groups=channels)


class LKA(nn.Module):
    """VAN's LKA, Visual-Attention-Network/VAN-Classification models/van.py."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = depthwise(channels, 5, 5)
        self.dilated = depthwise(channels, 7, 7, 3)
        self.point = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        kept = x.clone()
        weight = self.local(x)
        weight = self.dilated(weight)
        weight = self.point(weight)
        return kept * weight


class LSKA(nn.Module):
    """LSKA at K = 23, StevenLauHKHK/Large-Separable-Kernel-Attention models/van.py."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local_row = depthwise(channels, 1, 5)
        self.local_column = depthwise(channels, 5, 1)
        self.dilated_row = depthwise(channels, 1, 7, 3)
        self.dilated_column = depthwise(channels, 7, 1, 3)
        self.point = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        kept = x.clone()
        weight = self.local_row(x)
        weight = self.local_column(weight)
        weight = self.dilated_row(weight)
        weight = self.dilated_column(weight)
        weight = self.point(weight)
        return kept * weight


class LSK(nn.Module):
    """LSKNet's LSKblock, zcablii/Large-Selective-Kernel-Network mmrotate/models/backbones/lsknet.py."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = depthwise(channels, 5, 5)
        self.dilated = depthwise(channels, 7, 7, 3)
        self.point_local = nn.Conv2d(channels, channels // 2, 1)
        self.point_dilated = nn.Conv2d(channels, channels // 2, 1)
        self.select = nn.Conv2d(2, 2, 7, padding=3)
        self.point = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        near = self.local(x)
        far = self.dilated(near)
        near, far = self.point_local(near), self.point_dilated(far)
        both = torch.cat([near, far], dim=1)
        mean = torch.mean(both, dim=1, keepdim=True)
        top, _ = torch.max(both, dim=1, keepdim=True)
        gate = self.select(torch.cat([mean, top], dim=1)).sigmoid()
        mixed = near * gate[:, 0, :, :].unsqueeze(1) + far * gate[:, 1, :, :].unsqueeze(1)
        return x * self.point(mixed)


class MSCA(nn.Module):
    """SegNeXt's AttentionModule, Visual-Attention-Network/SegNeXt mmseg/models/backbones/mscan.py."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = depthwise(channels, 5, 5)
        self.rows = nn.ModuleList(depthwise(channels, 1, k) for k in (7, 11, 21))
        self.columns = nn.ModuleList(depthwise(channels, k, 1) for k in (7, 11, 21))
        self.point = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        kept = x.clone()
        local = self.local(x)
        strips = [column(row(local)) for row, column in zip(self.rows, self.columns, strict=True)]
        weight = local + strips[0] + strips[1] + strips[2]
        return self.point(weight) * kept


class CAA(nn.Module):
    """PKINet's CAA, NUST-Machine-Intelligence-Laboratory/PKINet mmrotate/models/backbones/pkinet.py, times x as in
    the ports to YOLO."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(7, 1, 3)
        self.first = self.point(channels)
        self.row = depthwise(channels, 1, 11)
        self.column = depthwise(channels, 11, 1)
        self.second = self.point(channels)
        self.act = nn.Sigmoid()

    @staticmethod
    def point(channels: int) -> nn.Sequential:
        """1x1 convolution, norm, SiLU, in place as mmcv's ConvModule has it."""
        norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)
        return nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), norm, nn.SiLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return self.act(self.second(self.column(self.row(self.first(self.pool(x)))))) * x


USUAL: dict[str, Callable[[int], nn.Module]] = {
    "lka": LKA,
    "lska": LSKA,
    "lsk": LSK,
    "msca": MSCA,
    "caa": CAA,
    # timm's, the same order as the published one with a 1x1 convolution for its Linear and permutes: its best port
    "focal": lambda channels: FocalModulation(channels, focal_window=3, focal_level=2),
    # timm's, line for line the published one
    "star": Block,
}
