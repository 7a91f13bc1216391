"""Goes in: `--trust`, or a model's YAML. Comes out: whether files may run code, and an error where one would unasked.

Only this process and those that it starts know of the switch; a recipe cannot carry it.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nas.errors import WeightError

SWITCH = "YOLO_ATTENTION_NAS_TRUST"
HINT = "if you know where it is from, --trust (in Python trust=True) takes it as it is"
LAYERS = ("torch.nn.modules.", "ultralytics.nn.modules.", "torchvision.ops.", "modules.attend")  # what a row may build


def given() -> bool:
    """Whether the user has said that the files of this run are trusted."""
    return os.environ.get(SWITCH) == "1"


def grant() -> None:
    """Trust the files of this run, here and in every process that is started from here."""
    os.environ[SWITCH] = "1"


@contextmanager
def granted(trust: bool) -> Iterator[None]:
    """:func:`grant` for a while, where ``trust`` says so; what was before comes back."""
    before = os.environ.get(SWITCH)
    if trust:
        grant()
    try:
        yield
    finally:
        if trust and before is None:
            del os.environ[SWITCH]


def refuse_code(model: Mapping[str, Any], where: str) -> None:
    """Hold a model's YAML against what Ultralytics does with it: it evaluates `activation` and calls what rows name.

    Args:
        model: The YAML as a dict.
        where: What to call it in the error.

    Raises:
        WeightError: An activation that is no `nn.X(...)` of plain values, or a row that names no layer.
    """
    if given():
        return
    activation = model.get("activation")
    if activation and not is_activation(activation):
        raise WeightError(
            f"{where}: activation {str(activation)[:100]!r} is run as Python code; expected one such as nn.SiLU() or "
            f"torch.nn.LeakyReLU(0.1); {HINT}"
        )
    for key in ("backbone", "head"):
        rows = model.get(key)
        for row in rows if isinstance(rows, list | tuple) else ():
            cells = list(row) if isinstance(row, Iterable) else []
            if len(cells) > 2 and not is_layer(cells[2]):
                name = str(cells[2])[:100]
                raise WeightError(f"{where}: a row of its {key} names {name!r}, which is no layer; {HINT}")


def is_activation(text: Any) -> bool:
    """Whether it is `nn.X(...)` or `torch.nn.X(...)`, of plain values, with X a layer of torch."""
    try:
        call = ast.parse(text.strip(), mode="eval").body if isinstance(text, str) else None
        if not isinstance(call, ast.Call):
            return False
        for value in (*call.args, *(k.value for k in call.keywords)):
            ast.literal_eval(value)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return False
    name = ast.unparse(call.func).removeprefix("torch.")
    named = all(k.arg for k in call.keywords)
    return named and name.startswith("nn.") and name.count(".") == 1 and _of_torch(name[3:])


def is_layer(name: Any) -> bool:
    """Whether what a row names is built as a layer, or is nothing at all (which Ultralytics says itself)."""
    import ultralytics.nn.tasks as tasks

    if not isinstance(name, str):
        return True
    if name.startswith("nn."):
        return _of_torch(name[3:])
    if name.startswith("torchvision.ops."):
        import torchvision

        found = getattr(torchvision.ops, name.removeprefix("torchvision.ops."), None)
    else:
        found = getattr(tasks, name, None)
    return found is None or _is_module(found)


def _of_torch(name: str) -> bool:
    from torch import nn

    found = getattr(nn, name, None)
    return found is None or _is_module(found)


def _is_module(found: Any) -> bool:
    from torch import nn

    return isinstance(found, type) and issubclass(found, nn.Module) and f"{found.__module__}.".startswith(LAYERS)
