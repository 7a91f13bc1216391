"""A search by two workers: exactly the asked number of distinct placements, also after an interrupt or a death."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pandas as pd
from conftest import study_in, write_recipe
from integration_support import ids, start, wait_for
from optuna.trial import TrialState

from nas import export

TOTAL = 6
UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


def recipe_of(folder: Path, **values: object) -> Path:
    """A recipe for two workers."""
    values = {"trials": TOTAL, "name": "two", "output": folder / "runs", "slots": 2, **values}
    return write_recipe(folder / "r.yaml", **values)


def test_two_workers_train_the_asked_number_and_continue_after_an_interrupt_and_a_death(
    tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path, cli
) -> None:
    recipe = recipe_of(tmp_path, data=tiny_data, base=tiny_base, space=tiny_space, epochs=3)
    folder = tmp_path / "runs" / "two"
    process = start("search", "--recipe", recipe, cwd=tmp_path)
    wait_for(process, f"[1/{TOTAL}]")
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    study = study_in(folder)
    assert 1 <= len(ids(study)) < TOTAL
    assert [t for t in study.trials if t.state == TrialState.RUNNING] == []

    process = start("search", "--recipe", recipe, cwd=tmp_path)
    lines = wait_for(process, "workers: 2 of 1 thread, as asked")
    victim = first_worker(folder, 120)
    os.kill(victim, signal.SIGKILL)
    rest, _ = process.communicate(timeout=240)
    said = "".join(lines) + rest
    assert process.returncode == 0, said
    assert re.search(r"died( in trial \d+)? \(killed by SIGKILL\)", said), said
    check_finished(folder, least=2)

    assert cli("search", "--recipe", recipe).code == 0, "nothing more to do"
    assert cli("search", "--recipe", recipe, "--workers", "1", "--trials", TOTAL + 1).code == 0
    assert len(ids(study_in(folder))) == TOTAL + 1
    assert study_in(folder).trials[-1].user_attrs["workers"] == 1


def first_worker(folder: Path, seconds: float) -> int:
    """Process id of a worker that is training."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        running = [t for t in study_in(folder).trials if t.state == TrialState.RUNNING and "label" in t.user_attrs]
        if running:
            return int(running[0].user_attrs["pid"])
        time.sleep(0.1)
    raise AssertionError("no worker trains")


def check_finished(folder: Path, least: int) -> None:
    """The invariants of a finished search: the asked number, distinct, from the same batches, and written down."""
    study = study_in(folder)
    assert len(ids(study)) == len(set(ids(study))) == TOTAL
    assert [t for t in study.trials if t.state in UNFINISHED] == []
    done = [t for t in study.trials if t.state == TrialState.COMPLETE]
    assert {t.user_attrs["workers"] for t in done} == {2}
    assert len({t.user_attrs["pid"] for t in done}) >= least
    assert len({t.user_attrs["score"]["batches_sha"] for t in done}) == 1
    frame = pd.read_csv(folder / "trials.csv")
    assert (frame["state"] == "complete").sum() == TOTAL
    points = export.front_trials(study)
    assert {p.name for p in (folder / "weights").iterdir()} == {f"{t.number}.pt" for t in points}
    assert {p.stem for p in (folder / "front").glob("*.pt")} == {export.point_name(t) for t in points}


def test_workers_that_cannot_start_end_the_search_with_the_reason(
    tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path, cli, monkeypatch
) -> None:
    from nas import workers

    recipe = recipe_of(tmp_path, data=tiny_data, base=tiny_base, space=tiny_space)
    good = workers.job

    def bad(*args: object) -> dict[str, object]:
        told = good(*args)  # type: ignore[arg-type]
        return told | {"recipe": told["recipe"] | {"epochs": 2}}

    monkeypatch.setattr(workers, "job", bad)
    result = cli("search", "--recipe", recipe)
    assert result.code == 1
    assert "epochs: then 1, now 2" in result.text
    assert [t for t in study_in(tmp_path / "runs" / "two").trials if t.state == TrialState.RUNNING] == []
