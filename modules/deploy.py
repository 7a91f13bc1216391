"""Deploy form: a trained block in, the same function with fewer operations out. For inference only.

A batch norm after a convolution or linear layer goes into its weights wherever the two stand one after the other
in an `nn.Sequential`. What a block can fold besides, it does in a method `fold()` of its own, which is called
first. A layer whose output is the block's output (or a Branch's `branch`, a Gate's `gate`) is named by a method
`last()`; `Attend` then folds gamma into it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def fold(module: nn.Module) -> nn.Module:
    """Fold in place, all the way down; the module must be in eval mode. Again changes nothing."""
    if module.training:
        raise ValueError(f"{type(module).__name__} is in train mode; fold a model that is in eval mode")
    if callable(own := getattr(module, "fold", None)):
        own()
    for child in module.children():
        fold(child)
    if isinstance(module, nn.Sequential):
        for i in range(len(module) - 1):
            if isinstance(module[i], (*CONVOLUTIONS, nn.Linear)) and isinstance(module[i + 1], NORMS):
                module[i], module[i + 1] = merged(module[i], module[i + 1]), nn.Identity().eval()
    return module


def merged(layer: Any, norm: Any) -> nn.Module:
    """norm(layer(x)) as one layer with a bias; the norm at its running statistics."""
    return fuse_linear_bn_eval(layer, norm) if isinstance(layer, nn.Linear) else fuse_conv_bn_eval(layer, norm)


def affine(norm: Any) -> tuple[Tensor, Tensor]:
    """Scale and shift [C] of a batch norm at its running statistics: norm(x) = scale x + shift."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale.detach(), (norm.bias - norm.running_mean * scale).detach()


@torch.no_grad()
def absorb(layer: nn.Module | None, gamma: Tensor, shift: Tensor | None = None) -> bool:
    """Turn the output z of `layer` into gamma z + shift, [C] each, in its weights; False where it cannot be."""
    if isinstance(layer, nn.Sequential):
        solid = [m for m in layer if not isinstance(m, nn.Identity)]
        return absorb(solid[-1] if solid else None, gamma, shift)
    if not isinstance(layer, (*CONVOLUTIONS, nn.Linear, *NORMS)) or layer.weight is None:
        return False
    layer.weight.mul_(gamma.reshape(-1, *[1] * (layer.weight.dim() - 1)))
    if layer.bias is not None:
        layer.bias.mul_(gamma)
    if shift is not None:
        layer.bias = nn.Parameter(shift.clone() if layer.bias is None else layer.bias + shift)
    return True
