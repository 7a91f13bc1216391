"""A search in rungs: who goes on does so from where it stopped, once, also after a kill and by several workers."""

from __future__ import annotations

import csv
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import study_in, write_recipe
from integration_support import start, wait_for
from optuna.trial import TrialState

from nas import export, history


def recipe(folder: Path, data: Path, base: Path, space: Path, **values: Any) -> Path:
    """Three epochs, the first of them the first rung."""
    return write_recipe(
        folder / "r.yaml", data=data, base=base, space=space, name="rungs", output=folder / "runs", epochs=3, rungs=2,
        **{"startup": None, **values},
    )  # fmt: skip


def check(study: optuna.Study, folder: Path, asked: int) -> list[str]:
    """What holds for every search in two rungs; the ids of those at the top, the base left out."""
    trials = [t for t in study.trials if "score" in t.user_attrs]
    legs = [(t.user_attrs["placement_id"], t.user_attrs["rung"]) for t in trials]
    assert len(legs) == len(set(legs)), "a rung trained twice"
    assert len({placement for placement, _ in legs}) == asked == len(export.trained(study))
    assert [t for t in study.trials if t.state in (TrialState.RUNNING, TrialState.WAITING)] == []
    top = [t for t in trials if t.state == TrialState.COMPLETE]
    assert {t.user_attrs["rung"] for t in top} == {2} and len(top) == len({p for p, rung in legs if rung == 2})
    assert all(history.paused(t) and t.user_attrs["rung"] == 1 for t in trials if t not in top)
    assert len({t.user_attrs["score"]["batches_sha"] for t in top}) == 1, "all see the same batches, the base too"
    assert len({t.user_attrs["score"]["batches_sha"] for t in trials if t not in top}) <= 1
    assert {len(t.user_attrs["score"]["curve"]) for t in top} == {2}
    assert {t.number for t in export.front_trials(study)} <= {t.number for t in top}
    kept = {path.name for path in (folder / "paused").glob("*.pt")}
    assert kept <= {f"{placement}-1.pt" for placement, _ in legs}, "states of trainings that are over"
    return [t.user_attrs["placement_id"] for t in top if t.user_attrs["placement"]]


@pytest.mark.parametrize("sampler", ["random", "ehvi"])
def test_the_promising_go_on(
    sampler: str, tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path, cli
) -> None:
    file = recipe(tmp_path, tiny_data, tiny_base, tiny_space, sampler=sampler, trials=7)
    result = cli("search", "--recipe", file)
    assert result.code == 0, result.text[-3000:]
    folder = tmp_path / "runs" / "rungs"
    top = check(study_in(folder), folder, 7)
    assert "at rung 1 of 2" in result.text and f"({len(top) + 1} trained to the end)" in result.text
    if sampler == "random":
        assert 2 <= len(top) <= 4, "of six, one in three goes on; who went on early may no longer be among them"
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert {row["state"] for row in rows} >= {"complete", "paused"} and {row["rung"] for row in rows} == {"1", "2"}


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=lambda s: s.name
)
def test_a_search_killed_between_rungs_trains_none_of_them_twice(
    how: signal.Signals, tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path, cli
) -> None:
    file = recipe(tmp_path, tiny_data, tiny_base, tiny_space, trials=7)
    process = start("search", "--recipe", file, cwd=tmp_path)
    wait_for(process, "[4/7]")
    process.send_signal(how)
    process.communicate(timeout=120)
    folder = tmp_path / "runs" / "rungs"
    before = {t.number: t.user_attrs["score"]["value"] for t in study_in(folder).trials if "score" in t.user_attrs}
    assert len(before) >= 4
    result = cli("search", "--recipe", file)
    assert result.code == 0, result.text[-3000:]
    study = study_in(folder)
    check(study, folder, 7)
    assert {n: study.trials[n].user_attrs["score"]["value"] for n in before} == before, "a finished rung was lost"


def test_several_workers_train_no_rung_twice(
    tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path, cli
) -> None:
    file = recipe(tmp_path, tiny_data, tiny_base, tiny_space, sampler="ehvi", trials=8)
    result = cli("search", "--recipe", file, "--workers", 2)
    assert result.code == 0, result.text[-3000:]
    folder = tmp_path / "runs" / "rungs"
    study = study_in(folder)
    check(study, folder, 8)
    assert len({t.user_attrs["pid"] for t in study.trials}) == 2


def test_a_state_that_is_gone_is_not_gone_on_from(
    tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path, cli
) -> None:
    file = recipe(tmp_path, tiny_data, tiny_base, tiny_space, trials=3)
    assert cli("search", "--recipe", file).code == 0
    folder = tmp_path / "runs" / "rungs"
    for path in (folder / "paused").glob("*.pt"):
        path.unlink()
    result = cli("search", "--recipe", file, "--trials", 7)
    assert result.code == 0, result.text[-3000:]
    check(study_in(folder), folder, 7)
