"""Goes in: a study that others may work on too. Comes out: placements trained in turn until the asked number is there.

One process's part. Whether there is room for one more, and that it is new, is decided under the study's lock, so that
several processes train exactly the asked number and none twice.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas import export, history, objective, rungs, sampler
from nas import study as studies
from nas.history import Past
from nas.locks import FileLock
from nas.setting import Setting
from nas.study import SearchStopped
from nas.warm import WarmBase

MOST_FAILURES = 5
MOST_PRUNED = 50
MOST_PAUSED = 32  # trainings whose state is kept between rungs
PAUSE = 0.5  # seconds between looks at what the others train
Callback = Callable[[optuna.Study, FrozenTrial], None]


def work(
    study: optuna.Study,
    setting: Setting,
    warm: WarmBase,
    say: Callable[[str], None],
    callbacks: Sequence[Callback] = (),
) -> None:
    """Take a placement, train it, and again, until the asked number of distinct ones is trained.

    Args:
        say: Takes what a person should know.
        callbacks: Called after every trial.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the running trial is lost, nothing else.
        SearchStopped: Nothing new is left to try, or trial after trial fails.
    """
    lock = lock_of(study)
    train, trained = objective.make(setting, warm), False
    with interruptible() as came:
        try:
            while True:
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
                study.optimize(train, n_trials=1, callbacks=callbacks, catch=(objective.CandidateFailed,))
                trained = True
                raise_if(came)
        except sampler.Exhausted as e:
            raise SearchStopped(str(e)) from e
        finally:
            # who holds the lock made the trial that says not yet whose it is
            studies.close(study, lambda pid: pid == os.getpid(), unowned=lock.held)
            lock.release()


def lock_of(study: optuna.Study) -> FileLock:
    """The study's lock, which its sampler gives back as soon as a new trial can be seen by others."""
    assert isinstance(study.sampler, sampler.DistinctSampler) and study.sampler.lock is not None
    return study.sampler.lock


def what_next(study: optuna.Study, setting: Setting) -> str:
    """Under the study's lock: ``take`` a trial, ``wait`` for others, ``done``, or ``empty`` where nothing is left."""
    asked = setting.recipe.trials
    trials = study.get_trials(deepcopy=False)
    count = {state: sum(t.state == state for t in trials) for state in TrialState}
    if count[TrialState.RUNNING]:
        optuna.storages.fail_stale_trials(study)  # of machines that are gone
        studies.revive(study, setting)
        count[TrialState.RUNNING] = len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        count[TrialState.WAITING] = len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
    fresh = sum(t.state == TrialState.RUNNING and "continues" not in t.user_attrs for t in study.get_trials(False))
    room = len(export.trained(study)) + fresh < asked
    if count[TrialState.WAITING] and room:
        return "take"
    exhausted = len(set(sampler.tried(study, setting.space))) >= setting.space.size
    if not count[TrialState.WAITING] and (on := who_goes_on(study, setting, room and not exhausted)):
        origin = f"rung {len(on.values)} of trial {on.trial}"
        study.enqueue_trial(setting.space.params(on.placement), {"continues": on.trial, "origin": origin})
        return "take"
    if room and not exhausted:
        return "take"
    if count[TrialState.RUNNING]:
        return "wait"
    return "empty" if room else "done"


def who_goes_on(study: optuna.Study, setting: Setting, room: bool) -> Past | None:
    """The paused placement that is to be trained to its next rung now, if any."""
    assert isinstance(study.sampler, sampler.DistinctSampler)
    keep(study, setting)
    kept = lambda p: export.paused_state(setting.folder, p.placement.id, len(p.values)).is_file()  # noqa: E731
    return study.sampler.go_on(study, setting.recipe.rungs, room, kept)


def keep(study: optuna.Study, setting: Setting) -> None:
    """Drop the states of trainings that are over, and of all but the best that are paused: 35 to 100 MB each."""
    if setting.recipe.rungs == 1:
        return
    pasts = history.read(study, setting.space)
    paused = [p for p in pasts if p.state == history.PAUSED and p.cost]
    values = [(p.values[-1], *sampler.known_costs(p, study)) for p in paused]
    best = [paused[i] for i in rungs.ranked(values, export.directions(study))[:MOST_PAUSED]]
    wanted = {export.paused_state(setting.folder, p.placement.id, len(p.values)) for p in best}
    for p in pasts:
        if p.state == history.RUNNING:  # what it goes on from, and what it is about to write
            wanted |= {export.paused_state(setting.folder, p.placement.id, len(p.values) + k) for k in (0, 1)}
    for path in (setting.folder / "paused").glob("*.pt"):
        if path not in wanted:
            path.unlink(missing_ok=True)


def raise_if_hopeless(study: optuna.Study) -> None:
    """Stop when the last trials all failed, or are all beyond the limits.

    Raises:
        SearchStopped: With the last one's reason.
    """
    ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    last = [t for t in ended if "infeasible" not in t.user_attrs][-MOST_FAILURES:]
    if len(last) == MOST_FAILURES and all("error" in t.user_attrs for t in last):
        raise SearchStopped(
            f"the last {MOST_FAILURES} trials all failed; the last reason: {last[-1].user_attrs['error']}"
        )
    last = ended[-MOST_PRUNED:]
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
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
