"""Goes in: a model's YAML as a dict. Comes out: channels and stride of every row's map, as Ultralytics builds it."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import parse_model

from nas.errors import InputError

SIZE = 512  # side of the traced image: a power of 2, whole down to stride 512


class GraphError(InputError):
    """A model graph or a site that is not understood: says the row and the reason."""


@dataclass(frozen=True)
class Shape:
    """The map [B, channels, H / stride, W / stride] that a row gives for an image [B, 3, H, W]."""

    channels: int
    stride: int


def shapes(base: Mapping[str, Any]) -> tuple[Shape | None, ...]:
    """Trace every row but the head; None where a row gives no map at a whole power-of-two stride.

    The rows are built by Ultralytics' own parser on torch's meta device, so nothing is computed and any module that
    it knows is understood.

    Raises:
        GraphError: A row cannot be built or run: says which and why.
    """
    kept = {k: base[k] for k in base if k not in ("yaml_file", "names")}
    return _traced(json.dumps(kept, sort_keys=True, default=str))


@functools.lru_cache(maxsize=128)
def _traced(text: str) -> tuple[Shape | None, ...]:
    base = json.loads(text)
    if base.get("scales") and not base.get("scale"):
        base["scale"] = next(iter(base["scales"]))
    for row in base["backbone"]:
        if row[2] == "TorchVision":
            row[3][2:3] = [None]  # its weights would be downloaded; shapes need none
    count = len(base["backbone"]) + len(base["head"]) - 1
    with torch.device("meta"), torch.no_grad():
        try:
            layers = _build(base, count)
        except Exception as e:
            raise _refusal(base, count) from e
        return _run(layers.eval(), int(base.get("channels", 3)))


def _build(base: Mapping[str, Any], count: int) -> Any:
    """The first ``count`` rows as layers."""
    part = copy.deepcopy(dict(base))
    part["head"] = part["head"][: max(0, count - len(part["backbone"]))]
    part["backbone"] = part["backbone"][:count]
    activation = Conv.default_act  # the parser leaves it changed where it fails
    try:
        return parse_model(part, int(base.get("channels", 3)), verbose=False)[0]
    finally:
        Conv.default_act = activation


def _refusal(base: Mapping[str, Any], count: int) -> GraphError:
    """The first row that the parser does not take, and why."""
    for index in range(count):
        try:
            _build(base, index + 1)
        except Exception as e:
            module = [*base["backbone"], *base["head"]][index][2]
            known = (
                f"Ultralytics knows no module {e}" if isinstance(e, KeyError) and e.args == (module,) else _reason(e)
            )
            return GraphError(f"row {index} ({module}): {known}")
    return GraphError("the rows are understood one by one, and not together")


def _run(layers: Any, channels: int) -> tuple[Shape | None, ...]:
    seen: list[Any] = []
    value: Any = torch.empty(1, channels, SIZE, SIZE)
    for layer in layers:
        if isinstance(layer.f, int):
            value = value if layer.f == -1 else seen[layer.f]
        else:
            value = [value if f == -1 else seen[f] for f in layer.f]
        try:
            value = layer(value)
        except Exception as e:
            raise GraphError(f"row {layer.i} ({layer.type.split('.')[-1]}): {_reason(e)}") from e
        seen.append(value)
    return tuple(_shape(value) for value in seen)


def _shape(value: Any) -> Shape | None:
    if not isinstance(value, Tensor) or value.ndim != 4 or value.shape[2] != value.shape[3]:
        return None
    stride, rest = divmod(SIZE, value.shape[2])
    return None if rest or stride & (stride - 1) else Shape(value.shape[1], stride)


def _reason(e: BaseException) -> str:
    return f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
