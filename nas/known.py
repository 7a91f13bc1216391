"""Goes in: the name of a class in a checkpoint. Comes out: the class, where it is of a kind that checkpoints hold.

The kinds: layers of torch and Ultralytics, Ultralytics' models and losses, our blocks, those of plug-ins that were
named, and plain data. Nothing is imported that a checkpoint names but parts of torch, torchvision and Ultralytics.
"""

from __future__ import annotations

import importlib
import pathlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn
from ultralytics.utils import IterableSimpleNamespace

import modules

LAYERS = ("torch.nn.modules", "ultralytics.nn.modules")  # packages of layers
CLASSES = ("ultralytics.utils.loss", "ultralytics.utils.tal")  # a training's loss and what it is made of
TRANSFORMS = {
    f"torchvision.transforms.transforms.{name}" for name in ("Compose", "Normalize", "Resize", "CenterCrop", "ToTensor")
}
INTERPOLATION = "torchvision.transforms.functional.InterpolationMode"
OLD = {  # as Ultralytics' own loading renames them
    "ultralytics.nn.modules.block.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.utils.loss.v10DetectLoss": "ultralytics.utils.loss.E2EDetectLoss",
}
OURS = ("torch", "ultralytics", "modules", "nas", "builtins")  # what a plug-in imports and is not its own to open


def data(name: str) -> Any:
    """What stands for plain data: safe to be called with whatever a file says. None for all else."""
    return _table().get(name)


def known(name: str) -> type | None:
    """A class whose instances a checkpoint may hold; None for all else."""
    name = OLD.get(name, name)
    module, _, attribute = name.rpartition(".")
    if name in TRANSFORMS:
        return _class(importlib.import_module(module), attribute, object)
    if module == "ultralytics.nn.tasks" or module.startswith(tuple(f"{p}." for p in LAYERS)) or module in LAYERS:
        try:
            found = _class(importlib.import_module(module), attribute, nn.Module)
        except ModuleNotFoundError:
            return None
        return found if found and found.__module__.startswith((*LAYERS, "ultralytics.nn.tasks")) else None
    if module in CLASSES:
        found = _class(importlib.import_module(module), attribute, object)
        return found if found and found.__module__ == module else None
    return _block(module, attribute)


def missing(names: list[str]) -> str | None:
    """The first module among those of ``names`` that is not on this machine, or None."""
    tops = [name.split(".")[0] for name in names]
    return next((top for top in tops if top not in sys.modules and importlib.util.find_spec(top) is None), None)


def _block(module: str, attribute: str) -> type | None:
    """A layer of our blocks' files, of a plug-in's file, or of a package that a plug-in imports its layers from."""
    own = {modules.spec(name).block.__module__ for name in modules.names()}
    plug_ins = {name for name in own if not name.startswith("modules.")}
    there = sys.modules.get(module)  # never imported because of a file
    if there is None:
        return None
    found = _class(there, attribute, nn.Module)
    if found is None or found.__module__ != module:
        return None
    if module.startswith("modules.") or module in plug_ins:
        return found
    return found if module.split(".")[0] in {top for name in plug_ins for top in _imports(name)} else None


def _imports(plug_in: str) -> set[str]:
    """The packages that a plug-in's file imports, but for torch and what else has its own list here."""
    values = vars(sys.modules[plug_in]).values()
    names = {v.__name__ if isinstance(v, ModuleType) else getattr(v, "__module__", None) or "" for v in values}
    return {name.split(".")[0] for name in names if isinstance(name, str)} - {*OURS, *sys.stdlib_module_names, ""}


def _class(module: ModuleType, name: str, kind: type) -> type | None:
    found = getattr(module, name, None)
    return found if isinstance(found, type) and issubclass(found, kind) else None


def _table() -> dict[str, Any]:
    scalar = np.float64(0).__reduce__()[0]
    array = np.zeros(0).__reduce__()[0]
    found: dict[str, Any] = {"numpy.dtype": np.dtype, "numpy.ndarray": np.ndarray}
    for package in ("numpy.core", "numpy._core"):
        found |= {f"{package}.multiarray.scalar": scalar, f"{package}.multiarray._reconstruct": array}
    for module in ("ultralytics.utils", "ultralytics.yolo.utils"):
        found[f"{module}.IterableSimpleNamespace"] = IterableSimpleNamespace
    for name in ("PosixPath", "WindowsPath"):
        found |= {f"{module}.{name}": type(Path()) for module in ("pathlib", "pathlib._local")}
    for name in ("PurePosixPath", "PureWindowsPath"):
        found |= {f"{module}.{name}": getattr(pathlib, name) for module in ("pathlib", "pathlib._local")}
    return found | {f"builtins.{kind.__name__}": kind for kind in (slice, range, frozenset)}
