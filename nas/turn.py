"""Goes in: a study that others may work on too. Comes out: placements trained in turn until the asked number is there.

One process's part. Whether there is room for one more, and that it is new, is decided under the study's lock, so that
several processes train exactly the asked number and none twice.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nas import carried, export, history, objective, rungs, sampler
from nas import study as studies
from nas.history import Past
from nas.proposals import EHVISampler
from nas.setting import Setting
from nas.shield import SHIELD
from nas.stamp import DatasetChanged, Stamp
from nas.study import SearchStopped
from nas.study_lock import LockLost, StudyLock
from nas.warm import WarmBase
from search_spaces import Placement

MOST_FAILURES = 5
MOST_PRUNED = 50
MOST_PAUSED = 32  # trainings whose state is kept between rungs
STATE_BYTES, LEAST_BYTES = 24, 8 * 2**20  # of a training's state: a parameter, its average, two moments, twice
PAUSE = 0.5  # seconds between looks at what the others train
Callback = Callable[[optuna.Study, FrozenTrial], None]


def work(
    study: optuna.Study,
    setting: Setting,
    warm: WarmBase,
    say: Callable[[str], None],
    callbacks: Sequence[Callback] = (),
    began: Callable[[int], None] = lambda number: None,
) -> None:
    """Take a placement, train it, and again, until the asked number of distinct ones is trained.

    Args:
        say: Takes what a person should know.
        callbacks: Called after every trial.
        began: Called with a trial's number when its placement is chosen.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the running trial is lost, nothing else.
        SearchStopped: Nothing new is left to try, trial after trial fails, or the surroundings do not allow another.
    """
    lock = lock_of(study)
    train, trained = watched(objective.make(setting, warm), Stamp(setting), began), False
    with interruptible() as came:
        try:
            while True:
                raise_if_full(setting)
                lock.acquire()
                ahead = what_next(study, setting)
                if ahead == "done":
                    return
                if trained:
                    raise_if_hopeless(study)
                if ahead == "empty":
                    return say(f"All {setting.space.size} placements of space {setting.space.name} are tried.")
                if ahead == "wait":
                    lock.release()
                    time.sleep(PAUSE)
                    continue
                try:
                    study.optimize(train, n_trials=1, callbacks=callbacks, catch=(objective.CandidateFailed,))
                except Exception as e:
                    if not taken_away(e):
                        raise
                    say(f"a placement was given to another process, since this one was not heard of: {e}")
                    mine_are_over(study)
                trained = True
                raise_if(came)
        except (sampler.Exhausted, objective.NoRoom, DatasetChanged) as e:
            raise SearchStopped(str(e)) from e
        finally:
            # who holds the lock made the trial that says not yet whose it is
            mine_are_over(study, unowned=lock.held)
            lock.release()


def watched(
    train: Callable[[optuna.Trial], tuple[float, ...]], stamp: Stamp, began: Callable[[int], None]
) -> Callable[[optuna.Trial], tuple[float, ...]]:
    """An objective that says when it begins, and whose dataset is the same before and after."""

    def trial_of(trial: optuna.Trial) -> tuple[float, ...]:
        began(trial.number)
        stamp.check()
        try:
            found = train(trial)
        except optuna.TrialPruned:
            stamp.check()
            raise
        stamp.check()
        return found

    return trial_of


def mine_are_over(study: optuna.Study, unowned: bool = False) -> None:
    """Fail what this process has begun and not ended."""
    studies.close(study, lambda pid: pid == os.getpid(), unowned)


def taken_away(e: Exception) -> bool:
    """Whether a trial was not to be, or was ended by another process, which took this one for dead."""
    if isinstance(e, LockLost | objective.Taken | UpdateFinishedTrialError):
        return True
    return isinstance(e, ValueError) and str(e).startswith("Cannot tell a ")  # Optuna's, for the same


def raise_if_full(setting: Setting) -> None:
    """Stop before a training whose state could not be kept.

    Raises:
        SearchStopped: The study's folder takes no more.
    """
    folder = setting.folder
    needed = STATE_BYTES * setting.base_cost.params + LEAST_BYTES
    try:
        free = shutil.disk_usage(folder).free
    except OSError as e:
        raise SearchStopped(
            f"the study's folder {folder} cannot be read: {e.strerror}; the same command goes on"
        ) from e
    if not os.access(folder, os.W_OK):
        raise SearchStopped(f"the study's folder {folder} cannot be written to; the same command goes on")
    if free < needed:
        raise SearchStopped(
            f"the disk of {folder} is full: {free / 2**20:.0f} MB are free, a training needs {needed / 2**20:.0f}; "
            "the same command goes on"
        )


def lock_of(study: optuna.Study) -> StudyLock:
    """The study's lock, which its sampler gives back as soon as a new trial can be seen by others."""
    assert isinstance(study.sampler, sampler.DistinctSampler) and study.sampler.lock is not None
    return study.sampler.lock


def what_next(study: optuna.Study, setting: Setting) -> str:
    """Under the study's lock: ``take`` a trial, ``wait`` for others, ``done``, or ``empty`` where nothing is left."""
    asked = setting.recipe.trials
    optuna.storages.fail_stale_trials(study)  # of machines that are gone
    trials = study.get_trials(deepcopy=False)
    if studies.revive(study, setting, trials):
        trials = study.get_trials(deepcopy=False)
    running = [t for t in trials if t.state == TrialState.RUNNING]
    fresh = sum("continues" not in t.user_attrs for t in running)
    room = len(export.trained(study, trials)) + fresh < asked
    queued = next((t for t in trials if t.state == TrialState.WAITING), None)
    if queued is not None and (room or "continues" in queued.user_attrs):
        return "take"
    pasts = history.read(study, setting.space, trials)
    exhausted = len(pasts) + undecided(running, setting) >= setting.space.size
    if queued is None and (on := who_goes_on(study, setting, room and not exhausted, pasts)):
        origin = f"rung {len(on.values)} of trial {on.trial}"
        study.enqueue_trial(setting.space.params(on.placement), {"continues": on.trial, "origin": origin})
        return "take"
    if room and not exhausted:
        if (new := chosen(study)) is not None and new.id not in {p.placement.id for p in pasts}:
            # found a moment ago under this lock: it need not be asked for again
            study.enqueue_trial(setting.space.params(new))
        return "take"
    if running:
        return "wait"
    return "empty" if room else "done"


def undecided(running: Sequence[FrozenTrial], setting: Setting) -> int:
    """How many processes think about which new placement to take."""
    return sum(not all(s in history.params_of(t) for s, _ in setting.space.sites) for t in running)


def chosen(study: optuna.Study) -> Placement | None:
    """The new placement that the model found worth more than to train anybody on, where it was just asked."""
    assert isinstance(study.sampler, sampler.DistinctSampler)
    found = study.sampler.inner.ahead[1] if isinstance(study.sampler.inner, EHVISampler) else None
    return found if isinstance(found, Placement) else None


def who_goes_on(study: optuna.Study, setting: Setting, room: bool, pasts: Sequence[Past]) -> Past | None:
    """The paused placement that is to be trained to its next rung now, if any."""
    assert isinstance(study.sampler, sampler.DistinctSampler)
    if setting.recipe.rungs == 1:
        return None
    keep(study, setting, pasts)
    return study.sampler.go_on(study, setting.recipe.rungs, room, carried.kept(study, setting), pasts)


def keep(study: optuna.Study, setting: Setting, pasts: Sequence[Past]) -> None:
    """Drop the states of trainings that are over, and of all but the best that are paused: 35 to 100 MB each."""
    paused, costs = [p for p in pasts if p.state == history.PAUSED and p.cost], sampler.costs_in(study)
    values = [(p.values[-1], *costs(p)) for p in paused]
    best = [paused[i] for i in rungs.ranked(values, export.directions(study), MOST_PAUSED)]
    wanted = {export.paused_state(setting.folder, p.placement.id, len(p.values)) for p in best}
    for p in pasts:
        if p.state == history.RUNNING:  # what it goes on from, and what it is about to write
            wanted |= {export.paused_state(setting.folder, p.placement.id, len(p.values) + k) for k in (0, 1)}
    carried.drop_others(study, setting, wanted)


def raise_if_hopeless(study: optuna.Study) -> None:
    """Stop when the last trials all failed, or are all beyond the limits.

    Raises:
        SearchStopped: With the last one's reason.
    """
    trials = study.get_trials(deepcopy=False)
    ended = [t for t in trials if t.state.is_finished()]
    last = [t for t in ended if "infeasible" not in t.user_attrs][-MOST_FAILURES:]
    if len(last) == MOST_FAILURES and all("error" in t.user_attrs for t in last):
        raise SearchStopped(
            f"the last {MOST_FAILURES} trials all failed; the last reason: {last[-1].user_attrs['error']}"
        )
    last = ended[-MOST_PRUNED:]
    waiting = any(t.state == TrialState.WAITING for t in trials)
    if len(last) == MOST_PRUNED and not waiting and all("infeasible" in t.user_attrs for t in last):
        reason = last[-1].user_attrs["infeasible"]
        raise SearchStopped(f"the last {MOST_PRUNED} placements are all beyond the limits: {reason}")


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """SIGTERM interrupts as Ctrl-C does; the list given back holds what came.

    A KeyboardInterrupt that is raised while Python runs a destructor is lost; whoever holds the list can still stop.
    """
    came: list[int] = []

    def interrupt(signum: int, frame: Any) -> None:
        came.append(signum)
        if not SHIELD.takes():
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
