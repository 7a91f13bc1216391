"""DANet, Fu, Liu, Tian, Li, Bao, Fang, Lu, CVPR 2019, arXiv:1809.02983."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from modules.checks import Count
from modules.forms import Branch
from modules.layers import like, wide
from modules.quadratic.core import PixelAttention
from modules.registry import attention


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """No autocast of matrix products; the meta device knows none."""
    known = torch.amp.is_autocast_available(x.device.type)
    return torch.autocast(x.device.type, enabled=False) if known else contextlib.nullcontext()


@attention("danet", paper="arXiv:1809.02983", family="quadratic", cost="quadratic")
class DANet(Branch):
    """Dual attention: each pixel over all pixels and each channel over all channels.

    B, C, D = Conv1x1 x                                [B, C/8, N], [B, C/8, N], [B, C, N], with bias
    P_j = sum_i softmax_i(B_i . C_j) D_i               eq. 1-2, position attention
    X_j = sum_i softmax_i(max_i E_ji - E_ji) x_i       E = x x^T [B, C, C], channel attention
    y = x + alpha P + beta X                           [B, C, H, W]

    Where we leave the paper: its 3x3 convolutions around each half are left out, and x is added once, not by each
    half. The channel energies are turned round as in the official code (eq. 3 has softmax_i E_ji); softmax does
    not see the maximum. They are fp32, since sums over N of squares overflow fp16. alpha and beta start at 1, not
    at 0, since `Attend` has a gain of its own that does.
    """

    alpha: Tensor | None

    def __init__(self, channels: int, reduction: Count = 8) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.sizes = (inner, inner, channels)
        self.embed = nn.Conv2d(channels, sum(self.sizes), 1)
        self.attend = PixelAttention(1.0)
        self.softmax = nn.Softmax(dim=-1)
        self.alpha = nn.Parameter(torch.ones(1))
        self.beta = nn.Parameter(torch.ones(1))

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> what is added to it."""
        flat = x.flatten(2)
        q, k, v = self.embed(x).flatten(2).unsqueeze(1).split(self.sizes, 2)
        y = self.attend(q, k, v if self.alpha is None else v * self.alpha).squeeze(1)
        return like((self.channel_weights(flat) @ flat).add_(y).reshape(x.shape), x)

    def channel_weights(self, flat: Tensor) -> Tensor:
        """[B, C, N] -> beta softmax(-E) [B, C, C]."""
        with full_precision(flat):
            wide_ = flat.to(wide(flat.dtype))
            a = self.softmax(wide_ @ (wide_.mean(1, keepdim=True) - wide_).transpose(1, 2))
            return (a * self.beta).to(flat.dtype)

    @torch.no_grad()
    def fold(self) -> None:
        """alpha goes into the convolution's rows of D."""
        if self.alpha is not None:
            rows = self.sizes[-1]
            self.embed.weight[-rows:] *= self.alpha
            self.embed.bias[-rows:] *= self.alpha  # type: ignore[index]
            self.alpha = None
