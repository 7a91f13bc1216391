"""In: a setting and a study's storage. Out: the turns of one simulated worker: what each took, as a row of a table."""

from __future__ import annotations

import csv
import os
import time
import traceback
from dataclasses import asdict, dataclass, fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import optuna_dashboard
from landscapes import Land, land
from optuna.trial import FrozenTrial

from nas import cost, export, objective, report, storage, turn
from nas import study as studies
from nas.setting import Setting
from search_spaces import Placement, sample

LAND = ("additive", "latency", 1.0)


@dataclass
class Row:
    """A trial. Seconds: ``propose`` from asking for the study's lock until the placement is stored, of which ``wait``
    for the lock, ``think`` in the sampler's model, ``decide`` in all else; ``tell`` from the score to the next turn."""

    worker: int
    trial: int
    begun: float
    on: bool
    propose: float
    wait: float
    decide: float
    think: float
    tell: float


class Clock:
    """What one worker's sampler and lock tell of the trial at hand; it stands in the place of the lock."""

    def __init__(self, study: optuna.Study) -> None:
        self.study, self.lock, self.inner = study, turn.lock_of(study), study.sampler.inner  # type: ignore[attr-defined]
        self.look, self.inner.look = self.inner.look, self.think
        self.asked = self.wait = self.thought = 0.0
        self.turning = False
        study.sampler.lock = self  # type: ignore[attr-defined]

    def acquire(self) -> None:
        """Take the lock; a turn begins where none is under way."""
        began = time.perf_counter()
        self.lock.acquire()
        if not self.turning:
            self.turning, self.asked, self.wait, self.thought = True, began, 0.0, 0.0
        self.wait += time.perf_counter() - began

    def think(self, *args: Any, **kwargs: Any) -> Any:
        """The model's next step."""
        began = time.perf_counter()
        try:
            return self.look(*args, **kwargs)
        finally:
            self.thought += time.perf_counter() - began

    def idle(self) -> None:
        """There was nothing to take: the next turn begins anew."""
        self.turning = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lock, name)

    def __enter__(self) -> Clock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()


class Instant:
    """An objective that looks its score up and records what a trial records.

    Args:
        notes: Whether each trial gets its page in the dashboard too.
    """

    def __init__(self, setting: Setting, clock: Clock, index: int, notes: bool) -> None:
        self.setting, self.clock, self.index, self.notes = setting, clock, index, notes
        self.land = land(*LAND)
        self.row: Row | None = None
        self.told = 0.0
        self.file = (setting.folder / "rows" / f"{index}.csv").open("w", buffering=1, encoding="utf-8", newline="")
        self.table = csv.DictWriter(self.file, [f.name for f in fields(Row)])
        self.table.writeheader()

    def __call__(self, trial: optuna.Trial) -> tuple[float, ...]:
        """Train for no time."""
        placement = sample(self.setting.space, trial)
        self.took(trial)
        digest, versions = self.setting.digest, objective.VERSIONS
        facts = {"placement_id": placement.id, "label": placement.label, "placement": placement.to_json()}
        objective.note(trial, **facts, recipe=digest, versions=versions, workers=1)
        before = objective.begun(trial)
        reached = len(before.user_attrs["score"]["curve"]) if before else 0
        ends = self.setting.recipe.rungs
        top = reached + 1 if len(placement) else ends
        objective.raise_if_taken(trial, placement, top)
        found = (
            cost.Cost.from_json(before.user_attrs["cost"]) if before else cost_of(self.setting, self.land, placement)
        )
        objective.note(trial, cost=found.to_json())
        score = score_of(self.land, placement, top)
        objective.note(trial, score=score, transfer="595 of 595 tensors carried over", rung=top, rungs=ends)
        if self.notes:
            optuna_dashboard.save_note(trial, report.trial_note(trial.user_attrs))
        self.told = time.perf_counter()
        if top < ends:
            state = export.paused_state(self.setting.folder, placement.id, top)
            state.parent.mkdir(parents=True, exist_ok=True)
            state.write_bytes(b"")
            raise optuna.TrialPruned(f"paused at rung {top} of {ends}")
        assert found.latency is not None
        return score["value"], found.latency.ratio

    def took(self, trial: optuna.Trial) -> None:
        """The placement is stored."""
        now, c = time.perf_counter(), self.clock
        c.turning = False
        propose = now - c.asked
        begun, on = time.time() - propose, "continues" in trial.user_attrs
        decide = propose - c.wait - c.thought
        self.row = Row(self.index, trial.number, begun, on, propose, c.wait, decide, c.thought, 0.0)

    def ended(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """The trial is told."""
        assert self.row is not None
        self.row.tell = time.perf_counter() - self.told
        self.table.writerow(asdict(self.row))


def cost_of(setting: Setting, world: Land, placement: Placement) -> cost.Cost:
    """What a placement costs, its latency as the landscape has it."""
    base, ratio = setting.base_cost.latency, world.cost(placement)
    assert base is not None
    params, gflops = setting.predict(placement)
    return cost.Cost(params, gflops, cost.Latency(**{**asdict(base), "ms": base.ms * ratio, "ratio": ratio}))


def score_of(world: Land, placement: Placement, top: int) -> dict[str, Any]:
    """A score as a trial records it: the landscape's truth, and noise that is the placement's own."""
    rng = np.random.default_rng(int(placement.id, 16))
    steps = np.sqrt(np.diff(np.r_[0.0, world.noise**2])) * rng.standard_normal(2)
    values = (world.truth(placement) + np.cumsum(steps))[:top]
    curve = [{"images": int(n), "value": float(v)} for n, v in zip(world.images, values, strict=False)]
    return {
        "metric": "mAP50-95", "value": curve[-1]["value"], "second_metric": "mAP50", "second": curve[-1]["value"],
        "nms_free": None, "nms_free_second": None, "split": "val", "head": "one2many", "epochs": 3,
        "images_seen": curve[-1]["images"], "seed": 0, "batches_sha": "0" * 12, "curve": curve,
        "seconds": {"build": 0.5, "steps": 5.0, "validation": 2.0, "total": 8.0},
    }  # fmt: skip


def worker(setting: Setting, url: str, index: int, notes: bool) -> None:
    """One process: joins the study, takes turns until there are enough, and writes down how long each took."""
    out = setting.folder / "rows"
    try:
        study = studies.join(setting, storage.open_storage(url), index)
        clock = Clock(study)
        instant = Instant(setting, clock, index, notes)
        turn.objective.make = lambda *_: instant  # the only thing that is not what a search does
        turn.Stamp = lambda _: SimpleNamespace(check=lambda: None)  # type: ignore[assignment,misc]
        turn.time.sleep = lambda seconds, sleep=time.sleep: (clock.idle(), sleep(seconds))  # type: ignore[assignment]
        turn.work(study, setting, None, lambda text: None, [instant.ended])  # type: ignore[arg-type]
        instant.file.close()
    except BaseException:
        (out / f"{index}.error").write_text(traceback.format_exc(), encoding="utf-8")
        os._exit(1)
    os._exit(0)  # what was imported need not be taken down
