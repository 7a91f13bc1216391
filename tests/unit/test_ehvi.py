"""The expected gain in hypervolume against its definition, by drawing."""

from __future__ import annotations

import numpy as np
import pytest

from nas import ehvi as module
from nas import front
from nas.ehvi import ehvi, expected
from nas.surrogate import Belief, View


def volume(score: np.ndarray, costs: np.ndarray, reference: np.ndarray) -> float:
    """Hypervolume over a score of 0."""
    directions = ["maximize"] + ["minimize"] * costs.shape[1]
    return front.hypervolume(np.c_[score, costs], directions, [0.0, *reference])


def problem(count: int, costs: int, seed: int) -> tuple[np.ndarray, ...]:
    """A front of ``count``, five candidates around it, a reference that some of both are beyond."""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(0.1, 0.3, 5), rng.uniform(0.05, 0.4, 5), rng.uniform(0.8, 2.2, (5, costs)),
        rng.normal(0.2, 0.3, count), rng.uniform(0.8, 2.2, (count, costs)), np.full(costs, 2.0),
    )  # fmt: skip


@pytest.mark.parametrize("costs", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 6])
def test_it_is_the_mean_gain_over_draws_of_the_score(count: int, costs: int) -> None:
    mean, sd, own, score, theirs, reference = problem(count, costs, 10 * count + costs)
    rng = np.random.default_rng(0)
    before = volume(score, theirs, reference)
    found = ehvi(mean, sd, own, score, theirs, reference)
    for i in range(len(mean)):
        drawn = rng.normal(mean[i], sd[i], 4000)
        gains = np.array([volume(np.r_[score, d], np.vstack([theirs, own[i]]), reference) for d in drawn]) - before
        assert found[i] == pytest.approx(gains.mean(), abs=4 * gains.std() / np.sqrt(len(gains)) + 1e-6)


@pytest.mark.parametrize("costs", [1, 2])
def test_a_certain_score_gains_what_it_adds(costs: int) -> None:
    mean, _, own, score, theirs, reference = problem(6, costs, 3)
    found = ehvi(mean, np.zeros(5), own, score, theirs, reference)
    before = volume(score, theirs, reference)
    for i in range(5):
        after = volume(np.r_[score, mean[i]], np.vstack([theirs, own[i]]), reference)
        assert found[i] == pytest.approx(after - before, abs=1e-8)


def test_beyond_the_reference_nothing_is_gained() -> None:
    far = np.array([[2.5]])
    assert ehvi(np.ones(1), np.ones(1), far, np.zeros(0), np.zeros((0, 1)), np.array([2.0]))[0] == 0.0


def one_view(mean: np.ndarray, covariance: np.ndarray, done: int) -> Belief:
    return Belief((View(1.0, mean, np.sqrt(np.diag(covariance)), covariance[:, :done]),))


def test_an_uncertain_front_is_averaged_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against draws of all of them together."""
    monkeypatch.setattr(module, "DRAWS", 3000)
    monkeypatch.setattr(module, "TAILS", ((1.0, 1.0),))
    rng = np.random.default_rng(0)
    root = rng.normal(0, 0.02, (4, 4))
    covariance, mean = root @ root.T + 1e-5 * np.eye(4), np.array([0.02, 0.05, 0.04, 0.06])
    costs, reference = np.array([[1.1], [1.3], [1.2], [1.4]]), np.array([1.5])
    found = expected(one_view(mean, covariance, 2), 2, costs, reference, np.random.default_rng(1))
    drawn = rng.multivariate_normal(mean, covariance, 3000)
    for k in (2, 3):
        more = [volume(d[[0, 1, k]], costs[[0, 1, k]], reference) - volume(d[:2], costs[:2], reference) for d in drawn]
        assert found[k - 2] == pytest.approx(np.mean(more), abs=5 * np.std(more) / 3000**0.5)


def test_what_shares_its_luck_with_the_front_adds_nothing_by_it() -> None:
    """One more block that does nothing, at some cost: as uncertain as what is on the front, and never better."""
    covariance = np.full((2, 2), 0.01**2)
    belief = one_view(np.array([0.05, 0.05]), covariance, 1)
    costs, reference = np.array([[1.1], [1.2]]), np.array([1.5])
    tied = expected(belief, 1, costs, reference, np.random.default_rng(0))
    apart = expected(one_view(belief.mean, np.diag([0.01**2] * 2), 1), 1, costs, reference, np.random.default_rng(0))
    assert tied[0] < 0.01 * apart[0] and apart[0] > 1e-4


def test_only_the_likely_are_looked_at_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEAR", 1)
    belief = one_view(np.array([0.05, 0.0, 0.09, 0.01]), np.eye(4) * 1e-6, 1)
    worth = expected(belief, 1, np.array([[1.1]] * 4), np.array([1.5]), np.random.default_rng(0))
    assert worth[1] == pytest.approx(0.04 * 0.4, rel=0.05) and worth[0] == worth[2] == 0
