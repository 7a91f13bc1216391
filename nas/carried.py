"""Goes in: a file that a trial has written. Comes out: the same file on another machine that works on the study.

Where the study has an artifact store (`--artifacts`), the states of paused trainings and the weights of finished ones
go there; each trial records their hash. Where it has none, everything stays in the study's folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas import export
from nas.history import Past
from nas.setting import Setting
from nas.store import StoreError

STATE, WEIGHTS, DROPPED = "state_sha256", "weights_sha256", "dropped"


def put_state(trial: optuna.Trial, setting: Setting, file: Path) -> None:
    """Give others the state that this trial ends with, so that they can go on from it; where it does not arrive,
    nobody goes on, and what the trial has found stands."""
    if setting.store is not None:
        try:
            digest = setting.store.put(_state_name(setting, file), file)
        except StoreError as e:
            trial.set_user_attr("state_lost", str(e))
        else:
            trial.set_user_attr(STATE, digest)


def get_state(before: FrozenTrial, setting: Setting, file: Path) -> None:
    """Have the state that a trial ended with, whoever trained it.

    Raises:
        FileLost: It is gone, or not what was written.
        StoreError: The store cannot be reached.
    """
    if setting.store is not None and not file.is_file():
        setting.store.get(_state_name(setting, file), file, before.user_attrs.get(STATE))


def kept(study: optuna.Study, setting: Setting) -> Callable[[Past], bool]:
    """Whether a paused placement's training can be continued on this machine."""
    dropped = set(study.user_attrs.get(DROPPED, ())) if setting.store else set()
    trials = study.get_trials(deepcopy=False) if setting.store else []
    here = {file.name for file in (setting.folder / "paused").glob("*.pt")}  # one look, not one a placement

    def ready(p: Past) -> bool:
        file = export.paused_state(setting.folder, p.placement.id, len(p.values))
        if setting.store is None:
            return file.name in here
        return STATE in trials[p.trial].user_attrs and _state_name(setting, file) not in dropped

    return ready


def drop_others(study: optuna.Study, setting: Setting, wanted: Iterable[Path]) -> None:
    """Drop the states that nobody goes on from, here and in the store."""
    wanted = set(wanted)
    for path in (setting.folder / "paused").glob("*.pt"):
        if path not in wanted:
            path.unlink(missing_ok=True)
    if setting.store is None:
        return
    names = {_state_name(setting, path) for path in wanted}
    written = {
        _state_name(setting, export.paused_state(setting.folder, t.user_attrs["placement_id"], t.user_attrs["rung"]))
        for t in study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
        if STATE in t.user_attrs
    }
    _drop(study, setting, written - names)


def put_weights(trial: optuna.Trial, setting: Setting, file: Path) -> None:
    """Give others the weights that this trial ends with."""
    if setting.store is not None:
        trial.set_user_attr(WEIGHTS, setting.store.put(_weights_name(setting, trial.number), file))


def get_weights(study: optuna.Study, setting: Setting, points: Iterable[FrozenTrial]) -> list[str]:
    """Have the weights of the front here, whoever trained them; drop those of others from the store.

    Returns:
        What is missing, in words.
    """
    if setting.store is None:
        return []
    missing, numbers = [], set()
    for t in points:
        numbers.add(t.number)
        file = export.checkpoint(setting.folder, t.number)
        if not file.is_file() and WEIGHTS in t.user_attrs:
            try:
                setting.store.get(_weights_name(setting, t.number), file, t.user_attrs[WEIGHTS])
            except StoreError as e:
                missing.append(f"the weights of trial {t.number}: {e}")
    others = {t.number for t in export.trained(study) if WEIGHTS in t.user_attrs} - numbers
    _drop(study, setting, {_weights_name(setting, number) for number in others})
    return missing


def _drop(study: optuna.Study, setting: Setting, names: set[str]) -> None:
    before: list[Any] = study.user_attrs.get(DROPPED, [])
    new = sorted(names - set(before))
    if new and setting.store is not None:
        try:
            for name in new:
                setting.store.drop(name)
        except StoreError:
            return  # next time
        study.set_user_attr(DROPPED, [*before, *new])


def _state_name(setting: Setting, file: Path) -> str:
    return f"{_study(setting)}-paused-{file.name}"


def _weights_name(setting: Setting, number: int) -> str:
    return f"{_study(setting)}-weights-{number}.pt"


def _study(setting: Setting) -> str:
    """Several studies may share a store."""
    return hashlib.sha256(f"{setting.recipe.name} {setting.digest}".encode()).hexdigest()[:12]
