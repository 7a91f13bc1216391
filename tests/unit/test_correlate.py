"""What `correlate` concludes from figures, and what it trains."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nas import correlate, jobs
from nas.spread import Interval
from search_spaces import Placement
from search_spaces.space import parse

GOOD, BAD = Interval(0.8, 0.5, 0.95), Interval(0.2, -0.2, 0.5)


@pytest.mark.parametrize(
    ("tau", "double", "true", "noise", "verdict"),
    [
        (GOOD, GOOD, 0.02, 0.005, "rely"),
        (BAD, GOOD, 0.02, 0.005, "double"),
        (BAD, BAD, 0.02, 0.005, "longer"),
        (GOOD, GOOD, 0.004, 0.005, "noise"),
        (GOOD, GOOD, float("nan"), float("nan"), "noise"),
        (Interval(0.6, -0.1, 0.9), GOOD, 0.02, 0.005, "double"),
    ],
)
def test_verdict(tau: Interval, double: Interval, true: float, noise: float, verdict: str) -> None:
    assert correlate.judge(tau, double, true, noise) == verdict


def setting(folder: Path, lrf: float = 1.0, epochs: int = 2) -> Any:
    """As much of a Setting as the arithmetic reads."""
    recipe = SimpleNamespace(epochs=epochs, seed=0, train={"lrf": lrf})
    identity = {"data": "x", "epochs": epochs, "sampler": "gp", "seed": 0, "max_gflops": None}
    space = parse({"sites": ["neck.p3", "neck.p4"], "blocks": ["eca", "se", "cot", "gc", "mhsa"], "max_blocks": 1})
    return SimpleNamespace(
        recipe=recipe, identity=identity, folder=folder, space=space, allowed=lambda p: True,
        task=SimpleNamespace(metric="mAP50-95"),
    )  # fmt: skip


def fill(prepared: Any, count: int, times: int, short: float, noise: float, spread: float = 0.05) -> None:
    """Write trainings whose truth is known: the short budget sees ``short`` of the difference."""
    rng = np.random.default_rng(0)
    placements = correlate.chosen(prepared, count)
    truth = dict(zip(placements, [0.0, *rng.normal(0, spread, len(placements) - 1)], strict=True))
    for job in correlate.planned(prepared, placements, times):
        points = [*job.at, 1.0]
        rows = []
        for share in points:
            seen = truth[job.placement] * (short if share * job.epochs < times * prepared.recipe.epochs else 1.0)
            facts = {"placement_id": job.placement.id, "seed": job.seed, "placement": job.placement.label}
            value = 0.5 + seen + rng.normal(0, noise)
            rows.append(facts | {"images": round(800 * share * job.epochs), "map50_95": value})
        jobs.append(correlate.file_of(prepared, job.epochs), rows)


@pytest.mark.parametrize("lrf", [1.0, 0.1])
def test_known_truths_are_found(lrf: float, tmp_path: Path) -> None:
    prepared = setting(tmp_path / "a", lrf)
    fill(prepared, 11, 4, short=0.5, noise=0.002)
    found = correlate.measure(prepared, 11, 4)
    assert found.verdict == "rely"
    assert found.tau.value > 0.8
    assert found.sentence.startswith("Rely on it: 2 epochs")
    assert found.spread == pytest.approx(0.05, rel=0.5)
    assert found.noise == pytest.approx(0.002 * 2**0.5, rel=0.8)
    noisy = setting(tmp_path / "b", lrf)
    fill(noisy, 11, 4, short=0.5, noise=0.1, spread=0.01)
    assert correlate.measure(noisy, 11, 4).sentence.startswith("The differences are below the noise")


def test_a_rate_that_is_held_needs_one_training_for_all_budgets(tmp_path: Path) -> None:
    placements = [Placement(), Placement.of({"neck.p3": "eca"})]
    held = correlate.planned(setting(tmp_path), placements, 4)
    assert [(j.epochs, j.at) for j in held] == [(8, (0.25, 0.5))] * 4
    falling = correlate.planned(setting(tmp_path, 0.1), placements, 4)
    assert sorted(j.epochs for j in falling) == [2] * 4 + [4] * 4 + [8] * 4


def test_what_was_found_is_read_back_for_the_same_recipe_alone(tmp_path: Path) -> None:
    prepared = setting(tmp_path)
    fill(prepared, 9, 4, 0.5, 0.002)
    found = correlate.measure(prepared, 9, 4)
    correlate.save(found, tmp_path)
    assert correlate.stored(prepared) == found
    prepared.identity["sampler"] = "random"
    assert correlate.stored(prepared) == found, "who proposes does not matter"
    prepared.identity["data"] = "y"
    assert correlate.stored(prepared) is None
    (tmp_path / correlate.FILE).write_text("{")
    assert correlate.stored(setting(tmp_path)) is None
    (tmp_path / correlate.FILE).write_text(json.dumps({"key": correlate.key(setting(tmp_path))}))
    assert correlate.stored(setting(tmp_path)) is None


def test_failed_trainings_are_left_out(tmp_path: Path) -> None:
    prepared = setting(tmp_path)
    fill(prepared, 9, 4, 0.5, 0.002)
    before = correlate.measure(prepared, 9, 4).placements
    file = correlate.file_of(prepared, 8)
    rows = pd.read_csv(file)
    victim = rows.placement[rows.placement != "base"].iloc[0]
    rows.loc[(rows.placement == victim) & (rows.seed == 1), "map50_95"] = np.nan
    rows.to_csv(file, index=False)
    after = correlate.measure(prepared, 9, 4)
    assert after.placements == before
    assert np.isfinite(after.tau.value)
