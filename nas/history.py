"""Goes in: a study. Comes out: for each placement how far its training came, what it showed, and whether it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Placement, SearchSpace

PAUSED, RUNNING, DONE, DEAD, REFUSED = "paused", "running", "done", "dead", "refused"
CLAIM = "claim"  # attribute of a trial: the placement that was chosen for it
Trials = Sequence[FrozenTrial]
Ended = dict[int, "Past | None"]  # by a trial's id in its storage
_ended: WeakKeyDictionary[BaseStorage, dict[str, Ended]] = WeakKeyDictionary()  # and by the hash of the space


@dataclass(frozen=True)
class Past:
    """What is known of a placement that a study has tried or is trying.

    Args:
        trial: The number of the trial that got farthest.
        state: ``paused`` between rungs, ``running`` (or queued), ``done`` at the top, ``dead`` (its training failed),
            ``refused`` (beyond a limit).
        values: Its score at each rung it reached.
        seed: Of its training; None before it has a score.
        cost: As recorded, see :class:`nas.cost.Cost`; empty before it is measured.
    """

    placement: Placement
    trial: int
    state: str
    values: tuple[float, ...]
    seed: int | None
    cost: Mapping[str, Any]

    @property
    def gflops(self) -> float:
        """As recorded."""
        return float(self.cost["gflops"])

    @property
    def latency(self) -> float | None:
        """Over the base's; None where it was not measured."""
        return float(self.cost["latency"]["ratio"]) if self.cost.get("latency") else None


def read(study: optuna.Study, space: SearchSpace, trials: Trials | None = None) -> list[Past]:
    """One entry a placement, in the order in which they were first tried; what was interrupted is as if never begun.

    Args:
        trials: The study's, where they are at hand.
    """
    found: dict[str, Past] = {}
    for one in each(study, space, trials):
        old = found.get(one.placement.id)
        found[one.placement.id] = _joined(old, one) if old else one
    return list(found.values())


def each(study: optuna.Study, space: SearchSpace, trials: Trials | None = None) -> Iterator[Past]:
    """What each trial says that was not interrupted and whose placement is known.

    A trial that has ended never changes: what it says is read once, and kept as long as the storage is open.
    """
    kept = _ended.setdefault(study._storage, {}).setdefault(space.hash, {})
    for trial in study.get_trials(deepcopy=False) if trials is None else trials:
        if not trial.state.is_finished():
            one = _read(trial, space)
        elif trial._trial_id in kept:
            one = kept[trial._trial_id]
        else:
            one = kept[trial._trial_id] = _read(trial, space)
        if one is not None:
            yield one


def _read(trial: FrozenTrial, space: SearchSpace) -> Past | None:
    params, state = params_of(trial), state_of(trial)
    if state is None or not all(s in params for s, _ in space.sites):
        return None
    return past(trial, space.placement(params), state)


def state_of(trial: FrozenTrial) -> str | None:
    """What a trial says of its placement; None where it was interrupted."""
    if trial.state in (TrialState.RUNNING, TrialState.WAITING):
        return RUNNING
    if trial.state == TrialState.FAIL:
        return DEAD if "error" in trial.user_attrs else None
    if trial.state == TrialState.PRUNED:
        return PAUSED if paused(trial) else REFUSED
    return DONE


def paused(trial: FrozenTrial) -> bool:
    """Whether a trial ended between two rungs."""
    return trial.state == TrialState.PRUNED and "score" in trial.user_attrs


def past(trial: FrozenTrial, placement: Placement, state: str) -> Past:
    """What one trial says."""
    score = trial.user_attrs.get("score") or {}
    values = tuple(float(p["value"]) for p in score.get("curve") or ()) or (
        (float(score["value"]),) if "value" in score else ()
    )
    return Past(placement, trial.number, state, values, score.get("seed"), trial.user_attrs.get("cost") or {})


def _joined(old: Past, new: Past) -> Past:
    """Two trials of one placement: what the longer one knows, in the state that counts more."""
    longer = new if len(new.values) >= len(old.values) and new.cost else old
    order = (REFUSED, PAUSED, RUNNING, DEAD, DONE)
    state = max(old.state, new.state, key=order.index)
    return Past(old.placement, longer.trial, state, longer.values, longer.seed, longer.cost)


def params_of(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's parameters, also of one that waits, or whose placement is chosen and not yet written down."""
    told = trial.system_attrs
    return {**told.get("fixed_params", {}), **told.get(CLAIM, {}), **trial.params}
