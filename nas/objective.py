"""Goes in: one Optuna trial. Comes out: its objective values. The story of a trial, top to bottom."""

from __future__ import annotations

import errno
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import torch
import ultralytics
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from ultralytics.nn.tasks import BaseModel

from nas import __version__, board_files, carried, cost, deploy, export, graph, locks, report, rungs, train, weights
from nas.backends import FileLost, StoreError
from nas.demo import cache_folder
from nas.history import paused
from nas.legs import Leg
from nas.sampler import Exhausted
from nas.setting import Setting, threads
from nas.warm import WarmBase, overrides_of
from search_spaces import Placement, sample

VERSIONS = {
    "nas": __version__,
    "torch": torch.__version__,
    "ultralytics": ultralytics.__version__,
    "optuna": optuna.__version__,
}
DOUBTFUL, NOISY, TRIES = 0.98, 0.5, 3  # measured again: what seems faster than the base, and what was disturbed


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class CandidateFailed(RuntimeError):
    """A candidate that gave no number; its trial fails with this reason and the search goes on."""


class Taken(RuntimeError):
    """Another process trains this placement, or has: the trial is not to be."""


class NoRoom(RuntimeError):
    """The disk takes no more; the trial is to be trained again when it does."""


def make(setting: Setting, warm: WarmBase) -> Callable[[optuna.Trial], tuple[float, ...]]:
    """The objective of a study."""
    return lambda trial: run_trial(trial, setting, warm)


def run_trial(trial: optuna.Trial, setting: Setting, warm: WarmBase) -> tuple[float, ...]:
    """Sample, insert, transfer, weigh, gate, train, score, and record.

    Raises:
        CandidateFailed: It could not be built, measured or trained.
        TrialPruned: It is beyond a hard limit, or paused between two rungs with all that is known of it recorded.
    """
    started = time.perf_counter()
    try:
        placement = sample(setting.space, trial)
    except Exhausted as e:
        note(trial, error=str(e))
        raise
    note(trial, placement_id=placement.id, label=placement.label, placement=placement.to_json())
    note(trial, recipe=setting.digest, versions=VERSIONS, workers=setting.workers)
    if (twin := earlier(trial.study, trial.number, placement)) is not None:
        note(trial, duplicate_of=twin.number, **{k: twin.user_attrs[k] for k in ("cost", "score")})
        return tuple(twin.values)
    before, ends = begun(trial), rungs.shares(setting.recipe.rungs)
    reached = len(before.user_attrs["score"]["curve"]) if before else 0
    top = reached + 1 if len(placement) else len(ends)  # the base is there to compare with at every rung
    raise_if_taken(trial, placement, top)
    try:
        gate(trial, setting, *setting.predict(placement))
        graft = graph.insert(setting.yaml, placement, setting.recipe.wire)
        model, moved = build(setting, warm, graft)
        found = cost.Cost.from_json(before.user_attrs["cost"]) if before else weigh(setting, model, placement)
        note(trial, cost=found.to_json())
        gate(trial, setting, found.params, found.gflops, alone_ms(setting, found.latency))
        built = time.perf_counter() - started
        for rung in range(reached, top):
            part = leg(setting.folder, placement, rung, ends)
            if before and part.start:
                carried.get_state(before, setting, part.start)
            trained, score = train.short_train(
                model if rung == reached else build(setting, warm, graft)[0],
                overrides_of(setting, setting.recipe.epochs),
                protocol=setting.recipe.protocol,
                check=lambda m: weights.account(warm.model, m, graft.moved),
                steps=steps(setting) if setting.workers > 1 else None,
                leg=part,
                log=setting.log,
            )
        if top < len(ends) and part.keep:
            carried.put_state(trial, setting, part.keep)
    except (optuna.TrialPruned, KeyboardInterrupt, optuna.exceptions.UpdateFinishedTrialError, StorageInternalError):
        raise
    except Exception as e:
        if isinstance(e, OSError) and e.errno in NO_ROOM:
            raise NoRoom(no_room(setting, e)) from e
        if isinstance(e, StoreError) and not isinstance(e, FileLost):
            raise NoRoom(f"{e}; the same command goes on") from e
        reason = str(e) if isinstance(e, train.TrainingFailed) else f"{type(e).__name__}: {e}"
        note(trial, error=" ".join(reason.split())[:1000])
        optuna_dashboard.save_note(trial, report.trial_note(trial.user_attrs))
        raise CandidateFailed(reason) from e
    finally:
        gc.collect()
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()
    score = replace(score, seconds={**score.seconds, "build": built, "total": time.perf_counter() - started})
    score = replace(score, split=setting.dataset.split)
    note(trial, score=score.to_json(), transfer=str(moved), rung=top, rungs=len(ends))
    show(trial, setting, graft)
    if top < len(ends):
        raise optuna.TrialPruned(f"paused at rung {top} of {len(ends)}")
    keep_weights(trial, setting, trained)
    return values(setting.recipe.objectives, found, score)


def keep_weights(trial: optuna.Trial, setting: Setting, trained: BaseModel) -> None:
    """Keep what was trained; its figures stand even where that is not possible."""
    args = overrides_of(setting, setting.recipe.epochs) | {"data": str(setting.dataset.named)}
    try:
        carried.put_weights(trial, setting, export.keep(setting.folder, trial.number, trained, args))
    except (OSError, RuntimeError) as e:
        if isinstance(e, StorageInternalError | optuna.exceptions.UpdateFinishedTrialError):
            raise
        note(trial, weights_lost=" ".join(f"{type(e).__name__}: {e}".split())[:300])


def raise_if_taken(trial: optuna.Trial, placement: Placement, top: int) -> None:
    """Two processes may be told to train one placement where the database went away in between: one of them stops.

    Raises:
        Taken: Another trial has reached this rung, or was begun before for it.
    """
    for t in trial.study.get_trials(deepcopy=False):
        if t.number == trial.number or t.user_attrs.get("placement_id") != placement.id:
            continue
        running = t.state == TrialState.RUNNING and t.number < trial.number
        if running or (paused(t) and t.user_attrs.get("rung", 0) >= top):
            raise Taken(f"trial {t.number} trains it")


def no_room(setting: Setting, e: OSError) -> str:
    """What to do about it."""
    return f"{setting.folder}: {e.strerror}; the placement is trained again when the same command goes on"


def begun(trial: optuna.Trial) -> FrozenTrial | None:
    """The trial that this one goes on from: trained to a lower rung, its state kept."""
    number = trial.user_attrs.get("continues")
    return None if number is None else trial.study.get_trials(deepcopy=False)[number]


def leg(folder: Path, placement: Placement, rung: int, ends: tuple[float, ...]) -> Leg:
    """The part of a placement's training that ends at a rung."""
    start = export.paused_state(folder, placement.id, rung) if rung else None
    return Leg(ends[rung], start, export.paused_state(folder, placement.id, rung + 1))


def build(setting: Setting, warm: WarmBase, graft: graph.Graft) -> tuple[BaseModel, weights.Transfer]:
    """A candidate with the base's weights in it, and what became of them."""
    model = weights.build(graft.yaml, setting.dataset.names, setting.dataset.channels, setting.recipe.seed)
    return model, weights.transfer(warm.model, model, graft.moved, setting.recipe.seed)


def show(trial: optuna.Trial, setting: Setting, graft: graph.Graft) -> None:
    """What the dashboard shows of a trial: its note, and its YAML and training curve to download."""
    optuna_dashboard.save_note(trial, report.trial_note(trial.user_attrs))
    board_files.of_trial(trial, export.model_text(graft), setting.folder)


def values(objectives: tuple[str, ...], found: cost.Cost, score: train.Score) -> tuple[float, ...]:
    """The objective values in the recipe's order: the task's figure, latency over the base's, GFLOPs."""
    table = {
        "map": score.value,
        "accuracy": score.value,
        "latency": found.latency.ratio if found.latency else float("nan"),
        "gflops": found.gflops,
    }
    return tuple(table[name] for name in objectives)


def weigh(setting: Setting, model: Any, placement: Placement) -> cost.Cost:
    """Parameters as built, GFLOPs as the sum of base and blocks, latency measured beside the base."""
    r = setting.recipe
    fused = deploy.runner(model, r.latency_backend, r.imgsz, setting.device)
    tries: list[cost.Latency] = []
    while len(tries) < TRIES and (not tries or doubtful(tries[-1])):
        with steps(setting).silent() as alone, all_threads(setting):
            one = cost.latency(fused, setting.fused, r.imgsz, r.latency_runs)
        tries.append(one if alone else replace(one, alone=False))
    last = tries[-1]
    measured = sorted(tries, key=lambda one: one.ratio)[len(tries) // 2] if doubtful(last) else last
    if not len(placement):
        measured = replace(measured, ratio=1.0)  # the base over itself: by definition, what is measured is noise
    return cost.Cost(cost.params(model), setting.predict(placement)[1], measured)


def doubtful(one: cost.Latency) -> bool:
    """Whether to measure again: a block only adds work, and on a quiet machine times lie close together."""
    return one.ratio < DOUBTFUL or one.iqr_ms > NOISY * one.ms


def steps(setting: Setting) -> locks.Steps:
    """Those of all trainings on this device."""
    return locks.Steps(cache_folder(), str(setting.device))


@contextmanager
def all_threads(setting: Setting) -> Iterator[None]:
    """The threads of all workers, which wait: as the base was timed before the search.

    An exported file's runtime keeps the number of threads that it was opened with.
    """
    mine = torch.get_num_threads()
    torch.set_num_threads(threads() * setting.workers if setting.recipe.latency_backend == "torch" else mine)
    try:
        yield
    finally:
        torch.set_num_threads(mine)


def alone_ms(setting: Setting, measured: cost.Latency | None) -> float | None:
    """Milliseconds as the base's were measured before the search, when nobody trained: by the ratio, which holds."""
    if measured is None or setting.base_cost.latency is None or setting.workers == 1:
        return measured.ms if measured else None
    return measured.ratio * setting.base_cost.latency.ms


def gate(trial: optuna.Trial, setting: Setting, params: int, gflops: float, latency_ms: float | None = None) -> None:
    """Refuse a candidate beyond a hard limit before it is trained."""
    reason = setting.beyond(params, gflops, latency_ms)
    if reason:
        note(trial, infeasible=reason)
        optuna_dashboard.save_note(trial, report.trial_note(trial.user_attrs))
        raise optuna.TrialPruned(reason)


def earlier(study: optuna.Study, number: int, placement: Placement) -> FrozenTrial | None:
    """A finished trial of the same placement."""
    for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if (
            t.number != number
            and t.user_attrs.get("placement_id") == placement.id
            and "duplicate_of" not in t.user_attrs
        ):
            return t
    return None


def note(trial: optuna.Trial, **facts: Any) -> None:
    """Store facts with the trial."""
    for key, value in facts.items():
        trial.set_user_attr(key, value)
