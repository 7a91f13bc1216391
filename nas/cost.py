"""Goes in: a model. Comes out: its parameters, its GFLOPs, and its latency beside the base's in one interleaved run."""

from __future__ import annotations

import copy
import functools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import thop
import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel

from search_spaces import Block

CONVENTION = "thop, 2 x multiply-adds, unfused model with all its heads, batch 1"


@dataclass(frozen=True)
class Latency:
    """Time of one forward pass of the deployed (fused, NMS-free where the head has it) model.

    Args:
        ms: Median in milliseconds; ``iqr_ms`` its interquartile range.
        base_ms: Median of the base in the same interleaved run.
        ratio: Median over the pairs of model / base; what candidates are compared by.
        runs: Number of pairs.
        dtype: What the runtime computes in.
        backend: The runtime: torch, or that of an exported file (see :mod:`nas.deploy`). Studies from before it was
            recorded were measured in torch.
        alone: False where another training on the device would not wait for it.
    """

    ms: float
    iqr_ms: float
    base_ms: float
    ratio: float
    runs: int
    device: str
    dtype: str
    threads: int
    imgsz: int
    batch: int
    head: str
    backend: str = "torch"
    alone: bool = True


@dataclass(frozen=True)
class Runner:
    """A deployed model as something to call and to time.

    Args:
        forward: Image [1, channels, side, side] in [0, 1], of ``image_dtype`` and on ``device`` -> outputs.
        dtype: What the runtime computes in.
        head: ``one2one`` (no NMS) where the model has two, else ``single``.
    """

    forward: Callable[[torch.Tensor], Any]
    backend: str
    device: torch.device
    dtype: str
    head: str
    channels: int = 3
    image_dtype: torch.dtype = torch.float32

    def __call__(self, image: torch.Tensor) -> Any:
        """One forward pass."""
        return self.forward(image.to(self.device, self.image_dtype))


@dataclass(frozen=True)
class Cost:
    """Parameters, GFLOPs at ``imgsz`` (see :data:`CONVENTION`) and latency where it was measured."""

    params: int
    gflops: float
    latency: Latency | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "gflops_convention": CONVENTION}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Cost:
        """The inverse of :meth:`to_json`."""
        latency = data["latency"]
        return Cost(data["params"], data["gflops"], Latency(**latency) if latency else None)


def counters() -> dict[type, Any]:
    """thop's rules for what it does not know of our blocks."""
    from modules.macs import COUNTERS

    return dict(COUNTERS)


@torch.no_grad()
def gflops(model: nn.Module, imgsz: int) -> float:
    """GFLOPs of one image of ``imgsz`` x ``imgsz``, counted at that very size by thop with our counters.

    Ultralytics' `get_flops` extrapolates from a small input and is wrong for blocks whose cost is no polynomial
    of the area, so it is not used; the convention is the same (8.8 for YOLOv10n at 640).
    """
    probe = copy.deepcopy(model).float().cpu().eval()
    image = torch.zeros(1, channels(model), imgsz, imgsz)
    macs, _ = thop.profile(probe, inputs=(image,), custom_ops=counters(), verbose=False)
    return 2 * float(macs) / 1e9


@functools.lru_cache(maxsize=4096)
def block_cost(block: Block, channels: int, size: int, wire: str = "residual") -> tuple[int, float]:
    """Parameters and GFLOPs that one wired block adds on a map [1, channels, size, size].

    A block changes neither the map nor what reads it, so a placement costs the base plus the sum of its blocks.
    """
    from modules.attend import Attend

    with torch.no_grad(), torch.device("meta"):  # shapes suffice: nothing is computed
        module = Attend(channels, block.name, dict(block.options), wire).eval()
        image = torch.empty(1, channels, size, size)
        macs, _ = thop.profile(module, inputs=(image,), custom_ops=counters(), verbose=False)
    return params(module), 2 * float(macs) / 1e9


def params(model: nn.Module) -> int:
    """Number of parameters, both heads of YOLOv10 included."""
    return sum(p.numel() for p in model.parameters())


def deployed(model: DetectionModel, device: torch.device, half: bool | None = None) -> DetectionModel:
    """A fused copy in evaluation mode on ``device``: the NMS-free head where there is one; by default fp16 on CUDA."""
    ready = copy.deepcopy(model).float().to(device).eval()  # there before fuse(): what folds may depend on the device
    if nms_free(ready):
        ready.end2end = True
    ready = ready.fuse(verbose=False)
    for p in ready.parameters():
        p.requires_grad_(False)
    if half if half is not None else device.type == "cuda":
        ready = ready.half()
    return ready.to(memory_format=torch.channels_last) if device.type == "cuda" else ready


def nms_free(model: DetectionModel) -> bool:
    """Whether the model has a head that needs no NMS."""
    return getattr(model.model[-1], "one2one_cv2", None) is not None


def torch_runner(model: DetectionModel, device: torch.device, half: bool | None = None) -> Runner:
    """The model :func:`deployed` in torch."""
    fused = deployed(model, device, half)
    dtype = next(fused.parameters()).dtype
    head = "one2one" if getattr(fused, "end2end", False) else "single"
    return Runner(fused, "torch", device, str(dtype).removeprefix("torch."), head, channels(fused), dtype)


@torch.inference_mode()
def latency(model: Runner, base: Runner, imgsz: int, runs: int = 30, warmup: int = 3) -> Latency:
    """Time ``model`` and ``base`` in turn on the same image, ``runs`` pairs after a warm-up.

    Raises:
        ValueError: ``runs`` or ``warmup`` out of range.
    """
    if runs < 3 or warmup < 1:
        raise ValueError(f"latency needs at least 3 runs after 1 warm-up, got runs={runs}, warmup={warmup}")
    image = torch.rand(1, model.channels, imgsz, imgsz, generator=torch.Generator().manual_seed(0))
    image = image.to(model.device, model.image_dtype)
    for _ in range(warmup):
        model.forward(image), base.forward(image)
    ours: list[float] = []
    theirs: list[float] = []
    for i in range(runs):
        pair = [(model, ours), (base, theirs)]
        for runner, times in pair if i % 2 else reversed(pair):
            times.append(once(runner, image))
    quarter = statistics.quantiles(ours, n=4)
    return Latency(
        ms=statistics.median(ours),
        iqr_ms=quarter[2] - quarter[0],
        base_ms=statistics.median(theirs),
        ratio=statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        runs=runs,
        device=device_name(model.device),
        dtype=model.dtype,
        threads=torch.get_num_threads(),
        imgsz=imgsz,
        batch=1,
        head=model.head,
        backend=model.backend,
    )


def device_name(device: torch.device) -> str:
    """``cpu`` or the name of the card."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def once(runner: Runner, image: torch.Tensor) -> float:
    """Milliseconds of one forward pass."""
    if runner.device.type == "cuda":
        torch.cuda.synchronize(runner.device)
    start = time.perf_counter()
    runner.forward(image)
    if runner.device.type == "cuda":
        torch.cuda.synchronize(runner.device)
    return 1e3 * (time.perf_counter() - start)


def channels(model: nn.Module) -> int:
    """Channels of the image."""
    yaml = getattr(model, "yaml", None) or {}
    return int(yaml.get("channels", 3))
