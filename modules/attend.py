"""Attend: the one class that a YAML row names; a registered block that starts as an exact identity."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modules import checks, deploy, registry
from modules.forms import Branch, Gate

WIRES = ("residual", "plain")


class Attend(nn.Module):
    """A row `[-1, 1, Attend, [c2, eca, {kernel_size: 3}]]`: [B, C, H, W] -> [B, C, H, W], in x's dtype.

    wire "residual": y = x + gamma * (block(x) - x), gamma [C] learned from 0, so that y equals x to the bit
    at the start (but for the sign of a zero). wire "plain": y = block(x), the block as its paper has it.
    Where the block is a `Gate` or a `Branch` (forms.py), the same y comes in fewer passes over the map:
    x * (1 + gamma * (gate(x) - 1)) or x + gamma * branch(x).

    Gamma's key in the state dict is `gamma_logit_scale`: Ultralytics' `build_optimizer` keeps a parameter out
    of weight decay if its name holds `logit_scale`, and decay would pull gamma to 0. Read it as `.gamma`.
    """

    GAMMA = "gamma_logit_scale"
    keep: Tensor | None

    def __init__(
        self, channels: int = 0, name: str = "", options: Mapping[str, Any] | None = None, wire: str = "residual"
    ) -> None:
        super().__init__()
        if not name:
            given = [repr(channels)] if channels else []
            raise ValueError(f"Attend: a row is written `[-1, 1, Attend, [c2, eca]]`, got [{', '.join(given)}]")
        if wire not in WIRES:
            raise ValueError(f"Attend: wire is {wire!r}, allowed: {', '.join(WIRES)}")
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"Attend: options of {name!r} are {options!r}, allowed: a mapping such as {{groups: 8}}")
        self.channels = checks.require("Attend: channels", checks.Int(), channels)
        self.name, self.options, self.wire = name, dict(options or {}), wire
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._seed())
            self.block = registry.create(name, channels, **self.options)
        gamma = nn.Parameter(torch.zeros(channels)) if wire == "residual" else None
        self.register_parameter(self.GAMMA, gamma)
        self.register_buffer("keep", None, persistent=False)  # 1 - gamma, once gamma is folded into the block

    def _seed(self) -> int:
        """From the ambient seed and what is built; the ambient stream stays where it was."""
        what = json.dumps([self.name, self.channels, self.options], sort_keys=True, default=str)
        return (torch.initial_seed() + zlib.crc32(what.encode())) % 2**63

    @property
    def gamma(self) -> nn.Parameter | None:
        """The weight [C] of the block's change, None under wire "plain"."""
        return getattr(self, self.GAMMA)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        if not torch.jit.is_tracing() and x.shape[1] != self.channels:
            raise ValueError(f"Attend({self.name}): the map has {x.shape[1]} channels, expected {self.channels}")
        if self.gamma is None:
            y = self.block(x).to(x.dtype)
            return y if self.keep is None else torch.addcmul(y, x, self.keep.to(x.dtype))
        gamma = self.gamma.to(x.dtype).reshape(1, -1, 1, 1)
        if isinstance(self.block, Gate):
            return x * torch.lerp(torch.ones_like(gamma), self.block.gate(x).to(x.dtype), gamma)
        if isinstance(self.block, Branch):
            y = self.block.branch(x).to(x.dtype)
            return x + gamma * y if self.block.pooled else torch.addcmul(x, gamma, y)
        return torch.lerp(x, self.block(x).to(x.dtype), gamma)

    def fold(self) -> None:
        """Fold the block for inference (deploy.py), and gamma into its last layer where it has one."""
        deploy.fold(self.block)
        last = getattr(self.block, "last", None)
        if self.gamma is None or last is None:
            return
        gamma = self.gamma.detach()
        is_gate, is_branch = isinstance(self.block, Gate), isinstance(self.block, Branch)
        if deploy.absorb(last(), gamma, 1 - gamma if is_gate else None):
            self.register_parameter(self.GAMMA, None)
            if not is_gate and not is_branch:
                self.keep = (1 - gamma).reshape(1, -1, 1, 1)

    def extra_repr(self) -> str:
        """What print(model) shows."""
        return f"{self.channels}, {self.name}, {self.options}, wire={self.wire}"


# A checkpoint's pickle imports this module; Ultralytics then looks the class up there to rebuild its YAML.
if (_tasks := sys.modules.get("ultralytics.nn.tasks")) is not None:
    from modules.join import join

    join(_tasks)
