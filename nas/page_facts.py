"""Goes in: a study and its points. Comes out: what a report lists: times, recipe, versions, trials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from nas import points, wording
from nas.cost import CONVENTION
from nas.points import Points

Group = tuple[str, tuple[tuple[str, str], ...]]  # a heading, and (name, value) below it
PARTS = {
    "steps": "training steps",
    "validation": "validation",
    "build": "building, carrying weights over, measuring latency",
    "setup": "setting the training up",
    "rest": "the training's rest",
    "other": "writing down, and earlier rungs of the base",
}
LATENCY = ("backend", "device", "dtype", "threads", "imgsz", "batch", "head", "runs")
STATES = {
    "done": "to the end",
    "paused": "lower rung",
    "refused": "beyond a limit",
    "dead": "failed",
    "same": "repeat",
}  # what the table of trials calls them; other states are called by their own names


@dataclass(frozen=True)
class Part:
    """A part of the time; ``share`` of the whole in [0, 1]."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True)
class Times:
    """Where the time went: summed over all trials by part, and what passed on the clock."""

    parts: tuple[Part, ...]
    total: float
    passed: float | None
    workers: str
    images: int


def times(found: Points, study: optuna.Study) -> Times:
    """From the trials' own clocks."""
    sums = points.spent(found)
    total = sum(sums.values())
    ordered = sorted(sums, key=lambda k: -sums[k])
    parts = tuple(Part(PARTS.get(k, k), sums[k], sums[k] / total if total else 0.0) for k in ordered)
    workers = _several(t.user_attrs.get("workers") for t in study.get_trials(deepcopy=False))
    return Times(parts, total, points.passed(found), workers, found.scouted + sum(p.images for p in found.all))


def facts(study: optuna.Study, found: Points) -> tuple[Group, ...]:
    """How it was measured, and the recipe as it was recorded."""
    attrs, trials = study.user_attrs, study.get_trials(deepcopy=False)
    identity = attrs["identity"]
    measured = [(t.user_attrs.get("cost") or {}).get("latency") or {} for t in trials]
    versions = [t.user_attrs.get("versions") or {} for t in trials]
    scores = [t.user_attrs["score"] for t in trials if "score" in t.user_attrs]
    score = {
        "metric": found.metric,
        "split": found.split,
        "head": found.head,
        "epochs": _several(s.get("epochs") for s in scores),
        "images of a whole training": _several(max(p.curve)[0] for p in found.all if p.values),
        "seeds": _several(s.get("seed") for s in scores),
    }
    digests = {k: identity.get(k) for k in ("data", "weights", "space_hash")}
    latency = {k: _several(m.get(k) for m in measured) for k in LATENCY}
    groups = {
        "Score": score,
        "Latency": latency | {"GFLOPs": CONVENTION},
        "Digests": {"recipe": _several(t.user_attrs.get("recipe") for t in trials), **digests},
        "Versions": {k: _several(v.get(k) for v in versions) for k in sorted({k for v in versions for k in v})},
        "Recipe": dict(flat(attrs["recipe"])),
    }
    return tuple(
        (name, tuple((k, _text(v)) for k, v in pairs.items() if v is not None)) for name, pairs in groups.items()
    )


def flat(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``train.imgsz`` for what is nested; what was left open is told so."""
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, "not set" if value is None else value


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _several(values: Iterable[Any]) -> str:
    """The one value of all trials; where they differ, all of them."""
    return ", ".join(_text(v) for v in dict.fromkeys(v for v in values if v is not None)) or "-"


def row(p: points.Point) -> tuple[str, ...]:
    """A trial's cells in the table of all trials."""
    over = wording.signed(p.gain, 4) if p.placement else "-"
    ended = f"{p.seconds['total']:.1f}" if p.seconds and "total" in p.seconds else "-"
    return (
        str(p.number),
        STATES.get(p.state, p.state),
        p.label,
        wording.number(p.value, 4),
        over,
        wording.number(p.ratio, 3),
        wording.number(p.gflops, 3),
        f"{p.params:,}" if p.params else "-",
        f"{p.images:,}" if p.images else "-",
        ended,
        p.reason,
    )
