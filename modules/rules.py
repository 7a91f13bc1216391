"""The rules of the contract: a Scope in, a Fault (or any exception) out where the block does not hold."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modules import macs
from modules.registry import Spec

# Channels of every row of YOLOv10 n, s, m, b, l, x, concatenations included, and the issue's own 16, 24
CHANNELS = (16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 576, 640, 768, 960, 1024, 1280)
SIZES = ((13, 17), (15, 20), (1, 7), (1, 1))
MAC_SIZES = ((64, 80), (128, 40), (256, 20))  # channels, pixels a side: P3, P4, P5 of YOLOv10n at 640
ACTIVATIONS = (nn.Hardswish, nn.LeakyReLU, nn.ReLU, nn.ReLU6, nn.SiLU)  # Ultralytics sets these in place
STD = 8.0  # of the input under reduced precision
LOW_PRECISION_ERROR = {torch.bfloat16: 0.1, torch.float16: 0.03}  # relative, against fp32
ONNX_ERROR = 1e-4
MAC_ERROR = 0.01


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
            with _at(f"{c} channels"):
                block = scope.build(c).eval()
            for h, w in SIZES:
                with _at(f"{c}x{h}x{w}"):
                    x = scope.map(c, h, w)
                    y = block(x)
                    _require(y.shape == x.shape, f"shape is {tuple(y.shape)}, expected {tuple(x.shape)}")
                    _require(y.dtype == x.dtype, f"dtype is {y.dtype}, expected {x.dtype}")
                    _require(_finite([y]), "output is not finite")


def trains_at_batch_one(scope: Scope) -> None:
    """Forward and backward in train mode with one image; every parameter gets a finite gradient."""
    for c in scope.channels[:5]:
        for h, w in SIZES:
            with _at(f"{c}x{h}x{w} in train mode"):
                block = scope.build(c).train()
                y, grads = _step(block, scope.map(c, h, w))
                _require(_finite([y, *grads.values()]), "output or a gradient is not finite")
                lost = [name for name, p in block.named_parameters() if p.requires_grad and name not in grads]
                _require(not lost, f"parameter {', '.join(lost)} gets no gradient")
                _require("x" in grads, "the input gets no gradient")


def batch_is_independent(scope: Scope) -> None:
    """In eval mode an image's output does not depend on the rest of the batch."""
    block, x = scope.build(32).eval(), scope.map(32, 13, 17, batch=3)
    with torch.no_grad():
        error = (block(x)[1:2] - block(x[1:2])).abs().max().item()
    _require(error <= 1e-4, f"32x13x17: an image alone and in a batch of 3 differ by {error:.1e}")


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
        _require(torch.equal(a, b), f"two builds under one seed differ in {key}")
    x = scope.map(32, 13, 17, batch=2)
    y1, grads1 = _step(one.train(), x)
    y2, grads2 = _step(two.train(), x)
    _require(torch.equal(y1, y2), "two forwards in train mode differ")
    for key, grad in grads1.items():
        _require(torch.equal(grad, grads2[key]), f"two backwards differ in the gradient of {key}")


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
        _require(torch.equal(x, before), f"the input was changed in place (train mode: {mode})")
        _require(y.data_ptr() != x.data_ptr(), "the output shares the input's memory")
    with _at("backward with activations in place"):
        _step(block.train(), scope.map(32, 13, 17))


def pickles(scope: Scope) -> None:
    """Survives pickle, deepcopy and its own state dict with the same output."""
    block, x = scope.build(32).eval(), scope.map(32, 13, 17)
    fresh = scope.spec.block(32, **scope.options).to(scope.device).eval()
    fresh.load_state_dict(block.state_dict(), strict=True)
    pickled = pickle.loads(pickle.dumps(block))
    with torch.no_grad():
        for how, other in (("pickle", pickled), ("deepcopy", copy.deepcopy(block)), ("state dict", fresh)):
            _require(torch.equal(block(x), other(x)), f"after {how} the output differs")


def takes_channels_last(scope: Scope) -> None:
    """A channels_last map gives the same values."""
    block, x = scope.build(32).eval(), scope.map(32, 13, 17, batch=2)
    with torch.no_grad():
        error = (block(x) - block(x.contiguous(memory_format=torch.channels_last))).abs().max().item()
    _require(error <= 1e-4, f"32x13x17: channels_last differs by {error:.1e}")


def exports_to_onnx(scope: Scope) -> None:
    """ONNX with a dynamic batch and size, by the tracing exporter that Ultralytics uses, equal to torch."""
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise Skip(f"{package} is not installed")
    import onnxruntime

    block = scope.build(32).cpu().eval()
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "block.onnx")
        with _at("export"):
            _export(block, scope.map(32, 12, 16, batch=2).cpu(), file)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch, h, w in ((2, 12, 16), (1, 20, 20), *((3, h, w) for h, w in SIZES)):
        with _at(f"ONNX at {batch}x32x{h}x{w}"), torch.no_grad():
            x = scope.map(32, h, w, batch=batch).cpu()
            y, got = block(x), torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
            _require(got.shape == y.shape, f"shape is {tuple(got.shape)}, expected {tuple(y.shape)}")
            error = (got - y).abs().max().item()
            _require(error <= ONNX_ERROR, f"differs from torch by {error:.1e}, allowed {ONNX_ERROR}")


def counts_its_macs(scope: Scope) -> None:
    """thop and torch's flop counter agree on the products, so that the block's GFLOPs are right."""
    if importlib.util.find_spec("thop") is None:
        raise Skip("ultralytics-thop is not installed")
    for c, side in MAC_SIZES:
        with _at(f"{c}x{side}x{side} on the meta device"):
            with torch.device("meta"):
                block, x = scope.spec.block(c, **scope.options).eval(), torch.empty(1, c, side, side)
            ours, torchs = macs.products_by_thop(block, x), macs.products_by_torch(block, x)
            found = f"thop counts {ours / 1e6:.2f} MMAC of products, FlopCounterMode {torchs / 1e6:.2f}"
            _require(abs(ours - torchs) <= MAC_ERROR * torchs, f"{found}; add a rule to modules.macs.COUNTERS")


RULES: dict[str, Callable[[Scope], None]] = {
    "shape": keeps_shape,
    "batch_one": trains_at_batch_one,
    "independent": batch_is_independent,
    "bf16": finite_in_bf16,
    "fp16": finite_in_fp16,
    "half": finite_in_half,
    "deterministic": is_deterministic,
    "input": keeps_its_input,
    "pickle": pickles,
    "channels_last": takes_channels_last,
    "onnx": exports_to_onnx,
    "macs": counts_its_macs,
}


def _reduced(scope: Scope, dtype: torch.dtype, *, autocast: bool) -> None:
    side = 80 if scope.spec.cost == "linear" else 20
    for c, h, w in ((32, side, side), (16, 1, 1)):
        with _at(f"{c}x{h}x{w} at input std {STD:g}"):
            block, x = scope.build(c).train(), scope.map(c, h, w, batch=2, std=STD)
            exact = copy.deepcopy(block)(x).detach()
            if not autocast:
                block, x = block.to(dtype), x.to(dtype)
            with torch.autocast(torch.device(scope.device).type, dtype=dtype, enabled=autocast):
                y, grads = _step(block, x)
            _require(_finite([y, *grads.values()]), "output or a gradient is not finite")
            error = ((y.float() - exact).norm() / exact.norm()).item()
            limit = LOW_PRECISION_ERROR[dtype]
            _require(error <= limit or h == 1, f"relative error to fp32 is {error:.1e}, allowed {limit}")


def _export(block: nn.Module, x: Tensor, file: str) -> None:
    axes = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        block,
        (x,),
        file,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": axes, "y": axes},
        opset_version=17,
        dynamo=False,
    )


def _step(block: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    x = x.clone().requires_grad_()
    y = block(x)
    y.float().square().mean().backward()
    grads = {name: p.grad for name, p in block.named_parameters()} | {"x": x.grad}
    return y.detach(), {name: grad for name, grad in grads.items() if grad is not None}


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors)


def _require(held: bool, otherwise: str) -> None:
    if not held:
        raise Fault(otherwise)


@contextlib.contextmanager
def _at(where: str) -> Iterator[None]:
    """Say where a fault or an exception came up."""
    try:
        yield
    except Fault as fault:
        raise Fault(f"{where}: {fault}") from fault
    except Exception as error:
        raise Fault(f"{where}: {type(error).__name__}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
