"""Goes in: a model's YAML as a dict and a placement. Comes out: its sites, or the dict edited."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.errors import InputError
from search_spaces import Placement, Site

# Modules that change the size of the map: class name -> index of the stride among the YAML's arguments, or the stride.
STRIDE_ARG = {"Conv": 2, "DWConv": 2, "GhostConv": 2, "SCDown": 2, "ConvTranspose": 2, "nn.MaxPool2d": 1}
STRIDE_FIXED = {"ADown": 2, "AConv": 2, "Focus": 2, "HGStem": 4}
KEEPS_CHANNELS = ("nn.Upsample", "nn.Identity", "nn.MaxPool2d", "nn.BatchNorm2d", "Attend")
POOLING = ("SPP", "SPPF", "SPPELAN")
ATTENTION = ("PSA", "C2PSA", "C2fPSA")
HEADS = ("Detect", "v10Detect")


class GraphError(InputError):
    """A model graph or a site that is not understood: says the row and the reason."""


@dataclass(frozen=True)
class Graft:
    """A model's YAML with blocks in it.

    Args:
        yaml: The edited dict, ready for Ultralytics.
        moved: Old row -> new row of the same layer, for every row of the base; rises strictly.
        added: New row of each inserted block, by site.
    """

    yaml: dict[str, Any]
    moved: dict[int, int]
    added: dict[str, int]


@dataclass(frozen=True)
class _Row:
    index: int
    source: int | list[int]
    module: str
    stride: float
    channels: int
    in_backbone: bool


def rows(base: Mapping[str, Any]) -> list[list[Any]]:
    """All rows ``[from, repeats, module, args]`` of a model's YAML, backbone first."""
    return [*base["backbone"], *base["head"]]


def sites(base: Mapping[str, Any]) -> tuple[Site, ...]:
    """Name the places of a detector where a block may stand, found from its graph.

    ``backbone.p<k>`` is the end of the backbone stage at stride 2^k (before pooling and attention),
    ``backbone.psa`` its own attention's output, ``neck.p<k>`` what the head reads, ``neck.p<k>_td`` a
    top-down stage of the neck that the head does not read.

    Raises:
        GraphError: A row is not understood.
    """
    _check_rows(base)
    source, _, module, _ = rows(base)[-1]
    if module not in HEADS or not isinstance(source, list):
        last = len(rows(base)) - 1
        raise GraphError(f"row {last} ({module}): expected a detection head, one of {', '.join(HEADS)}")
    walked = _walk(base)
    found: dict[str, _Row] = {}
    for row in walked[:-1]:
        level = math.log2(row.stride)
        if row.in_backbone and level >= 2:
            if row.module in ATTENTION:
                found["backbone.psa"] = row
            elif row.module not in POOLING:
                found[f"backbone.p{level:.0f}"] = row
        elif row.index in source:
            found[f"neck.p{level:.0f}"] = row
        elif not row.in_backbone and walked[row.index - 1].module == "Concat":
            found[f"neck.p{level:.0f}_td"] = row
    return tuple(
        Site(name, r.index, int(r.stride), r.channels) for name, r in sorted(found.items(), key=lambda x: x[1].index)
    )


def pick(found: tuple[Site, ...], name: str) -> Site:
    """The site called ``name``.

    Raises:
        GraphError: There is none; says which there are and the nearest.
    """
    by_name = {site.name: site for site in found}
    if name not in by_name:
        near = difflib.get_close_matches(name, list(by_name), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise GraphError(f"unknown site {name!r}; this model has: {', '.join(by_name)}{hint}")
    return by_name[name]


def insert(base: Mapping[str, Any], placement: Placement, wire: str = "residual") -> Graft:
    """Put each block of ``placement`` right after its site's row; whoever read the row now reads the block.

    Args:
        base: A model's YAML; it is not changed.
        placement: Site -> block.
        wire: ``residual`` or ``plain``, see :class:`modules.attend.Attend`.

    Raises:
        GraphError: A site that this model does not have.
    """
    found = sites(base) if len(placement) else ()
    at = {
        pick(found, name).row: (name, ["c2", block.name, *_tail(dict(block.options), wire)])
        for name, block in placement
    }
    return insert_rows(base, at)


def insert_rows(base: Mapping[str, Any], at: Mapping[int, tuple[str, list[Any]]]) -> Graft:
    """Insert ``[-1, 1, Attend, args]`` after the rows of ``at`` (row -> (site name, args)); see :func:`insert`."""
    edited = copy.deepcopy(dict(base))
    moved: dict[int, int] = {}
    follows: dict[int, int] = {}
    added: dict[str, int] = {}
    for old in range(len(rows(base))):
        moved[old] = old + len(added)
        follows[old] = moved[old]
        if old in at:
            follows[old] = added[at[old][0]] = moved[old] + 1
    old = 0
    for part in ("backbone", "head"):
        new_rows = []
        for source, repeats, module, args in edited[part]:
            new_rows.append([_redirect(source, old, moved[old], follows), repeats, module, args])
            if old in at:
                new_rows.append([-1, 1, "Attend", copy.deepcopy(at[old][1])])
            old += 1
        edited[part] = new_rows
    return Graft(edited, moved, added)


def _redirect(source: Any, old: int, new: int, follows: Mapping[int, int]) -> Any:
    """Where a row that stood at ``old`` and now stands at ``new`` finds its input."""
    if isinstance(source, list):
        return [_redirect(s, old, new, follows) for s in source]
    if source >= 0:
        return follows[source]
    if source == -1 or old + source < 0:
        return source  # the row before, which is the block where there is one
    return follows[old + source] - new


def _tail(options: dict[str, Any], wire: str) -> list[Any]:
    if wire != "residual":
        return [options, wire]
    return [options] if options else []


def _walk(base: Mapping[str, Any]) -> list[_Row]:
    """Stride and channels of every row, from the YAML alone."""
    width, most = 1.0, math.inf
    if base.get("scales"):
        scale = base.get("scale") or next(iter(base["scales"]))
        _, width, most = base["scales"][scale]
    walked: list[_Row] = []
    for index, (source, _, module, args) in enumerate(rows(base)):
        first = source[0] if isinstance(source, list) else source
        before = walked[first if first >= 0 else index + first] if walked else None
        stride = (before.stride if before else 1) * _stride(module, args, index)
        channels = before.channels if before else int(base.get("channels", 3))
        if module == "Concat":
            channels = sum(walked[s if s >= 0 else index + s].channels for s in source)
        elif module not in KEEPS_CHANNELS and module not in HEADS:
            if not args or not isinstance(args[0], int):
                raise GraphError(f"row {index} ({module}): its first argument is no number of channels: {args!r}")
            channels = math.ceil(min(args[0], most) * width / 8) * 8
        walked.append(_Row(index, source, module, stride, channels, index < len(base["backbone"])))
    return walked


def _check_rows(base: Mapping[str, Any]) -> None:
    """Refuse what is no graph: rows that are no `[from, repeats, module, args]`, or that read what is not there yet."""
    for part in ("backbone", "head"):
        if not isinstance(base.get(part), list) or not base[part]:
            raise GraphError(f"{part}: expected a list of rows [from, repeats, module, args], got {base.get(part)!r}")
    for i, row in enumerate(rows(base)):
        if not isinstance(row, list) or len(row) != 4 or not isinstance(row[2], str) or not isinstance(row[3], list):
            raise GraphError(f"row {i}: expected [from, repeats, module, args], got {row!r}")
        for source in row[0] if isinstance(row[0], list) else [row[0]]:
            if not isinstance(source, int) or source >= i or (i + source < 0 and i > 0 and source < 0):
                raise GraphError(f"row {i} ({row[2]}): reads row {source!r}, which is not before it")


def _stride(module: str, args: list[Any], index: int) -> float:
    if module == "nn.Upsample":
        return 1 / args[1]
    if module in STRIDE_ARG:
        place = STRIDE_ARG[module]
        value = args[place] if len(args) > place else 1
        if not isinstance(value, int):
            raise GraphError(f"row {index} ({module}): stride {value!r} is no whole number")
        return 1 / value if module == "ConvTranspose" else value
    return STRIDE_FIXED.get(module, 1)
