"""Goes in: a model's YAML, a placement and the sites of the space. Comes out: the architecture as inline SVG."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from html import escape
from typing import Any

from markupsafe import Markup

from nas import layout
from nas.layout import Box, Plan
from nas.shapes import GraphError
from search_spaces import Placement

LETTERS = 15  # of a block's label that fit into its slot
BEND = 9  # pixels that a line swings out


def svg(base: Mapping[str, Any], chosen: Placement, sites: Collection[str]) -> Markup:
    """The rows of a model as a picture, what ``chosen`` puts at its sites, and the sites that stay empty.

    Args:
        sites: Of the space; those that the model does not have are left out.
    """
    try:
        found = layout.rows(base)
        planned = layout.plan(found, {*sites, *(s for s, _ in chosen)})
    except (GraphError, KeyError, TypeError, ValueError):
        return Markup("")
    parts = [_title(planned, chosen)]
    if planned.is_list:
        parts += [_line(b, chosen) for b in planned.boxes]
    else:
        parts += [*_bands(planned), *_edges(planned), *(_box(b, chosen) for b in planned.boxes)]
    size = f"{planned.width:g} {planned.height:g}"
    return Markup(
        f'<svg class="graph" viewBox="0 0 {size}" style="max-width:{1.3 * planned.width:.0f}px" role="img" '
        'aria-labelledby="graph-title graph-text">'
        f"{''.join(parts)}</svg>"
    )


def _title(planned: Plan, chosen: Placement) -> str:
    empty = [str(b.row.site) for b in planned.boxes if b.kind == "slot" and not chosen.get(str(b.row.site))]
    told = [f"{block.label} at {site}" for site, block in chosen] or ["no block"]
    text = f"{'; '.join(told)}. Empty sites: {', '.join(empty) or 'none'}."
    count = sum(b.kind != "slot" for b in planned.boxes)
    return (
        f'<title id="graph-title">The model\'s {count} rows from the image to the head</title>'
        f'<desc id="graph-text">{escape(text)}</desc>'
    )


def _bands(planned: Plan) -> list[str]:
    parts = []
    for stride, top, bottom in planned.bands:
        line = f'<path class="band" d="M0 {bottom:g}H{planned.width:g}"/>' if bottom < planned.height else ""
        parts.append(
            f'{line}<text class="level" x="0" y="{top + 22:g}">P{stride.bit_length() - 1}</text>'
            f'<text class="stride" x="0" y="{top + 34:g}">/{stride}</text>'
        )
    return parts


def _edges(planned: Plan) -> list[str]:
    """A line from the end of every row that is read (its slot, where it has one) to its reader."""
    enters = {b.row.index: b for b in planned.boxes if b.kind != "slot"}
    leaves = enters | {b.row.index: b for b in planned.boxes if b.kind == "slot"}
    lines = [_edge(enters[i], leaves[i], planned.upward, True) for i in enters if enters[i] is not leaves[i]]
    for box in enters.values():
        straight = box.kind != "head"
        for source in box.row.reads:
            if source >= 0:
                next_to = straight and source == box.row.index - 1
                lines.append(_edge(leaves[source], box, planned.upward, next_to))
    return [f'<path class="edge" d="{d}"/>' for d in lines]


def _edge(one: Box, two: Box, upward: frozenset[int], is_next: bool) -> str:
    """From ``one`` to ``two``: straight within a column, an elbow to the next column's start, else a curve."""
    start, x1, y1 = one.x + one.width, two.x, two.middle
    if two.kind == "head":
        y1 = min(max(one.middle, two.y + 6), two.y + two.height - 6)
    if one.column == two.column:
        x = one.x + one.width / 2
        if is_next:
            up = one.column in upward
            return f"M{x:g} {one.y if up else one.y + one.height:g}V{two.y + two.height if up else two.y:g}"
        out = start + BEND
        return f"M{start:g} {one.middle:g}C{out:g} {one.middle:g} {out:g} {y1:g} {start:g} {y1:g}"
    if is_next:
        x, end = two.x + two.width / 2, two.y + two.height if two.column in upward else two.y
        return f"M{start:g} {one.middle:g}H{x - 6:g}Q{x:g} {one.middle:g} {x:g} {(one.middle + end) / 2:g}V{end:g}"
    near = max(start, x1 - 2 * BEND)
    bend = (near + x1) / 2
    return f"M{start:g} {one.middle:g}H{near:g}C{bend:g} {one.middle:g} {bend:g} {y1:g} {x1:g} {y1:g}"


def _box(box: Box, chosen: Placement) -> str:
    if box.kind == "slot":
        return _slot(box, chosen)
    if box.kind == "head":
        x, y = box.x + box.width / 2, box.middle
        return (
            f'<rect class="head" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="3"/>'
            f'<text class="module" text-anchor="middle" transform="translate({x + 4:g} {y:g}) rotate(-90)">'
            f"{escape(box.row.module)}</text>"
        )
    long, wide = len(box.row.module) > 10, len(box.row.module) > 7
    channels = "" if wide or box.row.shape is None else str(box.row.shape.channels)
    end = box.x + box.width - 4
    return (
        f'<g><rect class="row" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="3"/>'
        f'<text class="index" x="{box.x + 5:g}" y="{box.y + 14:g}">{box.row.index}</text>'
        f'<text class="module{" long" * long}" x="{box.x + 20:g}" y="{box.y + 14:g}">{_cut(box.row.module)}</text>'
        f'<text class="channels" text-anchor="end" x="{end:g}" y="{box.y + 14:g}">{channels}</text></g>'
    )


def _slot(box: Box, chosen: Placement) -> str:
    """Filled with the block that stands there, or dashed and empty."""
    site, block = str(box.row.site), chosen.get(str(box.row.site))
    label = block.label if block else "empty"
    x = box.x + box.width / 2
    return (
        f'<g class="slot {"filled" if block else "free"}"><title>{escape(site)}: {escape(label)}</title>'
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="{box.height / 2:g}"/>'
        f'<text class="block" text-anchor="middle" x="{x:g}" y="{box.y + 12.5:g}">{_cut(label)}</text>'
        f'<text class="site" text-anchor="middle" x="{x:g}" y="{box.y + 22.5:g}">{escape(site)}</text></g>'
    )


def _line(box: Box, chosen: Placement) -> str:
    """A row of the plain list."""
    row, y = box.row, box.y + 14
    if box.kind == "slot":
        site, block = str(row.site), chosen.get(str(row.site))
        return (
            f'<g class="slot {"filled" if block else "free"}"><rect x="{box.x:g}" y="{box.y:g}" '
            f'width="{box.width:g}" height="{box.height:g}" rx="{box.height / 2:g}"/><text class="block" '
            f'x="{box.x + 12:g}" y="{y:g}">{escape(site)}: {escape(block.label if block else "empty")}</text></g>'
        )
    facts = f"{row.shape.channels} ch, /{row.shape.stride}" if row.shape else ""
    reads = "" if row.reads == (row.index - 1,) else f" from {', '.join(map(str, row.reads))}"
    return (
        f'<g><rect class="row" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="3"/>'
        f'<text class="index" x="{box.x - 6:g}" y="{y:g}" text-anchor="end">{row.index}</text>'
        f'<text class="module" x="{box.x + 6:g}" y="{y:g}">{escape(row.module + reads)}</text>'
        f'<text class="channels" text-anchor="end" x="{box.x + box.width - 6:g}" y="{y:g}">{facts}</text></g>'
    )


def _cut(text: str) -> str:
    """As much of it as fits, escaped."""
    return escape(text if len(text) <= LETTERS else text[: LETTERS - 1] + "…")
