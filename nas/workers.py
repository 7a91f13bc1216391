"""Goes in: a study ready to run. Comes out: the asked number of placements trained, by one process or by several.

Trainings run in workers (nas/worker.py), processes that may die or hang (nas/crew.py). This process is their
supervisor: it shows what they do, closes the trials of those that are gone, here and on other machines, and is the only
one that writes the table and the front. Supervisors on several machines may work on one study.
"""

from __future__ import annotations

import time
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError

from nas import announce, export, history, slots, steady, train, turn
from nas import crew as crews
from nas import study as studies
from nas.children import Child
from nas.crew import Crew
from nas.display import Display
from nas.setting import Setting
from nas.study import SearchStopped
from nas.warm import WarmBase, overrides_of

TIMES, LEAST_LIMIT = 20.0, 600.0  # the limit of a trial that nobody has set: so many times the longest, so many seconds
MODULE = "nas.worker"  # what a worker runs


def run(study: optuna.Study, setting: Setting, warm: WarmBase, display: Display) -> None:
    """Train placements until the asked number of distinct ones is there; keep csv and front current.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the running trials are lost, nothing else.
        SearchStopped: Nothing new is left to try, trial after trial fails, or no worker is left.
    """
    try:
        todo = setting.recipe.trials - len(export.trained(study)) + sum(map(history.paused, study.get_trials(False)))
        if todo <= 0:
            return
        if setting.recipe.ray is not None:
            from nas import on_ray

            return on_ray.run(study, setting, display, todo)
        with turn.interruptible():
            count = 0 if in_memory(setting) else slots.choose(setting, todo, display.say)
        if count:
            return together(study, setting, warm, display, count * len(setting.cards))
        turn.work(study, setting, warm, display.say, [display.finished_trial, lambda s, t: studies.write(s, setting)])
    except StorageInternalError as e:
        raise SearchStopped(f"the storage does not answer: {steady.reason(e)}; the same command goes on") from e


def in_memory(setting: Setting) -> bool:
    """Whether the study's storage lives in this process, where no worker could reach it."""
    url = studies.storage_url(setting)
    return url.startswith("sqlite") and url.partition("://")[2].strip("/").partition("?")[0] in ("", ":memory:")


def together(
    study: optuna.Study, setting: Setting, warm: WarmBase, display: Display, count: int, writes: bool = True
) -> None:
    """Start ``count`` workers, show what is finished, and end with the last of them.

    Args:
        writes: Whether this process keeps csv and front current.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM.
        SearchStopped: The workers ended before the asked number was reached; says why.
    """
    display.workers = count
    seen = {t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished()}
    crew = Crew(
        start=lambda index: Child(
            MODULE, job(setting, count, index), slots.share(count), setting.log, silence=crews.SILENCE
        ),
        say=display.say,
        bury=lambda pid, how, error: studies.bury(study, setting, pid, how, error),
        limit=lambda: limit_of(study, setting),
    )
    with turn.interruptible():
        try:
            read_labels(setting, warm)
            crew.seat(count)
            watch(study, setting, display, crew, seen, writes)
        except KeyboardInterrupt:
            display.say("Stopping: the trainings that run are closed, by force after 15 s.")
            raise
        finally:
            pids = {child.pid for child in crew.children}
            crew.stop()
            studies.close(study, lambda pid: pid in pids)
            announce.new(study, setting, display, seen, writes)
    if crew.reasons and len(export.trained(study)) < setting.recipe.trials:
        raise SearchStopped(f"{crew.reasons[-1]}; see {setting.log}")


def job(setting: Setting, count: int, index: int) -> dict[str, Any]:
    """What a worker is told: the recipe on its very device, and what the base costs when nobody trains."""
    recipe = setting.recipe.model_dump(mode="json")
    recipe["train"] |= {"device": setting.cards[index % len(setting.cards)]}
    beside = count // len(setting.cards)
    return {"recipe": recipe, "base_cost": setting.base_cost.to_json(), "workers": beside, "index": index}


def read_labels(setting: Setting, warm: WarmBase) -> None:
    """Let Ultralytics read the labels here once: processes that write its caches at once trip over each other.

    Raises:
        SearchStopped: The dataset cannot be read.
    """
    try:
        train.scan(warm.model, overrides_of(setting, 1), setting.log)
    except train.TrainingFailed as e:
        raise SearchStopped(f"the dataset could not be read: {e}; see {setting.log}") from e


def limit_of(study: optuna.Study, setting: Setting) -> float | None:
    """Seconds that a trial may take: as the recipe says, or far more than any took; None before one is finished."""
    if setting.recipe.trial_timeout is not None:
        return setting.recipe.trial_timeout
    done = [t.user_attrs["score"]["seconds"] for t in export.trained(study)]
    return max(LEAST_LIMIT, TIMES * max(s["total"] for s in done)) if done else None


def watch(
    study: optuna.Study, setting: Setting, display: Display, crew: Crew, seen: set[int], writes: bool = True
) -> None:
    """Show what the workers finish and say until the last one has ended; call for trials of machines that are gone."""
    stale = time.monotonic()
    while crew.at_work:
        time.sleep(turn.PAUSE)
        crew.look()
        if time.monotonic() - stale > announce.STALE:
            optuna.storages.fail_stale_trials(study)
            stale = time.monotonic()
        announce.new(study, setting, display, seen, writes)
