"""SRM: A Style-based Recalibration Module, Lee, Kim, Nam, ICCV 2019, arXiv:1903.10829."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.deploy import affine
from modules.forms import Gate
from modules.layers import BatchNorm, global_mean, wide
from modules.registry import attention

EPS = 1e-5


@attention("srm", paper="arXiv:1903.10829", family="channel")
class SRM(Gate):
    """Style-based recalibration: each channel's weight from its own mean and standard deviation.

    m = mean_HW x,  s = sqrt(mean_HW (x - m)^2 + 1e-5)      [B, C], style pooling
    g = sigmoid(BN(u * m + v * s))                          [B, C], style integration; u, v: [C], 0 at the start
    y = x * g                                               [B, C, H, W]

    Where we leave the published code: its variance divides by HW - 1 (nan at one pixel), ours by HW; the norm
    takes its running statistics at batch 1 (layers.BatchNorm), where the code fails. fp32 under fp16.
    """

    shift: Tensor | None

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean_weight = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.std_weight = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.norm = BatchNorm(channels)
        self.register_buffer("shift", None, persistent=False)  # the norm's, once its scale is in the weights

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 1, 1]."""
        wx = x.to(wide(x.dtype))
        mean = global_mean(wx)
        length = torch.linalg.vector_norm(wx - mean, dim=(2, 3), keepdim=True)
        std = (length.square() / (x.shape[2] * x.shape[3]) + EPS).sqrt()
        z = self.mean_weight * mean + self.std_weight * std
        return (self.normalised(z) if self.shift is None else z + self.shift).sigmoid()

    def normalised(self, z: Tensor) -> Tensor:
        """BN in fp32 under fp16 weights too, in whose digits the images of a batch have the same style."""
        norm = self.norm
        if norm.weight.dtype == z.dtype:
            return norm(z)
        mean, var, scale, shift = (t.to(z.dtype) for t in (*norm.buffers(), *norm.parameters()) if t.dim() > 0)
        return F.batch_norm(z, mean, var, scale, shift, norm.training and z.shape[0] > 1, eps=norm.eps)

    @torch.no_grad()
    def fold(self) -> None:
        """The norm's scale goes into the two weights, its shift stays."""
        if self.shift is None:
            scale, shift = (t.reshape(1, -1, 1, 1) for t in affine(self.norm))
            self.mean_weight.mul_(scale)
            self.std_weight.mul_(scale)
            self.shift = shift
