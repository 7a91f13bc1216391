"""The contract's rules on values, shapes and gradients: a Scope in, a Fault (or any exception) out."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from modules.registry import Spec

# Channels of every row of YOLOv10 n, s, m, b, l, x, concatenations included, and the issue's own 16, 24
CHANNELS = (16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 576, 640, 768, 960, 1024, 1280)
SIZES = ((13, 17), (15, 20), (1, 7), (1, 1))
ACTIVATIONS = (nn.Hardswish, nn.LeakyReLU, nn.ReLU, nn.ReLU6, nn.SiLU)  # Ultralytics sets these in place
STD = 8.0  # of the input under reduced precision
LOW_PRECISION_ERROR = {torch.bfloat16: 0.1, torch.float16: 0.03}  # relative, against fp32


class Fault(Exception):
    """A rule does not hold."""


class Skip(Exception):
    """A rule cannot be tried here."""


@dataclass(frozen=True)
class Scope:
    """What a rule is tried on."""

    spec: Spec
    channels: tuple[int, ...] = CHANNELS
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)
    backend: str = "aot_eager"  # of torch.compile: traces forward and backward, generates no code

    def build(self, channels: int) -> nn.Module:
        """A block with the same weights each time; vectors leave their start, where zeros hide faults."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            block = self.spec.block(channels, **self.options)
            with torch.no_grad():
                for p in block.parameters():
                    if p.numel() == max(p.shape, default=0):
                        p.add_(0.3 * torch.randn_like(p))
        return block.to(self.device)

    def map(self, channels: int, h: int, w: int, batch: int = 1, std: float = 1.0) -> Tensor:
        """Normal values [batch, channels, h, w] around 2 std: a mean that naive fp16 sums do not survive."""
        values = torch.randn(batch, channels, h, w, generator=torch.Generator().manual_seed(h * w + channels))
        return ((values + 2) * std).to(self.device)


def keeps_shape(scope: Scope) -> None:
    """[B, C, H, W] -> same shape and dtype, finite, at every channel count and size."""
    with torch.no_grad():
        for c in scope.channels:
            with at(f"{c} channels"):
                block = scope.build(c).eval()
            for h, w in SIZES:
                with at(f"{c}x{h}x{w}"):
                    x = scope.map(c, h, w)
                    y = block(x)
                    require(y.shape == x.shape, f"shape is {tuple(y.shape)}, expected {tuple(x.shape)}")
                    require(y.dtype == x.dtype, f"dtype is {y.dtype}, expected {x.dtype}")
                    require(finite([y]), "output is not finite")


def trains_at_batch_one(scope: Scope) -> None:
    """Forward and backward in train mode with one image; every parameter gets a finite gradient."""
    for c in scope.channels[:5]:
        for h, w in SIZES:
            with at(f"{c}x{h}x{w} in train mode"):
                block = scope.build(c).train()
                y, grads = step(block, scope.map(c, h, w))
                require(finite([y, *grads.values()]), "output or a gradient is not finite")
                lost = [name for name, p in block.named_parameters() if p.requires_grad and name not in grads]
                require(not lost, f"parameter {', '.join(lost)} gets no gradient")
                require("x" in grads, "the input gets no gradient")


def batch_is_independent(scope: Scope) -> None:
    """In eval mode an image's output does not depend on the rest of the batch."""
    block, x = scope.build(32).eval(), scope.map(32, 13, 17, batch=3)
    with torch.no_grad():
        error = (block(x)[1:2] - block(x[1:2])).abs().max().item()
    require(error <= 1e-4, f"32x13x17: an image alone and in a batch of 3 differ by {error:.1e}")


def finite_in_bf16(scope: Scope) -> None:
    """bf16 autocast at input std 8."""
    _reduced(scope, torch.bfloat16, autocast=True)


def finite_in_fp16(scope: Scope) -> None:
    """fp16 autocast at input std 8."""
    _reduced(scope, torch.float16, autocast=True)


def finite_in_half(scope: Scope) -> None:
    """`.half()` weights and input at input std 8."""
    _reduced(scope, torch.float16, autocast=False)


def is_deterministic(scope: Scope) -> None:
    """Same seed, same weights; same input, same output and gradients, in train mode too (no dropout)."""
    one, two = scope.build(32), scope.build(32)
    for (key, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        require(torch.equal(a, b), f"two builds under one seed differ in {key}")
    x = scope.map(32, 13, 17, batch=2)
    y1, grads1 = step(one.train(), x)
    y2, grads2 = step(two.train(), x)
    require(torch.equal(y1, y2), "two forwards in train mode differ")
    for key, grad in grads1.items():
        require(torch.equal(grad, grads2[key]), f"two backwards differ in the gradient of {key}")


def learns_from_zero(scope: Scope) -> None:
    """Wired by `Attend` with gamma = 0 at the start, gamma gets a gradient; a block that starts as the identity by
    itself would never leave it."""
    from modules.attend import Attend

    attend, x = Attend(32, "simam").to(scope.device), scope.map(32, 13, 17, batch=2)
    attend.block = scope.spec.block(32, **scope.options).to(scope.device)  # the spec need not be registered
    _, grads = step(attend.train(), x)
    gained = grads.get(Attend.GAMMA)
    require(gained is not None and bool((gained != 0).any()), "gamma gets no gradient: the block is the identity")


def keeps_its_input(scope: Scope) -> None:
    """x is not written to, nor when Ultralytics makes activations in place; Attend needs it afterwards."""
    block = scope.build(32)
    for module in block.modules():
        if isinstance(module, ACTIVATIONS):
            module.inplace = True
    for mode in (True, False):
        x = scope.map(32, 13, 17, batch=2)
        before = x.clone()
        block.train(mode)
        y = block(x)
        require(torch.equal(x, before), f"the input was changed in place (train mode: {mode})")
        require(y.data_ptr() != x.data_ptr(), "the output shares the input's memory")
    with at("backward with activations in place"):
        step(block.train(), scope.map(32, 13, 17))


def pickles(scope: Scope) -> None:
    """Survives pickle, deepcopy and its own state dict with the same output."""
    block, x = scope.build(32).eval(), scope.map(32, 13, 17)
    fresh = scope.spec.block(32, **scope.options).to(scope.device).eval()
    fresh.load_state_dict(block.state_dict(), strict=True)
    pickled = pickle.loads(pickle.dumps(block))
    with torch.no_grad():
        for how, other in (("pickle", pickled), ("deepcopy", copy.deepcopy(block)), ("state dict", fresh)):
            require(torch.equal(block(x), other(x)), f"after {how} the output differs")


def keeps_the_memory_format(scope: Scope) -> None:
    """channels_last in, channels_last out, contiguous in, contiguous out, and the same values."""
    block, x = scope.build(32).eval(), scope.map(32, 13, 17, batch=2)
    with torch.no_grad():
        one, two = block(x), block(x.contiguous(memory_format=torch.channels_last))
    error = (one - two).abs().max().item()
    require(error <= 1e-4, f"32x13x17: channels_last differs by {error:.1e}")
    require(two.is_contiguous(memory_format=torch.channels_last), "a channels_last map comes out in another format")
    require(one.is_contiguous(), "a contiguous map comes out in another format")


def has_the_gradient(scope: Scope) -> None:
    """Gradients of input and parameters are those of finite differences, in fp64 and eval mode."""
    block, x = scope.build(16).double().eval(), scope.map(16, 3, 4, batch=2).double().requires_grad_()
    names, values = zip(*block.named_parameters(), strict=True) if list(block.parameters()) else ((), ())

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x,))

    try:
        torch.autograd.gradcheck(call, (x, *values), fast_mode=True)
    except GradcheckError as error:
        raise Fault(f"differs from finite differences: {first_line(error)}") from error


def _reduced(scope: Scope, dtype: torch.dtype, *, autocast: bool) -> None:
    side = 80 if scope.spec.cost == "linear" else 20
    for c, h, w in ((32, side, side), (16, 1, 1)):
        with at(f"{c}x{h}x{w} at input std {STD:g}"):
            block, x = scope.build(c).train(), scope.map(c, h, w, batch=2, std=STD)
            exact = copy.deepcopy(block)(x).detach()
            if not autocast:
                block, x = block.to(dtype), x.to(dtype)
            with torch.autocast(torch.device(scope.device).type, dtype=dtype, enabled=autocast):
                y, grads = step(block, x)
            require(finite([y, *grads.values()]), "output or a gradient is not finite")
            error = ((y.float() - exact).norm() / exact.norm()).item()
            limit = LOW_PRECISION_ERROR[dtype]
            require(error <= limit or h == 1, f"relative error to fp32 is {error:.1e}, allowed {limit}")


def step(block: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    x = x.clone().requires_grad_()
    y = block(x)
    y.float().square().mean().backward()
    grads = {name: p.grad for name, p in block.named_parameters()} | {"x": x.grad}
    return y.detach(), {name: grad for name, grad in grads.items() if grad is not None}


def finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors)


def require(held: bool, otherwise: str) -> None:
    if not held:
        raise Fault(otherwise)


@contextlib.contextmanager
def at(where: str) -> Iterator[None]:
    """Say where a fault or an exception came up."""
    try:
        yield
    except Fault as fault:
        raise Fault(f"{where}: {fault}") from fault
    except Exception as error:
        raise Fault(f"{where}: {type(error).__name__}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
