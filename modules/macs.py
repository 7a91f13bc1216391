"""Multiply-accumulates of a block: counting rules for thop, and a cross-check by torch's own flop counter.

thop counts convolutions, linear layers, norms, nn.Softmax and functional matrix products by itself. COUNTERS
holds what `@counted` adds: the leaf modules that it cannot see into; pass it on wherever a model with blocks is
profiled: `thop.profile(model, inputs, custom_ops=COUNTERS)`. MACs are for the inputs given, batch included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Counter = Callable[[Any, tuple[Tensor, ...], Tensor], None]
T = TypeVar("T", bound=type[nn.Module])
COUNTERS: dict[type[nn.Module], Counter] = {}


def count_nothing(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """For what the other counter does not know."""


def counted(macs: Callable[..., int], products: Callable[..., int] = lambda *_: 0) -> Callable[[T], T]:
    """Tell the counters of a leaf module: `macs(module, inputs, output)` multiply-accumulates, and how many of
    them are `products` that torch's FlopCounterMode sees too (convolutions and matrix products)."""

    def rule(count: Callable[..., int]) -> Counter:
        def add(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            module.total_ops += count(module, inputs, output)

        return add

    def register(leaf: T) -> T:
        COUNTERS[leaf], PRODUCTS_ONLY[leaf] = rule(macs), rule(products)
        return leaf

    return register


def attention_products(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """q k^T and a v: B heads N M (d + d)."""
    q, k, v = inputs[:3]
    return q.shape[:-1].numel() * k.shape[-2] * (q.shape[-1] + v.shape[-1])


def attention_macs(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    """The two products and the softmax by thop's rule, 3 M - 1 a row."""
    q, k = inputs[:2]
    return attention_products(module, inputs, output) + q.shape[:-1].numel() * (3 * k.shape[-2] - 1)


# torch's FlopCounterMode knows convolutions and matrix products only; with these rules so does thop
PRODUCTS_ONLY: dict[type[nn.Module], Counter] = {
    **dict.fromkeys(
        (
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
