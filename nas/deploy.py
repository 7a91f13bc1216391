"""Goes in: a model and a runtime. Comes out: its file, made by Ultralytics' own exporter, and that file ready to run.

Exported is what is deployed: fused, our blocks folded, the head that needs no NMS where the model has it, batch 1.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ultralytics.nn.tasks import BaseModel, guess_model_task

from nas import cost
from nas.errors import InputError
from nas.quiet import quiet, same_threads


class DeployError(InputError):
    """A format or runtime that cannot be had here, or a model that does not go into it."""


@dataclass(frozen=True)
class Format:
    """A format of Ultralytics' exporter.

    Args:
        backend: The runtime that runs it.
        packages: What exporting and running import; the last is the runtime's.
    """

    backend: str
    packages: tuple[str, ...] = ()


FORMATS = {
    "torchscript": Format("torchscript"),
    "onnx": Format("onnxruntime", ("onnx", "onnxruntime")),
    "openvino": Format("openvino", ("openvino",)),
    "engine": Format("tensorrt", ("onnx", "tensorrt")),
}
BACKENDS = ("torch", "onnxruntime", "openvino", "tensorrt")


def fault(fmt: str, device: torch.device, half: bool = False) -> str | None:
    """Why ``fmt`` cannot be exported and run here, and how to get what is missing; None where it can."""
    missing = [name for name in FORMATS[fmt].packages if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        return f"{' and '.join(missing)} {verb} not installed: pip install {' '.join(missing)}"
    if fmt == "engine" and device.type != "cuda":
        return f"TensorRT needs an NVIDIA GPU (device=0), got {device}"
    if fmt == "torchscript" and half and device.type == "cpu":
        return "TorchScript has half precision on a GPU only (Ultralytics' exporter refuses it on a CPU)"
    if fmt == "onnx" and device.type == "cuda":
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            return (
                "this onnxruntime has no CUDAExecutionProvider: pip uninstall onnxruntime, then "
                "pip install onnxruntime-gpu; or measure on device=cpu"
            )
    return None


def check_backend(backend: str, device: torch.device) -> None:
    """Refuse a runtime that is not here, before anything is spent.

    Raises:
        DeployError: It is unknown, not installed, or not for this device.
    """
    if backend not in BACKENDS:
        raise DeployError(f"--latency-backend {backend!r}: expected {', '.join(BACKENDS)}")
    reason = fault(_format_of(backend), device) if backend != "torch" else None
    if reason:
        raise DeployError(f"--latency-backend {backend}: {reason}")


def version(backend: str) -> str:
    """``onnxruntime 1.22.0``: the runtime and its version."""
    for package in (backend, f"{backend}-gpu"):
        try:
            return f"{backend} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return backend


def runner(model: BaseModel, backend: str, imgsz: int, device: torch.device) -> cost.Runner:
    """A model in memory as a runtime runs it at one image size; its file is made and thrown away.

    Args:
        model: Not fused; it is not changed.
        backend: One of :data:`BACKENDS`; all but torch take an exported file. fp16 on CUDA, as in torch.

    Raises:
        DeployError: The runtime is not here, or the model does not go into its format.
    """
    if backend == "torch":
        return cost.torch_runner(model, device)
    fmt = _format_of(backend)
    half = device.type == "cuda" and fmt != "openvino"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = export(model, fmt, Path(folder) / "model", imgsz, device, half=half)
        return open_artifact(file, fmt, device, cost.channels(model), half=half)


def export(
    model: BaseModel,
    fmt: str,
    target: Path,
    imgsz: int,
    device: torch.device,
    half: bool = False,
    dynamic: bool = False,
) -> Path:
    """Write ``target`` with the format's suffix, by Ultralytics' exporter without a word.

    Args:
        model: With its learned weights, not fused; the exporter works on a copy.
        fmt: One of :data:`FORMATS`.
        target: The file without its suffix.
        imgsz: Side of the square image.
        half: fp16 where format and device have it (see :func:`fault`).
        dynamic: Take images of any size.

    Raises:
        DeployError: The format is not here, or the exporter failed: says with what.
    """
    from ultralytics.engine.exporter import Exporter

    if (reason := fault(fmt, device, half)) is not None:
        raise DeployError(f"{fmt}: {reason}")
    view = copy.copy(model)  # shares the layers: only its attributes are set here
    view.pt_path = f"{target}.pt"  # the exporter names its file after it
    view.task = getattr(model, "task", None) or guess_model_task(model)
    if isinstance(getattr(view, "args", None), dict):
        view.args = {"data": None, **view.args}
    wanted: dict[str, Any] = {"format": fmt, "imgsz": imgsz, "device": _device_name(fmt, device), "batch": 1}
    wanted |= {"mode": "export", "data": None, "verbose": False, "dynamic": dynamic, "quantize": 16 if half else None}
    wanted["nms"] = False if cost.nms_free(model) else None
    if fmt in ("onnx", "engine"):
        wanted["simplify"] = False  # onnxslim is one package more, and the runtimes simplify for themselves
    target.parent.mkdir(parents=True, exist_ok=True)
    if fmt == "openvino":  # its converter reports every use to its maker from a fork of this process; without this
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # package it uses its own stub
    try:
        with quiet(), same_threads():
            return Path(Exporter(overrides=wanted)(view))
    except Exception as e:  # whatever the exporter or the packages under it raise
        raise DeployError(f"{fmt}: Ultralytics' export failed: {type(e).__name__}: {_one_line(e)}") from e


def open_artifact(
    path: Path, fmt: str, device: torch.device, channels: int = 3, half: bool = False, exact: bool = False
) -> cost.Runner:
    """An exported file, loaded as Ultralytics loads it, with as many threads as torch has.

    Args:
        exact: OpenVINO only: compute in fp32 also where it would choose bf16 (CPUs that have it).

    Raises:
        DeployError: The runtime does not load it.
    """
    try:
        with quiet():
            return _OPEN[fmt](path, device, channels, half, exact)
    except DeployError:
        raise
    except Exception as e:
        raise DeployError(f"{fmt}: {path.name} could not be loaded: {type(e).__name__}: {_one_line(e)}") from e


def _open_torchscript(path: Path, device: torch.device, channels: int, half: bool, exact: bool) -> cost.Runner:
    from ultralytics.nn.backends import TorchScriptBackend

    backend = TorchScriptBackend(str(path), device, half)
    dtype = torch.float16 if half else torch.float32
    return cost.Runner(backend.forward, "torchscript", device, _name(dtype), _head(backend), channels, dtype)


def _open_onnx(path: Path, device: torch.device, channels: int, half: bool, exact: bool) -> cost.Runner:
    import onnxruntime
    from ultralytics.nn.backends import ONNXBackend

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    # two sessions are timed in turn: the threads of one must not spin while the other runs
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    backend = ONNXBackend(str(path), device, half, session_options=options)
    if backend.device.type != device.type:
        raise DeployError(f"onnx: ONNX Runtime fell back to {backend.device}, asked for {device}")
    image = torch.float16 if backend.fp16 else torch.float32
    dtype = "float16" if half else "float32"
    return cost.Runner(backend.forward, "onnxruntime", device, dtype, _head(backend), channels, image)


def _open_openvino(path: Path, device: torch.device, channels: int, half: bool, exact: bool) -> cost.Runner:
    """As Ultralytics' OpenVINOBackend, which has no option for the number of threads; always on the CPU."""
    import openvino
    from ultralytics.nn.backends.base import BaseBackend

    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    if exact:
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    net = core.compile_model(core.read_model(next(path.glob("*.xml"))), "CPU", settings)
    dtype = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[
        net.get_property("INFERENCE_PRECISION_HINT").to_string()
    ]
    head = "one2one" if BaseBackend.read_metadata(path).get("end2end") else "single"
    cpu = torch.device("cpu")
    return cost.Runner(lambda image: list(net(image.numpy()).values()), "openvino", cpu, dtype, head, channels)


def _open_engine(path: Path, device: torch.device, channels: int, half: bool, exact: bool) -> cost.Runner:
    from ultralytics.nn.backends import TensorRTBackend

    backend = TensorRTBackend(str(path), device, half)
    image = torch.float16 if backend.fp16 else torch.float32
    dtype = "float16" if half else "float32"
    return cost.Runner(backend.forward, "tensorrt", device, dtype, _head(backend), channels, image)


_OPEN: dict[str, Callable[[Path, torch.device, int, bool, bool], cost.Runner]] = {
    "torchscript": _open_torchscript,
    "onnx": _open_onnx,
    "openvino": _open_openvino,
    "engine": _open_engine,
}


def _format_of(backend: str) -> str:
    return next(name for name, fmt in FORMATS.items() if fmt.backend == backend)


def _device_name(fmt: str, device: torch.device) -> str:
    """The exporter's name of the device; OpenVINO is exported from the CPU."""
    return str(device.index or 0) if device.type == "cuda" and fmt != "openvino" else "cpu"


def _head(backend: Any) -> str:
    return "one2one" if backend.end2end else "single"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _one_line(e: BaseException) -> str:
    return " ".join(str(e).split())[:500]
