"""Finalists of a real search: trained, judged, kept, continued."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import Result, Searched, call_cli, write_recipe
from ultralytics import YOLO

from nas import dashboard, jobs, outcome, task
from nas.outcome import BASE, CANDIDATE, CONVOLUTION, RANDOM

Cli = Callable[..., Result]


def rows(folder: Path, epochs: int) -> pd.DataFrame:
    """The trainings."""
    return pd.read_csv(folder / "finalists" / f"trainings-{epochs}.csv")


def test_a_verdict_from_trainings_that_the_search_never_saw(cli: Cli, copied: Searched) -> None:
    asked = ("finalists", "first", "--output", copied.output, "--count", 1, "--seeds", 3, "--workers", 1, "--anyway")
    result = cli(*asked, "--epochs", 1)
    assert result.code == 0, result.text[-3000:]
    study, folder = dashboard.find("first", None, str(copied.output))
    found = outcome.of_study(study)
    assert found is not None and json.loads((folder / "finalists" / "verdict.json").read_text())["split"] == "test"
    assert (found.split, found.search_split, found.seeds, found.epochs) == ("test", "val", (1, 2, 3), 1)
    assert [e.role for e in found.entries] == [BASE, CANDIDATE, RANDOM, CONVOLUTION]
    base, candidate, *_ = found.entries
    assert len(base.scores) == 3 and candidate.gain is not None and candidate.gain.low <= candidate.gain.high
    assert candidate.over_random is not None and candidate.over_convolution is not None
    assert all(e.latency is not None and e.front is not None and 0 <= e.front <= 1 for e in found.entries)
    for sentence in found.sentences:
        assert " ".join(sentence.split()) in result.text
    done = rows(folder, 1)
    assert len(done) == 12 and set(done.seed) == {1, 2, 3} and done.reason.isna().all()
    assert done.groupby("seed").batches_sha.nunique().eq(1).all()  # common random numbers
    assert done.map50_95_of_other_images.str.split().str.len().eq(100).all()
    assert [YOLO(p).task for p in sorted((folder / "finalists").glob("*-1-epochs.pt"))] == ["detect"] * 2

    again = cli(*asked, "--epochs", 1)
    assert again.code == 0 and "12 of 12 trainings were done before" in again.text
    pd.testing.assert_frame_equal(rows(folder, 1), done)
    more = cli(*(a if a != 3 else 4 for a in asked), "--epochs", 1)
    assert more.code == 0 and "12 of 16 trainings were done before" in more.text
    assert len(rows(folder, 1)) == 16
    fewer = cli(*asked, "--epochs", 1)
    assert "4 seeds are there and all count" in fewer.text and len(rows(folder, 1)) == 16
    said = call_cli("status", "first", "--output", copied.output).text
    assert found.sentences[0] in said and "worth it" not in said and "of 16 trainings" not in said
    assert outcome.of_study(dashboard.find("first", None, str(copied.output))[0]).seeds == (1, 2, 3, 4)  # type: ignore[union-attr]


def test_search_ends_with_a_verdict_and_says_beforehand_what_it_takes(
    cli: Cli, tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task.Task, "poor", lambda self, classes: 0.0)  # the tiny model learns nothing in a second
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, trials=3, name="whole",
        output=tmp_path / "runs", finalists=1, finalist_seeds=3, finalist_epochs=1, slots=1,
    )  # fmt: skip
    result = cli("search", "--recipe", recipe)
    assert result.code == 0, result.text[-3000:]
    assert "8 images to train on, 4 to search on (val), 4 to report on (test)" in result.text
    assert "finalists: at the end up to 12 trainings of 1 epoch" in result.text
    assert "They are scored on test (4 images), which the search never saw" in result.text
    study, folder = dashboard.find("whole", None, str(tmp_path / "runs"))
    found = outcome.of_study(study)
    assert found is not None and found.sentences[0] in result.text
    assert (folder / "report.html").is_file()
    trials = pd.read_csv(folder / "trials.csv")
    assert set(trials.split.dropna()) == {"val"}


def test_another_recipe_is_refused_and_an_interrupt_goes_on(
    cli: Cli, copied: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("--count", 1, "--seeds", 3, "--epochs", 1, "--workers", 1, "--anyway")
    asked = ("finalists", "first", "--output", copied.output, *more)
    run_all = jobs.run_all

    def stopped(*args: object, **kwargs: object):  # type: ignore[no-untyped-def]
        for number, found in enumerate(run_all(*args, **kwargs)):  # type: ignore[arg-type]
            yield found
            if number == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "run_all", stopped)
    result = cli(*asked)
    folder = copied.output / "first"
    again = f"`python -m nas finalists {folder} --count 1 --seeds 3 --epochs 1` goes on from here"
    assert result.code == 130 and again in result.text
    said = call_cli("status", "first", "--output", copied.output).text
    assert "2 of 12 trainings" in said and "--count 1 --seeds 3 --epochs 1" in said
    monkeypatch.setattr(jobs, "run_all", run_all)
    assert outcome.of_study(dashboard.find("first", None, str(copied.output))[0]) is None
    result = cli(*asked)
    assert result.code == 0 and "2 of 12 trainings were done before" in result.text

    file = Path(yaml.safe_load(copied.recipe.read_text())["data"])
    label = file.parent / "labels" / "val" / "0.txt"
    before = label.read_text()
    try:
        label.write_text(before.splitlines()[0] + "\n")
        result = cli(*asked)
    finally:
        label.write_text(before)
    assert result.code == 2 and "data: then" in result.err and "was made by another recipe" in result.err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("nothing",), "study 'nothing' not found"),
        (("first", "--seeds", "2"), "--seeds 2: expected 3 or more; fewer know nothing of the noise"),
        (
            ("first",),
            "More --warm-epochs, or better --weights; no verdict on that (`finalists --anyway` gives one all the same)",
        ),
        (("first", "--workers", "many"), "expected auto, a number of processes"),
    ],
)
def test_bad_input(cli: Cli, searched: Searched, args: tuple[str, ...], told: str) -> None:
    result = cli("finalists", *args, "--output", searched.output)
    assert result.code == 2 and told in result.text
    assert not (searched.folder / "finalists").exists()
