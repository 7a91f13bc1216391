"""Channel gates as people paste them today, for the speed benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers.gather_excite import GatherExcite
from torch import Tensor, nn


class SE(nn.Module):
    """The shape of the pasted PyTorch ports (moskomule/senet.pytorch and its many copies), with biases."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        dim = max(channels // reduction, 8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(channels, dim), nn.ReLU(inplace=True), nn.Linear(dim, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        g = self.fc(self.pool(x).view(b, c)).view(b, c, 1, 1)
        return x * g.expand_as(x)


class ESE(nn.Module):
    """The shape of youngwanLEE/CenterMask, eSEModule (timm's EffectiveSEModule has the same layers)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * (F.relu6(self.fc(self.pool(x)) + 3.0, inplace=True) / 6.0)


class SRM(nn.Module):
    """The shape of hyunjaelee410/style-based-recalibration-module, SRMLayer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cfc = nn.Parameter(torch.zeros(channels, 2))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.view(*x.shape[:2], -1)
        mean = flat.mean(2, keepdim=True)
        std = (flat.var(2, keepdim=True) + 1e-5).sqrt()
        style = torch.cat((mean, std), 2)
        z = (style * self.cfc[None]).sum(2)[:, :, None, None]
        return x * torch.sigmoid(self.norm(z))


class GCT(nn.Module):
    """The shape of z-x-yang/GCT, mode l2."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        embedding = (x.pow(2).sum((2, 3), keepdim=True) + self.eps).pow(0.5) * self.alpha
        norm = self.gamma / (embedding.pow(2).mean(1, keepdim=True) + self.eps).pow(0.5)
        return x * (1.0 + torch.tanh(embedding * norm + self.beta))


class FCA(nn.Module):
    """The shape of cfzd/FcaNet, MultiSpectralAttentionLayer with a 7 x 7 transform of 16 frequencies."""

    ROWS = (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2)
    COLUMNS = (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2)
    weight: Tensor

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        dim = max(channels // reduction, 8)
        self.fc = nn.Sequential(
            nn.Linear(channels, dim, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(dim, channels, bias=False),
            nn.Sigmoid(),
        )
        part = channels // 16
        waves = [torch.outer(self.wave(u), self.wave(v)) for u, v in zip(self.ROWS, self.COLUMNS, strict=True)]
        self.register_buffer("weight", torch.stack(waves).repeat_interleave(part, 0))

    @staticmethod
    def wave(k: int) -> Tensor:
        cosines = torch.cos(math.pi * k * (torch.arange(7) + 0.5) / 7) / math.sqrt(7)
        return cosines * math.sqrt(2) if k else cosines

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        pooled = F.adaptive_avg_pool2d(x, (7, 7)) if (h, w) != (7, 7) else x
        z = torch.sum(pooled * self.weight, dim=[2, 3])
        g = self.fc(z).view(b, c, 1, 1)
        return x * g.expand_as(x)


class NAM(nn.Module):
    """The shape of Christian-lyc/NAM, Channel_Att."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        residual = x
        x = self.norm(x)
        weight = self.norm.weight.data.abs() / torch.sum(self.norm.weight.data.abs())
        x = x.permute(0, 2, 3, 1).contiguous()
        x = torch.mul(weight, x)
        x = x.permute(0, 3, 1, 2).contiguous()
        return torch.sigmoid(x) * residual


class GC(nn.Module):
    """The shape of xvjiarui/GCNet (and mmcv), ContextBlock with attention pooling and addition."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        dim = max(channels // reduction, 8)
        self.mask = nn.Conv2d(channels, 1, 1)
        self.softmax = nn.Softmax(dim=2)
        self.add = nn.Sequential(
            nn.Conv2d(channels, dim, 1), nn.LayerNorm([dim, 1, 1]), nn.ReLU(inplace=True), nn.Conv2d(dim, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        pixels = x.view(b, c, h * w).unsqueeze(1)
        mask = self.softmax(self.mask(x).view(b, 1, h * w)).unsqueeze(-1)
        context = torch.matmul(pixels, mask).view(b, c, 1, 1)
        return x + self.add(context)


USUAL: dict[str, Callable[[int], nn.Module]] = {
    "se": SE,
    "ese": ESE,
    "srm": SRM,
    "gct": GCT,
    "fca": FCA,
    "nam": NAM,
    "gc": GC,
    "ge": lambda channels: GatherExcite(channels, extent=0, use_mlp=False),  # timm's class, theta-minus, global
}
