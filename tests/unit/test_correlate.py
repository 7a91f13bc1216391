"""What `correlate` concludes from figures, and what it trains."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nas import correlate, jobs
from nas.interval import Interval
from nas.protocol import Protocol
from nas.task import TASKS
from search_spaces.space import parse

GOOD, BAD = Interval(0.8, 0.5, 0.95), Interval(0.2, -0.2, 0.5)
HELD = {"lrf": 1.0, "warmup_epochs": 0.0, "mosaic": 0.0, "optimizer": "AdamW"}


@pytest.mark.parametrize(
    ("tau", "double", "true", "noise", "verdict"),
    [
        (GOOD, GOOD, 0.02, 0.005, "rely"),
        (BAD, GOOD, 0.02, 0.005, "double"),
        (BAD, BAD, 0.02, 0.005, "longer"),
        (GOOD, GOOD, 0.004, 0.005, "noise"),
        (Interval(0.6, -0.1, 0.9), GOOD, 0.02, 0.005, "double"),
    ],
)
def test_verdict(tau: Interval, double: Interval, true: float, noise: float, verdict: str) -> None:
    assert correlate.judge(tau, double, true, noise) == verdict


def setting(folder: Path, epochs: int = 2, **train: Any) -> Any:
    """As much of a Setting as the arithmetic reads."""
    recipe = SimpleNamespace(epochs=epochs, seed=0, train=HELD | train, protocol=Protocol())
    identity = {"data": "x", "epochs": epochs, "sampler": "gp", "seed": 0, "max_gflops": None}
    space = parse({"sites": ["neck.p3", "neck.p4"], "blocks": ["eca", "se", "cot", "gc", "mhsa"], "max_blocks": 1})
    return SimpleNamespace(
        recipe=recipe, identity=identity, folder=folder, space=space, allowed=lambda p: True,
        task=TASKS["segment"], device=torch.device("cpu"), log=folder / "log.txt",
    )  # fmt: skip


def fill(prepared: Any, count: int, times: int, short: float, noise: float, spread: float = 0.05) -> None:
    """Write trainings whose truth is known: the short budget sees ``short`` of the difference."""
    rng = np.random.default_rng(0)
    placements = correlate.chosen(prepared, count)
    truth = dict(zip(placements, [0.0, *rng.normal(0, spread, len(placements) - 1)], strict=True))
    for job in correlate.planned(prepared, count, times):
        rows = []
        for share in [*job.at, 1.0]:
            seen = truth[job.placement] * (short if share * job.epochs < times * prepared.recipe.epochs else 1.0)
            facts = {"placement_id": job.placement.id, "seed": job.seed, "placement": job.placement.label}
            value = 0.5 + seen + rng.normal(0, noise)
            rows.append(facts | {"images": round(800 * share * job.epochs), "mask_map50_95": value})
        jobs.append(correlate.file_of(prepared, job.epochs), rows, jobs.columns(prepared))


def judged(prepared: Any, count: int = 11) -> correlate.Correlation:
    """What follows from the files."""
    return correlate.measure(prepared, correlate.read(prepared, count, 4), 4)


@pytest.mark.parametrize("lrf", [1.0, 0.1])
def test_known_truths_are_found(lrf: float, tmp_path: Path) -> None:
    prepared = setting(tmp_path / "a", lrf=lrf)
    fill(prepared, 11, 4, short=0.5, noise=0.002)
    found = judged(prepared)
    assert found.verdict == "rely"
    assert found.tau.value > 0.8
    assert found.sentence.startswith("Rely on it: 2 epochs")
    assert found.metric == "mask mAP50-95"
    assert found.spread == pytest.approx(0.05, rel=0.5)
    assert found.noise == pytest.approx(0.002 * 2**0.5, rel=0.8)
    noisy = setting(tmp_path / "b", lrf=lrf)
    fill(noisy, 11, 4, short=0.5, noise=0.1, spread=0.01)
    assert judged(noisy).sentence.startswith("The differences are below the noise")


@pytest.mark.parametrize(
    ("train", "one"),
    [
        ({}, True), ({"lrf": 0.1}, False), ({"warmup_epochs": 1.0}, False), ({"optimizer": "auto"}, False),
        ({"mosaic": 1.0, "close_mosaic": 1}, False), ({"mosaic": 1.0, "close_mosaic": 0}, True),
    ],
)  # fmt: skip
def test_one_training_serves_all_budgets_where_nothing_depends_on_its_length(
    train: dict[str, Any], one: bool, tmp_path: Path
) -> None:
    found = correlate.planned(setting(tmp_path, **train), 2, 4)
    if one:
        assert [(j.epochs, j.at) for j in found] == [(8, (0.25, 0.5))] * 4
    else:
        assert sorted(j.epochs for j in found) == [2] * 4 + [4] * 4 + [8] * 4


def test_what_was_found_is_read_back_for_the_same_recipe_alone(tmp_path: Path) -> None:
    prepared = setting(tmp_path)
    fill(prepared, 9, 4, 0.5, 0.002)
    found = judged(prepared, 9)
    correlate.save(found, tmp_path)
    assert correlate.stored(prepared) == found
    prepared.identity |= {"sampler": "random", "max_gflops": 3.0, "latency_backend": "openvino"}
    assert correlate.stored(prepared) == found, "who proposes, and what is too slow, does not matter"
    prepared.identity["seed"] = 1
    assert correlate.stored(prepared) is None, "another seed, another warm base"
    (tmp_path / correlate.FILE).write_text("{")
    assert correlate.stored(setting(tmp_path)) is None
    (tmp_path / correlate.FILE).write_text(json.dumps({"key": correlate.key(setting(tmp_path))}))
    assert correlate.stored(setting(tmp_path)) is None


def fail(prepared: Any, label: str, seeds: tuple[int, ...]) -> None:
    """Make trainings of a placement failed ones."""
    file = correlate.file_of(prepared, 8)
    rows = pd.read_csv(file).astype({"reason": object})
    gone = (rows.placement == label) & rows.seed.isin(seeds)
    rows.loc[gone, ["mask_map50_95", "reason"]] = [np.nan, "out of memory: 3 GB"]
    rows.to_csv(file, index=False)


def test_failed_trainings_are_left_out(tmp_path: Path) -> None:
    prepared = setting(tmp_path)
    fill(prepared, 9, 4, 0.5, 0.002)
    before = judged(prepared, 9)
    fail(prepared, correlate.chosen(prepared, 9)[3].label, (1,))
    after = judged(prepared, 9)
    assert after.placements == before.placements - 1
    assert np.isfinite(after.tau.value)


def test_failures_are_an_error_and_no_advice(tmp_path: Path) -> None:
    prepared = setting(tmp_path / "a")
    fill(prepared, 9, 4, 0.5, 0.002)
    fail(prepared, "base", (1,))
    with pytest.raises(correlate.CorrelateError, match=r"the base could not .* seed 1: out of memory: 3 GB"):
        correlate.read(prepared, 9, 4)
    prepared = setting(tmp_path / "b")
    fill(prepared, 6, 4, 0.5, 0.002)
    for placement in correlate.chosen(prepared, 6)[1:4]:
        fail(prepared, placement.label, (0,))
    with pytest.raises(correlate.CorrelateError, match="only 2 placements"):
        correlate.read(prepared, 6, 4)
