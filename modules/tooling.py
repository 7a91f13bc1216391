"""The contract's rules on what tools make of a block: compiler, exporter, counter, fusion, asynchronous devices."""

from __future__ import annotations

import copy
import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from modules import deploy, macs
from modules.rules import SIZES, Fault, Scope, Skip, at, require, step

MAC_SIZES = ((64, 80), (128, 40), (256, 20))  # channels, pixels a side: P3, P4, P5 of YOLOv10n at 640
ONNX_ERROR = 1e-4
FOLD_ERROR = 1e-4
HALF_ERROR = 0.03
COMPILE_ERROR = 1e-4
GRADIENT_ERROR = 1e-2  # of the largest, 1e-5 where it is small: fp32 sums in another order; some are 0 but for them
MAC_ERROR = 0.01
LINEAR_GROWTH = 9  # of the products, from side 40 to 80: 4 if linear in the area, at most 8 for N (H + W), 16 for N N


def exports_to_onnx(scope: Scope) -> None:
    """ONNX with a dynamic batch and size, by the tracing exporter that Ultralytics uses, equal to torch; the block as
    trained and in deploy form, which is what gets exported."""
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise Skip(f"{package} is not installed")
    block = scope.build(32).cpu().eval()
    _same_in_onnx(scope, block, "ONNX")
    _same_in_onnx(scope, deploy.fold(block), "ONNX, folded,")


def _same_in_onnx(scope: Scope, block: nn.Module, what: str) -> None:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "block.onnx")
        with at(f"{what} export"):
            export(block, scope.map(32, 12, 16, batch=2).cpu(), file)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch, h, w in ((2, 12, 16), (1, 20, 20), *((3, h, w) for h, w in SIZES)):
        with at(f"{what} at {batch}x32x{h}x{w}"), torch.no_grad():
            x = scope.map(32, h, w, batch=batch).cpu()
            y, got = block(x), torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
            require(got.shape == y.shape, f"shape is {tuple(got.shape)}, expected {tuple(y.shape)}")
            error = (got - y).abs().max().item()
            require(error <= ONNX_ERROR, f"differs from torch by {error:.1e}, allowed {ONNX_ERROR}")


def counts_its_macs(scope: Scope) -> None:
    """thop and torch's flop counter agree on the products, so that the block's GFLOPs are right."""
    if importlib.util.find_spec("thop") is None:
        raise Skip("ultralytics-thop is not installed")
    for c, side in MAC_SIZES:
        with at(f"{c}x{side}x{side} on the meta device"):
            with torch.device("meta"):
                block, x = scope.spec.block(c, **scope.options).eval(), torch.empty(1, c, side, side)
            ours, torchs = macs.products_by_thop(block, x), macs.products_by_torch(block, x)
            found = f"thop counts {ours / 1e6:.2f} MMAC of products, FlopCounterMode {torchs / 1e6:.2f}"
            require(abs(ours - torchs) <= MAC_ERROR * torchs, f"{found}; add a rule to modules.macs.COUNTERS")


def costs_what_it_says(scope: Scope) -> None:
    """A block whose products grow with the square of the map says cost="quadratic", or it would stand anywhere."""
    if scope.spec.cost == "quadratic":
        return
    with at("64x40x40 and 64x80x80 on the meta device"), torch.device("meta"):
        block = scope.spec.block(64, **scope.options).eval()
        small, large = (macs.products_by_torch(block, torch.empty(1, 64, n, n)) for n in (40, 80))
        grown = large / max(small, 1)
        found = f"from side 40 to 80 the products grow {grown:.1f} times"
        require(grown <= LINEAR_GROWTH, f'{found}; say cost="quadratic" in @attention')


def compiles(scope: Scope) -> None:
    """torch.compile(fullgraph=True): one graph, with the values and gradients of the eager block."""
    for mode in ("eval", "train"):
        with at(f"32x12x16 in {mode} mode, backend {scope.backend}"):
            torch._dynamo.reset()
            block, x = scope.build(32).train(mode == "train"), scope.map(32, 12, 16, batch=2)
            y, grads = step(copy.deepcopy(block), x)
            compiled: Any = torch.compile(copy.deepcopy(block), fullgraph=True, backend=scope.backend)
            got, got_grads = step(compiled, x)
            require(_error(got, y) <= COMPILE_ERROR, f"differs from eager by {_error(got, y):.1e}")
            for name, grad in grads.items():
                other = got_grads[name if name == "x" else f"_orig_mod.{name}"]
                error = ((other - grad).abs().max() / grad.abs().max().clamp(min=1e-3)).item()
                require(error <= GRADIENT_ERROR, f"the gradient of {name} differs from eager by {error:.1e}")


def never_waits_for_the_device(scope: Scope) -> None:
    """Forward reads no value back, asks for no shape that depends on values, copies nothing between devices.

    Seen on the meta device, where there are no values to read.
    """
    for mode in (True, False):
        with at(f"32x13x17 on the meta device (train mode: {mode})"), torch.device("meta"):
            block = scope.spec.block(32, **scope.options).train(mode)
            with _NoWait():
                block(torch.empty(2, 32, 13, 17))


def folds(scope: Scope) -> None:
    """deploy.fold keeps the output, alone and with gamma in `Attend`, and in half precision nearly so."""
    from modules.attend import Attend

    for c, (h, w) in ((32, (13, 17)), (24, (8, 8))):
        with at(f"{c}x{h}x{w} folded"), torch.no_grad():
            block, x = settled(scope.build(c)), scope.map(c, h, w, batch=2)
            attend = Attend(c, "simam").to(scope.device).eval()
            attend.block = copy.deepcopy(block)  # the spec need not be registered
            gamma: Any = attend.gamma
            torch.nn.init.uniform_(gamma, -0.5, 1.5, generator=torch.Generator().manual_seed(0))
            y, wired = block(x), attend(x)
            for what, error in (
                ("the block", _error(deploy.fold(block)(x), y)),
                ("Attend", _error(deploy.fold(attend)(x), wired)),
                ("Attend, folded twice,", _error(deploy.fold(attend)(x), wired)),
            ):
                require(error <= FOLD_ERROR, f"{what} differs by {error:.1e} after fold(), allowed {FOLD_ERROR}")
            half = ((block.half()(x.half()).float() - y).norm() / y.norm()).item()
            require(half <= HALF_ERROR, f"the folded block in fp16 differs by {half:.1e}, allowed {HALF_ERROR}")


def settled(block: nn.Module) -> nn.Module:
    """In eval mode, with running statistics such as training leaves."""
    g = torch.Generator().manual_seed(1)
    for name, buffer in block.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            values = torch.rand(buffer.shape, generator=g)
            buffer.copy_(values - 0.5 if name.endswith("mean") else values + 0.5)
    return block.eval()


class _NoWait(TorchDispatchMode):
    """Refuses what makes a CUDA stream wait for the host or the host for the stream."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "unique_", "lift_fresh", "equal.default")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = str(func).removeprefix("aten.")
        if name.startswith(self.WAITS):
            raise Fault(f"{name} makes the device and the host wait for each other")
        y = func(*args, **(kwargs or {}))
        if name.startswith(("_to_copy", "copy_")):
            devices = {t.device.type for t in (*args, y) if isinstance(t, Tensor)}
            if len(devices) > 1:
                raise Fault(f"{name} copies between {' and '.join(sorted(devices))}")
        return y


def _error(got: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the size of what is expected."""
    return ((got - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def export(block: nn.Module, x: Tensor, file: str) -> None:
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
