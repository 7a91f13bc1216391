"""Goes in: a study's trials as stored. Comes out: how far it is, how long still, what is best, whether waiting pays.

Pure figures and their words; `status` and the live display tell the same ones. Imports no torch.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nas import front, history, wording

WINDOW = 20  # the pace is that of the last so many placements
EARLY = 20  # fewer placements say nothing of whether waiting pays
PAYS, LITTLE = 0.10, 0.03  # share of all gained hypervolume that the last quarter brought; an even gain brings 0.25
WAITING = ("it still pays", "it pays less and less", "waiting has paid little")
ENDED = ("it still paid at the end", "it paid less and less", "the end of it paid little")
CAVEAT = "One short training each, one seed: candidates, no findings."
Trials = Sequence[FrozenTrial]


@dataclass(frozen=True)
class Reference:
    """What the hypervolume is counted from.

    Args:
        directions: ``maximize`` or ``minimize`` for each objective.
        point: A score of 0, and for each cost twice the base's.
        scale: What to divide by, so that GFLOPs count in multiples of the base's.
    """

    directions: tuple[str, ...]
    point: tuple[float, ...]
    scale: float

    @staticmethod
    def of(objectives: Sequence[str], base_gflops: float) -> Reference:
        """For a recipe's objectives, the score first."""
        point = tuple({"latency": 2.0, "gflops": 2 * base_gflops}.get(name, 0.0) for name in objectives)
        directions = ("maximize", *["minimize"] * (len(point) - 1))
        return Reference(directions, point, base_gflops if "gflops" in objectives else 1.0)

    def volume(self, values: front.Values) -> float:
        """Hypervolume of objective values [n, m]; 0 for none."""
        return front.hypervolume(values, self.directions, self.point) / self.scale


@dataclass(frozen=True)
class Pace:
    """How fast placements get trained.

    Args:
        seconds: Wall time a placement, with all that is trained on meanwhile; pauses of the search are left out.
        at_once: Trainings at a time, on average.
        placements: How many it is known from.
    """

    seconds: float
    at_once: float
    placements: int


@dataclass(frozen=True)
class Worth:
    """What waiting has brought. Hypervolumes by placements that were trained to the end.

    Args:
        base: Of the untouched base alone; None before it is trained.
        before, now: When three quarters of the training images of today were seen, and now.
        late, unchanged: Placements first trained in that last quarter, and since the front last changed.
    """

    base: float | None
    before: float
    now: float
    late: int
    unchanged: int

    @property
    def share(self) -> float:
        """Of all that was gained over the base, what came in the last quarter."""
        gained = self.now - (self.base or 0.0)
        return (self.now - self.before) / gained if gained > 1e-9 else 0.0


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Args:
        asked: Distinct placements that are to be trained; ``trained`` are, ``whole`` of them to the end.
        paused: Those that wait between two rungs.
        failed, beyond: Trials that failed for a reason of their own, and those beyond a limit.
        running, going_on: Trials that run now, and those of them that are trained on from a rung.
        front: Best score first.
        base: The trial of the untouched base, once it is trained.
    """

    asked: int
    trained: int
    whole: int
    paused: int
    failed: int
    beyond: int
    running: int
    going_on: int
    pace: Pace | None
    worth: Worth
    front: tuple[FrozenTrial, ...]
    base: FrozenTrial | None

    @property
    def seconds_left(self) -> float | None:
        """By the pace of the last placements; None where that is unknown."""
        return None if self.pace is None else max(0, self.asked - self.trained) * self.pace.seconds


def read(trials: Trials, reference: Reference, asked: int) -> Progress:
    """All figures at once."""
    done, known = finished(trials), farthest(trials)
    on = [t for t in trials if t.state == TrialState.RUNNING]
    return Progress(
        asked=max(asked, len(known)),
        trained=len(known),
        whole=len(done),
        paused=sum(map(history.paused, known)),
        failed=sum("error" in t.user_attrs for t in trials),
        beyond=sum("infeasible" in t.user_attrs for t in trials),
        running=len(on),
        going_on=sum("continues" in t.user_attrs for t in on),
        pace=pace(trials),
        worth=worth(trials, reference),
        front=tuple(done[i] for i in front.pareto([t.values for t in done], reference.directions)),
        base=base_of(done),
    )


def finished(trials: Trials) -> list[FrozenTrial]:
    """The distinct trials that were trained to the end."""
    return [t for t in trials if t.state == TrialState.COMPLETE and "duplicate_of" not in t.user_attrs]


def farthest(trials: Trials) -> list[FrozenTrial]:
    """For each placement that was trained, to whatever rung, the trial that got farthest."""
    found: dict[str, FrozenTrial] = {}
    for t in trials:
        if scored(t):
            found[t.user_attrs.get("placement_id", str(t.number))] = t
    return list(found.values())


def scored(trial: FrozenTrial) -> bool:
    """Whether a trial trained something, to the end or to a rung."""
    return history.paused(trial) or (trial.state == TrialState.COMPLETE and "duplicate_of" not in trial.user_attrs)


def base_of(done: Trials) -> FrozenTrial | None:
    """The untouched base among trials that were trained to the end."""
    return next((t for t in done if t.user_attrs.get("placement") == {}), None)


def gain(trial: FrozenTrial, base: FrozenTrial | None) -> float | None:
    """Score over the base's after as much training on the same batches; None before the base is trained."""
    if base is None or "score" not in trial.user_attrs:
        return None
    score, theirs = trial.user_attrs["score"], base.user_attrs["score"]
    same = [p["value"] for p in theirs.get("curve") or () if p["images"] == score["images_seen"]]
    return float(score["value"] - (same[-1] if same else theirs["value"]))


def order(trials: Trials) -> list[FrozenTrial]:
    """Trials that trained something, in the order in which they ended."""
    return sorted((t for t in trials if scored(t) and t.datetime_complete), key=lambda t: str(t.datetime_complete))


def firsts(ordered: Trials) -> list[bool]:
    """Whether each is the first of its placement: one that is trained on is not counted again."""
    keys = [t.user_attrs.get("placement_id", t.number) for t in ordered]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    return [first[key] == i for i, key in enumerate(keys)]


def pace(trials: Trials) -> Pace | None:
    """From the last :data:`WINDOW` placements: the time in which something trained, over the placements that ended."""
    ordered = order(trials)
    ends = [t.datetime_complete for t, first in zip(ordered, firsts(ordered), strict=True) if first]
    spans = [(a, b) for t in trials if (a := t.datetime_start) and (b := t.datetime_complete) and t.state.is_finished()]
    if not ends or not spans:
        return None
    since = ends[-WINDOW - 1] if len(ends) > WINDOW else min(a for a, _ in spans)
    assert since is not None
    cut = [(max(a, since), b) for a, b in spans if b > since]
    work, wall, count = sum((b - a).total_seconds() for a, b in cut), busy(cut), min(len(ends), WINDOW)
    return Pace(wall / count, work / wall, count) if wall > 0 else None


def busy(spans: Sequence[tuple[datetime, datetime]]) -> float:
    """Seconds in which something trained; a gap no longer than a training belongs to it, a longer one is a pause."""
    total, idle = 0.0, statistics.median((b - a).total_seconds() for a, b in spans)
    end = min(a for a, _ in spans)
    for a, b in sorted(spans):
        gap = (a - end).total_seconds()
        total += (max(0.0, gap) if gap <= idle else 0.0) + max(0.0, (b - max(a, end)).total_seconds())
        end = max(end, b)
    return total


def worth(trials: Trials, reference: Reference) -> Worth:
    """How the hypervolume grew with the training images."""
    ordered = order(trials)
    new = firsts(ordered)
    seen = np.cumsum([images(t, trials) for t in ordered]) if ordered else np.zeros(0)
    late = seen > 0.75 * seen[-1] if len(seen) else np.zeros(0, bool)
    done = [t.state == TrialState.COMPLETE for t in ordered]
    changed = last_change([t.values if ok else None for t, ok in zip(ordered, done, strict=True)], reference)
    base = base_of(finished(trials))
    return Worth(
        base=reference.volume([base.values]) if base is not None else None,
        before=reference.volume([t.values for t, ok, x in zip(ordered, done, late, strict=True) if ok and not x]),
        now=reference.volume([t.values for t, ok in zip(ordered, done, strict=True) if ok]),
        late=sum(bool(n and after) for n, after in zip(new, late, strict=True)),
        unchanged=sum(new[changed + 1 :]),
    )


def images(trial: FrozenTrial, trials: Trials) -> int:
    """Training images that a trial saw itself; those of the rung it went on from left out."""
    before = trial.user_attrs.get("continues")
    earlier = trials[before].user_attrs.get("score") if isinstance(before, int) and before < len(trials) else None
    return int(trial.user_attrs["score"]["images_seen"]) - int((earlier or {}).get("images_seen", 0))


def last_change(values: Sequence[Sequence[float] | None], reference: Reference) -> int:
    """Index of the last row that changed the front of those before it; None is no row. -1 where there is none."""
    kept, last = np.zeros((0, len(reference.directions))), -1
    for i, row in enumerate(values):
        if row is None:
            continue
        point = front.losses([row], reference.directions)
        if not (kept <= point).all(1).any():
            kept, last = np.concatenate([kept[~(point <= kept).all(1)], point]), i
    return last


def clock(seconds: float) -> str:
    """``4:05``, ``1:04:05``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def left(p: Progress) -> str:
    """How long still, in words."""
    if p.trained >= p.asked:
        return "the promising are trained on to the end" if p.running else "nothing"
    return "not known yet" if p.seconds_left is None else f"about {clock(p.seconds_left)}"


def best(p: Progress, metric: str) -> str:
    """The largest gain on the front and where, in words."""
    if p.base is None or not p.front:
        return "nothing to compare with yet, the untouched base is not trained"
    top, over = p.front[0], gain(p.front[0], p.base) or 0.0
    if over <= 0 or top.number == p.base.number:
        return f"no placement trained to the end is above the base ({metric} {p.base.values[0]:.4f})"
    ratio = top.user_attrs["cost"]["latency"]["ratio"]
    return f"{over:+.4f} {metric} over the base by {top.user_attrs['label']}, latency x{ratio:.3f}"


def waiting(p: Progress, ended: bool = False) -> str:
    """Whether it is worth waiting, in a sentence, by what waiting has brought."""
    w = p.worth
    if p.trained < EARLY or w.base is None or not w.late:
        return f"too early to say: {wording.count(p.trained, 'placement')} trained"
    still = f"; the front has not changed for the last {w.unchanged} placements" * (w.unchanged > 2)
    if w.now - w.base < 1e-9:
        return f"nothing has come of it yet: no placement adds to the base's hypervolume{still}"
    added = w.now / w.before - 1 if w.before > 0 else 0.0
    rank = 0 if w.share >= PAYS else 1 if w.share >= LITTLE else 2
    words = (ENDED if ended else WAITING)[rank]
    if added < 5e-6:
        return f"{words}: the last {wording.count(w.late, 'placement')} added nothing to the hypervolume{still}"
    return (
        f"{words}: the last {wording.count(w.late, 'placement')} added {added:.2%} to the hypervolume, {w.share:.1%} "
        f"of all that the search has gained over the base{still}"
    )
