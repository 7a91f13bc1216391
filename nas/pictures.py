"""Goes in: points and an outcome. Comes out: PNGs beside the report: the front, the verdict, the hypervolume."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas import wording
from nas.outcome import BASE, CANDIDATE, CONVOLUTION, RANDOM, Entry, Outcome
from nas.points import Point, Points, volumes

INK, MUTED, FRONT, OTHER = "#1f2937", "#5b6775", "#b8323f", "#9aa5b1"
DPI = 160
MOST_ROWS = 40


def write(points: Points, outcome: Outcome | None, folder: Path) -> list[Path]:
    """Write `pareto.png`, `hypervolume.png` and, of an outcome, `verdict.png`; each whole or not at all."""
    drawn: dict[str, Callable[[], Figure]] = {"pareto": lambda: pareto(points), "hypervolume": lambda: volume(points)}
    if outcome:
        drawn["verdict"] = lambda: verdict(outcome)
    return [_save(make(), folder / f"{name}.png") for name, make in drawn.items()]


def _save(figure: Figure, path: Path) -> Path:
    part = path.with_suffix(f".{os.getpid()}.part")
    FigureCanvasAgg(figure)
    figure.savefig(part, format="png", dpi=DPI, facecolor="white")
    part.replace(path)
    return path


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _named(figure: Figure, x: str, y: str, title: str) -> None:
    """Names of the axes and of the whole. What comes from outside is no formula: a dollar stays a dollar."""
    wide = int(13 * figure.get_figwidth())
    texts = [
        figure.supxlabel(textwrap.fill(x, wide), fontsize=9),
        figure.supylabel(textwrap.fill(y, 60), fontsize=9),
        figure.suptitle(textwrap.fill(title, wide), x=0.01, ha="left", fontsize=10.5),
    ]
    for text in texts:
        text.set_parse_math(False)


def pareto(points: Points) -> Figure:
    """The search: score over the first cost."""
    figure, axes = _canvas(7, 4.6)
    objective = points.costs[0]
    groups: list[tuple[str, Sequence[Point], str, str, float, bool]] = [
        ("stopped at a lower rung", points.of("paused"), "o", OTHER, 22, False),
        ("trained to the end", [p for p in points.of("done") if p.placement and not p.front], "o", MUTED, 20, True),
        ("on the front", [p for p in points.front if p.placement], "D", FRONT, 46, True),
        ("untouched base", [points.base] if points.base else [], "*", INK, 150, True),
    ]
    for name, some, marker, colour, size, filled in groups:
        kept = [(p.cost(objective), p.value) for p in some if p.cost(objective) is not None and p.value is not None]
        if kept:
            x, y = zip(*kept, strict=True)
            face = colour if filled else "none"
            axes.scatter(x, y, s=size, marker=marker, facecolors=face, edgecolors=colour, linewidths=0.9, label=name)
    axes.legend(frameon=False, fontsize=8)
    note = "one short training each, one seed: candidates, no findings"
    title = f"{points.study}: {wording.count(len(points.of('done', 'paused')), 'placement')}; {note}"
    _named(figure, wording.UNITS[objective], f"{points.metric} on {points.split}", title)
    return figure


def verdict(outcome: Outcome) -> Figure:
    """Every entry's gain over the base with its interval, as a forest plot."""
    found = [e for role in (CANDIDATE, CONVOLUTION, RANDOM) for e in outcome.of(role) if wording.is_told(e.gain)]
    entries = found[:MOST_ROWS]
    figure, axes = _canvas(8, 1.5 + 0.33 * len(entries))
    for row, e in enumerate(entries):
        _interval(axes, e, -row)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks([-i for i in range(len(entries))])
    for text, e in zip(axes.set_yticklabels([_label(e) for e in entries], fontsize=8), entries, strict=True):
        text.set_parse_math(False)
        text.set_color(INK if e.role == CANDIDATE else MUTED)
    axes.set_ylim(-len(entries) + 0.4, 0.6)
    base = f"base under the same {wording.count(len(outcome.seeds), 'seed')}"
    x = f"gain in {outcome.metric} over the {base}, points of 0.01, on {outcome.split}; 95% intervals"
    _named(figure, x, "", outcome.sentences[0] if outcome.sentences else "")
    return figure


def _interval(axes: Axes, e: Entry, y: int) -> None:
    if e.gain is None:
        return
    markers = {CANDIDATE: ("D", FRONT), CONVOLUTION: ("^", MUTED), RANDOM: ("s", MUTED), BASE: ("*", INK)}
    marker, colour = markers[e.role]
    axes.plot([100 * e.gain.low, 100 * e.gain.high], [y, y], color=colour, linewidth=1.4)
    sure = e.gain.low > 0 or e.gain.high < 0
    face = colour if sure else "white"
    axes.plot([100 * e.gain.value], [y], marker, color=colour, markerfacecolor=face, markersize=6)


def _label(e: Entry) -> str:
    label = e.label if len(e.label) <= 58 else e.label[:57] + "…"
    return label if e.role == CANDIDATE else f"{wording.ROLES[e.role]}: {label}"


def volume(points: Points) -> Figure:
    """Hypervolume over training images."""
    figure, axes = _canvas(7, 3.6)
    found = volumes(points)
    axes.step([x for x, _ in found], [y for _, y in found], where="post", color=FRONT, linewidth=1.8)
    axes.set_ylim(bottom=0)
    _named(figure, "training images, all trials together", "hypervolume", f"{points.study}: hypervolume of the front")
    return figure
