"""XCiT, El-Nouby, Touvron, Caron, Bojanowski, Douze, Joulin, Laptev, Neverova, Synnaeve, Verbeek, Jegou, NeurIPS 2021, arXiv:2106.09681."""  # noqa: E501

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.checks import Count, divisor
from modules.layers import like, wide
from modules.registry import attention


def inverse_root(square: Tensor) -> Tensor:
    """1 / |t| from |t|^2, finite at 0."""
    return square.clamp(min=1e-24).rsqrt()


def exact(x: Tensor) -> bool:
    """Whether a product with x is summed and kept in fp32 at least."""
    return x.dtype == wide(x.dtype) and not any(map(torch.is_autocast_enabled, ("cpu", "cuda", "mps", "xpu")))


class ChannelAttention(nn.Module):
    """Attention between the d channels of a head, then the output weight: what to multiply the values by.

    a = softmax over rows of t (q / |q|) (k / |k|)^T     [d, d] in each head, norms over the N pixels
    W_O blockdiag(a)                                     [C, C]

    The norms and the softmax are fp32 at least.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, qk: Tensor, out: nn.Conv2d) -> Tensor:
        """qk: [B, 2C, N], out: the layer of W_O -> [B, C, C]."""
        return self.mix(self.weights(qk), out).to(qk.dtype)

    def weights(self, qk: Tensor) -> Tensor:
        """qk: [B, 2C, N] -> a [B, heads, d, d] in its dtype."""
        high = wide(qk.dtype)
        scales = torch.linalg.vector_norm(qk, dim=2, dtype=high).clamp(min=1e-12).reciprocal().chunk(2, 1)
        q_scale, k_scale = (self.heads(scale) for scale in scales)  # [B, heads, d]
        q, k = (self.heads(t) for t in qk.chunk(2, 1))  # [B, heads, d, N]
        if exact(qk):
            cosines = q @ k.transpose(2, 3) * q_scale.unsqueeze(3)
        else:  # fp16 would overflow
            cosines = ((q * q_scale.unsqueeze(3).to(q.dtype)) @ k.transpose(2, 3)).to(high)
        return self.softened(cosines * k_scale.unsqueeze(2)).to(qk.dtype)

    def of_map(self, x: Tensor, query_key: Tensor, out: nn.Conv2d) -> Tensor:
        """The same for q, k = W x from x: [B, C, N], W: [2C, C], as W (x x^T) W^T: q and k are not made."""
        found = query_key @ (x @ x.transpose(1, 2))  # [B, 2C, C]
        scales = inverse_root((found * query_key).sum(2)).chunk(2, 1)
        q_scale, k_scale = (self.heads(scale) for scale in scales)  # [B, heads, d]
        q, k = self.heads(found.chunk(2, 1)[0]), self.heads(query_key.chunk(2)[1], 0)
        cosines = q @ k.transpose(1, 2) * q_scale.unsqueeze(3) * k_scale.unsqueeze(2)
        return self.mix(self.softened(cosines), out)

    def softened(self, cosines: Tensor) -> Tensor:
        """[B, heads, d, d] -> softmax(t cosines)."""
        return self.softmax(cosines * self.temperature)

    def mix(self, a: Tensor, out: nn.Conv2d) -> Tensor:
        """a: [B, heads, d, d] -> W_O blockdiag(a) [B, C, C]."""
        a = a.to(out.weight.dtype)
        weight = self.heads(out.weight.flatten(1), 1).permute(1, 2, 0)  # [heads, d, C]
        return (a.transpose(2, 3) @ weight).flatten(1, 2).transpose(1, 2)

    def heads(self, t: Tensor, axis: int = 1) -> Tensor:
        """The axis of C channels as [heads, d]."""
        return t.unflatten(axis, (len(self.temperature), -1))


@attention("xca", paper="arXiv:2106.09681", family="linear")
class CrossCovarianceAttention(nn.Module):
    """Cross-covariance attention: attention between channels instead of pixels.

    q, k, v = W_Q x, W_K x, W_V x                        [d, N] in each head; 1x1, no bias; N = HW
    a = softmax over rows of t (q / |q|) (k / |k|)^T     [d, d], norms over N, t learned per head from 1
    y = W_O [a v of all heads]                           biased

    d is the largest divisor of C up to head_dim (the paper's models: 32 to 64). y = (W_O a W_V) x where the map has
    more pixels than channels, and a from W_Q (x x^T) W_K^T where it has twice as many (in fp32): of q, k and v none
    is made. timm.models.xcit.XCA equals this on tokens.
    """

    def __init__(self, channels: int, head_dim: Count = 32) -> None:
        super().__init__()
        self.query_key = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.attend = ChannelAttention(channels // divisor(channels, head_dim))
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        assert self.out.bias is not None
        t, traced = x.flatten(2), torch.jit.is_tracing()  # a traced size may be another one later
        pixels, channels = x.shape[2] * x.shape[3], x.shape[1]
        if not traced and exact(x) and pixels > 2 * channels:
            weight = self.attend.of_map(t, self.query_key.weight.flatten(1), self.out)
        else:
            weight = self.attend(self.query_key(x).flatten(2), self.out)
        if traced or pixels > channels:
            y = (weight @ self.value.weight.flatten(1)) @ t
        else:
            y = weight @ self.value(x).flatten(2)
        return like((y + self.out.bias[:, None]).unflatten(2, x.shape[2:]), x)

    def last(self) -> nn.Module:
        """The layer whose rows are the output's channels."""
        return self.out
