"""Goes in: a storage and the name of a study in it. Comes out: this machine's workers on that study, until it is done.

The study says what is trained; this machine brings a copy of the dataset, of the weights and of the plug-ins, wherever
they lie here, and is refused where their content is another.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from rich.console import Console

from nas import cost, export, plug_ins, recipe, run, setting, slots, status, steady, turn, warm, wording, workers
from nas import study as studies
from nas.display import Display
from nas.hidden import full
from nas.recipe import Recipe, RecipeError
from nas.setting import Setting
from nas.storage import hide_password, open_storage
from nas.train import TrainingFailed

OWN = ("device", "workers")  # of Ultralytics' arguments: what each machine decides for itself
LOOK = 5.0  # seconds between looks whether the base is ready


def command(storage: str, name: str, local: Mapping[str, Any], args: list[str]) -> None:
    """`worker`: find the study, prepare what it shares, take trials until there are enough.

    Args:
        local: Recipe fields that are this machine's own: paths, output, slots.
        args: KEY=VALUE of :data:`OWN`.

    Raises:
        InputError: No such study, or this machine has other things than it was made from.
    """
    console = Console(soft_wrap=True, file=sys.stdout)
    say = lambda text: console.print(text, highlight=False, markup=False)  # noqa: E731
    storage, train = full(storage), own(args)
    study = find(storage, name)
    say(f"Checking this machine's copies against study {name}.")
    if local.get("modules"):
        plug_ins.announce(local["modules"], say)
    else:
        plug_ins.again(study, say)
    prepared = prepare(study, storage, local, train)
    prepared.folder.mkdir(parents=True, exist_ok=True)
    say(f"study: {name} at {hide_password(storage, storage)}; this machine's log: {prepared.log}")
    if prepared.store is not None:
        say(f"artifacts: {prepared.store.address}")
    code = 0
    with turn.interruptible():
        try:
            wait_for_base(study, say)
            warm.obtain(prepared, study.user_attrs[warm.ATTRIBUTE])
            base = warm.warm_base(prepared)
            code = work(study, prepared, base, console)
        except TrainingFailed as e:
            raise RecipeError(f"the base could not be made here: {e}; see {prepared.log}") from e
        except KeyboardInterrupt:
            code = 130
    done = len(export.trained(study))
    say(f"{wording.count(done, 'placement')} of {prepared.recipe.trials} trained by all machines together.")
    sys.exit(code)


def find(storage: str, name: str) -> optuna.Study:
    """The study of that name.

    Raises:
        RecipeError: The storage cannot be reached, or has none.
    """
    status.refuse_to_make(storage)
    opened = open_storage(storage, lambda text: print(text, file=sys.stderr, flush=True))
    names = optuna.get_all_study_names(opened)
    if name not in names:
        there = ", ".join(names) or "none"
        raise RecipeError(
            f"storage has no study {name!r}; it has: {there}{recipe.near(name, names)}. "
            "`search --storage ... --name ...` makes one"
        )
    study = optuna.load_study(study_name=name, storage=opened)
    if "ready" not in study.user_attrs:
        raise RecipeError(f"study {name!r} was not made by `nas search`, or that is still at its beginning")
    return study


def own(args: list[str]) -> dict[str, Any]:
    """Arguments of Ultralytics that a machine decides for itself.

    Raises:
        RecipeError: Another one.
    """
    found = run.parse(args)
    for key in found:
        if key not in OWN:
            raise RecipeError(f"argument {key}={found[key]}: the study decides it; a worker's own: {', '.join(OWN)}")
    return found


def prepare(study: optuna.Study, storage: str, local: Mapping[str, Any], train: Mapping[str, Any]) -> Setting:
    """What the study shares, from this machine's copies.

    Raises:
        RecipeError: They are no copies; says what differs.
    """
    told = study.user_attrs
    read = dict(told["recipe"]) | {k: v for k, v in local.items() if v is not None}
    read |= {"name": study.study_name, "storage": storage, "trials": told.get("asked", told["recipe"]["trials"])}
    read["artifacts"] = local.get("artifacts") or told.get("artifacts")  # whole, whatever the recipe's own folder was
    kept = {k: v for k, v in read.pop("train").items() if v is not None and k not in OWN}
    made = Recipe.model_validate(recipe.read(None, {**read, "train": {**kept, **train}}))
    prepared = setting.prepare(made, cost.Cost.from_json(told["base"]["cost"]))
    studies.refuse_another_machine(study, prepared)
    return prepared


def wait_for_base(study: optuna.Study, say: Any) -> None:
    """Until the machine that made the study has fine-tuned the base and looked at the blocks."""
    if warm.ATTRIBUTE not in study.user_attrs:
        say("waiting for the machine that made the study to prepare its base")
        while warm.ATTRIBUTE not in study.user_attrs:
            time.sleep(LOOK)


def work(study: optuna.Study, prepared: Setting, base: warm.WarmBase, console: Console) -> int:
    """This machine's share; the exit status."""
    with Display(study, prepared, console) as display:
        study.sampler = studies.make_sampler(study, prepared)
        todo = prepared.recipe.trials - len(export.trained(study)) + len(export.unfinished(study))
        count = max(1, slots.choose(prepared, max(1, todo), display.say))
        try:
            workers.together(study, prepared, base, display, count * len(prepared.cards), writes=False)
        except KeyboardInterrupt:
            return 130
        except studies.SearchStopped as e:
            display.say(f"stopped: {e}")
            return 1
        except StorageInternalError as e:
            display.say(f"stopped: the storage does not answer: {steady.reason(e)}; the same command goes on")
            return 1
    return 0
