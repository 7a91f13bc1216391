"""Goes in: a trained base and a model with blocks inserted. Comes out: the model with its weights, accounted for."""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules import Classify, Conv, Pose
from ultralytics.nn.tasks import (
    BaseModel,
    ClassificationModel,
    DepthModel,
    DetectionModel,
    OBBModel,
    PoseModel,
    SegmentationModel,
    SemanticSegmentationModel,
    guess_model_task,
    load_checkpoint,
    yaml_model_load,
)
from ultralytics.utils.downloads import attempt_download_asset

from nas import checkpoint, trust
from nas.errors import WeightError as WeightError
from nas.quiet import quiet

MODELS: dict[str, Any] = {  # Ultralytics' task -> its model
    "detect": DetectionModel,
    "segment": SegmentationModel,
    "pose": PoseModel,
    "obb": OBBModel,
    "classify": ClassificationModel,
    "semantic": SemanticSegmentationModel,
    "depth": DepthModel,
}


@dataclass(frozen=True)
class Transfer:
    """What became of every tensor of the base.

    Args:
        loaded: Base tensors found bit for bit in the layer they belong to.
        total: Tensors of the base.
        left_out: Base tensor -> why it was not taken over.
        fresh: Tensors of the model that the base does not have (the inserted blocks).
    """

    loaded: int
    total: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.loaded}/{self.total} tensors of the base carried over, {len(self.fresh)} new"
        reasons = sorted(set(self.left_out.values()))
        return text + (f", {len(self.left_out)} left out ({'; '.join(reasons)})" if reasons else "")


def find(name: str | Path) -> str:
    """The file of a checkpoint; Ultralytics' own are downloaded once.

    Raises:
        WeightError: There is no such file, and it could not be downloaded.
    """
    if os.path.isfile(name):  # Path's own raises where the name is too long
        return str(name)
    reason = ""
    got = str(name)
    try:
        with quiet():
            got = str(attempt_download_asset(str(name)))
    except Exception as e:  # whatever the network says
        reason = f" ({' '.join(str(e).split())[:200]})"
    if not os.path.isfile(got):
        raise WeightError(f"weights {name}: no such file, and it could not be downloaded{reason}")
    return got


def open_model(path: str | Path) -> Any:
    """Load a checkpoint's model in fp32, its EMA where it has one.

    Raises:
        WeightError: The file is missing, no checkpoint, more than weights (nas/checkpoint.py), fused, or of a model
            that is none of :data:`MODELS`.
    """
    if str(path).endswith(".pt") and not Path(path).is_file():
        raise WeightError(f"weights {path}: no such file")
    checkpoint.check(path)
    try:
        model, _ = load_checkpoint(str(path))
    except ModuleNotFoundError as e:
        hint = "a block of your own comes in by --modules FILE"
        raise WeightError(f"weights {path}: it names the module {e.name!r}, which is not here; {hint}") from e
    except Exception as e:
        raise WeightError(f"weights {path}: not a readable Ultralytics checkpoint: {_first_line(e)}") from e
    if type(model).__name__ not in {c.__name__ for c in MODELS.values()}:
        allowed = ", ".join(MODELS)
        raise WeightError(f"weights {path}: expected a YOLO model for {allowed}, got {type(model).__name__}")
    if any(isinstance(m, Conv) and not hasattr(m, "bn") for m in model.modules()):
        raise WeightError(f"weights {path}: these are fused for inference; take the checkpoint that was trained")
    for p in model.parameters():
        p.requires_grad_(p.dtype.is_floating_point)
    return model


def build(cfg: Mapping[str, Any] | str, names: Mapping[int, str], channels: int = 3, seed: int = 0) -> Any:
    """Build the model of a YAML's task, without a word and without touching the global random state."""
    cfg = copy.deepcopy(dict(cfg)) if isinstance(cfg, Mapping) else yaml_model_load(cfg)
    trust.refuse_code(cfg, "the model's YAML")
    cfg["nc"] = len(names)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        model = MODELS[guess_model_task(cfg)](cfg, ch=channels, nc=len(names), verbose=False)
    model.names = dict(names)
    return model


def transfer(base: BaseModel, model: BaseModel, moved: Mapping[int, int], seed: int = 0) -> Transfer:
    """Load ``base`` into ``model`` with every row renamed through ``moved``, and account for every tensor.

    The loading itself is Ultralytics' own `.load()` (which also fits the class branch to another number of
    classes), given a view of the base whose rows carry their new numbers; a stock `.load()` matches by the old
    numbers and puts tensors into wrong layers.

    Raises:
        WeightError: A tensor is missing, has another shape, or did not arrive.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for another number of classes .load() draws new class outputs
        model.load(_renumbered(base, moved), verbose=False)
    return account(base, model, moved)


def account(base: BaseModel, model: BaseModel, moved: Mapping[int, int]) -> Transfer:
    """Compare every tensor of ``base`` with the one at its new place in ``model``, bit by bit.

    Raises:
        WeightError: Any difference that other classes or keypoints do not explain.
    """
    want, have = base.state_dict(), model.state_dict()
    explained = dict.fromkeys(class_outputs(base), _other_classes(base, model))
    explained |= dict.fromkeys(keypoint_outputs(base), _other_keypoints(base, model))
    left_out: dict[str, str] = {}
    places, loaded = set(), 0
    for name, tensor in want.items():
        place = rename(name, moved)
        places.add(place)
        if place not in have:
            raise WeightError(f"tensor {name} of the base should be at {place}, which the model does not have")
        same_shape = have[place].shape == tensor.shape
        if same_shape and torch.equal(have[place].cpu().float(), tensor.cpu().float()):
            loaded += 1
        elif explained.get(name):
            left_out[name] = explained[name]
        elif not same_shape:
            raise WeightError(
                f"tensor {name}: the base has shape {tuple(tensor.shape)}, the model {tuple(have[place].shape)} "
                f"at {place}; these weights belong to another architecture or scale"
            )
        else:
            raise WeightError(f"tensor {name} of the base did not arrive at {place}: the values differ")
    added = {i for i in range(len(model.model)) if i not in set(moved.values())}
    fresh = tuple(name for name in have if name not in places)
    strays = [name for name in fresh if int(name.split(".")[1]) not in added]
    if strays:
        raise WeightError(f"the base has nothing for {strays[0]} (and {len(strays) - 1} more): other architecture?")
    return Transfer(loaded, len(want), left_out, fresh)


def class_outputs(model: BaseModel) -> set[str]:
    """Names of the tensors whose size is the number of classes: the last layers of the head's class branches."""
    last = len(model.model) - 1
    head = model.model[last]
    branches: dict[str, Any] = {}
    for attr in ("cv3", "one2one_cv3"):
        branches |= {f"{attr}.{i}": branch for i, branch in enumerate(getattr(head, attr, None) or ())}
    for attr in ("classifier", "aux_head"):
        branches[attr] = getattr(head, attr, None)
    branches["proto.semseg"] = getattr(getattr(head, "proto", None), "semseg", None)
    found = {f"model.{last}.{at}.{len(b) - 1}.{p}" for at, b in branches.items() if b for p in ("weight", "bias")}
    if isinstance(head, Classify):
        found |= {f"model.{last}.linear.{p}" for p in ("weight", "bias")}
    return found


def keypoint_outputs(model: BaseModel) -> set[str]:
    """Names of the tensors whose size may follow the number of keypoints: a pose head's keypoint branches."""
    if not isinstance(model.model[-1], Pose):
        return set()
    starts = tuple(f"model.{len(model.model) - 1}.{branch}" for branch in ("cv4", "one2one_cv4"))
    return {name for name in model.state_dict() if name.startswith(starts)}


def _other_keypoints(base: BaseModel, model: BaseModel) -> str:
    """Why keypoint outputs may differ, or nothing."""
    ours, theirs = (list(getattr(m.model[-1], "kpt_shape", ())) for m in (base, model))
    return f"keypoint outputs: the base has {ours}, the model {theirs}" if ours != theirs else ""


def _other_classes(base: BaseModel, model: BaseModel) -> str:
    """Why class outputs may differ, or nothing."""
    ours, theirs = len(base.names), len(model.names)
    if ours != theirs:
        return f"class outputs: the base has {ours}, the model {theirs}"
    return "class outputs: follow the classes' names" if list(base.names.values()) != list(model.names.values()) else ""


def rename(name: str, moved: Mapping[int, int]) -> str:
    """``model.<old row>.rest`` -> ``model.<new row>.rest``."""
    head, row, rest = name.split(".", 2)
    return f"{head}.{moved[int(row)]}.{rest}"


def check_same_architecture(base: BaseModel, model: BaseModel) -> None:
    """Refuse weights of another graph before anything is loaded.

    Raises:
        WeightError: Says the first row that differs.
    """
    ours, theirs = list(model.model), list(base.model)
    for i, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if type(a) is not type(b) or a.f != b.f:
            raise WeightError(
                f"these weights are of another architecture: row {i} is {type(b).__name__} from {b.f} there, "
                f"{type(a).__name__} from {a.f} in the base model"
            )
    if len(ours) != len(theirs):
        raise WeightError(
            f"these weights are of another architecture: {len(theirs)} rows there, {len(ours)} in the base model"
        )


def _renumbered(base: BaseModel, moved: Mapping[int, int]) -> BaseModel:
    """The same layers under their new row numbers; shares memory with ``base``."""
    view = copy.copy(base)
    view._modules = dict(base._modules)
    view.model = nn.Sequential(OrderedDict((str(moved[i]), layer) for i, layer in enumerate(base.model)))
    return view


def _first_line(e: BaseException) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0]
