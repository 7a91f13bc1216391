"""A short round of faults, each for real; at length by `pytest -m slow tests/faults`, or tests/faults/run.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPO

BROKEN = ["lost", "twice", "missed", "running", "other_front"]
SHORT = (
    "SIGKILL of worker", "SIGSTOP of worker", "SIGKILL of supervisor", "SIGINT of supervisor", "two searches",
    "PostgreSQL restarts", "nan@train", "crash@train", "truncated checkpoint", "dataset changes",
)  # fmt: skip


def rounds(to: Path, *args: str) -> pd.DataFrame:
    """Run them in a process of their own, which changes the product's pauses and trainings; a row a round."""
    done = subprocess.run(
        [sys.executable, str(REPO / "tests" / "faults" / "run.py"), "--to", str(to), *args],
        env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return pd.read_csv(to)


def check(frame: pd.DataFrame, count: int) -> None:
    """Nothing lost, trained twice or missed; nothing left running; the front of an undisturbed search."""
    assert len(frame) == count
    assert frame["error"].isna().all()
    assert (frame[BROKEN] == 0).all(axis=None)


def test_a_round_of_each_kind(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    check(rounds(tmp_path / "f.csv", "--kinds", ",".join(SHORT), "--rounds", "1"), len(SHORT))


@pytest.mark.slow
def test_many_rounds(tmp_path: Path) -> None:
    frame = rounds(
        tmp_path / "f.csv", "--kinds", ",".join((*SHORT, "of worker", "of supervisor", "@")), "--rounds", "10"
    )
    check(frame, len(frame))


@pytest.mark.slow
def test_real_trainings(tmp_path: Path) -> None:
    check(rounds(tmp_path / "f.csv", "--real", "--kinds", ",".join(SHORT[:6]), "--rounds", "2"), 12)
