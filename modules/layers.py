"""What several blocks share: norms for one value, pooling in fp32, resizing, tokens, attention."""

from __future__ import annotations

import functools
import operator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.macs import attention_macs, attention_products, counted


def pointwise_macs(module: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """An input channel for each output value, as thop counts a linear layer."""
    return output.numel() * module.in_features


@counted(pointwise_macs, pointwise_macs)
class Pointwise(nn.Linear):
    """A linear layer on the channels of a map, with nn.Linear's parameters, run as a 1x1 convolution: no
    transposition, and on a CPU by oneDNN, at 512 channels on two threads in half the time of F.linear."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H, W], in x's memory format."""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm2d that uses the running statistics when a channel has one value (batch 1, pooled or 1x1 map).

    PyTorch refuses to train on one value, whose variance is 0; papers that normalise a pooled vector fail.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class GroupNorm(nn.GroupNorm):
    """GroupNorm that takes a group of one value (one channel on a 1x1 map), which PyTorch's module refuses."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, ...] -> the same."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def conv_norm(
    c1: int,
    c2: int,
    kernel_size: int = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    act: nn.Module | None = None,
) -> nn.Sequential:
    """Conv without bias, BatchNorm, activation: [B, c1, H, W] -> [B, c2, H, W]."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(c1, c2, kernel_size, padding=padding, groups=groups, dilation=dilation, bias=False)
    return nn.Sequential(conv, BatchNorm(c2), *([] if act is None else [act]))


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype for statistics: at least fp32, since fp16 sums over H x W overflow at 65504."""
    return torch.promote_types(dtype, torch.float32)


def mean(x: Tensor, dims: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
    """Mean over dims, summed in fp32: x.mean whose gradient is a view, where torch's writes a whole map."""
    size = functools.reduce(operator.mul, (x.shape[d] for d in ((dims,) if isinstance(dims, int) else dims)))
    return (x.sum(dims, keepdim=keepdim, dtype=wide(x.dtype)) / size).to(x.dtype)


def global_mean(x: Tensor) -> Tensor:
    """Mean over H and W: [B, C, H, W] -> [B, C, 1, 1]."""
    return mean(x, (2, 3), keepdim=True)


def peak(x: Tensor, dim: int, training: bool) -> Tensor:
    """Maximum over one dim: amax for inference; max for training, whose gradient goes to one value, and faster."""
    return x.max(dim).values if training else x.amax(dim)


def hat(position: Tensor, length: int) -> Tensor:
    """Linear interpolation in a row of `length` values, max(0, 1 - |p - j|): [...] -> [..., length]."""
    cells = torch.arange(length, device=position.device, dtype=position.dtype)
    return (1 - (position.unsqueeze(-1) - cells).abs()).clamp(min=0)


def resize(x: Tensor, h: int, w: int) -> Tensor:
    """Bilinear resize [B, C, H, W] -> [B, C, h, w], as F.interpolate(align_corners=False).

    Two matrix products: they export to ONNX with a dynamic size and have a deterministic gradient on CUDA.
    """

    def weights(n: int, m: int) -> Tensor:
        at = torch.arange(m, device=x.device, dtype=wide(x.dtype)) + 0.5
        return hat((at * n / m - 0.5).clamp(min=0).clamp(max=n - 1), n).to(x.dtype)

    return weights(x.shape[2], h) @ x @ weights(x.shape[3], w).transpose(0, 1)


def pooling(n: int, size: int, x: Tensor) -> Tensor:
    """Rows of adaptive average pooling, [size, n] in x's dtype: row i is the mean of floor(i n / size) up to
    ceil((i + 1) n / size). With size > n it repeats cells, as adaptive pooling does."""
    i = torch.arange(size, device=x.device)
    start = (i * n).div(size, rounding_mode="floor")
    stop = (i * n + n + size - 1).div(size, rounding_mode="floor")  # OpenVINO rounds a negative quotient towards 0
    cells = torch.arange(n, device=x.device)
    inside = (cells >= start[:, None]) & (cells < stop[:, None])
    return (inside.to(wide(x.dtype)) / (stop - start)[:, None]).to(x.dtype)


def adaptive_mean(x: Tensor, h: int, w: int) -> Tensor:
    """F.adaptive_avg_pool2d(x, (h, w)) as two matrix products, [B, C, H, W] -> [B, C, h, w]: exports to ONNX at
    any size, has a deterministic gradient on CUDA."""
    return pooling(x.shape[2], h, x) @ (x @ pooling(x.shape[3], w, x).transpose(0, 1))


def tokens(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, HW, C]; a view (of a channels_last map, with the channels next to each other)."""
    return x.flatten(2).transpose(1, 2)


def like(y: Tensor, x: Tensor) -> Tensor:
    """y in the memory format of x; no copy where it has it."""
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return y.contiguous()
    return y.contiguous(memory_format=torch.channels_last)


@counted(attention_macs, attention_products)
class ScaledDotProduct(nn.Module):
    """softmax(q k^T / sqrt(d) + bias) v as a module of its own, so that its products can be counted."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """q: [B, heads, N, d], k, v: [B, heads, M, d], bias: [B, heads, N, M] -> [B, heads, N, d]."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
