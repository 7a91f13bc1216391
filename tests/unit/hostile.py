"""Files that do harm as they are read: each leaves a mark where it does, so that a test sees that it did not."""

from __future__ import annotations

import functools
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules import Conv, Detect
from ultralytics.nn.tasks import DetectionModel

CODE = "__import__('pathlib').Path({!r}).touch() or nn.SiLU()"  # an `activation` that does harm


class Call:
    """Pickles as a call of a function, and perhaps a state that is given to what it returns."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.function, self.args, self.state = function, args, state

    def __reduce__(self) -> tuple[Any, ...]:
        return (self.function, self.args) if self.state is None else (self.function, self.args, self.state)


def touch(mark: Path) -> Call:
    """A call that leaves the mark."""
    return Call(os.system, f"touch '{mark}'")


def with_code(model: Any, mark: Path) -> dict[str, Any]:
    """A model's YAML whose activation leaves the mark."""
    return {**model.yaml, "activation": CODE.format(str(mark))}


def content(model: Any, **more: Any) -> dict[str, Any]:
    """What an Ultralytics checkpoint holds."""
    model.args = {"task": "detect"}
    return {"epoch": -1, "model": model, "ema": None, "optimizer": None, "train_args": {}, **more}


def changed(model: Any, **attributes: Any) -> Any:
    """The model with attributes that it has in no honest file."""
    for name, value in attributes.items():
        model.__dict__[name] = value
    return model


def raw(path: Path, pickled: bytes) -> None:
    """A file in torch's format with a pickle that no pickler writes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (("data.pkl", pickled), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr(f"archive/{name}", data)


def _hook(model: Any) -> Any:
    model.model[0]._forward_hooks[0] = Conv(1, 1)
    return model


def _kept_class(model: Any) -> Any:
    model.model._modules["0"] = DetectionModel
    return model


# what a checkpoint may not hold, made from a good model and the path of a mark: a name and how to write it
HELD: dict[str, Callable[[Any, Path], Any]] = {
    "a call of os.system": lambda model, mark: content(model, more=touch(mark)),
    "one in the training arguments": lambda model, mark: content(model, train_args={"a": [{"b": (touch(mark),)}]}),
    "one in place of the model": lambda model, mark: {"model": touch(mark)},
    "a call of eval": lambda model, mark: content(model, more=Call(eval, CODE.format(str(mark)).split(" or ")[0])),
    "a model class called with a hostile YAML": lambda model, mark: content(
        model, more=Call(DetectionModel, with_code(model, mark))
    ),
    "a layer's class called": lambda model, mark: content(model, more=Call(Conv, 1, 1)),
    "a partial function": lambda model, mark: content(model, more=functools.partial(os.system, f"touch '{mark}'")),
    "getattr of what is no layer": lambda model, mark: content(model, more=Call(getattr, Path("x"), "touch")),
    "getattr of another method": lambda model, mark: content(model, more=Call(getattr, Detect, "bias_init")),
    "a YAML with code": lambda model, mark: content(changed(model, yaml=with_code(model, mark))),
    "a YAML in another attribute's model": lambda model, mark: content(
        model, teacher=changed(nn.Identity(), yaml=with_code(model, mark))
    ),
    "a YAML that calls a function": lambda model, mark: content(
        changed(model, yaml={**model.yaml, "backbone": [[-1, 1, "check_requirements", ["evil"]]]})
    ),
    "a hook": lambda model, mark: content(_hook(model)),
    "a class in the place of a layer": lambda model, mark: content(_kept_class(model)),
    "a method written over": lambda model, mark: content(changed(model, fuse=Conv(1, 1))),
    "a quantised model's state": lambda model, mark: content(model, modelopt={"modelopt": b"x"}),
}

# pickles written by hand: the state of an object given to a function, and names that hide what they are
BY_HAND = {
    "a state for a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",
    "a state for a module's names": b"\x80\x02cnas\ntrust\n}X\x05\x00\x00\x00givenK\x01sb.",
    "a state with a method of pickle": (
        b"\x80\x02ctorch.nn.modules.linear\nIdentity\n)\x81}X\x0c\x00\x00\x00__setstate__cbuiltins\nset\nsb."
    ),
    "a name with two dots": b"\x80\x02cnas\ntrust.os.system\nX\x04\x00\x00\x00true\x85R.",
    "an object called as a function": (
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch.nn.modules.linear\nIdentity\n)\x81"
        b"ctorch\nTensor\nK\x01\x85}tR."
    ),
    "an extension of copyreg": b"\x80\x02\x82\x01.",
}


def write(path: Path, name: str, model: Any, mark: Path) -> Path:
    """Write the checkpoint of :data:`HELD` or :data:`BY_HAND`."""
    if name in BY_HAND:
        raw(path, BY_HAND[name])
    else:
        torch.save(HELD[name](model, mark), path)
    return path


def cache(path: Path, mark: Path, numpy_head: bytes = b"") -> Path:
    """A label cache that leaves the mark as it is read."""
    path.write_bytes(numpy_head + pickle.dumps(touch(mark), protocol=2))
    return path
