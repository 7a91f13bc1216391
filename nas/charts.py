"""Goes in: points and an outcome. Comes out: plotly figures as dicts; the page fills in their colours, such as @ink."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

from nas import wording
from nas.interval import Interval
from nas.outcome import BASE, CANDIDATE, CONVOLUTION, RANDOM, Entry, Outcome
from nas.points import Point, Points, volumes

Figure = dict[str, Any]
INK, MUTED, FRONT, OTHER, PAPER = "@ink", "@muted", "@front", "@other", "@paper"
SEARCHED = (  # name, symbol, size, colour
    ("stopped at a lower rung", "circle-open", 6, OTHER),
    ("trained to the end", "circle", 6, MUTED),
    ("on the front", "diamond", 11, FRONT),
    ("untouched base", "star", 15, INK),
)
COMPARED = {
    CONVOLUTION: ("plain convolution", "triangle-up-open", 10, MUTED),
    RANDOM: ("random placement", "square-open", 9, MUTED),
    CANDIDATE: ("candidate", "diamond", 12, FRONT),
    BASE: ("untouched base", "star", 15, INK),
}
MOST_CURVES = 40
MOST_FRONT = 15
WIDE, HIGH = 44, 34  # letters of an axis' name in a line


def search(points: Points, objective: str) -> Figure:
    """Score over a cost: all placements of the search, those beyond a limit at the lower edge."""
    at = {p.number: p.cost(objective) for p in points.all}
    groups = (
        [p for p in points.of("paused") if not p.front],
        [p for p in points.of("done") if not p.front and p.placement],
        [p for p in points.front if p.placement],
        [points.base] if points.base else [],
    )
    shown = [p for some in groups for p in some if at[p.number] is not None and p.value is not None]
    values = [p.value for p in shown if p.value is not None] or [0.0, 1.0]
    pad = 0.06 * (max(values) - min(values) or 0.1)
    floor = min(values) - 2 * pad
    data = [_marks(some, objective, *how) for some, how in zip(groups, SEARCHED, strict=True) if some]
    if refused := [p for p in points.of("refused") if at[p.number] is not None]:
        data.insert(0, _marks(refused, objective, "beyond a limit, not trained", "x-thin-open", 7, OTHER, floor))
    if len(points.costs) == 1:
        data.append(_steps(points, objective))
    scores = f"{points.metric} on {points.split}" + (f", {points.head} head" if points.head != "single" else "")
    layout = axes(wording.UNITS[objective], scores)
    layout["yaxis"]["range"] = [floor - pad, max(values) + pad]
    return {"data": data, "layout": layout}


def _marks(
    some: Sequence[Point], objective: str, name: str, symbol: str, size: int, colour: str, floor: float | None = None
) -> Figure:
    kept = [p for p in some if p.cost(objective) is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [_short(p.cost(objective)) for p in kept],
        "y": [_short(p.value if floor is None else floor) for p in kept],
        "text": [hover(p) for p in kept],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": _marker(symbol, size, colour),
    }


def _marker(symbol: str, size: int, colour: str) -> Figure:
    thin = {"color": colour, "width": 1.5} if symbol.endswith("open") else {"color": PAPER, "width": 1}
    return {"symbol": symbol, "size": size, "color": colour, "line": thin}


def _steps(points: Points, objective: str) -> Figure:
    steps = sorted((p for p in points.front if p.cost(objective) is not None), key=lambda p: p.cost(objective) or 0.0)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [_short(p.cost(objective)) for p in steps],
        "y": [_short(p.value) for p in steps],
        "line": {"color": FRONT, "width": 1.2, "shape": "hv"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def hover(p: Point) -> str:
    """What a point says; escaped, since names come from outside."""
    lines = [f"<b>trial {p.number}</b>", *escape(p.label).split(" + ")]
    if p.value is not None:
        over = f" ({wording.signed(p.gain, 4)} over the base)" if p.gain is not None and p.placement else ""
        lines.append(f"{p.value:.4f}{over}, {p.curve[-1][0]:,} images")
    costs = [f"latency x{p.ratio:.3f}" if p.ratio else "", f"{p.gflops:.3f} GFLOPs" if p.gflops else ""]
    lines += [", ".join(filter(None, costs)), escape(p.reason)]
    return "<br>".join(filter(None, lines))


def finalists(outcome: Outcome, objective: str) -> Figure:
    """Gain over a cost: the base, candidates and controls, with intervals on both axes where there are."""
    data = []
    for role, how in COMPARED.items():
        entries = [e for e in outcome.of(role) if role == BASE or (e.gain and e.gain.value == e.gain.value)]
        if entries:
            data.append(_intervals(entries, objective, *how))
    gain = f"gain on {outcome.split}, points of 0.01 {outcome.metric}"
    layout = axes(wording.UNITS[objective], gain)
    layout["yaxis"] |= {"zeroline": True, "zerolinecolor": INK, "zerolinewidth": 1}
    return {"data": data, "layout": layout}


def _intervals(entries: Sequence[Entry], objective: str, name: str, symbol: str, size: int, colour: str) -> Figure:
    one = Interval(1.0, 1.0, 1.0)
    xs = [(e.latency or one) if objective == "latency" else Interval(e.gflops, e.gflops, e.gflops) for e in entries]
    ys = [e.gain if e.gain is not None else Interval(0.0, 0.0, 0.0) for e in entries]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [_short(i.value) for i in xs],
        "y": [_short(100 * i.value) for i in ys],
        "error_x": _bars(xs, 1, colour),
        "error_y": _bars(ys, 100, colour),
        "text": [entry_hover(e) for e in entries],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": _marker(symbol, size, colour),
    }


def _bars(some: Sequence[Interval], unit: float, colour: str) -> Figure:
    told = [wording.is_told(i) for i in some]
    up = [_short(unit * (i.high - i.value)) if t else 0 for i, t in zip(some, told, strict=True)]
    down = [_short(unit * (i.value - i.low)) if t else 0 for i, t in zip(some, told, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": up,
        "arrayminus": down,
        "color": colour,
        "thickness": 1.3,
        "width": 3,
    }


def entry_hover(e: Entry) -> str:
    """What an entry of the final comparison says; escaped."""
    lines = [f"<b>{wording.ROLES.get(e.role, escape(e.role))}</b>", *escape(e.label).split(" + ")]
    lines.append("" if e.role == BASE else f"gain {wording.gain(e.gain)} points")
    lines += [f"latency {wording.ratio(e.latency)}" if e.latency else "", f"{e.gflops:.3f} GFLOPs"]
    return "<br>".join(filter(None, lines))


def chosen_curves(points: Points) -> list[Point]:
    """Of what is neither base nor front as many as fit, evenly by their score; then the front, and the base last."""
    base = [points.base] if points.base else []
    first = [p for p in points.front[:MOST_FRONT] if p not in base]
    names = {p.number for p in (*first, *base)}
    rest = sorted((p for p in points.of("done", "paused") if p.number not in names), key=lambda p: p.value or 0.0)
    room = min(MOST_CURVES - len(names), len(rest))
    picked = [rest[round(i * (len(rest) - 1) / max(room - 1, 1))] for i in range(room)]
    return [*picked, *reversed(first), *base]


def curves(points: Points) -> Figure | None:
    """Score over training images; None where every training was scored once."""
    chosen = chosen_curves(points)
    if not any(len(p.curve) > 1 for p in chosen):
        return None
    seen: set[str] = set()
    data = []
    for p in chosen:
        is_base = points.base is not None and p.number == points.base.number
        name = "untouched base" if is_base else "on the front" if p.front else "other placements"
        data.append(_curve(p, name, name not in seen))
        seen.add(name)
    layout = axes("training images", f"{points.metric} on {points.split}")
    ends = [images for images, _ in points.base.curve] if points.base else []
    layout["shapes"] = [
        {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": OTHER, "dash": "dot"}}
        for x in ends
    ]
    return {"data": data, "layout": layout}


def _curve(p: Point, name: str, first: bool) -> Figure:
    colour, width, dash = {
        "untouched base": (INK, 3.5, "solid"),
        "on the front": (FRONT, 1.6, "solid"),
    }.get(name, (OTHER, 1, "dash"))
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "legendgroup": name,
        "showlegend": first,
        "x": [images for images, _ in p.curve],
        "y": [_short(value) for _, value in p.curve],
        "text": hover(p),
        "hovertemplate": "%{text}<br>here: %{y:.4f} after %{x:,} images<extra></extra>",
        "line": {"color": colour, "width": width, "dash": dash},
        "marker": {"color": colour, "size": 7 if name == "untouched base" else 4},
    }


def volume(points: Points) -> Figure:
    """Hypervolume of the front over all training images."""
    found = volumes(points)
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [images for images, _ in found],
        "y": [_short(value) for _, value in found],
        "line": {"color": FRONT, "width": 2, "shape": "hv"},
        "hovertemplate": "%{y:.4f} after %{x:,} images<extra></extra>",
        "showlegend": False,
    }
    layout = axes("training images, all trials together", "hypervolume")
    layout["yaxis"]["rangemode"] = "tozero"
    return {"data": [line], "layout": layout}


def axes(x: str, y: str) -> Figure:
    """A layout with two named axes; long names take several lines."""
    lines = ["<br>".join(map(escape, textwrap.wrap(name, wide))) for name, wide in ((x, WIDE), (y, HIGH))]
    return {"xaxis": {"title": {"text": lines[0]}}, "yaxis": {"title": {"text": lines[1]}}}


def _short(value: float | None) -> float | None:
    """Enough digits to draw, and no more bytes."""
    return None if value is None or value != value else float(f"{value:.6g}")
