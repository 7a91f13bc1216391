"""Beyond Self-attention: External Attention using Two Linear Layers, Guo, Liu, Mu, Hu, TPAMI 2022, arXiv:2105.02358."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modules import deploy
from modules.checks import Count
from modules.forms import Branch
from modules.layers import conv_norm, like, wide
from modules.macs import counted
from modules.registry import attention


def softmax_macs(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """Two softmaxes by thop's rule, 3 n - 1 a row of n."""
    b, k, n = output.shape
    return b * (k * (3 * n - 1) + n * (3 * k - 1))


@counted(softmax_macs)
class DoubleNorm(nn.Module):
    """softmax over the pixels, then each pixel's sum over the memory made 1; in fp32 at least."""

    def forward(self, logits: Tensor) -> Tensor:
        """[B, k, N] -> [B, k, N]."""
        return logits.to(wide(logits.dtype)).log_softmax(2).softmax(1).to(logits.dtype)


@attention("external", paper="arXiv:2105.02358", family="linear")
class ExternalAttention(Branch):
    """External attention: every pixel reads from a learned memory, the same for all images.

    F = W_1 x                                      [C, N], N = HW, 1x1
    a = softmax_N(M F), then a / sum_k a           M: [k, C]; a: [k, N], the double normalisation
    y = x + BN(W_2 M^T a)                          1x1, no bias

    M W_1 [k, C] and W_2 M^T [C, k] are multiplied first, k being smaller than N: F and M^T a are never made, and
    deployed the block is two 1x1 convolutions. The two normalisations are softmax_k(log softmax_N), which needs no
    epsilon (official 1e-9). One M reads and writes, as in the official model_torch.py, whose tie is of storage only
    and ends with the first .double() or .cuda(); the paper's last equation has two. Without the bias of W_1, which
    cancels in softmax_N, and without the ReLU after the sum, under which no start is the identity.
    """

    def __init__(self, channels: int, memory: Count = 64) -> None:
        super().__init__()
        self.project: nn.Conv2d | None = nn.Conv2d(channels, channels, 1, bias=False)
        self.memory: nn.Parameter | None = nn.Parameter(torch.empty(memory, channels))
        self.out: Any = conv_norm(channels, channels)
        weights: list[Any] = [self.project.weight, self.memory, self.out[0].weight]
        for weight in weights:
            nn.init.normal_(weight, std=(2 / channels) ** 0.5)  # the official code's
        self.read: nn.Conv2d | None = None  # once folded
        self.write: nn.Conv2d | None = None
        self.attend = DoubleNorm()

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        if self.read is not None and self.write is not None:
            return like(self.write(self.attend(self.read(x).flatten(2)).unflatten(2, x.shape[2:])), x)
        read, write = self.weights()
        y = write @ self.attend(read @ x.flatten(2))
        return like(self.out[1](y.unflatten(2, x.shape[2:])), x)

    def weights(self) -> tuple[Tensor, Tensor]:
        """M W_1 [k, C] and W_2 M^T [C, k]."""
        assert self.memory is not None and self.project is not None
        return self.memory @ self.project.weight.flatten(1), self.out[0].weight.flatten(1) @ self.memory.t()

    @torch.no_grad()
    def fold(self) -> None:
        """Two convolutions, the second with the norm."""
        if self.memory is None:
            return
        read, write = self.weights()
        scale, shift = deploy.affine(self.out[1])
        k, c = read.shape
        self.read = nn.Conv2d(c, k, 1, bias=False, device=read.device, dtype=read.dtype).eval()
        self.write = nn.Conv2d(k, c, 1, device=read.device, dtype=read.dtype).eval()
        assert self.write.bias is not None
        self.read.weight.copy_(read[:, :, None, None])
        self.write.weight.copy_((scale[:, None] * write)[:, :, None, None])
        self.write.bias.copy_(shift)
        self.project = self.memory = self.out = None

    def last(self) -> nn.Module | None:
        """The layer whose rows are the branch's channels."""
        return self.write or self.out
