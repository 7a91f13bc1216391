"""Goes in: a checkpoint's file. Comes out: nothing where it holds weights and known classes only, else an error.

The file is read by torch's restricted reading with stand-ins on its list (nas/held.py), and what is then in memory is
looked through. After that Ultralytics reads the file as it always does: it takes the same steps, each of which was
taken here before with dead objects.
"""

from __future__ import annotations

import inspect
import pickle
import threading
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path, PurePath
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

from nas import known, trust
from nas.errors import WeightError
from nas.held import FORWARD, Callless, Held, Method, Refused, entry

READING = threading.Lock()  # torch's list is one for the process
PLAIN = (
    str, bytes, bytearray, bool, int, float, complex, type(None), slice, range, PurePath, Enum, torch.dtype,
    torch.device, torch.layout, torch.Size, torch.UntypedStorage, torch.TypedStorage, np.generic, np.dtype,
)  # fmt: skip
DTYPES = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDGSUVOMm"}  # these are made by no name in a file
METHODS = (FunctionType, classmethod, staticmethod)


def check(path: str | Path) -> Any:
    """Hold a checkpoint against what one has to hold.

    Returns:
        Its content, objects of classes as stand-ins; None where ``--trust`` is given and nothing was looked at.

    Raises:
        WeightError: It names something else, or is no checkpoint.
    """
    if trust.given():
        return None
    where = f"weights {path}"
    if not Path(path).is_file():
        raise WeightError(f"{where}: no such file")
    try:
        with listed() as names:
            names += named(path)
            refuse_strangers(names, where)
            content = read(path, names)
        look_through(content, where)
    except WeightError:
        raise
    except Refused as e:
        raise WeightError(f"{where}: more than weights: {e}; {trust.HINT}") from e
    except Exception as e:  # whatever reading a file that is none raises
        raise WeightError(f"{where}: not a readable Ultralytics checkpoint: {reason(e)}") from e
    return content


@contextmanager
def listed() -> Iterator[list[str]]:
    """torch's list of classes, empty for a while: nobody else's counts here."""
    with READING:
        before = get_safe_globals()
        clear_safe_globals()
        try:
            yield []
        finally:
            clear_safe_globals()
            add_safe_globals(before)


def named(path: str | Path) -> list[str]:
    """What a file names beside torch's own tensors; nothing of one in the old format, which has to do without."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except ValueError:
        return []
    except pickle.UnpicklingError as e:
        raise Refused(reason(e)) from e


def refuse_strangers(names: list[str], where: str) -> None:
    """Tell all classes and functions that no checkpoint needs.

    Raises:
        WeightError: There are some.
    """
    strangers = [name for name in names if entry(name) is None]
    if not strangers:
        return
    own = "a block of your own comes in by --modules FILE"
    if (module := known.missing(strangers)) is not None:
        raise WeightError(f"{where}: it names the module {module!r}, which is not here; {own}")
    told = ", ".join(strangers[:5]) + (f" and {len(strangers) - 5} more" if len(strangers) > 5 else "")
    raise WeightError(f"{where}: more than weights: it names {told}; {own}; {trust.HINT}")


def read(path: str | Path, names: list[str]) -> Any:
    """A file's content, its objects of known classes as stand-ins."""
    add_safe_globals([(entry(name), name) for name in names])
    add_safe_globals([(kind, f"numpy.dtypes.{kind.__name__}") for kind in DTYPES])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as e:  # torch's words around ours
            raise Refused(reason(e)) from e


def look_through(content: Any, where: str) -> None:
    """Refuse what would be called later: hooks, classes in the place of layers, methods that are written over.

    Raises:
        Refused: With what it is.
        WeightError: A model's YAML that is code.
    """
    if isinstance(content, Mapping) and content.get("modelopt"):
        raise Refused("a quantised model's state, which another package restores")
    seen, left = set[int](), [content]
    while left:
        value = left.pop()
        if not isinstance(value, PLAIN) and id(value) not in seen:
            seen.add(id(value))
            left += parts(value, where)


def parts(value: Any, where: str) -> Iterable[Any]:
    """What a value is made of.

    Raises:
        Refused: It is nothing that a checkpoint holds.
    """
    if type(value) in (dict, OrderedDict, Counter):
        return [*value.keys(), *value.values(), *getattr(value, "__dict__", {}).values()]
    if type(value) in (list, tuple, set, frozenset):
        return list(value)
    if isinstance(value, Held):
        return fields(value, where)
    if isinstance(value, SimpleNamespace):
        return vars(value).values()
    if isinstance(value, np.ndarray):
        return value.ravel().tolist() if value.dtype.hasobject else ()
    if isinstance(value, torch.Tensor):
        if value._backward_hooks:
            raise Refused("a tensor with hooks")
        return vars(value).values()
    if isinstance(value, Callless) and value.real.__module__.startswith("torch.nn.modules."):
        return ()  # a layer that is kept as a class, such as a block's norm
    raise Refused(f"it keeps {getattr(value, '__name__', type(value).__name__)} where a value is expected")


def fields(held: Held, where: str) -> Iterator[Any]:
    """The attributes of an object.

    Raises:
        Refused: A hook, or a method that is written over.
        WeightError: A model's YAML that is code.
    """
    real = type(held).real
    for name, value in vars(held).items():
        if issubclass(real, nn.Module) and "_hooks" in name and value:
            raise Refused(f"{real.__name__} has hooks ({name})")
        if name == "yaml":
            if type(value) is not dict:
                raise Refused(f"the YAML of {real.__name__} is no mapping")
            trust.refuse_code(value, where)
        a_method = isinstance(value, Method)
        over = isinstance(inspect.getattr_static(real, name, None), METHODS) and not isinstance(value, PLAIN)
        if over and not (a_method and name in FORWARD):
            raise Refused(f"{real.__name__}.{name} is written over")
        if not a_method:
            yield value


def reason(e: BaseException) -> str:
    """An error in one line, torch's advice left out."""
    text = str(e).partition("WeightsUnpickler error: ")[2] or str(e)
    return (text.strip().splitlines() or [type(e).__name__])[0][:300]
