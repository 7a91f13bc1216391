"""In: a storage. Out: a made study of many trials, and how long it takes to open, report on and continue it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import optuna
from landscapes import land
from optuna.trial import FrozenTrial, TrialState
from scale_worker import LAND, cost_of, score_of

from nas import objective, report, scout, status, storage, turn
from nas import study as studies
from nas.setting import Setting
from search_spaces import Placement

RUNNING, WHOLE = 16, 0.3  # the last trials, and the share of the others that was trained to the end
Result = TypeVar("Result")


def begin(setting: Setting, url: str) -> None:
    """Make the study, as `search` does before its first placement."""
    study = studies.open_study(setting, storage.open_storage(url))
    world = land(*LAND)
    cells = [
        scout.Cell(site, block.label, world.promise(site, block), world.wait(site, block))
        for site, blocks in setting.space.sites
        for block in blocks
    ]
    study.set_user_attr(studies.SCOUTED, scout.to_json(cells))
    study.set_user_attr("asked", setting.recipe.trials)


def fill(setting: Setting, url: str, count: int) -> None:
    """A study of so many trials, most of them paused as in a real one; the last ones run on another machine."""
    begin(setting, url)
    study = optuna.load_study(study_name=setting.recipe.name, storage=storage.open_storage(url))
    (first,) = study.get_trials(deepcopy=False)  # the base, which waits
    study._storage.set_trial_state_values(first._trial_id, TrialState.RUNNING)
    study.tell(first.number, state=TrialState.FAIL)
    rng, space = np.random.default_rng(0), setting.space
    seen: set[str] = set()
    while len(seen) < count:
        sites = [space.sites[i] for i in rng.permutation(len(space.sites))[: rng.integers(1, space.max_blocks + 1)]]
        p = Placement.of({s: blocks[rng.integers(len(blocks))] for s, blocks in sites if seen})
        if p.id not in seen:
            seen.add(p.id)
            study.add_trial(trial_of(setting, p, not len(p) or rng.random() < WHOLE, len(seen) > count - RUNNING))


def trial_of(setting: Setting, p: Placement, whole: bool, running: bool) -> FrozenTrial:
    """A trial with all that one records."""
    world, space = land(*LAND), setting.space
    found, score = cost_of(setting, world, p), score_of(world, p, 1 + whole)
    attrs: dict[str, Any] = {
        "host": "another", "pid": 1, "placement_id": p.id, "label": p.label, "placement": p.to_json(),
        "recipe": setting.digest, "versions": objective.VERSIONS, "workers": 1, "cost": found.to_json(),
    }  # fmt: skip
    if not running:
        attrs |= {"score": score, "transfer": "595 of 595 tensors carried over", "rung": 1 + whole, "rungs": 2}
    done = whole and not running
    assert found.latency is not None
    return optuna.trial.create_trial(
        state=TrialState.RUNNING if running else TrialState.COMPLETE if whole else TrialState.PRUNED,
        values=[score["value"], found.latency.ratio] if done else None,
        params=space.params(p),
        distributions={s: optuna.distributions.CategoricalDistribution(space.choices(s)) for s, _ in space.sites},
        user_attrs=attrs,
    )


def opened(setting: Setting, url: str) -> dict[str, float]:
    """Seconds of what a person does with a long study, in a process that has just imported all."""
    found: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Result]) -> Result:
        began = time.perf_counter()
        result = call()
        found[name] = round(time.perf_counter() - began, 3)
        return result

    study = timed("open", lambda: studies.open_study(setting, storage.open_storage(url)))
    timed("first look at what is next", lambda: turn.what_next(study, setting))
    timed("the next one", lambda: turn.what_next(study, setting))
    timed("status", lambda: list(status.told(study)))
    timed("trials.csv", lambda: report.write_csv(study, setting.folder))
    timed("trials.csv again", lambda: report.write_csv(study, setting.folder))
    timed("report", lambda: whole_report(study, setting.folder))
    found["trials"] = len(study.get_trials(deepcopy=False))
    return found


def whole_report(study: optuna.Study, folder: Path) -> None:
    """As `report`."""
    from nas import points, report_command

    report_command.make(study, points.read(study), folder)
