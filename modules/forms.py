"""The two forms that most blocks have, so that `Attend` can wire them without a second pass over the map.

A block of neither form is any module f with f(x): [B, C, H, W] -> [B, C, H, W].
"""

from __future__ import annotations

from torch import Tensor, nn


class Gate(nn.Module):
    """y = x * gate(x): a block whose whole effect is a weight on each value, channel or pixel."""

    def gate(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> what broadcasts against it: [B, C, 1, 1], [B, 1, H, W] or [B, C, H, W]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return x * self.gate(x).to(x.dtype)


class Branch(nn.Module):
    """y = x + branch(x): a block that has a residual of its own. `pooled`: branch(x) is a bias [B, C, 1, 1]."""

    pooled = False

    def branch(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> what is added to it: the same, or [B, C, 1, 1] if `pooled`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return x + self.branch(x).to(x.dtype)
