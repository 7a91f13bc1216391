"""Non-deep Networks (ParNet), Goyal, Bochkovskiy, Deng, Koltun, NeurIPS 2022, arXiv:2110.07641."""

from __future__ import annotations

from torch import Tensor, nn

from modules.checks import Kernel
from modules.layers import BatchNorm, conv_norm, global_mean
from modules.registry import attention


@attention("parnet", paper="arXiv:2110.07641", family="kernel")
class ParNet(nn.Module):
    """The RepVGG-SSE block: two convolutions and a skip-squeeze-excitation side by side.

    s = BN(x);  SSE = s * sigmoid(W mean_HW s)            W: 1x1, no bias
    y = SiLU(BN(Conv_k x) + BN(Conv1x1 x) + SSE)          [B, C, H, W]

    The two convolutions are not fused for inference; fused they are one k x k convolution of the same output.
    """

    def __init__(self, channels: int, kernel_size: Kernel = 3) -> None:
        super().__init__()
        self.conv = conv_norm(channels, channels, kernel_size)
        self.point = conv_norm(channels, channels)
        self.norm = BatchNorm(channels)
        self.excite = nn.Conv2d(channels, channels, 1, bias=False)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        skip = self.norm(x)
        gate = self.excite(global_mean(skip)).sigmoid()
        return self.act(self.conv(x) + self.point(x) + skip * gate)
