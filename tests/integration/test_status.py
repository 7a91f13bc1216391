"""`status`: what it says of a study that is finished, runs, was killed or is empty, and what it needs for it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import TRIALS, Searched, call_cli, run_python

from nas import dashboard, export, machine
from nas.outcome import ATTRIBUTE, BASE, NONE, Entry, Outcome


def storage(found: Searched) -> str:
    """URL of a study's database."""
    return f"sqlite:///{found.folder / 'study.db'}"


def test_a_finished_study(copied: Searched) -> None:
    result = call_cli("status", "first", "--output", copied.output)
    assert result.code == 0, result.text
    study, said = copied.study, result.out
    assert "finished; the last one ended 20" in said and " ago" in said
    assert f"{TRIALS} of {TRIALS} placements trained; 0 failed, 0 beyond limits" in said
    assert "how long" not in said and "worth it" not in said and "no findings" in said
    rows = [line.split() for line in said.splitlines()]
    for t in export.front_trials(study):
        assert any(row[:2] == [str(t.number), f"{t.user_attrs['score']['value']:.4f}"] for row in rows), said
        assert t.user_attrs["label"] in said
    assert call_cli("status", copied.folder).out.splitlines()[2:] == said.splitlines()[2:]


def test_a_running_study_says_where_and_how_long_still(copied: Searched) -> None:
    study = copied.study
    study.set_user_attr("asked", 10)
    here, far, dead = (study.ask() for _ in range(3))
    host = machine.name()
    for t, label, at, pid in ((here, "x", host, 1), (far, "y", "far-away", 7), (dead, "z", host, 2**22 + 1)):
        for key, value in (("label", f"neck.p3={label}"), ("host", at), ("pid", pid)):
            t.set_user_attr(key, value)
    said = " ".join(call_cli("status", "first", "--output", copied.output).out.split())
    assert "running, 2 placements in training" in said and f"{TRIALS} of 10 placements trained" in said
    assert f"neck.p3=x (trial {here.number}) on {host}, process 1, begun 20" in said
    assert f"neck.p3=y (trial {far.number}) on far-away, process 7, begun 20" in said
    assert "1 training of a process that is gone" in said and "neck.p3=z" not in said
    assert "how long about 0:" in said and f"the last {TRIALS} placements" in said
    assert study.trials[dead.number].state == optuna.trial.TrialState.RUNNING, "status changes nothing"


def test_a_stopped_study(copied: Searched) -> None:
    copied.study.set_user_attr("asked", 7)
    said = call_cli("status", "first", "--output", copied.output).out
    assert "stopped, no placement in training; the last one ended" in said
    assert f"{TRIALS} of 7 placements trained" in said and "of training, once it goes on" in said


def empty(found: Searched, path: Path) -> str:
    """A study as a search begins it, without a trial; its URL."""
    url = f"sqlite:///{path / 'empty.db'}"
    old = found.study
    study = optuna.create_study(study_name="empty", storage=url, directions=old.directions)
    study.set_metric_names(old.metric_names)
    for key, value in old.user_attrs.items():
        study.set_user_attr(key, value)
    return url


def test_an_empty_study(searched: Searched, tmp_path: Path) -> None:
    result = call_cli("status", "empty", "--storage", empty(searched, tmp_path))
    assert result.code == 0, result.text
    assert "no placement has begun" in result.out and f"0 of {TRIALS} placements trained" in result.out
    assert "not known yet" in result.out and "Pareto" not in result.out


def test_with_a_storage_the_folder_is_not_needed(copied: Searched, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.move(copied.folder / "study.db", tmp_path / "alone.db")
    shutil.rmtree(copied.output)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    url = f"sqlite:///{tmp_path / 'alone.db'}"
    result = call_cli("status", "first", "--storage", url)
    assert result.code == 0, result.text
    assert f"first: {url}" in result.out and f"{TRIALS} of {TRIALS} placements trained" in result.out
    assert not list(elsewhere.iterdir())


def test_finalists_are_told_in_the_place_of_the_caveat(copied: Searched) -> None:
    copied.study.set_user_attr(ATTRIBUTE, an_outcome("Nothing is told from the base.").to_json())
    said = call_cli("status", "first", "--output", copied.output).out
    assert "Finalists: Nothing is told from the base." in said
    assert said.index("Finalists:") < said.index("Pareto front") < said.index("no findings")


def an_outcome(sentence: str) -> Outcome:
    """Finalists that came to nothing."""
    base = Entry(BASE, "0", {}, "base", 1, 1.0)
    return Outcome(
        "mAP50-95", "test", "val", 4, "one2many", 1, (1, 2), 0.01, NONE, (sentence,), (base,), {}, "x", "y", {}
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["frist", "--output", "OUT"], ["'frist' not found", "did you mean 'first'"]),
        (["frist", "--storage", "URL"], ["no study 'frist'", "did you mean 'first'"]),
        (["first", "--storage", "sqlite:////no/such.db"], ["cannot be used", "no such file"]),
        (["first", "--storage", "postgresql+psycopg://me:s3cret@127.0.0.1:9/x"], ["cannot be used", "me:***@"]),
        (["first", "--storage", "nonsense"], ["cannot be used"]),
    ],
)
def test_what_is_not_there_is_one_message(searched: Searched, args: list[str], words: list[str]) -> None:
    names = {"OUT": str(searched.output), "URL": storage(searched)}
    result = call_cli("status", *(names.get(a, a) for a in args))
    assert result.code == 2 and result.out == "", result.text
    assert all(word in result.err for word in words), result.err
    assert "s3cret" not in result.text and "Traceback" not in result.err


def test_a_storage_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "typo.db"
    assert call_cli("status", "first", "--storage", f"sqlite:///{file}").code == 2
    assert not file.exists()


def test_a_study_of_somebody_else(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'other.db'}"
    optuna.create_study(study_name="other", storage=url)
    result = call_cli("status", "other", "--storage", url)
    assert result.code == 2 and "was not made by `nas search`" in result.err


def test_it_loads_neither_torch_nor_ultralytics(searched: Searched) -> None:
    said = run_python(
        "import sys\nfrom nas import status\nstatus.command('first', None, sys.argv[1])\n"
        "print('HEAVY', sorted({'torch', 'ultralytics', 'pandas', 'plotly'} & set(sys.modules)))",
        searched.output,
    )
    assert "HEAVY []" in said and "finished" in said


def test_the_dashboard_finds_studies_the_same_way() -> None:
    assert dashboard.find is sys.modules["nas.status"].find
