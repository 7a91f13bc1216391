"""Goes in: a trained base and a model with blocks inserted. Comes out: the model with its weights, accounted for."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel, load_checkpoint, yaml_model_load

from nas.errors import InputError

CLASS_LAYERS = ("cv3", "one2one_cv3")


class WeightError(InputError):
    """Weights that do not belong to this graph, or that did not arrive where they belong."""


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


def open_model(path: str | Path) -> DetectionModel:
    """Load a checkpoint's detection model in fp32, its EMA where it has one.

    Raises:
        WeightError: The file is missing, no checkpoint, or no detection model.
    """
    if str(path).endswith(".pt") and not Path(path).is_file():
        raise WeightError(f"weights {path}: no such file")
    try:
        model, _ = load_checkpoint(str(path))
    except Exception as e:
        raise WeightError(f"weights {path}: not a readable Ultralytics checkpoint: {_first_line(e)}") from e
    if not isinstance(model, DetectionModel):
        raise WeightError(f"weights {path}: expected a detection model, got {type(model).__name__}")
    for p in model.parameters():
        p.requires_grad_(p.dtype.is_floating_point)
    return model


def build(cfg: Mapping[str, Any] | str, names: Mapping[int, str], channels: int = 3, seed: int = 0) -> DetectionModel:
    """Build a detection model from its YAML, without a word and without touching the global random state."""
    cfg = copy.deepcopy(dict(cfg)) if isinstance(cfg, Mapping) else yaml_model_load(cfg)
    cfg["nc"] = len(names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DetectionModel(cfg, ch=channels, nc=len(names), verbose=False)
    model.names = dict(names)
    return model


def transfer(base: DetectionModel, model: DetectionModel, moved: Mapping[int, int], seed: int = 0) -> Transfer:
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


def account(base: DetectionModel, model: DetectionModel, moved: Mapping[int, int]) -> Transfer:
    """Compare every tensor of ``base`` with the one at its new place in ``model``, bit by bit.

    Raises:
        WeightError: Any difference that another number of classes does not explain.
    """
    want, have = base.state_dict(), model.state_dict()
    left_out: dict[str, str] = {}
    places, loaded = set(), 0
    for name, tensor in want.items():
        place = rename(name, moved)
        places.add(place)
        if place not in have:
            raise WeightError(f"tensor {name} of the base should be at {place}, which the model does not have")
        if _is_class_output(base, name) and (
            have[place].shape != tensor.shape or base.model[-1].nc != model.model[-1].nc
        ):
            left_out[name] = f"class outputs: the base has {base.model[-1].nc}, the model {model.model[-1].nc}"
        elif have[place].shape != tensor.shape:
            raise WeightError(
                f"tensor {name}: the base has shape {tuple(tensor.shape)}, the model {tuple(have[place].shape)} "
                f"at {place}; these weights belong to another architecture or scale"
            )
        elif not torch.equal(have[place].cpu().float(), tensor.cpu().float()):
            raise WeightError(f"tensor {name} of the base did not arrive at {place}: the values differ")
        else:
            loaded += 1
    added = {i for i in range(len(model.model)) if i not in set(moved.values())}
    fresh = tuple(name for name in have if name not in places)
    strays = [name for name in fresh if int(name.split(".")[1]) not in added]
    if strays:
        raise WeightError(f"the base has nothing for {strays[0]} (and {len(strays) - 1} more): other architecture?")
    return Transfer(loaded, len(want), left_out, fresh)


def rename(name: str, moved: Mapping[int, int]) -> str:
    """``model.<old row>.rest`` -> ``model.<new row>.rest``."""
    head, row, rest = name.split(".", 2)
    return f"{head}.{moved[int(row)]}.{rest}"


def check_same_architecture(base: DetectionModel, model: DetectionModel) -> None:
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


def _renumbered(base: DetectionModel, moved: Mapping[int, int]) -> DetectionModel:
    """The same layers under their new row numbers; shares memory with ``base``."""
    view = copy.copy(base)
    view._modules = dict(base._modules)
    view.model = nn.Sequential(OrderedDict((str(moved[i]), layer) for i, layer in enumerate(base.model)))
    return view


def _is_class_output(model: DetectionModel, name: str) -> bool:
    """Is this the weight or bias of a head's last class convolution, `model.<head>.cv3.<level>.<last>.*`?"""
    _, row, branch, *rest = name.split(".")
    if int(row) != len(model.model) - 1 or branch not in CLASS_LAYERS:
        return False
    return rest[1:2] == [str(len(model.model[-1].cv3[0]) - 1)] and rest[-1] in ("weight", "bias")


def _first_line(e: BaseException) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0]
