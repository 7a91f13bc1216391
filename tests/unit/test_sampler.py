"""Proposals: always new, within the limits, of every site; and an end when nothing is left."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from nas import sampler
from search_spaces import Placement, SearchSpace, sample
from search_spaces.space import parse

SITES = [f"site{i}" for i in range(5)]
WORTH = {"none": 0.0, "eca": 0.3, "cot": 0.7, "sk": 0.5, "mhsa": 0.9}


def wide() -> SearchSpace:
    """Five sites, four blocks, at most three of them: 1 + 20 + 160 + 640 placements."""
    return parse({"sites": SITES, "blocks": [b for b in WORTH if b != "none"], "max_blocks": 3})


def small() -> SearchSpace:
    """Two sites, two blocks: nine placements with the base."""
    return parse({"sites": ["a", "b"], "blocks": ["eca", "cot"], "max_blocks": 2})


def everything(placement: Placement) -> bool:
    return True


def study_of(name: str, space: SearchSpace, allowed=everything, seed: int = 0) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = sampler.make(name, space, allowed, seed)
    return optuna.create_study(directions=["maximize", "minimize"], sampler=made)


def objective(space: SearchSpace, seen: list[Placement]):
    """Worth of the blocks against their count: two objectives that pull apart."""

    def run(trial: optuna.Trial) -> tuple[float, float]:
        placement = sample(space, trial)
        seen.append(placement)
        return sum(WORTH[b.name] for _, b in placement), float(len(placement))

    return run


@pytest.mark.parametrize("name", sorted(sampler.SAMPLERS))
def test_all_proposals_are_new_sparse_allowed_and_complete(name: str) -> None:
    space, seen = wide(), []

    def allowed(placement: Placement) -> bool:
        return placement.get("site2") is None

    study = study_of(name, space, allowed)
    study.optimize(objective(space, seen), n_trials=25)
    assert len({p.id for p in seen}) == 25
    assert all(1 <= len(p) <= 3 for p in seen)
    assert all(allowed(p) for p in seen)
    for trial in study.trials:
        assert trial.state == TrialState.COMPLETE
        assert set(trial.params) == set(SITES)
    assert [space.placement(t.params) for t in study.trials] == seen, "what is stored is what was tried"


@pytest.mark.parametrize("name", sorted(sampler.SAMPLERS))
def test_same_seed_same_proposals(name: str) -> None:
    runs = []
    for seed in (3, 3, 4):
        seen: list[Placement] = []
        study_of(name, wide(), seed=seed).optimize(objective(wide(), seen), n_trials=12)
        runs.append([p.id for p in seen])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("name", sorted(sampler.SAMPLERS))
def test_a_small_space_is_tried_whole_and_then_exhausted(name: str) -> None:
    space, seen = small(), []
    study = study_of(name, space)
    study.enqueue_trial(space.params(Placement()))
    with pytest.raises(sampler.Exhausted, match=f"of {space.size}"):
        study.optimize(objective(space, seen), n_trials=20)
    assert len(seen) == len({p.id for p in seen}) == space.size == 9


def test_no_trial_is_left_running_when_the_space_is_exhausted() -> None:
    space = small()
    study = study_of("random", space)
    with pytest.raises(sampler.Exhausted):
        study.optimize(objective(space, []), n_trials=20)
    assert [t.number for t in study.trials if t.state == TrialState.RUNNING] == []


def test_limits_that_allow_little_are_searched_to_the_end() -> None:
    space, seen = wide(), []
    only = {"site0": "eca", "site3": "sk"}

    def allowed(placement: Placement) -> bool:
        return all(only.get(site) == block.name for site, block in placement)

    with pytest.raises(sampler.Exhausted):
        study_of("random", space, allowed).optimize(objective(space, seen), n_trials=9)
    assert {p.label for p in seen} == {"site0=eca", "site3=sk", "site0=eca + site3=sk"}


@pytest.mark.parametrize("name", sorted(sampler.SAMPLERS))
def test_enqueued_placements_are_taken_as_they_are_and_in_order(name: str) -> None:
    space, seen = wide(), []
    study = study_of(name, space)
    first = [Placement(), Placement.of({"site1": "sk"}), Placement.of(dict.fromkeys(SITES, "eca"))]
    for placement in first:
        study.enqueue_trial(space.params(placement))
    study.optimize(objective(space, seen), n_trials=6)
    assert seen[:3] == first
    assert not {p.id for p in seen[3:]} & {p.id for p in first}


def test_what_waits_runs_or_failed_for_a_reason_is_not_proposed_again() -> None:
    space = parse({"sites": ["a"], "blocks": ["eca", "cot", "sk", "mhsa"], "max_blocks": 1})
    study = study_of("random", space)
    dist = {"a": optuna.distributions.CategoricalDistribution(space.choices("a"))}
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.FAIL, params={"a": "eca"}, distributions=dist, user_attrs={"error": "nan"}
        )
    )
    study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, params={"a": "cot"}, distributions=dist))
    study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING, params={"a": "sk"}, distributions=dist))
    study.enqueue_trial({"a": "mhsa"})
    assert {space.placement({"a": x}).id for x in ("eca", "sk", "mhsa")} == set(sampler.tried(study, space))
    seen: list[Placement] = []
    study.optimize(objective(space, seen), n_trials=2)
    assert [p.label for p in seen] == ["a=mhsa", "a=cot"], "the interrupted one may be tried again"


def test_startup_is_sparse_distinct_allowed_and_goes_through_all_blocks() -> None:
    space = wide()

    def allowed(placement: Placement) -> bool:
        return placement.get("site0") is None

    found = sampler.sparse(space, 12, allowed, seed=1)
    assert len(found) == len({p.id for p in found}) == 12
    assert all(1 <= len(p) <= 2 and allowed(p) for p in found)
    assert {b.name for p in found for _, b in p} == set(WORTH) - {"none"}
    assert found == sampler.sparse(space, 12, allowed, seed=1)
    assert sampler.sparse(space, 0, allowed, seed=1) == []


def test_startup_ends_when_the_space_is_smaller_than_asked() -> None:
    space = parse({"sites": ["a"], "blocks": ["eca", "cot"], "max_blocks": 1})
    assert {p.label for p in sampler.sparse(space, 50, everything, 0)} == {"a=eca", "a=cot"}
