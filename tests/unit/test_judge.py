"""From scores and latencies to an Outcome: what gains, what failed, what more seeds would tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from conftest import Searched

from nas import dashboard, finalists, finalists_command, judge, outcome, passes
from nas.finalists import Contender, FinalistsError
from nas.outcome import BASE, CANDIDATE, CONVOLUTION, GAIN, NONE
from nas.setting import Setting

SEEDS = 5


@pytest.fixture
def opened(searched: Searched, tmp_path: Path) -> tuple[optuna.Study, Setting, list[Contender]]:
    """A finished search, what it shares, and its field; nothing trained yet."""
    study, folder = dashboard.find("first", None, str(searched.output))
    prepared = finalists_command.of_study(study, folder, None, 1, SEEDS, 1, None)
    prepared = replace(prepared, folder=tmp_path)
    return study, prepared, finalists.contenders(study, prepared)


def write(prepared: Setting, of: list[Contender], gains: list[float], noise: float, failed: str | None = None) -> None:
    """Made trainings and latencies; of the placement ``failed`` one training has no score."""
    rng, rows, times = np.random.default_rng(0), [], []
    levels = {seed: 0.5 + rng.normal(0, 0.02) for seed in finalists.seeds(prepared)}
    images = rng.normal(0, 0.01, finalists.RESAMPLES)
    for i, (c, gain) in enumerate(zip(of, gains, strict=True)):
        for seed, level in levels.items():
            score = level + gain + rng.normal(0, noise)
            lost = c.placement.id == failed and seed == 2
            rows.append(
                {
                    "placement_id": c.placement.id, "seed": seed, "placement": c.placement.label,
                    "map50_95": None if lost else score, "reason": "it burnt" if lost else "",
                    "map50_95_of_other_images": " ".join(f"{score + x:.6f}" for x in images),
                }
            )  # fmt: skip
        times += [
            {"pass": k, "placement_id": c.placement.id, "ratio": 1 + 0.1 * i + 0.001 * (k % 2) * (i > 0), "ms": 9.0}
            for k in range(passes.PASSES)
        ]
    for file, made in ((finalists.trainings(prepared), rows), (passes.file_of(prepared, of), times)):
        file.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(made).to_csv(file, index=False)


def test_a_planted_gain_is_told_with_its_controls(opened: tuple[optuna.Study, Setting, list[Contender]]) -> None:
    study, prepared, of = opened
    gains = [0.02 if c.role == CANDIDATE else 0.0 for c in of]
    write(prepared, of, gains, 0.001)
    found = judge.judge(study, prepared, of, "made")
    (candidate,) = found.of(CANDIDATE)
    assert found.outcome == GAIN and outcome.winner(found) == candidate
    assert candidate.gain is not None and candidate.gain.low > 0.01 and candidate.gain.low < 0.02 < candidate.gain.high
    assert candidate.over_convolution is not None and candidate.over_convolution.low > 0
    assert candidate.latency is not None and 1.0 < candidate.latency.value < 2 and candidate.front == 1.0
    (plain,) = found.of(CONVOLUTION)
    assert plain.gain is not None and plain.gain.low < 0 < plain.gain.high and plain.front == 0.0
    assert found.entries[0].role == BASE and found.entries[0].front == 1.0
    assert found.split == "test" and found.search_split == "val" and found.sentences[0].startswith(candidate.label)
    assert outcome.Outcome.from_json(found.to_json()) == found


def test_placebos_are_not_told(opened: tuple[optuna.Study, Setting, list[Contender]]) -> None:
    study, prepared, of = opened
    write(prepared, of, [0.0] * len(of), 0.006)
    found = judge.judge(study, prepared, of, "made")
    assert found.outcome == NONE and outcome.winner(found) is None
    assert found.sentences[0].startswith("No placement beats the base beyond noise: the one finalist gains at most")
    assert found.advice is not None and found.advice > SEEDS


def test_other_images_widen_what_is_told(opened: tuple[optuna.Study, Setting, list[Contender]]) -> None:
    study, prepared, of = opened
    write(prepared, of, [0.02 if c.role == CANDIDATE else 0.0 for c in of], 0.001)
    before = judge.judge(study, prepared, of, "made").of(CANDIDATE)[0].gain
    file = finalists.trainings(prepared)
    rows = pd.read_csv(file)
    column = "map50_95_of_other_images"
    rows[column] = [
        " ".join(f"{float(x) + e:.6f}" for x, e in zip(text.split(), drawn, strict=True))
        for text, place in zip(rows[column], rows.placement_id, strict=True)
        for drawn in [np.random.default_rng(int(place, 16)).normal(0, 0.01, finalists.RESAMPLES)]
    ]
    rows.to_csv(file, index=False)
    after = judge.judge(study, prepared, of, "made").of(CANDIDATE)[0].gain
    assert before is not None and after is not None
    assert after.high - after.low > 2 * (before.high - before.low) and after.value == pytest.approx(before.value)


def test_who_failed_is_named_and_the_others_are_judged(
    opened: tuple[optuna.Study, Setting, list[Contender]],
) -> None:
    study, prepared, of = opened
    plain = next(c for c in of if c.role == CONVOLUTION)
    write(prepared, of, [0.0] * len(of), 0.002, failed=plain.placement.id)
    found = judge.judge(study, prepared, of, "made")
    (lost,) = found.of(CONVOLUTION)
    assert lost.reason == "it burnt" and lost.gain is None and lost.scores == ()
    assert found.of(CANDIDATE)[0].over_convolution is None and found.of(CANDIDATE)[0].gain is not None


@pytest.mark.parametrize(("role", "said"), [(BASE, "the base failed"), (CANDIDATE, "every candidate failed")])
def test_without_base_or_candidates_nothing_is_said(
    opened: tuple[optuna.Study, Setting, list[Contender]], role: str, said: str
) -> None:
    study, prepared, of = opened
    write(prepared, of, [0.0] * len(of), 0.002, failed=next(c for c in of if c.role == role).placement.id)
    with pytest.raises(FinalistsError, match=f"{said} in a training: it burnt"):
        judge.judge(study, prepared, of, "made")
