"""What people run today for the blocks of the family "linear", part one, at the defaults of ours."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.models.efficientvit_mit import LiteMLA
from timm.models.swiftformer import EfficientAdditiveAttention
from timm.models.xcit import XCA
from torch import Tensor, nn


class A2(nn.Module):
    """The port of xmu-xiaoma666/External-Attention-pytorch, its softmax axes put right, with the paper's sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // 4
        self.a = nn.Conv2d(channels, width, 1)
        self.b = nn.Conv2d(channels, width, 1)
        self.v = nn.Conv2d(channels, width, 1)
        self.back = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        a, maps, vectors = (layer(x).view(b, -1, h * w) for layer in (self.a, self.b, self.v))
        maps, vectors = F.softmax(maps, dim=-1), F.softmax(vectors, dim=1)
        descriptors = torch.bmm(a, maps.permute(0, 2, 1))
        z = descriptors.matmul(vectors).view(b, -1, h, w)
        return x + self.back(z)


class Efficient(nn.Module):
    """The official cmsflash/efficient-attention: a Python loop over the heads."""

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.k, self.q, self.v, self.project = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        k, q, v = (layer(x).reshape(b, c, h * w) for layer in (self.k, self.q, self.v))
        d, found = c // self.heads, []
        for i in range(self.heads):
            part = slice(i * d, (i + 1) * d)
            key, query = F.softmax(k[:, part], dim=2), F.softmax(q[:, part], dim=1)
            context = key @ v[:, part].transpose(1, 2)
            found.append((context.transpose(1, 2) @ query).reshape(b, d, h, w))
        return self.project(torch.cat(found, dim=1)) + x


class External(nn.Module):
    """The official MenghaoGuo/EANet model_torch.py, without the last ReLU."""

    def __init__(self, channels: int, memory: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 1)
        self.read = nn.Conv1d(channels, memory, 1, bias=False)
        self.write = nn.Conv1d(memory, channels, 1, bias=False)
        self.write.weight.data = self.read.weight.data.permute(1, 0, 2)
        self.last = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        a = self.read(self.first(x).view(b, c, h * w))
        a = F.softmax(a, dim=-1)
        a = a / (1e-9 + a.sum(dim=1, keepdim=True))
        return self.last(self.write(a).view(b, c, h, w)) + x


class OnTokens(nn.Module):
    """A module for tokens [B, N, C], put on a map as its models do: flatten, transpose, and back."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return self.module(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(b, c, h, w)


class MDTA(nn.Module):
    """The official swz30/Restormer Attention; its rearrange as reshape."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, channels * 3, 1, bias=False)
        self.local = nn.Conv2d(channels * 3, channels * 3, 3, padding=1, groups=channels * 3, bias=False)
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.local(self.qkv(x)).chunk(3, dim=1)
        q, k, v = (t.reshape(b, self.heads, c // self.heads, h * w) for t in (q, k, v))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        a = ((q @ k.transpose(-2, -1)) * self.temperature).softmax(dim=-1)
        return self.project((a @ v).reshape(b, c, h, w))


USUAL: dict[str, Callable[[int], nn.Module]] = {
    "a2": A2,
    "additive": lambda c: EfficientAdditiveAttention(c, token_dim=c),  # timm's, on maps
    "efficient": Efficient,
    "external": External,
    "litemla": lambda c: LiteMLA(c, c),  # timm's, as the official
    "mdta": lambda c: MDTA(c, c // 32),  # 32 is the largest divisor of 64 to 512 up to Restormer's 48
    "xca": lambda c: OnTokens(XCA(c, num_heads=c // 32)),  # timm's, as the official
}
