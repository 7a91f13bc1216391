"""Goes in: a Setting. Comes out: an Optuna study, opened or continued, and its folder brought up to date."""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from modules import registry
from nas import export, locks, proposals, report, sampler, scout
from nas.recipe import RecipeError
from nas.setting import Setting
from nas.warm import WarmBase
from search_spaces import Block, Placement

UNOWNED = timedelta(minutes=1)  # a trial says at once whose it is; after so long its process died before
SCOUTED = "scouted"  # attribute of a study: what each block at each site promised before any training
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
    study.sampler = make_sampler(study, setting)
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
    with locks.of_study(setting.folder):
        revive(study, setting)
    return study


def join(setting: Setting, storage: BaseStorage, index: int) -> optuna.Study:
    """The study that :func:`open_study` opened in another process, for the worker of this index.

    Raises:
        RecipeError: What this process reads is not what the study was made from; says the differences.
    """
    study = optuna.load_study(study_name=setting.recipe.name, storage=storage)
    refuse_another_recipe(study, setting)
    study.sampler = make_sampler(study, setting, index)
    return study


def make_sampler(study: optuna.Study, setting: Setting, index: int = 0) -> sampler.DistinctSampler:
    """The recipe's sampler; each worker's draws are its own, and the study's lock keeps their proposals apart."""
    r = setting.recipe
    seed = r.seed + len(study.get_trials(deepcopy=False)) + 100_003 * index
    lock = locks.of_study(setting.folder)
    return sampler.make(r.sampler, setting.space, setting.allowed, seed, lock, known(study, setting))


def known(study: optuna.Study, setting: Setting) -> proposals.Known:
    """What is known of placements before any of them is trained."""
    r, base = setting.recipe, setting.base_cost.gflops
    gflops = lambda p: setting.predict(p)[1]  # noqa: E731
    cells = {(c.site, c.block): c for c in scout.from_json(study.user_attrs.get(SCOUTED, ()))}
    worths = [c.worth for c in cells.values() if c.worth is not None]

    def size(site: str, block: Block) -> float:
        if not worths:  # wiring "plain", or an older study: dear blocks may do more
            return gflops(Placement.of({site: block})) - base
        worth = cells[site, block.label].worth
        return float(np.median(worths)) if worth is None else worth

    def latency(p: Placement) -> float:
        waits = [cells[s, b.label].latency for s, b in p if cells]
        return gflops(p) / base if not cells or None in waits else 1 + sum(filter(None, waits))

    kin = proposals.kin_of(setting.space, lambda label: registry.spec(Block.from_label(label).name).family, size)
    return proposals.Known(setting.space, setting.allowed, kin, gflops, latency, r.objectives, r.rungs)


def look_ahead(study: optuna.Study, setting: Setting, warm: WarmBase, say: Callable[[str], None]) -> str | None:
    """Before the first placement, where the sampler can use it: every block at every site, see nas/scout.py.

    Returns:
        What was done, in words; None where nothing was.
    """
    if setting.recipe.sampler != sampler.EHVI or SCOUTED in study.user_attrs:
        return None
    started, pairs = time.monotonic(), sum(len(blocks) for _, blocks in setting.space.sites)
    say(f"looking at {pairs} pairs of a block and a site before any training; some seconds to some minutes")
    try:
        cells, images = scout.scout(setting, warm)
    except (RuntimeError, ValueError, MemoryError, OSError) as e:
        return f"could not look at the blocks before training: {type(e).__name__}: {e}; the search goes on without"
    study.set_user_attr("scouted_images", images)
    study.set_user_attr(SCOUTED, scout.to_json(cells))
    study.sampler = make_sampler(study, setting)
    return scout.told(cells, images, started)


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
    """The untouched base as trial 0, then the recipe's sparse placements."""
    r = setting.recipe
    first = [Placement(), *sampler.sparse(setting.space, r.sparse, setting.allowed, r.seed)]
    for placement in first:
        study.enqueue_trial(setting.space.params(placement), user_attrs={"origin": "startup"}, skip_if_exists=True)


def revive(study: optuna.Study, setting: Setting) -> None:
    """Fail trials whose process is gone, and queue again what was interrupted before it was trained."""
    close(study, lambda pid: not _alive(pid))
    known = set(sampler.tried(study, setting.space))
    for t in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        params = sampler.params_of(t)
        if "error" in t.user_attrs or not all(s in params for s, _ in setting.space.sites):
            continue
        placement = setting.space.placement(params)
        if placement.id not in known:
            known.add(placement.id)
            study.enqueue_trial(params, user_attrs={"origin": f"interrupted trial {t.number}"})


def close(study: optuna.Study, gone: Callable[[Any], bool], unowned: bool = False) -> None:
    """Fail this machine's running trials whose process is ``gone``, and those that nobody owns: for long, or all."""
    for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host = t.user_attrs.get("host")
        old = t.datetime_start is not None and datetime.now() - t.datetime_start > UNOWNED
        orphan = host is None and (unowned or old)
        if orphan or (host == socket.gethostname() and gone(t.user_attrs.get("pid"))):
            study.tell(t.number, state=TrialState.FAIL, skip_if_finished=True)


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
