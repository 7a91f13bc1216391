"""An Attention Free Transformer, Zhai, Talbott, Srivastava, Huang, Goh, Zhang, Susskind, 2021, arXiv:2105.14103."""

from __future__ import annotations

from torch import Tensor, nn

from modules.layers import like
from modules.registry import attention


@attention("aft", paper="arXiv:2105.14103", family="linear")
class AFT(nn.Module):
    """AFT-simple: one softmax over the pixels for each channel, gated by each pixel's query.

    q, k, v = Wq x, Wk x, Wv x                            each [B, C, HW], no bias
    y = Wo(sigmoid(q) * sum_n softmax_n(k) v) + b         [B, C, H, W], eq. 2 without position biases

    v is not formed: the sum is the row-wise product of Wv with softmax_n(k) x^T [C, C], and goes into Wo. Wo is
    the output layer of the multi-head attention that the paper's layer stands in for.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_key = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.softmax = nn.Softmax(dim=-1)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        b, c = x.shape[:2]
        q, k = self.query_key(x).flatten(2).chunk(2, dim=1)
        context = self.softmax(k) @ x.flatten(2).transpose(1, 2)  # [B, C, C]
        context = (context * self.value.weight).sum(-1).reshape(b, 1, c)
        weight = (self.project.weight * context).to(q.dtype)
        y = (weight @ q.sigmoid()).add_(self.project.bias.reshape(-1, 1))
        return like(y.reshape(x.shape), x)

    def last(self) -> nn.Module:
        """The layer whose rows are the block's output."""
        return self.project
