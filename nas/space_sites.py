"""Goes in: a model's YAML, the sites of a space and a placement. Comes out: the sites as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas import graph
from nas.shapes import GraphError
from search_spaces import Placement


@dataclass(frozen=True)
class Place:
    """A site: ``block`` is what stands there, or None; stride and channels where the graph is understood."""

    site: str
    block: str | None
    row: int | None = None
    stride: int | None = None
    channels: int | None = None


def places(base: Mapping[str, Any], sites: Sequence[str], chosen: Placement) -> tuple[Place, ...]:
    """The sites in the order of the model's rows; those that it lacks last."""
    try:
        known = {s.name: s for s in graph.sites(base)}
    except (GraphError, KeyError, TypeError, ValueError):
        known = {}
    wanted = dict.fromkeys([*(s for s in known if s in sites), *sites, *(s for s, _ in chosen)])
    found = []
    for name in wanted:
        block, at = chosen.get(name), known.get(name)
        label = block.label if block else None
        found.append(Place(name, label, at.row, at.stride, at.channels) if at else Place(name, label))
    return tuple(found)
