"""Goes in: a Setting. Comes out: an Optuna study, opened or continued, and its folder brought up to date."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
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
from nas import carried, export, history, locks, machine, proposals, report, sampler, scout, study_lock
from nas.recipe import RecipeError
from nas.setting import Setting
from nas.warm import WarmBase
from search_spaces import Block, Placement

UNOWNED = timedelta(minutes=1)  # a trial says at once whose it is; after so long its process died before
DIED, MOST_DEATHS = "died", 3  # attribute of a trial: how its process did; so often until its placement has failed
ABANDONED = 3600.0  # seconds after which nobody writes a file any more that is not whole
SCOUTED = "scouted"  # attribute of a study: what each block at each site promised before any training
HERE = {  # of an identity: what to do about another one on a machine that joins
    "data": " (content; --data names this machine's copy)",
    "weights": " (content; --weights names this machine's copy)",
    "modules": " (content of the plug-ins; --modules)",
    "space_hash": " (--space)",
}
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
    with study_lock.of(storage, name, setting.folder):  # two searches may be started at once
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=[StudyDirection[d.upper()] for _, d in chosen],
            load_if_exists=True,
        )
        refuse_another_recipe(study, setting)
        study.sampler = make_sampler(study, setting)
        if "ready" not in study.user_attrs:
            study.set_metric_names([n for n, _ in chosen])
            facts = {
                "identity": setting.identity,
                "recipe": setting.recipe.model_dump(mode="json", exclude={"storage"}),
                "base_yaml": setting.yaml,
                "base": {"cost": setting.base_cost.to_json(), "weights": setting.identity["weights"]},
                "folder": str(setting.folder),
                "contents": contents(setting),
                "classes": len(setting.dataset.names),
            }
            for key, value in facts.items():
                study.set_user_attr(key, value)
            enqueue(study, setting)
            study.set_user_attr("ready", True)
        revive(study, setting)
    return study


def lock_of(study: optuna.Study, setting: Setting) -> study_lock.StudyLock:
    """A new lock on what the study trains next."""
    return study_lock.of(study._storage, study.study_name, setting.folder)


def join(setting: Setting, storage: BaseStorage, index: int) -> optuna.Study:
    """The study that :func:`open_study` opened in another process, for the worker of this index.

    Raises:
        RecipeError: What this process reads is not what the study was made from; says the differences.
    """
    study = optuna.load_study(study_name=setting.recipe.name, storage=storage)
    refuse_another_machine(study, setting)
    study.sampler = make_sampler(study, setting, index)
    return study


def make_sampler(study: optuna.Study, setting: Setting, index: int = 0) -> sampler.DistinctSampler:
    """The recipe's sampler; each worker's draws are its own, and the study's lock keeps their proposals apart."""
    r = setting.recipe
    seed = r.seed + len(study.get_trials(deepcopy=False)) + 100_003 * index
    return sampler.make(r.sampler, setting.space, setting.allowed, seed, lock_of(study, setting), known(study, setting))


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
        return  # new, or its search was interrupted before the first line
    ours = json.loads(json.dumps(ours))
    lines = list(differences(theirs, ours))
    if lines:
        raise RecipeError(
            f"study {study.study_name!r} was made by another recipe; choose another --name, "
            f"or continue it with its own: --recipe {setting.folder / 'recipe.yaml'}\n"
            + "\n".join(f"  {line}" for line in lines)
        )


def refuse_another_machine(study: optuna.Study, setting: Setting) -> None:
    """Compare what a machine that joins has with what the study was made from. Another device only matters where
    latencies, which do not compare, are searched by.

    Raises:
        RecipeError: One line a difference.
    """
    theirs, ours = dict(study.user_attrs["identity"]), json.loads(json.dumps(setting.identity))
    if "latency" not in setting.recipe.objectives and setting.recipe.max_latency_ms is None:
        ours["device"] = theirs["device"]
    lines = [f"{line}{HERE.get(line.partition(':')[0], '')}" for line in differences(theirs, ours)]
    if "data" in (line.partition(":")[0] for line in lines):
        then, now = study.user_attrs.get("contents"), contents(setting)
        lines += [f"dataset's {line}" for line in differences(then or {}, json.loads(json.dumps(now)))]
    if lines:
        raise RecipeError(
            f"study {study.study_name!r} was made from other things than this machine has:\n"
            + "\n".join(f"  {line}" for line in lines)
        )


def contents(setting: Setting) -> dict[str, Any]:
    """Of a dataset, what a person can compare: images and labels of each split, and the classes."""
    d = setting.dataset
    return {"images": dict(d.images), "labels": dict(d.labels), "classes": list(d.names.values())}


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


def revive(study: optuna.Study, setting: Setting, trials: history.Trials | None = None) -> bool:
    """Fail trials whose process is gone, and queue again what was interrupted before it was trained.

    Returns:
        Whether there was any.
    """
    trials = study.get_trials(deepcopy=False) if trials is None else trials
    changed = close(study, lambda pid: not _alive(pid), trials=trials)
    if changed:
        trials = study.get_trials(deepcopy=False)
    known = set(sampler.tried(study, setting.space, trials))
    for t in (t for t in trials if t.state == TrialState.FAIL and "error" not in t.user_attrs):
        params = history.params_of(t)
        if not all(s in params for s, _ in setting.space.sites):
            continue
        placement = setting.space.placement(params)
        if placement.id not in known:
            known.add(placement.id)
            study.enqueue_trial(params, user_attrs={"origin": f"interrupted trial {t.number}"})
            changed = True
    return changed


def close(
    study: optuna.Study, gone: Callable[[Any], bool], unowned: bool = False, trials: history.Trials | None = None
) -> bool:
    """Fail this machine's running trials whose process is ``gone``, and those that nobody owns: for long, or all.

    Returns:
        Whether there was any.
    """
    changed = False
    for t in study.get_trials(deepcopy=False) if trials is None else trials:
        if t.state != TrialState.RUNNING:
            continue
        host = t.user_attrs.get("host")
        old = t.datetime_start is not None and datetime.now() - t.datetime_start > UNOWNED
        orphan = host is None and (unowned or old)
        if orphan or (host == machine.name() and gone(t.user_attrs.get("pid"))):
            study.tell(t.number, state=TrialState.FAIL, skip_if_finished=True)
            changed = True
    return changed


def bury(study: optuna.Study, setting: Setting, pid: int, how: str, error: str | None = None) -> None:
    """Fail the running trial of a process of this machine that is no more.

    Args:
        how: It died, in words; empty where it ended of itself. A placement that processes die of again and again has
            failed.
        error: Why its placement is not to be tried again.
    """
    for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if t.user_attrs.get("host") != machine.name() or t.user_attrs.get("pid") != pid:
            continue
        params = sampler.params_of(t)
        if how and error is None and all(s in params for s, _ in setting.space.sites):
            others = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
            times = 1 + sum(DIED in o.user_attrs and sampler.params_of(o) == params for o in others)
            error = f"{times} processes that trained it died; the last one: {how}" if times >= MOST_DEATHS else None
        try:
            for key, value in ((DIED, how), ("error", error)):
                if value:
                    study._storage.set_trial_user_attr(t._trial_id, key, value)
            study.tell(t.number, state=TrialState.FAIL, skip_if_finished=True)
        except optuna.exceptions.UpdateFinishedTrialError:
            pass


def write(
    study: optuna.Study, setting: Setting, pictures: bool = False, say: Callable[[str], None] = lambda text: None
) -> None:
    """Bring the study's folder up to date."""
    with locks.FileLock(setting.folder / ".writing"):  # two searches may be at work in one folder
        for left in setting.folder.glob(".front*"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        for part in (p for name in ("weights", "paused") for p in (setting.folder / name).glob("*.part")):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > ABANDONED:
                    part.unlink()
        for missing in carried.get_weights(study, setting, export.front_trials(study)):
            say(f"warning: {missing}")
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
