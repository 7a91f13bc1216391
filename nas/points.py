"""Goes in: a study. Comes out: its trials as points, read once: what a report plots, sums up and lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from nas import front, history, task

INTERRUPTED, SAME = "interrupted", "same"  # what history has no word for: no result, and another trial's placement
COSTS = ("latency", "gflops")  # objectives beside the score


@dataclass(frozen=True)
class Point:
    """A trial.

    Args:
        state: ``done``, ``paused``, ``refused``, ``dead``, ``running``, ``interrupted``, or ``same`` as another.
        value: Its score in [0, 1] at the end of its training, ``gain`` over the base after as many images.
        ratio: Latency over the base's; ``gflops`` and ``params`` of the whole model. None where not measured.
        images: Training images that this trial itself took: without those of a lower rung that it went on from.
        seconds: By part, as recorded.
        curve: (images, score) along the training, lower rungs included.
        values: Of the objectives; empty unless trained to the end.
        front: It stands on the Pareto front.
        farthest: No other trial of its placement was trained longer.
        reason: Why it has no score.
    """

    number: int
    state: str
    label: str
    placement: Mapping[str, Any]
    value: float | None = None
    nms_free: float | None = None
    gain: float | None = None
    ratio: float | None = None
    gflops: float | None = None
    params: int | None = None
    images: int = 0
    seconds: Mapping[str, float] | None = None
    curve: tuple[tuple[int, float], ...] = ()
    values: tuple[float, ...] = ()
    front: bool = False
    farthest: bool = False
    reason: str = ""
    started: datetime | None = None
    ended: datetime | None = None

    def cost(self, objective: str) -> float | None:
        """What an objective of :data:`COSTS` says of it."""
        return self.ratio if objective == "latency" else self.gflops


@dataclass(frozen=True)
class Points:
    """The trials of a study and what they have in common.

    Args:
        objectives: The recipe's; ``directions`` theirs.
        split, head: What scores are of; several are joined by a comma.
        base: The untouched base, once it is trained.
        front: Best score first.
        base_gflops: Of the base, for the hypervolume.
        scouted: Images that the first look at the space took.
    """

    study: str
    metric: str
    objectives: tuple[str, ...]
    directions: tuple[str, ...]
    split: str
    head: str
    all: tuple[Point, ...]
    base: Point | None
    front: tuple[Point, ...]
    base_gflops: float
    scouted: int

    @property
    def costs(self) -> tuple[str, ...]:
        """The objectives that are costs."""
        return tuple(o for o in self.objectives if o in COSTS)

    def of(self, *states: str) -> list[Point]:
        """The points of some states, one a placement."""
        return [p for p in self.all if p.state in states and p.farthest]


def read(study: optuna.Study) -> Points:
    """All trials of a study, in their order."""
    trials, attrs = study.get_trials(deepcopy=False), study.user_attrs
    scored = [t.user_attrs["score"] for t in trials if "score" in t.user_attrs]
    base = next((t for t in trials if history.state_of(t) == history.DONE and t.user_attrs["placement"] == {}), None)
    theirs = dict(_curve(base.user_attrs["score"])) if base else {}
    last = {t.user_attrs.get("placement_id"): t.number for t in trials if _counts(t)}
    last |= {t.user_attrs.get("placement_id"): t.number for t in trials if _counts(t) and "score" in t.user_attrs}
    points = [_point(t, trials, theirs, last.get(t.user_attrs.get("placement_id")) == t.number) for t in trials]
    directions = tuple(d.name.lower() for d in study.directions)
    done = [p for p in points if p.values]
    on_front = [done[i].number for i in front.pareto([p.values for p in done], directions)]
    points = [replace(p, front=p.number in on_front) for p in points]
    by_number = {p.number: p for p in points}
    return Points(
        study.study_name,
        task.of(attrs["base_yaml"]).metric,
        tuple(attrs["recipe"]["objectives"]),
        directions,
        ", ".join(sorted({s["split"] for s in scored})),
        ", ".join(sorted({s["head"] for s in scored})),
        tuple(points),
        by_number[base.number] if base else None,
        tuple(by_number[n] for n in on_front),
        float(attrs["base"]["cost"]["gflops"]),
        int(attrs.get("scouted_images") or 0),
    )


def _counts(trial: FrozenTrial) -> bool:
    """Whether it has a result of its own."""
    return history.state_of(trial) is not None and "duplicate_of" not in trial.user_attrs


def _curve(score: Mapping[str, Any]) -> tuple[tuple[int, float], ...]:
    found = [(int(p["images"]), float(p["value"])) for p in score.get("curve") or ()]
    return tuple(found) or ((int(score["images_seen"]), float(score["value"])),)


def _point(trial: FrozenTrial, trials: list[FrozenTrial], base: Mapping[int, float], farthest: bool) -> Point:
    attrs = trial.user_attrs
    score, cost, same = attrs.get("score"), attrs.get("cost") or {}, "duplicate_of" in attrs
    state = SAME if same else history.state_of(trial) or INTERRUPTED
    point = Point(
        trial.number,
        state,
        str(attrs.get("label", "")),
        attrs.get("placement") or {},
        ratio=(cost.get("latency") or {}).get("ratio"),
        gflops=cost.get("gflops"),
        params=cost.get("params"),
        farthest=farthest,
        reason=_reason(attrs, state),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )
    if score is None:
        return point
    curve = _curve(score)
    before = None if same or attrs.get("continues") is None else trials[attrs["continues"]].user_attrs.get("score")
    return replace(
        point,
        value=float(score["value"]),
        nms_free=score.get("nms_free"),
        gain=float(score["value"]) - base[curve[-1][0]] if curve[-1][0] in base else None,
        images=0 if same else int(score["images_seen"]) - (int(before["images_seen"]) if before else 0),
        seconds=None if same else score.get("seconds"),
        curve=curve,
        values=tuple(trial.values) if state == history.DONE else (),
    )


def _reason(attrs: Mapping[str, Any], state: str) -> str:
    told = attrs.get("error") or attrs.get("infeasible") or ("interrupted" if state == INTERRUPTED else "")
    return f"same as trial {attrs['duplicate_of']}" if state == SAME else str(told)


def volumes(points: Points) -> list[tuple[int, float]]:
    """(training images so far, hypervolume of the front so far), a pair a trained trial in order of completion.

    The reference is that of the search's own display: a score of 0 and twice the base's cost.
    """
    table = {"latency": 2.0, "gflops": 2 * points.base_gflops}
    reference = [table.get(o, 0.0) for o in points.objectives]
    scale = points.base_gflops if "gflops" in points.objectives else 1.0
    images, kept, found = points.scouted, [], [(points.scouted, 0.0)]
    ended = [p for p in points.all if p.images and p.ended is not None]
    for p in sorted(ended, key=lambda p: (p.ended, p.number)):
        images += p.images
        if not p.values:
            found.append((images, found[-1][1]))
            continue
        kept.append(p.values)
        kept = [kept[i] for i in front.pareto(kept, points.directions)]
        found.append((images, front.hypervolume(kept, points.directions, reference) / scale))
    return found


def spent(points: Points) -> dict[str, float]:
    """Seconds by part, summed over all trials; ``other`` is what no part accounts for."""
    sums: dict[str, float] = {}
    for seconds in (p.seconds for p in points.all if p.seconds):
        parts = {k: float(v) for k, v in seconds.items() if k != "total"}
        parts["other"] = max(0.0, float(seconds.get("total", 0.0)) - sum(parts.values()))
        for key, value in parts.items():
            sums[key] = sums.get(key, 0.0) + value
    return sums


def passed(points: Points) -> float | None:
    """Seconds between the first start and the last end; None before a trial ended."""
    ends = [p.ended for p in points.all if p.ended]
    starts = [p.started for p in points.all if p.started]
    return (max(ends) - min(starts)).total_seconds() if ends and starts else None
