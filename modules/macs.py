"""Multiply-accumulates of a block: counting rules for thop, and a cross-check by torch's own flop counter.

thop counts convolutions, linear layers, norms, nn.Softmax and functional matrix products by itself. COUNTERS
adds the leaf modules that it cannot see into; pass it on wherever a model with blocks is profiled:
`thop.profile(model, inputs, custom_ops=COUNTERS)`. MACs are for the inputs given, batch included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from modules.kernel.cot import LocalAggregation
from modules.layers import ScaledDotProduct

Counter = Callable[[Any, tuple[Tensor, ...], Tensor], None]


def count_attention_products(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """q k^T and a v: B heads N N (d + d)."""
    q, k, v = inputs[:3]
    module.total_ops += q.shape[:-1].numel() * k.shape[-2] * (q.shape[-1] + v.shape[-1])


def count_attention(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """The two products and the softmax by thop's rule, 3 N - 1 a row."""
    count_attention_products(module, inputs, output)
    q, k = inputs[:2]
    module.total_ops += q.shape[:-1].numel() * (3 * k.shape[-2] - 1)


def count_aggregation(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """k k multiply-adds for each value of the output."""
    module.total_ops += output.numel() * module.kernel_size**2


def count_nothing(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """For what the other counter does not know."""


COUNTERS: dict[type[nn.Module], Counter] = {
    ScaledDotProduct: count_attention,
    LocalAggregation: count_aggregation,
}

# torch's FlopCounterMode knows convolutions and matrix products only; with these rules so does thop
PRODUCTS_ONLY: dict[type[nn.Module], Counter] = {
    ScaledDotProduct: count_attention_products,
    **dict.fromkeys(
        (
            LocalAggregation,
            nn.modules.batchnorm._NormBase,
            nn.GroupNorm,
            nn.LayerNorm,
            nn.Softmax,
            nn.Softmax2d,
            nn.PReLU,
            nn.AvgPool2d,
            nn.AdaptiveAvgPool2d,
            nn.Upsample,
        ),
        count_nothing,
    ),
}


def macs(module: nn.Module, *inputs: Tensor) -> int:
    """MACs by thop with COUNTERS: products, norms, softmax."""
    return _thop(module, inputs, COUNTERS)


def products_by_thop(module: nn.Module, *inputs: Tensor) -> int:
    """MACs of convolutions and matrix products alone, by thop."""
    return _thop(module, inputs, PRODUCTS_ONLY)


def products_by_torch(module: nn.Module, *inputs: Tensor) -> int:
    """The same by FlopCounterMode (2 flops a MAC), with attention unfused so that its products are seen."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() // 2


def _thop(module: nn.Module, inputs: tuple[Tensor, ...], rules: dict[type[nn.Module], Counter]) -> int:
    import thop

    total, _ = thop.profile(module, inputs, custom_ops=rules, verbose=False)
    return int(total)
