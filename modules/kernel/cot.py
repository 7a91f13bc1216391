"""Contextual Transformer (CoT), Li, Yao, Pan, Mei, TPAMI 2022, arXiv:2107.12292."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.checks import Count, Kernel, divisor
from modules.layers import BatchNorm, conv_norm, global_mean
from modules.macs import counted
from modules.registry import attention


@counted(lambda module, inputs, output: output.numel() * module.kernel_size**2)
class LocalAggregation(nn.Module):
    """Each pixel sums its k x k neighbours with weights of its own; a module, so that its MACs are counted.

    o[c, p] = sum_t w[c mod (C / share), t, p] * v[c, p + t]    zero outside the map
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, v: Tensor, weight: Tensor) -> Tensor:
        """v: [B, C, H, W], weight: [B, C / share, k k, H, W] -> [B, C, H, W]."""
        k, (b, c, h, w) = self.kernel_size, v.shape
        planes = weight.shape[1]
        padded = F.pad(v, [k // 2] * 4).reshape(b, c // planes, planes, h + k - 1, w + k - 1)
        taps = [(padded[..., t // k : t // k + h, t % k : t % k + w], weight[:, None, :, t]) for t in range(k * k)]
        total = taps[0][0] * taps[0][1]
        for neighbour, share in taps[1:]:
            total = torch.addcmul(total, neighbour, share)
        return total.reshape(b, c, h, w)


@attention("cot", paper="arXiv:2107.12292", family="kernel")
class CoT(nn.Module):
    """Local attention whose k x k weights come from static context and pixel, fused with that context.

    s = ReLU(BN(Conv_k x))                                static context, `groups` groups
    w = GN(Conv1x1(ReLU(BN(Conv1x1 [x; s]))))             2C -> C/2 -> (C/share) k^2, a norm group per k^2
    o = SiLU(BN(LocalAggregation(BN(Conv1x1 x), w)))      dynamic context; no softmax over w (official code)
    a = softmax over {o, s} of Conv1x1(ReLU(BN(Conv1x1 mean_HW(o + s))))    C -> max(C/2, 32) -> 2C
    y = a_1 o + a_2 s                                     [B, C, H, W]

    groups and share are the largest divisors of C up to the value given.
    """

    def __init__(self, channels: int, kernel_size: Kernel = 3, groups: Count = 4, share: Count = 8) -> None:
        super().__init__()
        c, k = channels, kernel_size
        groups = divisor(c, groups)
        self.taps = k * k
        self.planes = c // divisor(c, share)
        dim = max(c // 2, 32)
        self.static = conv_norm(c, c, k, groups=groups, act=nn.ReLU())
        self.weigh = nn.Sequential(
            conv_norm(2 * c, c // 2, act=nn.ReLU()),
            nn.Conv2d(c // 2, self.planes * self.taps, 1),
            nn.GroupNorm(self.planes, self.planes * self.taps),
        )
        self.value = conv_norm(c, c)
        self.aggregate = LocalAggregation(k)
        self.dynamic = nn.Sequential(BatchNorm(c), nn.SiLU())
        self.select = nn.Sequential(nn.Conv2d(c, dim, 1), BatchNorm(dim), nn.ReLU(), nn.Conv2d(dim, 2 * c, 1))
        self.softmax = nn.Softmax(dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        s = self.static(x)
        weight = self.weigh(torch.cat((x, s), dim=1)).reshape(b, self.planes, self.taps, h, w)
        o = self.dynamic(self.aggregate(self.value(x), weight).to(s.dtype))
        a = self.softmax(self.select(global_mean(o) + global_mean(s)).reshape(b, c, 2, 1, 1)).to(s.dtype)
        return torch.lerp(s, o, a[:, :, 0])
