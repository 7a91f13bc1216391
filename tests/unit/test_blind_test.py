"""The blind test of the verdict: what is planted, what noise it has, and what the judge makes of it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import blind_test


@pytest.fixture(scope="module")
def world() -> blind_test.World:
    return blind_test.world("demo-neck")


def test_noise_is_that_of_real_placements(world: blind_test.World) -> None:
    near = [np.sqrt(np.mean(world.sds[blind_test.donors(world.sizes, g)] ** 2)) for g in (0.0, 0.01, 0.03, 0.1)]
    assert near == sorted(near) and near[0] == pytest.approx(0.0013, abs=2e-4) and near[-1] > 0.02
    rng = np.random.default_rng(0)
    scores, base = blind_test.trained(replace(world, pooled=True), np.zeros(200), 400, rng)
    gains = scores - base
    assert gains.std() == pytest.approx(near[0], rel=0.1) and abs(gains.mean()) < 3e-4
    assert np.corrcoef(gains[:20])[0, 1:].mean() == pytest.approx(world.shared, abs=0.1), "the base's noise is in all"
    assert base.std() == pytest.approx(world.luck, rel=0.2)


def test_one_finalist_gains_what_is_planted(world: blind_test.World) -> None:
    true = blind_test.study(world, 0.01, np.random.default_rng(0))
    assert sorted(true[: blind_test.COUNT]) == [0.0, 0.0, 0.0, 0.01] and len(true) == 3 * blind_test.COUNT
    assert set(true[blind_test.COUNT :]) <= set(world.gains) and 0 < np.mean(world.gains > 0.01) < 0.5


def test_right_wrong_and_undecided() -> None:
    true, none = np.array([0.0, 0.01]), np.zeros(2, bool)
    placebo, planted = np.array([True, False]), np.array([False, True])
    assert blind_test.word(planted, none, true) == "right" and blind_test.word(none, none, true) == "undecided"
    assert blind_test.word(placebo, none, true) == "wrong" == blind_test.word(placebo | planted, none, true)
    assert blind_test.word(none, planted, true) == "wrong" and blind_test.word(planted, placebo, true) == "right"
    assert blind_test.word(none, none, 0 * true) == "right"


def test_the_verdict_is_right_more_often_than_practice(world: blind_test.World) -> None:
    found = {p: blind_test.blind(world, p, 100).set_index("way") for p in (0.01, 0.0)}
    advised = {p: f.loc["as advised, until told"] for p, f in found.items()}
    for p, frame in found.items():
        assert (frame[["right", "wrong", "undecided"]].sum(axis=1) == 100).all() and len(frame) == 9
        assert advised[p].wrong <= 8 and advised[p].right >= 85 and advised[p].held >= 88
        assert blind_test.FIRST <= advised[p].seeds <= blind_test.MOST
    assert found[0.01].loc["8 seeds", "right"] > found[0.01].loc["3 seeds", "right"]
    assert found[0.0].loc["naive: one seed, the search's own", "wrong"] > 50, "the best of four placebos is above 0"


def test_fronts_report_too_much_and_finalists_do_not(world: blind_test.World) -> None:
    found = blind_test.over_report(world, 25).set_index("what")["mean"]
    assert found["before: front, best"] > 1.0 > abs(found["after: finalists, mean"])
    assert 1 <= found["finalists"] <= blind_test.COUNT and found["claimed"] <= found["finalists"]
