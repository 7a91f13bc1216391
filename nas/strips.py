"""Goes in: a figure with its interval. Comes out: a small SVG strip that shows where it lies around 0."""

from __future__ import annotations

import math
from collections.abc import Iterable

from markupsafe import Markup

from nas import wording
from nas.interval import Interval

WIDTH, HEIGHT = 150, 16


def reach(intervals: Iterable[Interval | None]) -> float:
    """How far strips of these must reach to either side of 0 to be drawn on one scale."""
    ends = [abs(x) for i in intervals if i is not None for x in (i.value, i.low, i.high) if math.isfinite(x)]
    return max([*ends, 1e-6])


def draw(interval: Interval | None, span: float, width: int = WIDTH, height: int = HEIGHT) -> Markup:
    """The interval as a bar, its value as a tick, 0 as a line; filled where 0 lies outside, hollow where inside."""
    if interval is None or not wording.is_told(interval):
        return Markup("")
    half = width / 2

    def at(value: float) -> float:
        return round(half + max(-1.0, min(1.0, value / span)) * (half - 4), 1)

    side = "up" if interval.low > 0 else "down" if interval.high < 0 else "open"
    low, wide = at(interval.low), max(2.0, at(interval.high) - at(interval.low))
    return Markup(
        f'<svg class="strip {side}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'aria-hidden="true"><path class="zero" d="M{half:g} 0V{height}"/>'
        f'<rect x="{low:g}" y="{height / 2 - 3:g}" width="{wide:g}" height="6" rx="1"/>'
        f'<path class="value" d="M{at(interval.value):g} {height / 2 - 5:g}v10"/></svg>'
    )
