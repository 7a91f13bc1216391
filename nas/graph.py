"""Goes in: a model's YAML as a dict and a placement. Comes out: its sites, or the dict edited."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.rows import HEADS, check
from nas.shapes import GraphError, Shape, shapes
from search_spaces import Placement, Site

POOLING = ("SPP", "SPPF", "SPPELAN")
ATTENTION = ("PSA", "C2PSA", "C2fPSA")


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


def rows(base: Mapping[str, Any]) -> list[list[Any]]:
    """All rows ``[from, repeats, module, args]`` of a model's YAML, backbone first."""
    return [*base["backbone"], *base["head"]]


def sites(base: Mapping[str, Any]) -> tuple[Site, ...]:
    """Name the places of a detector where a block may stand, found from its graph.

    ``backbone.p<k>`` is the end of the backbone stage at stride 2^k (before pooling and attention),
    ``backbone.psa`` its own attention's output, ``neck.p<k>`` what the head reads, ``neck.p<k>_td`` a stage of the
    neck that the head does not read (YOLO's top-down path). The backbone ends where the head section starts, or at the
    first row that makes the map larger. A second place of the same name gets a number, ``neck.p4_td_2``.

    Raises:
        GraphError: A row is not understood.
    """
    check(base)
    everything = rows(base)
    last = len(everything) - 1
    if everything[last][2] not in HEADS:
        raise GraphError(f"row {last} ({everything[last][2]}): expected a head, one of {', '.join(HEADS)}")
    reads = [_sources(row[0], i) for i, row in enumerate(everything)]
    traced = shapes(base)
    end = _end_of_backbone(base, reads, traced)
    found: dict[str, int] = {}
    pooled: set[int] = set()
    for i, shape in enumerate(traced):
        if shape is None or shape.stride < 4:
            continue
        level, module = shape.stride.bit_length() - 1, everything[i][2]
        if i < end:
            if module == "Attend" and (before := [n for n, row in found.items() if [row] == reads[i]]):
                found[before[0]] = i
            elif module in ATTENTION:
                found["backbone.psa"] = i
            elif module not in POOLING and level not in pooled:
                found[f"backbone.p{level}"] = i
            pooled |= {level} if module in (*POOLING, *ATTENTION) else set()
        elif i in reads[last]:
            found[_free(f"neck.p{level}", found)] = i
        elif _ends_stage(i, everything, reads, traced):
            found[_free(f"neck.p{level}_td", found)] = i
    named = sorted(found.items(), key=lambda item: item[1])
    return tuple(Site(name, i, shape.stride, shape.channels) for name, i in named if (shape := traced[i]) is not None)


def _end_of_backbone(base: Mapping[str, Any], reads: list[list[int]], traced: tuple[Shape | None, ...]) -> int:
    """First row that does not belong to the backbone."""
    for i, shape in enumerate(traced[: len(base["backbone"])]):
        before = traced[reads[i][0]] if len(reads[i]) == 1 and reads[i][0] >= 0 else None
        if shape and before and shape.stride < before.stride:
            return i
    return len(base["backbone"])


def _ends_stage(i: int, everything: list[list[Any]], reads: list[list[int]], traced: tuple[Shape | None, ...]) -> bool:
    """Is row ``i`` the last of a chain of rows at one stride that starts behind a Concat, and not read by the head?"""
    start = i
    while everything[start][2] != "Concat":
        if reads[start] != [start - 1] or _stride(traced[start]) != _stride(traced[i]) or start - 1 in reads[-1]:
            return False
        start -= 1
    follows = i + 1 < len(traced) and reads[i + 1] == [i] and _stride(traced[i + 1]) == _stride(traced[i])
    return start < i and not follows


def _stride(shape: Shape | None) -> int | None:
    return shape.stride if shape else None


def _free(name: str, found: Mapping[str, int]) -> str:
    """The name, with the first number that is not taken."""
    return next(n for n in (name, *(f"{name}_{k}" for k in range(2, 99))) if n not in found)


def _sources(source: Any, row: int) -> list[int]:
    """Absolute numbers of the rows that a row reads; -1 is the image."""
    return [s if s >= 0 else row + s for s in (source if isinstance(source, list) else [source])]


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
