"""The first ten blocks as they are pasted today: the shape of the published computation, in our words."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LONGEST = 80  # rows and columns that the tables of `UsualMHSA` reach: P3 of 640 pixels


class UsualECA(nn.Module):
    """BangguWu/ECANet eca_layer: pooled channels turned into a row and back, gate expanded over the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        k = int(abs(math.log2(channels) / 2 + 0.5))
        k = k if k % 2 else k + 1
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        y = self.conv(self.pool(x).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * self.sigmoid(y).expand_as(x)


class UsualSimAM(nn.Module):
    """ZjjConan/SimAM simam_module: one operation on the whole map after the other."""

    def __init__(self, e_lambda: float = 1e-4) -> None:
        super().__init__()
        self.sigmoid, self.e_lambda = nn.Sigmoid(), e_lambda

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        n = x.shape[2] * x.shape[3] - 1
        square = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        y = square / (4 * (square.sum(dim=[2, 3], keepdim=True) / n + self.e_lambda)) + 0.5
        return x * self.sigmoid(y)


class UsualShuffle(nn.Module):
    """wofmanaf/SA-Net sa_layer: two halves apart, concatenated, then a channel shuffle that copies again."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        half = channels // (2 * groups)
        self.groups, self.pool, self.sigmoid = groups, nn.AdaptiveAvgPool2d(1), nn.Sigmoid()
        self.cweight, self.sweight = (nn.Parameter(torch.zeros(1, half, 1, 1)) for _ in range(2))
        self.cbias, self.sbias = (nn.Parameter(torch.ones(1, half, 1, 1)) for _ in range(2))
        self.norm = nn.GroupNorm(half, half)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, _, h, w = x.shape
        x0, x1 = x.reshape(b * self.groups, -1, h, w).chunk(2, dim=1)
        y0 = x0 * self.sigmoid(self.cweight * self.pool(x0) + self.cbias)
        y1 = x1 * self.sigmoid(self.sweight * self.norm(x1) + self.sbias)
        y = torch.cat([y0, y1], dim=1).reshape(b, 2, -1, h, w)
        return y.permute(0, 2, 1, 3, 4).reshape(b, -1, h, w)


class UsualPlane(nn.Module):
    """One gate of `UsualTriplet`: [max; mean] over the channels, convolution, norm, sigmoid, product."""

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1, eps=1e-5, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        pooled = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
        return x * torch.sigmoid(self.norm(self.conv(pooled)))


class UsualTriplet(nn.Module):
    """landskape-ai/triplet-attention: the map turned by permute().contiguous(), gated, turned back, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.cw, self.hc, self.hw = UsualPlane(), UsualPlane(), UsualPlane()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        one = self.cw(x.permute(0, 2, 1, 3).contiguous()).permute(0, 2, 1, 3).contiguous()
        two = self.hc(x.permute(0, 3, 2, 1).contiguous()).permute(0, 3, 2, 1).contiguous()
        return 1 / 3 * (self.hw(x) + one + two)


class UsualCoT(nn.Module):
    """JDAI-CV/CoTNet CotLayer; its CUDA kernel for the local sum as the ports have it, by F.unfold."""

    def __init__(self, channels: int, kernel_size: int = 3, share: int = 8) -> None:
        super().__init__()
        c, k = channels, kernel_size
        self.k, self.planes = k, c // share
        self.key = nn.Sequential(
            nn.Conv2d(c, c, k, padding=k // 2, groups=4, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True)
        )
        self.embed = nn.Sequential(
            nn.Conv2d(2 * c, c // 2, 1, bias=False),
            nn.BatchNorm2d(c // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(c // 2, k * k * self.planes, 1),
            nn.GroupNorm(self.planes, k * k * self.planes),
        )
        self.value = nn.Sequential(nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c))
        self.norm, self.act = nn.BatchNorm2d(c), nn.SiLU(inplace=True)
        d = max(c // 2, 32)
        self.se = nn.Sequential(nn.Conv2d(c, d, 1), nn.BatchNorm2d(d), nn.ReLU(inplace=True), nn.Conv2d(d, 2 * c, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        key = self.key(x)
        weight = self.embed(torch.cat([x, key], dim=1)).view(b, 1, self.planes, self.k**2, h, w)
        value = F.unfold(self.value(x), self.k, padding=self.k // 2)
        value = value.view(b, c // self.planes, self.planes, self.k**2, h, w)
        y = self.act(self.norm((value * weight).sum(3).view(b, c, h, w)))
        both = torch.cat([y.view(b, c, 1, h, w), key.view(b, c, 1, h, w)], dim=2)
        pooled = both.sum(dim=2).mean((2, 3), keepdim=True)
        share = F.softmax(self.se(pooled).view(b, c, 2), dim=2)
        return (both * share.reshape(b, c, 2, 1, 1)).sum(dim=2).contiguous()


class UsualSK(nn.Module):
    """xmu-xiaoma666's SKAttention, with the paper's two grouped branches: maps stacked, weighted, summed."""

    def __init__(self, channels: int, groups: int = 32, reduction: int = 16, min_dim: int = 32) -> None:
        super().__init__()
        d = max(min_dim, channels // reduction)
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=i, dilation=i, groups=groups, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for i in (1, 2)
        )
        self.fc = nn.Sequential(nn.Conv2d(channels, d, 1, bias=False), nn.BatchNorm2d(d), nn.ReLU())
        self.fcs = nn.ModuleList(nn.Conv2d(d, channels, 1, bias=False) for _ in range(2))
        self.softmax = nn.Softmax(dim=0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        outputs = [conv(x) for conv in self.convs]
        maps = torch.stack(outputs, 0)
        z = self.fc(sum(outputs).mean((2, 3), keepdim=True))
        weights = self.softmax(torch.stack([fc(z) for fc in self.fcs], 0))
        return (weights * maps).sum(0)


class UsualS2(nn.Module):
    """xmu-xiaoma666's S2Attention, its SplitAttention at C channels (it has 512): slices moved in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp1, self.mlp2 = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.squeeze = nn.Linear(channels, channels, bias=False)
        self.select = nn.Linear(channels, 3 * channels, bias=False)
        self.gelu, self.softmax = nn.GELU(), nn.Softmax(1)

    @staticmethod
    def shift(x: Tensor, rows_first: bool) -> Tensor:
        """[B, H, W, C], as Algorithm 1 of the paper prints it: the border smears."""
        c, y = x.shape[3], x if rows_first else x.transpose(1, 2)
        y[:, 1:, :, : c // 4] = y[:, :-1, :, : c // 4]
        y[:, :-1, :, c // 4 : c // 2] = y[:, 1:, :, c // 4 : c // 2]
        y[:, :, 1:, c // 2 : c * 3 // 4] = y[:, :, :-1, c // 2 : c * 3 // 4]
        y[:, :, :-1, 3 * c // 4 :] = y[:, :, 1:, 3 * c // 4 :]
        return x

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        x = self.mlp1(x.permute(0, 2, 3, 1))
        parts = (self.shift(x[..., :c], True), self.shift(x[..., c : 2 * c], False), x[..., 2 * c :])
        maps = torch.stack(parts, 1).reshape(b, 3, h * w, c)
        pooled = torch.sum(torch.sum(maps, 1), 1)
        a = self.softmax(self.select(self.gelu(self.squeeze(pooled))).reshape(b, 3, c))
        y = torch.sum(a.unsqueeze(-2) * maps, 1).reshape(b, h, w, c)
        return self.mlp2(y).permute(0, 3, 1, 2)


class UsualParNet(nn.Module):
    """imankgoyal/NonDeepNetworks RepVGGBlock with SSE as it trains, which is also what is pasted (unfused)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.excite = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1, bias=False), nn.Sigmoid())
        self.one = nn.Sequential(nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c))
        self.three = nn.Sequential(nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        self.norm, self.silu = nn.BatchNorm2d(c), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        skip = self.norm(x)
        return self.silu(self.three(x) + self.one(x) + skip * self.excite(skip))


class UsualLayer(nn.Module):
    """A transformer layer of `UsualMobileViT`: softmax(q k^T) v with its matrix."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.norm1, self.norm2, self.softmax = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.Softmax(dim=-1)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """[B, N, d] -> [B, N, d]."""
        b, n, d = t.shape
        qkv = self.qkv(self.norm1(t)).reshape(b, n, 3, self.heads, -1).transpose(1, 3).contiguous()
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        a = self.softmax(torch.matmul(q * self.scale, k.transpose(-1, -2)))
        t = t + self.out(torch.matmul(a, v).transpose(1, 2).reshape(b, n, d))
        return t + self.mlp(self.norm2(t))


class UsualMobileViT(nn.Module):
    """apple/ml-cvnets MobileViTBlock: unfold and fold by copies in turn, attention with its matrix."""

    def __init__(self, channels: int, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        c, d = channels, min(channels * 3 // 16 * 8, 240)

        def conv(c1: int, c2: int, k: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(c1, c2, k, padding=k // 2, bias=False), nn.BatchNorm2d(c2), nn.SiLU())

        self.local = nn.Sequential(conv(c, c, 3), nn.Conv2d(c, d, 1, bias=False))
        self.layers = nn.Sequential(*[UsualLayer(d, heads) for _ in range(depth)], nn.LayerNorm(d))
        self.project, self.fusion = conv(d, c, 1), conv(2 * c, c, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W], H and W even."""
        y = self.local(x)
        b, d, h, w = y.shape
        rows, columns = h // 2, w // 2
        y = y.reshape(b * d * rows, 2, columns, 2).transpose(1, 2).reshape(b, d, rows * columns, 4)
        t = self.layers(y.transpose(1, 3).reshape(b * 4, rows * columns, d))
        y = t.contiguous().view(b, 4, rows * columns, d).transpose(1, 3)
        y = y.reshape(b * d * rows, columns, 2, 2).transpose(1, 2).reshape(b, d, h, w)
        return self.fusion(torch.cat((x, self.project(y)), dim=1))


class UsualMHSA(nn.Module):
    """JDAI-CV/CoTNet RelPosSelfAttention (as BoTNet's own and timm's): logits, bias and softmax as N x N
    matrices, offsets turned into positions by padding; its tables, of one map size, are cut out of longer ones."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.d = heads, channels // heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.rows, self.columns = (nn.Parameter(torch.randn(2 * LONGEST - 1, self.d) * self.d**-0.5) for _ in range(2))

    def along(self, q: Tensor, table: Tensor, mask: tuple[int, ...]) -> Tensor:
        """q: [B heads, X, Y, d] -> logits [B heads, X, X, Y, Y] along the axis of Y, permuted by `mask`."""
        b, x, y, _ = q.shape
        logits = (q @ table[LONGEST - y : LONGEST + y - 1].t()).reshape(-1, y, 2 * y - 1)
        flat = F.pad(F.pad(logits, [0, 1]).flatten(1), [0, y - 1])
        logits = flat.reshape(-1, y + 1, 2 * y - 1)[:, :y, y - 1 :]
        return logits.reshape(b, x, 1, y, y).expand(-1, -1, x, -1, -1).permute(mask)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).reshape(b, 3 * self.heads, self.d, h * w).transpose(-1, -2).chunk(3, dim=1)
        q = q * self.d**-0.5
        logits = q @ k.transpose(-1, -2)
        q = q.reshape(b * self.heads, h, w, self.d)
        bias = self.along(q, self.columns, (0, 1, 3, 2, 4))
        bias = self.along(q.transpose(1, 2), self.rows, (0, 3, 1, 4, 2)) + bias
        a = F.softmax(logits + bias.reshape(b, self.heads, h * w, h * w), dim=-1)
        return (a @ v).transpose(-1, -2).reshape(b, c, h, w)


USUAL: dict[str, Callable[[int], nn.Module]] = {
    "cot": UsualCoT,
    "eca": UsualECA,
    "mhsa": UsualMHSA,
    "mobilevit": UsualMobileViT,
    "parnet": UsualParNet,
    "s2": UsualS2,
    "shuffle": UsualShuffle,
    "simam": lambda channels: UsualSimAM(),
    "sk": UsualSK,
    "triplet": lambda channels: UsualTriplet(),
}
