"""An Attention Free Transformer, Zhai, Talbott, Srivastava, Huang, Goh, Zhang, Susskind, 2021, arXiv:2105.14103."""

from __future__ import annotations

from torch import Tensor, nn

from modules.layers import Pointwise, like
from modules.registry import attention


@attention("aft", paper="arXiv:2105.14103", family="linear")
class AFT(nn.Module):
    """AFT-simple: one softmax over the pixels for each channel, gated by each pixel's query.

    q, k, v = Wq x, Wk x, Wv x                            each [B, C, HW], no bias
    y = Wo(sigmoid(q) * sum_n softmax_n(k) v) + b         [B, C, H, W], eq. 2 without position biases

    Wo is the output layer of the multi-head attention that the paper's layer stands in for.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_key = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.value = Pointwise(channels, channels, bias=False)
        self.softmax = nn.Softmax(dim=-1)
        self.project = Pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c = x.shape[:2]
        q, k = self.query_key(x).flatten(2).chunk(2, dim=1)
        v = self.value(x).flatten(2)
        context = (self.softmax(k) * v).sum(-1).reshape(b, 1, c)
        gated = q.sigmoid() * context.transpose(1, 2).to(q.dtype)
        return like(self.project(gated.unflatten(2, x.shape[2:])), x)

    def last(self) -> nn.Module:
        """The layer whose rows are the block's output."""
        return self.project
