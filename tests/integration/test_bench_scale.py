"""The bench of long studies: simulated workers train exactly what was asked, once, and all is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
from conftest import REPO


def bench(*args: object) -> str:
    command = [sys.executable, "scripts/bench_scale.py", *map(str, args)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_workers_train_what_was_asked_and_say_how_long_it_took(tmp_path: Path) -> None:
    assert "no fault" in bench("--workers", 3, "--trials", 12, "--notes", "--output", tmp_path)
    found, rows = json.loads((tmp_path / "scale.json").read_text()), pd.read_csv(tmp_path / "scale.csv")
    assert found["placements"] == 12 and found["trials"] == len(rows) == found["afterwards"]["trials"]
    assert set(rows.worker) <= {0, 1, 2} and rows.trial.is_unique and (rows.tell > 0).all()
    parts = rows.wait + rows.think + rows.decide
    assert (rows[["wait", "think", "decide"]] >= 0).all(axis=None) and ((rows.propose - parts).abs() < 1e-3).all()
    assert (tmp_path / "scale.png").stat().st_size > 10_000


def test_a_made_study_is_opened_reported_and_continued(tmp_path: Path) -> None:
    bench("--made", 30, "--output", tmp_path)
    seconds = json.loads((tmp_path / "scale.json").read_text())["seconds"]
    assert {"open", "status", "report", "trials.csv", "the next one"} <= set(seconds)
