"""Goes in: a Setting. Comes out: an Optuna study, opened or continued, run to the asked number of placements."""

from __future__ import annotations

import json
import os
import signal
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas import export, objective, report, sampler
from nas.display import Display
from nas.recipe import RecipeError
from nas.setting import Setting
from nas.warm import WarmBase
from search_spaces import Placement

MOST_FAILURES = 5
optuna.logging.set_verbosity(optuna.logging.ERROR)  # the display tells what a person wants to know
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class SearchStopped(RuntimeError):
    """The search cannot go on; what was finished is kept."""


def storage_url(setting: Setting) -> str:
    """The recipe's storage, or SQLite in the study's folder."""
    return setting.recipe.storage or f"sqlite:///{(setting.folder / 'study.db').resolve()}"


def open_study(setting: Setting, storage: BaseStorage) -> optuna.Study:
    """Create the study with its startup placements, or continue it.

    Raises:
        RecipeError: A study of this name was made by another recipe; says the differences.
    """
    name = setting.recipe.name
    assert name is not None
    chosen = setting.recipe.metrics()
    chosen[0] = (setting.task.metric, chosen[0][1])
    exists = name in {s.study_name for s in optuna.get_all_study_summaries(storage, include_best_trial=False)}
    if exists:
        study = optuna.load_study(study_name=name, storage=storage)
        refuse_another_recipe(study, setting)
    else:
        study = optuna.create_study(
            study_name=name, storage=storage, directions=[StudyDirection[d.upper()] for _, d in chosen]
        )
    study.sampler = sampler.make(
        setting.recipe.sampler,
        setting.space,
        setting.allowed,
        setting.recipe.seed + len(study.get_trials(deepcopy=False)),
    )
    if "ready" not in study.user_attrs:
        study.set_metric_names([n for n, _ in chosen])
        facts = {
            "identity": setting.identity,
            "recipe": setting.recipe.model_dump(mode="json", exclude={"storage"}),
            "base_yaml": setting.yaml,
            "base": {"cost": setting.base_cost.to_json(), "weights": setting.identity["weights"]},
            "folder": str(setting.folder),
            "classes": len(setting.dataset.names),
        }
        for key, value in facts.items():
            study.set_user_attr(key, value)
        enqueue(study, setting)
        study.set_user_attr("ready", True)
    revive(study, setting)
    return study


def refuse_another_recipe(study: optuna.Study, setting: Setting) -> None:
    """Compare identities.

    Raises:
        RecipeError: One line a difference.
    """
    theirs, ours = study.user_attrs.get("identity"), setting.identity
    if theirs is None:
        return  # created a moment ago by another process, or interrupted before its first line
    ours = json.loads(json.dumps(ours))
    lines = list(differences(theirs, ours))
    if lines:
        raise RecipeError(
            f"study {study.study_name!r} was made by another recipe; choose another --name, "
            f"or continue it with its own: --recipe {setting.folder / 'recipe.yaml'}\n"
            + "\n".join(f"  {line}" for line in lines)
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """``key: then 3, now 5`` for every key that differs."""
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}: then {a!r}, now {b!r}"


def enqueue(study: optuna.Study, setting: Setting) -> None:
    """The untouched base as trial 0, then sparse placements: at most a third of the trials."""
    r = setting.recipe
    first = [Placement(), *sampler.sparse(setting.space, min(r.startup, r.trials // 3), setting.allowed, r.seed)]
    for placement in first:
        study.enqueue_trial(setting.space.params(placement), user_attrs={"origin": "startup"}, skip_if_exists=True)


def revive(study: optuna.Study, setting: Setting) -> None:
    """Fail trials whose process is gone, and queue again what was interrupted before it was trained."""
    close(study, lambda pid: not _alive(pid))
    known = set(sampler.tried(study, setting.space))
    for t in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if "error" in t.user_attrs or not all(s in t.params for s, _ in setting.space.sites):
            continue
        placement = setting.space.placement(t.params)
        if placement.id not in known:
            known.add(placement.id)
            study.enqueue_trial(t.params, user_attrs={"origin": f"interrupted trial {t.number}"})


def close(study: optuna.Study, gone: Callable[[Any], bool]) -> None:
    """Fail the running trials of this machine whose process is ``gone``."""
    for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if t.user_attrs.get("host") == socket.gethostname() and gone(t.user_attrs.get("pid")):
            study.tell(t.number, state=TrialState.FAIL)


def run(study: optuna.Study, setting: Setting, warm: WarmBase, display: Display) -> None:
    """Train placements until the asked number of distinct ones is there; keep csv and front current.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the running trial is lost, nothing else.
        SearchStopped: Nothing new is left to try, or trial after trial fails.
    """
    if len(export.finished(study)) >= setting.recipe.trials:
        return
    with interruptible() as came:
        callbacks: list[Callable[[optuna.Study, FrozenTrial], None]] = [
            display.finished_trial,
            lambda s, t: write(s, setting),
            lambda s, t: raise_if(came),
            lambda s, t: stop_when_done(s, setting, display.say),
        ]
        try:
            study.optimize(objective.make(setting, warm), callbacks=callbacks, catch=(objective.CandidateFailed,))
        except sampler.Exhausted as e:
            raise SearchStopped(str(e)) from e
        finally:
            close(study, lambda pid: pid == os.getpid())


def stop_when_done(study: optuna.Study, setting: Setting, say: Callable[[str], None]) -> None:
    """Stop at the asked number; stop as failed when the last trials all failed."""
    if len(export.finished(study)) >= setting.recipe.trials:
        study.stop()
        return
    ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and t.state != TrialState.PRUNED]
    last = ended[-MOST_FAILURES:]
    if len(last) == MOST_FAILURES and all("error" in t.user_attrs for t in last):
        raise SearchStopped(
            f"the last {MOST_FAILURES} trials all failed; the last reason: {last[-1].user_attrs['error']}"
        )
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if not waiting and len(set(sampler.tried(study, setting.space))) >= setting.space.size:
        say(f"All {setting.space.size} placements of space {setting.space.name} are tried.")
        study.stop()
    pruned = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.PRUNED][-50:]
    if len(pruned) == 50 and not waiting and pruned[0].number == study.get_trials(deepcopy=False)[-1].number - 49:
        raise SearchStopped(f"the last 50 placements are all beyond the limits: {pruned[-1].user_attrs['infeasible']}")


def write(study: optuna.Study, setting: Setting, pictures: bool = False) -> None:
    """Bring the study's folder up to date."""
    report.write_csv(study, setting.folder)
    export.write_front(study, setting.folder)
    if pictures and export.finished(study):
        report.write_html(study, setting.folder)


def write_recipe(setting: Setting) -> Path:
    """The resolved recipe as a file that `search --recipe` takes."""
    path = setting.folder / "recipe.yaml"
    setting.folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(setting.recipe.model_dump(mode="json", exclude={"storage"}), sort_keys=False)
    path.write_text(
        f"# Continue it:  python -m nas search --recipe {path} --trials {setting.recipe.trials}\n{text}",
        encoding="utf-8",
    )
    return path


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """SIGTERM ends the search as Ctrl-C does; the list given back holds what came.

    A KeyboardInterrupt that is raised while Python runs a destructor is lost; whoever holds the list can still stop.
    """
    came: list[int] = []

    def interrupt(signum: int, frame: Any) -> None:
        came.append(signum)
        raise KeyboardInterrupt

    old = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def raise_if(came: list[int]) -> None:
    """Stop after all where an interrupt was lost."""
    if came:
        raise KeyboardInterrupt


def _alive(pid: Any) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
