"""Goes in: the name of a class in a checkpoint. Comes out: a stand-in that holds an object's state and does nothing.

torch's restricted reading calls every class on its list with whatever arguments a file gives, and Ultralytics' models
evaluate Python that stands in theirs. A stand-in cannot be called, neither it nor its instances.
"""

from __future__ import annotations

import pickle
from typing import Any

from torch import nn

from nas import known

FORWARD = ("forward", "forward_fuse")  # methods that checkpoints name: of a segmenting head, of a fused layer


class Refused(pickle.UnpicklingError):
    """What a file holds that it need not."""


class Callless(type):
    """The class of stand-ins."""

    real: type

    def __call__(cls, *_: Any, **__: Any) -> Any:
        """Refuse: this is what a pickle that calls a class comes to."""
        raise Refused(f"it calls {cls.__name__}")


class Held(metaclass=Callless):
    """The state of an object of a known class."""

    def __setstate__(self, state: Any) -> None:
        if type(state) is not dict or any(not isinstance(k, str) or k.startswith("__") for k in state):
            raise Refused(f"it gives {type(self).__name__} a state that no layer has")
        self.__dict__.update(state)


class Method:
    """A method that a file names."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name = owner, name


def entry(name: str) -> Any:
    """What a name is read as: plain data, a stand-in, or one of two guarded functions; None where it is unknown."""
    if (found := known.data(name)) is not None:
        return found
    if name == "builtins.getattr":
        return named_method
    if name == known.INTERPOLATION:
        return interpolation
    real = known.known(name)
    return None if real is None else Callless(real.__name__, (Held,), {"real": real, "__module__": real.__module__})


def named_method(owner: Any, name: Any) -> Any:
    """`getattr` as checkpoints use it: the forward of a layer, or a way to interpolate."""
    if owner is interpolation and isinstance(name, str) and not name.startswith("_"):
        return interpolation(name.lower())
    layer = owner.real if isinstance(owner, Callless) else type(owner).real if isinstance(owner, Held) else object
    if not issubclass(layer, nn.Module) or name not in FORWARD:
        raise Refused(f"it asks for {str(name)[:60]!r} of {getattr(owner, '__name__', type(owner).__name__)}")
    return Method(owner, name)


def interpolation(value: Any) -> Any:
    """torchvision's way to interpolate of this name."""
    from torchvision.transforms.functional import InterpolationMode

    return InterpolationMode(value)
