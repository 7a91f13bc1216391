"""SHViT, Yun, Ro, CVPR 2024, arXiv:2401.16456."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count
from modules.forms import Branch
from modules.layers import GroupNorm, conv_norm, like
from modules.quadratic.core import PixelAttention
from modules.registry import attention


@attention("shsa", paper="arXiv:2401.16456", family="quadratic", cost="quadratic")
class SHSA(Branch):
    """One head attends, on a part of the channels; the rest passes by it.

    a, r = x                                           [B, P, H, W], [B, C - P, H, W]
    q, k, v = BN(Conv1x1 GroupNorm_1 a)                [B, d, HW], [B, d, HW], [B, P, HW], d = 16
    y = x + BN(Conv1x1 ReLU([softmax(q^T k / sqrt(d)) v, r]))      [B, C, H, W]

    P is C / 4.67 to the nearest multiple of 16 (the paper's 32 of 128, 48 of 224, 96 of 448), 8 below 38 channels.
    The last BN's scale starts at 1, not at 0, since `Attend` has a gain of its own that does.
    timm.models.shvit.SHSA equals the branch.
    """

    def __init__(self, channels: int, partial_dim: Count | None = None, key_dim: Count = 16) -> None:
        super().__init__()
        wanted = max(8, round(channels / 4.67 / 16) * 16) if partial_dim is None else partial_dim
        self.part = min(channels, wanted)
        self.key_dim = key_dim
        self.norm = GroupNorm(1, self.part)
        self.qkv = conv_norm(self.part, 2 * key_dim + self.part)
        self.attend = PixelAttention(key_dim**-0.5)
        self.act = nn.ReLU(inplace=True)
        self.project = conv_norm(channels, channels)

    def last(self) -> nn.Module:
        """The layer whose output is the branch's."""
        return self.project

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> what is added to it."""
        a, rest = x[:, : self.part], x[:, self.part :]
        q, k, v = self.qkv(self.norm(a)).flatten(2).unsqueeze(1).split((self.key_dim, self.key_dim, self.part), 2)
        y = like(self.attend(q, k, v).reshape(a.shape), x)
        return self.project(self.act(torch.cat((y, rest), 1)))
