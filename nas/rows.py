"""Goes in: a model's YAML. Comes out: it as a dict, or the first thing in it that is no model, before it is built.

What else a row can do wrong is told when it is traced, see nas/shapes.py; code that a YAML would run, by nas/trust.py.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from ultralytics.nn import tasks

from nas import trust
from nas.quiet import quiet
from nas.shapes import GraphError
from search_spaces import yaml_file

HEADS = (
    *("Detect", "v10Detect", "Segment", "Segment26", "Pose", "Pose26", "OBB", "OBB26", "Classify"),
    *("SemanticSegment", "Depth"),
)
MOST_ROWS, MOST_REPEATS, MOST_PARAMETERS = 1000, 1000, 2_000_000_000


def read(name: str) -> dict[str, Any]:
    """A model's YAML as Ultralytics reads it: a file, or one of its own by name, such as ``yolov10n.yaml``.

    Raises:
        GraphError: There is none of that name, or it is no model.
        WeightError: It would run code, and nobody said that it is trusted.
    """
    try:
        if os.path.exists(name):
            yaml_file.read(name)  # Ultralytics reads on over what is refused here
        found = tasks.yaml_model_load(name)
    except yaml_file.Unreadable as e:
        raise GraphError(f"base {name}: {e}") from e
    except (OSError, AssertionError) as e:
        raise GraphError(f"base {name}: no such model YAML (for instance yolov10n.yaml)") from e
    except Exception as e:
        raise GraphError(f"base {name}: {type(e).__name__}: {' '.join(str(e).split())}") from e
    if not isinstance(found, dict) or not {"backbone", "head"} <= set(found):
        raise GraphError(f"base {name}: a model YAML has the keys backbone and head")
    try:
        check(found)
    except GraphError as e:
        raise GraphError(f"base {name}: {e}") from e
    trust.refuse_code(found, f"base {name}")
    return dict(found)


def check(base: Mapping[str, Any]) -> None:
    """Refuse what is no graph.

    Raises:
        GraphError: Rows that are no `[from, repeats, module, args]`, that read what is not there yet, a second head,
            or scales that are none.
    """
    for part in ("backbone", "head"):
        if not isinstance(base.get(part), list) or not base[part]:
            got = repr(base.get(part))[:100]
            raise GraphError(f"{part}: expected a list of rows [from, repeats, module, args], got {got}")
    rows = [*base["backbone"], *base["head"]]
    if len(rows) > MOST_ROWS:
        raise GraphError(f"{len(rows):,} rows, expected at most {MOST_ROWS:,}")
    deepest = _deepest(base)
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 4 or not isinstance(row[2], str) or not isinstance(row[3], list):
            raise GraphError(f"row {i}: expected [from, repeats, module, args], got {repr(row)[:200]}")
        reads, repeats, module, args = row
        for source in reads if isinstance(reads, list) and reads else [reads]:
            known = isinstance(source, int) and not isinstance(source, bool) and source < i
            if not known or (source < 0 and source != -1 and i + source < 0):
                raise GraphError(f"row {i} ({module}): reads row {source!r}, which is not before it")
        if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= MOST_REPEATS / deepest:
            raise GraphError(
                f"row {i} ({module}): repeats {repeats!r}, expected a whole number of at least 1, not huge"
            )
        if any(isinstance(v, float) and not math.isfinite(v) for v in _leaves(args)):
            raise GraphError(f"row {i} ({module}): its arguments hold a number that is not finite: {repr(args)[:200]}")
        if module in HEADS and i < len(rows) - 1:
            raise GraphError(
                f"row {i} ({module}): a head before the last row, {len(rows) - 1}; a model has one, at the end"
            )


def refuse_giant(base: Mapping[str, Any], channels: int) -> None:
    """Count the parameters where nothing is computed and no memory is taken.

    Raises:
        GraphError: There are more than any card holds; what cannot be built is told by whoever builds it.
    """
    cfg = copy.deepcopy(dict(base))
    for row in cfg["backbone"]:
        if row[2] == "TorchVision":
            row[3][2:3] = [None]  # its weights would be downloaded
    try:
        with torch.device("meta"), quiet():
            layers = tasks.parse_model(cfg, channels, verbose=False)[0]
    except Exception:
        return
    if (count := sum(p.numel() for p in layers.parameters())) > MOST_PARAMETERS:
        raise GraphError(f"the model has {count:,} parameters, expected at most {MOST_PARAMETERS:,}")


def _deepest(base: Mapping[str, Any]) -> float:
    """The largest factor of its scales on repeats."""
    scales, multiple = base.get("scales"), base.get("depth_multiple", 1.0)
    if not scales:
        numbers = {"depth_multiple": [multiple, base.get("width_multiple", 1.0)]}
    elif isinstance(scales, Mapping):
        numbers = dict(scales)
    else:
        raise GraphError(
            f"scales: expected a mapping from a letter to [depth, width, channels], got {repr(scales)[:100]}"
        )
    for name, row in numbers.items():
        good = isinstance(row, list) and len(row) == (3 if scales else 2)
        if not good or not all(isinstance(v, int | float) and math.isfinite(v) and v > 0 for v in row):
            raise GraphError(
                f"scale {name!r}: expected [depth, width, channels], positive numbers, got {repr(row)[:100]}"
            )
    scale = base.get("scale")
    if scales and scale and scale not in numbers:
        raise GraphError(f"scale {scale!r}: the YAML has {', '.join(map(str, numbers))}")
    return max(1.0, *(float(row[0]) for row in numbers.values()))


def _leaves(value: Any) -> Iterator[Any]:
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else None
    if items is None:
        yield value
    else:
        for item in items:
            yield from _leaves(item)
