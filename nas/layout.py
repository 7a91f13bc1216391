"""Goes in: a model's YAML as a dict. Comes out: its rows as boxes with places: backbone, neck and head as columns.

A band a stride; the backbone goes down, the neck's first path up, its second one down. What does not fit this picture
becomes a list, a row a line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from nas import graph
from nas.shapes import GraphError, Shape, shapes

COLUMN, BETWEEN, GUTTER = 94, 15, 24  # pixels across
BOX, SLOT, GAP, PAD = 20, 27, 6, 9  # pixels down
HEAD = 28
MOST_COLUMNS = 3


@dataclass(frozen=True)
class Row:
    """A row of the YAML.

    Args:
        reads: Rows that it reads; -1 is the image.
        site: The name of the place behind it, where blocks may stand.
    """

    index: int
    module: str
    shape: Shape | None
    reads: tuple[int, ...]
    site: str | None


@dataclass(frozen=True)
class Box:
    """A rectangle: ``kind`` is ``row``, ``slot`` (behind its row) or ``head``."""

    kind: str
    row: Row
    column: int
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """Its height's."""
        return self.y + self.height / 2


@dataclass(frozen=True)
class Plan:
    """Where everything stands; ``bands`` is (stride, top, bottom), empty for a list."""

    boxes: tuple[Box, ...]
    bands: tuple[tuple[int, float, float], ...]
    upward: frozenset[int]
    width: float
    height: float

    @property
    def is_list(self) -> bool:
        """Whether it is only a list of rows."""
        return not self.bands


def rows(base: Mapping[str, Any]) -> list[Row]:
    """The rows as far as they are understood: without sites, or without shapes, where the graph is unusual.

    Raises:
        GraphError: They are no rows at all.
    """
    everything = graph.rows(base)
    if not everything:
        raise GraphError("the model has no rows")
    try:
        traced: tuple[Shape | None, ...] = (*shapes(base), None)
        sites = {site.row: site.name for site in graph.sites(base)}
    except GraphError:
        traced, sites = (None,) * len(everything), {}
    found = []
    for i, row in enumerate(everything):
        if not isinstance(row, list) or len(row) != 4:
            raise GraphError(f"row {i}: expected [from, repeats, module, args], got {row!r}")
        sources = row[0] if isinstance(row[0], list) else [row[0]]
        reads = tuple(max(-1, s if s >= 0 else i + s) for s in sources)
        module = str(row[3][1]) if row[2] == "Attend" and len(row[3]) > 1 else str(row[2]).removeprefix("nn.")
        found.append(Row(i, module, traced[i], reads, sites.get(i)))
    return found


def plan(found: list[Row], shown: Collection[str]) -> Plan:
    """Places for all rows, and behind them slots for the sites of ``shown``."""
    columns = _columns(found)
    if columns is None:
        return _as_list(found, shown)
    strides = sorted({r.shape.stride for r in found[:-1] if r.shape})
    boxes, bands, y = [], [], 0.0
    for stride in strides:
        stacks = [_stack([r for r in c if r.shape and r.shape.stride == stride], i, shown) for i, c in columns.items()]
        height = max(map(_height, stacks))
        for stack in stacks:
            boxes += _placed(stack, y + PAD, height)
        bands.append((stride, y, y + height + 2 * PAD))
        y += height + 2 * PAD
    x = GUTTER + len(columns) * (COLUMN + BETWEEN)
    boxes.append(_head(found[-1], boxes, x, y))
    upward = frozenset(i for i in columns if i % 2)
    return Plan(tuple(boxes), tuple(bands), upward, x + HEAD + 2, y)


def _columns(found: list[Row]) -> dict[int, list[Row]] | None:
    """Rows by column: a new one wherever strides turn from rising to falling or back; None for an unusual graph."""
    body = found[:-1]
    if not body or any(r.shape is None for r in body) or not all(0 <= s < len(body) for s in found[-1].reads):
        return None
    columns, column = {0: [body[0]]}, 0
    for before, row in pairwise(body):
        assert before.shape and row.shape
        step = row.shape.stride - before.shape.stride
        if (step < 0) if column % 2 == 0 else (step > 0):
            column += 1
        columns.setdefault(column, []).append(row)
    return columns if column < MOST_COLUMNS else None


def _stack(some: list[Row], column: int, shown: Collection[str]) -> list[Box]:
    """Boxes of a column in a band, from top to bottom; the neck's way up is read from below."""
    boxes = []
    for row in some:
        boxes.append(Box("row", row, column, 0, 0, COLUMN, BOX))
        if row.site in shown:
            boxes.append(Box("slot", row, column, 0, 0, COLUMN, SLOT))
    return boxes[::-1] if column % 2 else boxes


def _height(stack: list[Box]) -> float:
    return sum(b.height + GAP for b in stack) - GAP * bool(stack)


def _placed(stack: list[Box], top: float, height: float) -> list[Box]:
    """What flows down starts at the top of its band, what flows up at the bottom."""
    if not stack:
        return []
    y = top + (height - _height(stack) if stack[0].column % 2 else 0)
    placed = []
    for box in stack:
        placed.append(replace(box, x=GUTTER + box.column * (COLUMN + BETWEEN), y=y))
        y += box.height + GAP
    return placed


def _head(row: Row, boxes: list[Box], x: float, bottom: float) -> Box:
    """The head spans what it reads, and has room for its name on its side."""
    read = [b for b in boxes if b.row.index in row.reads]
    low, high = min(b.y for b in read), max(b.y + b.height for b in read)
    need = 8.0 * len(row.module) + 16
    if high - low < need:
        low = max(2.0, high - need)
    return Box("head", row, -1, x, low, HEAD, min(high, bottom) - low)


def _as_list(found: list[Row], shown: Collection[str]) -> Plan:
    boxes, y, width = [], 2.0, GUTTER + 3 * (COLUMN + BETWEEN)
    for row in found:
        boxes.append(Box("row", row, 0, GUTTER, y, width - GUTTER - 2, BOX))
        y += BOX + 3
        if row.site in shown:
            boxes.append(Box("slot", row, 0, GUTTER + 20, y, width - GUTTER - 22, BOX))
            y += BOX + 3
    return Plan(tuple(boxes), (), frozenset(), width, y)
