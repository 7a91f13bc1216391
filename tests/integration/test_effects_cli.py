"""`effects`: on a table's folder and on a study, in the terminal, as a picture, as a CSV, and in Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Result, Searched
from trainings_made import BLOCKS, SITES, placements, train, world, write_table

import nas
from nas.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 60 placements whose effects stand out; read only."""
    rng = np.random.default_rng(0)
    made = train(rng, world(rng, 0.02, 0.01, 0.005), placements(rng, 60), 0.005, repeated=5)
    return write_table(tmp_path_factory.mktemp("tables") / "clear", made)


def test_a_table_in_80_columns_as_picture_and_as_csv(
    folder: Path, cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    html, csv = tmp_path / "e.html", tmp_path / "e.csv"
    result = cli("effects", folder, "--to", html, "--csv", csv, "--budget", 1600)
    assert result.code == 0, result.text
    told = result.out[result.out.index("clear: ") :].partition("Written: ")[0]  # the rest has paths
    assert max(map(len, told.splitlines())) <= 80
    assert "These data tell blocks" in result.text and "at 1,600 images" in result.text
    assert all(block in result.out for block in BLOCKS)
    rows = pd.read_csv(csv)
    assert len(rows) == 1 + len(BLOCKS) + len(SITES) + len(BLOCKS) * len(SITES) + (rows["effect"] == "pair").sum()
    assert ((rows["low"] < rows["mean"]) & (rows["mean"] < rows["high"])).all()
    text = html.read_text(encoding="utf-8")
    assert "plotly.js" in text and 'src="http' not in text and "These data tell blocks" in text


def test_a_question_gets_a_sentence(folder: Path, cli: Callable[..., Result]) -> None:
    result = cli("effects", folder, "--block", "mhsa", "--site", "neck.p3")
    assert result.code == 0 and "mhsa at neck.p3" in result.text and "95% interval" in result.text


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--block", "ecaa"], "did you mean 'eca'?"),
        (["--site", "neck.p33"], "did you mean 'neck.p3'?"),
        (["--budget", "5"], "it has 800, 1600"),
        (["--csv", "nowhere/x.csv"], "expected a file in a folder that is there"),
    ],
)
def test_what_is_wrong_is_one_message(args: list[str], expected: str, folder: Path, cli: Callable[..., Result]) -> None:
    result = cli("effects", folder, *args)
    assert result.code == 2 and expected in result.text and "Traceback" not in result.text


def test_a_study_is_found_by_its_folder_and_says_what_it_lacks(searched: Searched, cli: Callable[..., Result]) -> None:
    result = cli("effects", searched.folder)
    assert result.code == 2 and "effects need at least 6 placements beside the base, got 3" in result.text
    assert "tables:" in cli("effects", "nowhere").text
    with pytest.raises(InputError, match="at least 6 placements"):
        nas.load(searched.folder).effects()
