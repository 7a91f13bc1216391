"""The usual implementations of the quadratic blocks, as they are pasted today, for the speed benchmark."""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.layers.attention2d import MultiQueryAttention2d
from timm.models.shvit import SHSA as TimmSHSA
from torch import Tensor, nn
from ultralytics.nn.modules.block import PSA, PSABlock


class NonLocalBlock(nn.Module):
    """AlexHex7/Non-local_pytorch's NONLocalBlock2D, without sub-sampling: four convolutions, explicit softmax."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = max(1, channels // 2)
        self.g = nn.Conv2d(channels, self.inner, 1)
        self.theta = nn.Conv2d(channels, self.inner, 1)
        self.phi = nn.Conv2d(channels, self.inner, 1)
        self.out = nn.Sequential(nn.Conv2d(self.inner, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        b = x.size(0)
        g = self.g(x).view(b, self.inner, -1).permute(0, 2, 1)
        theta = self.theta(x).view(b, self.inner, -1).permute(0, 2, 1)
        phi = self.phi(x).view(b, self.inner, -1)
        weights = torch.softmax(torch.matmul(theta, phi), dim=-1)
        y = torch.matmul(weights, g).permute(0, 2, 1).contiguous()
        return self.out(y.view(b, self.inner, *x.shape[2:])) + x


class PositionHalf(nn.Module):
    """junfu1115/DANet's PAM_Module."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        q = self.query(x).view(b, -1, h * w).permute(0, 2, 1)
        k = self.key(x).view(b, -1, h * w)
        weights = torch.softmax(torch.bmm(q, k), dim=-1)
        v = self.value(x).view(b, -1, h * w)
        y = torch.bmm(v, weights.permute(0, 2, 1)).view(b, c, h, w)
        return self.gamma * y + x


class ChannelHalf(nn.Module):
    """junfu1115/DANet's CAM_Module."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        energy = torch.bmm(x.view(b, c, -1), x.view(b, c, -1).permute(0, 2, 1))
        turned = torch.max(energy, -1, keepdim=True)[0].expand_as(energy) - energy
        y = torch.bmm(torch.softmax(turned, dim=-1), x.view(b, c, -1)).view(b, c, h, w)
        return self.gamma * y + x


class DualAttention(nn.Module):
    """junfu1115/DANet's two modules side by side, summed as its head does; x, which each adds, taken off once."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.position, self.channel = PositionHalf(channels), ChannelHalf()

    def forward(self, x: Tensor) -> Tensor:
        return self.position(x) + self.channel(x) - x


class ResTAttention(nn.Module):
    """wofmanaf/ResT's Attention with apply_transform, on tokens, with the permutes that a map needs around it."""

    def __init__(self, channels: int, stride: int = 4) -> None:
        super().__init__()
        heads = max(2, channels // 64)
        while channels % heads:
            heads -= 1
        self.heads, self.scale = heads, (channels // heads) ** -0.5
        self.q = nn.Linear(channels, channels, bias=False)
        self.kv = nn.Linear(channels, 2 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)
        self.sr = nn.Conv2d(channels, channels, stride + 1, stride, stride // 2, groups=channels)
        self.sr_norm = nn.LayerNorm(channels)
        self.transform_conv = nn.Conv2d(heads, heads, 1)
        self.transform_norm = nn.InstanceNorm2d(heads)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        t = x.flatten(2).permute(0, 2, 1)
        q = self.q(t).reshape(b, h * w, self.heads, c // self.heads).permute(0, 2, 1, 3)
        small = self.sr(t.permute(0, 2, 1).reshape(b, c, h, w)).reshape(b, c, -1).permute(0, 2, 1)
        kv = self.kv(self.sr_norm(small)).reshape(b, -1, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        k, v = kv[0], kv[1]
        weights = self.transform_conv((q @ k.transpose(-2, -1)) * self.scale)
        weights = self.transform_norm(weights.softmax(dim=-1))
        y = self.proj((weights @ v).transpose(1, 2).reshape(b, h * w, c))
        return y.permute(0, 2, 1).reshape(b, c, h, w)


class SingleHead(nn.Module):
    """ysj9909/SHViT's SHSA, which timm's equals, with the residual around it (the last norm at 1, not at 0)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = min(channels, max(8, round(channels / 4.67 / 16) * 16))
        self.m = TimmSHSA(channels, 16, part)
        nn.init.ones_(self.m.proj[1].bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.m(x)


def multi_query(channels: int) -> nn.Module:
    """timm's MultiQueryAttention2d (its fused attention on, as by default), in MobileNetV4's setting."""
    heads = max(1, channels // 32)
    while channels % heads:
        heads -= 1
    return MultiQueryAttention2d(channels, num_heads=heads, kv_stride=2)


def psa_block(channels: int) -> nn.Module:
    """Ultralytics' PSABlock with C2PSA's number of heads."""
    heads = max(1, channels // 64)
    while channels % heads:
        heads -= 1
    return PSABlock(channels, attn_ratio=0.5, num_heads=heads)


USUAL: dict[str, Callable[[int], nn.Module]] = {
    "psa": lambda channels: PSA(channels, channels),  # Ultralytics' own
    "psablock": psa_block,  # Ultralytics' own
    "non_local": NonLocalBlock,  # AlexHex7/Non-local_pytorch
    "danet": DualAttention,  # junfu1115/DANet
    "mqa": multi_query,  # timm
    "shsa": SingleHead,  # timm, ysj9909/SHViT
    "emsa": ResTAttention,  # wofmanaf/ResT
}
