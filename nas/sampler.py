"""Goes in: what a study has tried. Comes out: the next placement, new and within the limits, by any Optuna sampler."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas import history, machine, rungs
from nas.history import CLAIM, PAUSED, Past
from nas.history import params_of as params_of
from nas.proposals import EHVISampler, Known
from nas.study_lock import LockLost, StudyLock
from search_spaces import Placement, SearchSpace
from search_spaces.placement import NONE

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "gp": lambda seed: GPSampler(seed=seed),
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, n_startup_trials=10, constant_liar=True),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=10),
    "random": lambda seed: RandomSampler(seed=seed),
}
EHVI = "ehvi"
NAMES = (EHVI, *SAMPLERS)
TRIES = 2000
_metrics: WeakKeyDictionary[BaseStorage, dict[int, list[str]]] = WeakKeyDictionary()  # of a study, by its id


class Exhausted(RuntimeError):
    """Every placement that the space and the limits allow has been tried."""


class DistinctSampler(BaseSampler):
    """Any sampler, whose proposals are made sparse enough, within the limits, and different from all before.

    Optuna repeats itself by intention and knows nothing of `max_blocks`; a proposal that breaks a rule is changed
    at as few random sites as it takes. What the study stores is what is trained.

    Args:
        inner: The sampler that proposes.
        space: What may stand where.
        allowed: Whether a placement is within the limits that are known before building it.
        seed: Of the changes.
        lock: The study's, where several processes propose. Whoever asks for a trial holds it; it is given back as soon
            as the trial can be seen to run, and held again for the moment in which a proposal is made a new one:
            the thinking before takes seconds, and others need not wait for it.
    """

    def __init__(
        self,
        inner: BaseSampler,
        space: SearchSpace,
        allowed: Callable[[Placement], bool],
        seed: int,
        lock: StudyLock | None = None,
    ) -> None:
        self.inner, self.space, self.allowed, self.lock = inner, space, allowed, lock
        self.rng = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All sites, always."""
        if "fixed_params" in trial.system_attrs:
            return {}
        return {s: CategoricalDistribution(self.space.choices(s)) for s, _ in self.space.sites}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A proposal of the inner sampler, repaired."""
        if not search_space:
            return {}
        known = self.inner.infer_relative_search_space(study, trial)
        params = dict(self.inner.sample_relative(study, trial, known)) if known else {}
        most = self.space.max_blocks if params else int(self.rng.integers(1, self.space.max_blocks + 1))
        for site, distribution in search_space.items():
            if site not in params:
                params[site] = self.inner.sample_independent(study, trial, site, distribution)
        while True:
            with self.lock or nullcontext():
                params = self.repair(params, set(tried(study, self.space)), most)
                study._storage.set_trial_system_attr(trial._trial_id, CLAIM, params)
                if self.lock is None or _still(self.lock):
                    return params

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The inner sampler's."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def go_on(
        self, study: Study, count: int, room: bool, ready: Callable[[Past], bool], pasts: Sequence[Past] | None = None
    ) -> Past | None:
        """Who is to be trained to its next rung before anything new is tried.

        The model says it where it proposes too; any other sampler is told nothing by half a training, and successive
        halving chooses (nas/rungs.py).

        Args:
            count: Rungs of a training.
            room: Whether new placements may be tried.
            ready: Whether a paused placement's training can be continued here.
            pasts: What the study has tried, where it is at hand.
        """
        if count == 1:
            return None
        pasts = history.read(study, self.space) if pasts is None else pasts
        if isinstance(self.inner, EHVISampler):
            return self.inner.go_on([p for p in pasts if p.state != PAUSED or ready(p)], room)
        names, costs = [d.name.lower() for d in study.directions], costs_in(study)
        candidates = [
            rungs.Candidate(i, tuple((v, *costs(p)) for v in p.values), p.state == PAUSED and ready(p))
            for i, p in enumerate(pasts)
            if p.values and len(p.placement)
        ]
        chosen = rungs.promotable(candidates, count, names)
        return pasts[chosen.name] if chosen else None

    def repair(self, params: dict[str, str], taken: set[str], most: int) -> dict[str, str]:
        """Change random sites of ``params`` until it has at most ``most`` blocks, is allowed and not ``taken``.

        Raises:
            Exhausted: After many tries from many starts.
        """
        for attempt in range(TRIES):
            self._thin(params, most)
            placement = self.space.placement(params)
            if len(placement) and placement.id not in taken and self.allowed(placement):
                return params
            most = self.space.max_blocks if attempt % 2 else most
            site = self.space.sites[self.rng.integers(len(self.space.sites))][0]
            options = self.space.choices(site)
            params[site] = options[self.rng.integers(len(options))]
        raise Exhausted(
            f"no new placement found in {TRIES} tries: {len(taken)} of {self.space.size} are tried; "
            "those left may all be beyond the limits"
        )

    def _thin(self, params: dict[str, str], most: int) -> None:
        active = [s for s, label in params.items() if label != NONE]
        for i in self.rng.permutation(len(active))[most:]:
            params[active[i]] = NONE

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Say whose trial it is before anything can interrupt it, then the inner sampler's.

        Raises:
            LockLost: Others may have begun a trial at the same time: this one is not to be.
        """
        for key, value in owner().items():
            study._storage.set_trial_user_attr(trial._trial_id, key, value)
        if self.lock is not None and self.lock.held:
            self.lock.check()
            self.lock.release()
        self.inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """The inner sampler's."""
        self.inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Reseed both, for another process."""
        self.rng = np.random.default_rng()
        self.inner.reseed_rng()


def _still(lock: StudyLock) -> bool:
    """Whether it was held all the time."""
    try:
        lock.check()
    except LockLost:
        return False
    return True


def owner() -> dict[str, Any]:
    """This process, as trials record it."""
    return {"host": machine.name(), "pid": os.getpid()}


def make(
    name: str,
    space: SearchSpace,
    allowed: Callable[[Placement], bool],
    seed: int,
    lock: StudyLock | None = None,
    known: Known | None = None,
) -> DistinctSampler:
    """The sampler called ``name`` (see :data:`NAMES`), repaired by :class:`DistinctSampler`.

    Raises:
        ValueError: No such sampler, or ``ehvi`` without what it has to know.
    """
    if name not in NAMES or (name == EHVI and known is None):
        raise ValueError(f"sampler {name!r}: allowed: {', '.join(NAMES)}; {EHVI} needs `known`")
    inner = EHVISampler(known, seed) if known is not None and name == EHVI else SAMPLERS[name](seed)
    return DistinctSampler(inner, space, allowed, seed, lock)


def known_costs(past: Past, study: Study) -> tuple[float, ...]:
    """Objective values of a placement beside its score, in the study's order; of many, see :func:`costs_in`."""
    return costs_in(study)(past)


def costs_in(study: Study) -> Callable[[Past], tuple[float, ...]]:
    """What says a placement's objective values beside its score, in the study's order.

    Names of objectives never change, and Optuna reads every trial's note to tell them: they are asked for once.
    """
    kept = _metrics.setdefault(study._storage, {})
    if study._study_id not in kept and (told := study.metric_names):
        kept[study._study_id] = told
    names = kept.get(study._study_id, [])[1:]
    return lambda past: tuple(past.gflops if name == "GFLOPs" else past.latency or float("nan") for name in names)


def tried(study: Study, space: SearchSpace, trials: history.Trials | None = None) -> Iterator[str]:
    """Ids of the placements that are trained, training, waiting, refused or failed for a reason of their own."""
    return (past.placement.id for past in history.each(study, space, trials))


def sparse(space: SearchSpace, count: int, allowed: Callable[[Placement], bool], seed: int) -> list[Placement]:
    """Up to ``count`` different placements of one or two blocks that go through all blocks of the space in turn."""
    rng = np.random.default_rng(seed)
    blocks = list(space.blocks)
    order = [blocks[i] for i in rng.permutation(len(blocks))]
    found: dict[str, Placement] = {}
    for attempt in range(50 * count):
        if len(found) == count:
            break
        label = order[len(found) % len(order)] if attempt % 5 else order[attempt % len(order)]
        homes = [s for s, options in space.sites if label in {b.label for b in options}]
        params = {homes[rng.integers(len(homes))]: label}
        if space.max_blocks > 1 and rng.random() < 0.4:
            site, options = space.sites[rng.integers(len(space.sites))]
            params.setdefault(site, options[rng.integers(len(options))].label)
        placement = space.placement(params)
        if allowed(placement):
            found.setdefault(placement.id, placement)
    return list(found.values())
