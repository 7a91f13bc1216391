"""Goes in: a recipe and a place in the queue, from the parent process. Comes out: its share of a study's trials.

Run as ``python -m nas.worker`` by nas/workers.py. What it prints goes to the study's log. It may be ended at any
moment: its parent closes its trial and starts another in its place.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from nas import cost, crew, setting, storage, turn, warm
from nas import study as studies
from nas.children import Parent
from nas.errors import InputError
from nas.hidden import hide
from nas.recipe import Recipe


class DeviceLost(RuntimeError):
    """What this process has on its device is gone; a new one can go on."""


def main() -> int:
    """Do the job; the exit status is 0 where nothing is left to do, 1 where nothing can be done, else another."""
    parent = Parent()
    threading.Thread(target=live, args=(parent,), daemon=True).start()
    with turn.interruptible():
        try:
            work(parent.hear(), parent)
        except KeyboardInterrupt:
            return crew.INTERRUPTED
        except studies.SearchStopped as e:
            parent.tell(stopped=str(e))
            return crew.STOPPED
        except BaseException as e:
            with contextlib.suppress(OSError):  # the log's disk may be full
                print(hide(traceback.format_exc()), file=sys.stderr)
            refused = isinstance(e, InputError)
            parent.tell(failed=" ".join(f"{type(e).__name__}: {e}".split())[:1000], refused=refused)
            return crew.AGAIN
    return crew.DONE


def live(parent: Parent) -> None:
    """Say every few seconds that this process runs."""
    while True:
        parent.tell(alive=True)
        threading.Event().wait(crew.ALIVE)


def work(job: Mapping[str, Any], parent: Parent) -> None:
    """Come to where the parent process stands, and take trials until there are enough."""
    base_cost = cost.Cost.from_json(job["base_cost"])
    prepared = replace(setting.prepare(Recipe.model_validate(job["recipe"]), base_cost), workers=job["workers"])
    say = lambda text: parent.tell(said=text)  # noqa: E731
    study = studies.join(prepared, storage.open_storage(studies.storage_url(prepared), say, wait=True), job["index"])
    base = warm.warm_base(prepared)
    parent.tell(ready=True)

    def ended(study: optuna.Study, trial: FrozenTrial) -> None:
        parent.tell(ended=trial.number)
        if trial.state == TrialState.FAIL:
            raise_if_lost(prepared.device)

    turn.work(study, prepared, base, say, [ended], lambda number: parent.tell(began=number))


def raise_if_lost(device: torch.device) -> None:
    """After a failure: an error in a kernel leaves a CUDA context in which nothing works any more.

    Raises:
        DeviceLost: This is such a one.
    """
    if device.type == "cuda":
        try:
            torch.zeros(1, device=device).add_(1).item()
        except RuntimeError as e:
            raise DeviceLost(f"its CUDA context is gone after a failure: {e}") from e


if __name__ == "__main__":
    raise SystemExit(main())
