"""The expected gain in hypervolume against its definition, by drawing."""

from __future__ import annotations

import numpy as np
import pytest

from nas import front
from nas.ehvi import ehvi


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
