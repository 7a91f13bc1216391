"""A^2-Nets: Double Attention Networks, Chen, Kalantidis, Li, Yan, Feng, NeurIPS 2018, arXiv:1810.11579."""

from __future__ import annotations

from torch import Tensor, nn

from modules.checks import Count
from modules.forms import Branch
from modules.layers import like, wide
from modules.registry import attention


@attention("a2", paper="arXiv:1810.11579", family="linear")
class DoubleAttention(Branch):
    """Double attention: gather n global descriptors of the map, hand a mixture of them to each pixel.

    A = W_A x [m, N],  P = softmax_N(W_P x) [n, N],  V = softmax_n(W_V x) [n, N]     1x1, biased; N = HW
    G = A P^T              [m, n], each column a weighted mean of A's pixels
    y = x + W_O (G V)      W_O: m -> C, biased

    m = n = C / reduction. W_O (G V) = (W_O G) V, its bias included, since the columns of V sum to 1: W_O is applied to
    n columns, not to N pixels, and G V is not made. The bias of W_P cancels in its softmax. The paper gives no code;
    the popular port by xmu-xiaoma666 calls F.softmax without an axis, which then is the batch's.
    """

    def __init__(self, channels: int, reduction: Count = 4) -> None:
        super().__init__()
        width = max(channels // reduction, 1)
        self.project = nn.Conv2d(channels, 3 * width, 1)  # A, the logits of P, the logits of V
        self.out = nn.Conv2d(width, channels, 1)
        self.over_pixels, self.over_words = nn.Softmax(dim=2), nn.Softmax(dim=1)

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        features, gather, distribute = self.project(x).flatten(2).chunk(3, 1)
        high = wide(x.dtype)
        words = features @ self.over_pixels(gather.to(high)).to(features.dtype).transpose(1, 2)  # [B, m, n]
        words = self.out(words.unsqueeze(3)).squeeze(3)  # [B, C, n]
        y = words @ self.over_words(distribute.to(high)).to(words.dtype)
        return like(y.unflatten(2, x.shape[2:]), x)

    def last(self) -> nn.Module:
        """The layer whose rows are the branch's channels."""
        return self.out
