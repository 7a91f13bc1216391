"""The same command goes on where it stopped: after its end, an interrupt, a kill; another recipe is refused."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import yaml
from conftest import TRIALS, Searched, study_in, write_recipe
from integration_support import ids, start, wait_for
from optuna.trial import TrialState


def test_more_trials_continue_and_none_is_trained_twice(copied: Searched, cli) -> None:
    before = {t.number: t.values for t in copied.study.trials}
    result = cli("search", "--recipe", copied.recipe, "--trials", TRIALS + 2)
    assert result.code == 0, result.text
    assert f"continued after {TRIALS} placements" in result.text
    study = copied.study
    assert len(ids(study)) == len(set(ids(study))) == TRIALS + 2
    assert {t.number: t.values for t in study.trials[:TRIALS]} == before
    shas = {t.user_attrs["score"]["batches_sha"] for t in study.trials}
    assert len(shas) == 1, "continued trials see the batches of the first ones"


def test_a_finished_search_trains_nothing_more(copied: Searched, cli) -> None:
    assert cli("search", "--recipe", copied.recipe).code == 0
    assert len(copied.study.trials) == TRIALS


def test_another_recipe_under_the_same_name_is_refused_with_the_differences(copied: Searched, cli) -> None:
    files = {p: p.read_bytes() for p in copied.folder.rglob("*") if p.is_file() and p.suffix != ".db"}
    result = cli("search", "--recipe", copied.recipe, "--epochs", 2, "--seed", 5, "mosaic=1.0")
    assert result.code == 2
    assert "study 'first' was made by another recipe" in result.err
    for line in ("epochs: then 1, now 2", "seed: then 0, now 5", "train.mosaic: then 0.0, now 1.0"):
        assert line in result.err
    assert "Traceback" not in result.text
    assert len(copied.study.trials) == TRIALS
    assert {p: p.read_bytes() for p in files} == files, "the refused recipe wrote over the study's files"


def test_a_repeated_placement_is_not_trained_and_not_counted(copied: Searched, cli) -> None:
    study = copied.study
    twin = study.trials[1]
    study.enqueue_trial(twin.params)
    result = cli("search", "--recipe", copied.recipe, "--trials", TRIALS + 1)
    assert result.code == 0, result.text
    assert "same as trial 1, not counted" in result.text
    trials = copied.study.trials
    assert len(trials) == TRIALS + 2
    assert trials[TRIALS].user_attrs["duplicate_of"] == 1
    assert trials[TRIALS].values == twin.values
    assert len(ids(copied.study)) == len(set(ids(copied.study))) == TRIALS + 1


@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL], ids=lambda s: s.name
)
def test_after_an_interrupt_the_same_command_goes_on(
    how: signal.Signals, tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path, cli
) -> None:
    total = 5
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, trials=total, name="cut",
        output=tmp_path / "runs", epochs=3,
    )  # fmt: skip
    process = start("search", "--recipe", recipe, cwd=tmp_path)
    wait_for(process, f"[2/{total}]")
    process.send_signal(how)
    rest, _ = process.communicate(timeout=120)
    assert "Traceback" not in rest, rest
    assert process.returncode == (-9 if how == signal.SIGKILL else 130), rest
    folder = tmp_path / "runs" / "cut"
    done = len(ids(study_in(folder)))
    assert 2 <= done < total
    if how != signal.SIGKILL:
        assert [t for t in study_in(folder).trials if t.state == TrialState.RUNNING] == []
        assert "the same command goes on" in rest
    again = cli("search", "--recipe", recipe)
    assert again.code == 0, again.text[-3000:]
    study = study_in(folder)
    assert len(ids(study)) == len(set(ids(study))) == total
    assert [t for t in study.trials if t.state in (TrialState.RUNNING, TrialState.WAITING)] == []
    shas = {t.user_attrs["score"]["batches_sha"] for t in study.trials if t.state == TrialState.COMPLETE}
    assert len(shas) == 1


def test_an_interrupt_while_a_proposal_is_made_leaves_nothing_running(copied: Searched, cli, monkeypatch) -> None:
    """The GP thinks for seconds: Ctrl-C often falls into it, between a trial's making and its first note."""
    from nas import sampler

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sampler.DistinctSampler, "repair", interrupted)
        assert cli("search", "--recipe", copied.recipe, "--trials", TRIALS + 1).code == 130
    assert cli("search", "--recipe", copied.recipe, "--trials", TRIALS + 1).code == 0
    assert len(ids(copied.study)) == TRIALS + 1
    assert [t.number for t in copied.study.trials if t.state == TrialState.RUNNING] == []


def test_the_written_recipe_does_not_hold_the_storages_password(copied: Searched) -> None:
    written = yaml.safe_load((copied.folder / "recipe.yaml").read_text())
    assert "storage" not in written
    assert "storage" not in copied.study.user_attrs["recipe"]
