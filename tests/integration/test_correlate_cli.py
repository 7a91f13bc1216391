"""`correlate` through the command line: trains, says one sentence, goes on where it was, and the search shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nas import correlate, run, setting


def arguments(data: Path, base: Path, space: Path, output: Path) -> list[Any]:
    """Those of a search on tiny data."""
    return [
        "--data", data, "--base", base, "--weights", "none", "--space", space, "--warm-epochs", 0, "--epochs", 1,
        "--name", "tiny", "--output", output, "imgsz=64", "batch=4", "workers=0", "device=cpu", "lrf=1.0",
    ]  # fmt: skip


def test_it_says_one_sentence_and_the_search_shows_it(
    cli: Callable[..., Any], tiny_data: Path, tiny_base: Path, tiny_space: Path, tmp_path: Path
) -> None:
    shared = arguments(tiny_data, tiny_base, tiny_space, tmp_path)
    done = cli("correlate", *shared, "--placements", 5, "--times", 3)
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "tiny" / "correlation.json").read_text())
    assert found["placements"] == 5
    assert (found["epochs"], found["long"]) == (1, 3)
    sentences = ("Rely on it", "Double the budget", "Train longer", "The differences are below the noise")
    assert any(line.startswith(sentences) for line in done.out.splitlines())
    (file,) = (tmp_path / "tiny").glob("correlate-*.csv")
    rows = pd.read_csv(file)
    assert len(rows) == 5 * 2 * 3
    assert rows.groupby("seed").batches_sha.nunique().eq(1).all()
    again = cli("correlate", *shared, "--placements", 5, "--times", 3)
    assert again.code == 0
    assert "10 of 10 trainings were done before" in again.out
    assert len(pd.read_csv(file)) == len(rows)
    flags = {"data": str(tiny_data), "base": str(tiny_base), "weights": "none", "space": str(tiny_space)}
    flags |= {"warm_epochs": 0, "epochs": 1, "name": "tiny", "output": str(tmp_path), "sampler": "random"}
    prepared = setting.prepare(run.resolve(None, flags, ["imgsz=64", "batch=4", "workers=0", "device=cpu", "lrf=1.0"]))
    stored = correlate.stored(prepared)
    assert stored is not None
    assert run.outlook(prepared) == [f"short training: {stored.sentence}"]


def test_without_it_a_search_warns(tiny_data: Path, tiny_base: Path, tiny_space: Path, tmp_path: Path) -> None:
    flags = {"data": str(tiny_data), "base": str(tiny_base), "weights": "none", "space": str(tiny_space)}
    prepared = setting.prepare(run.resolve(None, flags | {"output": str(tmp_path)}, ["imgsz=64", "device=cpu"]))
    (line,) = run.outlook(prepared)
    assert line.startswith("warning: ")
    assert "python -m nas correlate" in line


@pytest.mark.parametrize(("flag", "value"), [("--placements", 2), ("--placements", 99), ("--times", 1)])
def test_numbers_out_of_range_are_refused(cli: Callable[..., Any], flag: str, value: int) -> None:
    done = cli("correlate", flag, value)
    assert done.code == 2
    assert f"{flag} {value}" in done.err
