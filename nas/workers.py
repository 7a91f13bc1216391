"""Goes in: a study ready to run. Comes out: the asked number of placements trained, by one process or by several.

Several are workers on this machine (nas/worker.py), each with its share of the cores. This process shows what they do
and is the only one that writes the table and the front.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas import export, history, locks, slots, train, turn
from nas import study as studies
from nas.children import Child, stop
from nas.display import Display
from nas.setting import Setting
from nas.study import SearchStopped
from nas.warm import WarmBase, overrides_of


def run(study: optuna.Study, setting: Setting, warm: WarmBase, display: Display) -> None:
    """Train placements until the asked number of distinct ones is there; keep csv and front current.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the running trials are lost, nothing else.
        SearchStopped: Nothing new is left to try, trial after trial fails, or no worker is left.
    """
    todo = setting.recipe.trials - len(export.trained(study)) + sum(map(history.paused, study.get_trials(False)))
    if todo <= 0:
        return
    with turn.interruptible():
        count = 1 if in_memory(setting) else slots.choose(setting, todo, display.say)
    if count > 1:
        return together(study, setting, warm, display, count)
    turn.work(study, setting, warm, display.say, [display.finished_trial, lambda s, t: studies.write(s, setting)])


def in_memory(setting: Setting) -> bool:
    """Whether the study's storage lives in this process, where no worker could reach it."""
    url = studies.storage_url(setting)
    return url.startswith("sqlite") and url.partition("://")[2].strip("/").partition("?")[0] in ("", ":memory:")


def together(study: optuna.Study, setting: Setting, warm: WarmBase, display: Display, count: int) -> None:
    """Start ``count`` workers, show what they finish, and end with the last of them."""
    display.workers = count
    seen = {t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished()}
    workers: list[Child] = []
    with turn.interruptible():
        try:
            read_labels(setting, warm)
            for index in range(count):
                workers.append(Child("nas.worker", job(setting, count, index), slots.share(count), setting.log))
            watch(study, setting, display, workers, seen)
        finally:
            stop(workers)
            studies.close(study, lambda pid: pid in {w.pid for w in workers})
            announce(study, setting, display, seen)


def job(setting: Setting, count: int, index: int) -> dict[str, Any]:
    """What a worker is told: the recipe on this very device, and what the base costs when nobody trains."""
    device = "cpu" if setting.device.type == "cpu" else str(setting.device.index or 0)
    recipe = setting.recipe.model_dump(mode="json")
    recipe["train"] |= {"device": device if setting.device.type in ("cpu", "cuda") else setting.device.type}
    return {"recipe": recipe, "base_cost": setting.base_cost.to_json(), "workers": count, "index": index}


def read_labels(setting: Setting, warm: WarmBase) -> None:
    """Let Ultralytics read the labels here once: processes that write its caches at once trip over each other.

    Raises:
        SearchStopped: The dataset cannot be read.
    """
    try:
        train.scan(warm.model, overrides_of(setting, 1), setting.log)
    except train.TrainingFailed as e:
        raise SearchStopped(f"the dataset could not be read: {e}; see {setting.log}") from e


def watch(study: optuna.Study, setting: Setting, display: Display, workers: list[Child], seen: set[int]) -> None:
    """Show what the workers finish and say until the last one has ended.

    Raises:
        SearchStopped: They ended before the asked number was reached; says why.
    """
    at_work, reasons, told = dict(enumerate(workers)), list[str](), set[str]()
    while at_work:
        time.sleep(turn.PAUSE)
        for index, worker in list(at_work.items()):
            ended = not worker.running
            for message in messages(worker):
                if (text := message.get("said")) and text not in told:
                    told.add(text)
                    display.say(text)
                reasons += [message[key] for key in ("stopped", "failed") if key in message]
                if "failed" in message:
                    display.say(f"worker {index + 1} ended: {message['failed']}; see {setting.log}")
            if ended:
                del at_work[index]
                if worker.process.returncode not in (0, 1, 130):
                    reasons.append(f"worker {index + 1} died ({worker.how})")
                    display.say(f"{reasons[-1]}; its placement is tried again; see {setting.log}")
                if at_work and worker.process.returncode:
                    with locks.of_study(setting.folder):
                        studies.revive(study, setting)
        announce(study, setting, display, seen)
    if (reasons or any(w.process.returncode for w in workers)) and len(export.trained(study)) < setting.recipe.trials:
        raise SearchStopped(reasons[-1] if reasons else "the workers were ended")


def messages(worker: Child) -> Iterator[dict[str, Any]]:
    """What it has said since; all of it where it has ended."""
    while (message := worker.hear(0.0 if worker.running else 1.0)) is not None:
        yield message


def announce(study: optuna.Study, setting: Setting, display: Display, seen: set[int]) -> None:
    """Show the trials that were finished since, in their order, and write them down."""
    new = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and t.number not in seen]
    seen |= {t.number for t in new}
    for trial in sorted(filter(counts, new), key=lambda t: str(t.datetime_complete)):
        display.finished_trial(study, trial)
    if new:
        studies.write(study, setting)


def counts(trial: FrozenTrial) -> bool:
    """Whether a finished trial has something to tell: one that was interrupted has not."""
    return trial.state != TrialState.FAIL or "error" in trial.user_attrs
