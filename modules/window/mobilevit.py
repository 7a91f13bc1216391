"""MobileViT block, Mehta, Rastegari, ICLR 2022, arXiv:2110.02178."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.layers import ScaledDotProduct, conv_norm, like, resize
from modules.registry import attention

PATCH = 2  # pixels along a patch's side, 2 in all of the paper's models
MAX_DIM = 240  # the widest transformer of the paper (MobileViT-S, last stage)


class Layer(nn.Module):
    """A pre-norm transformer layer: t += MHSA(LN t); t += W2 SiLU(W1 LN t), hidden 2d."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.project = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.attend = ScaledDotProduct()
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """[B, N, d] -> [B, N, d]."""
        b, n, d = t.shape
        qkv = self.qkv(self.norm1(t)).reshape(b, n, 3, self.num_heads, d // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        t = t + self.project(self.attend(q, k, v).transpose(1, 2).reshape(b, n, d))
        return t + self.mlp(self.norm2(t))


@attention("mobilevit", paper="arXiv:2110.02178", family="window", cost="quadratic", tokens=PATCH * PATCH)
class MobileViT(nn.Module):
    """Pixels at the same place of all 2x2 patches attend to each other, between convolutions.

    f = Conv1x1(SiLU(BN(Conv3x3 x)))                      [B, d, H, W], the 1x1 without bias
    t = unfold f -> 4 sets of N = HW/4 tokens             [4B, N, d]
    t <- LN(`depth` transformer layers of t)
    z = SiLU(BN(Conv1x1(fold t)))                         [B, C, H, W]
    y = SiLU(BN(Conv3x3 [x; z]))                          2C -> C

    Odd H or W: f is resized bilinearly to the next even size and z's input back, as the official code does.
    d is `dim`, by default 1.5 C as in MobileViT-XS and -S, to a multiple of 8, at most their 240. depth 2 is
    the paper's first stage (2, 4, 3). Heads: the largest divisor of d up to `num_heads`. Dropout is left out.
    """

    def __init__(self, channels: int, dim: Count | None = None, depth: Count = 2, num_heads: Count = 4) -> None:
        super().__init__()
        c = channels
        d = min(max(c * 3 // 16 * 8, 8), MAX_DIM) if dim is None else dim
        heads = divisor(d, num_heads)
        self.local = nn.Sequential(conv_norm(c, c, 3, act=nn.SiLU()), nn.Conv2d(c, d, 1, bias=False))
        self.layers = nn.Sequential(*[Layer(d, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(d)
        self.project = conv_norm(d, c, act=nn.SiLU())
        self.fuse = conv_norm(2 * c, c, 3, act=nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        z = self.project(self.attend(self.local(x)))
        return self.fuse(torch.cat((x, z), dim=1))

    def attend(self, f: Tensor) -> Tensor:
        """[B, d, H, W] -> [B, d, H, W]."""
        b, d, h, w = f.shape
        rows, columns = (h + PATCH - 1) // PATCH, (w + PATCH - 1) // PATCH
        # traced, h and w are no ints and the resize must stay in the graph; at even sizes it changes nothing
        fits = isinstance(h, int) and isinstance(w, int) and h % PATCH == 0 and w % PATCH == 0
        even = f if fits else resize(f, rows * PATCH, columns * PATCH)
        even = even.reshape(b, d, rows, PATCH, columns, PATCH)
        t = even.permute(0, 3, 5, 2, 4, 1).reshape(b * PATCH * PATCH, rows * columns, d)
        t = self.norm(self.layers(t)).reshape(b, PATCH, PATCH, rows, columns, d)
        z = t.permute(0, 5, 3, 1, 4, 2).reshape(b, d, rows * PATCH, columns * PATCH)
        return like(z if fits else resize(z, h, w), f)
