"""A second machine joins a study in PostgreSQL, with copies, folder and cache of its own; other copies are refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from conftest import REPO, make_dataset, write_recipe
from integration_support import ids, wait_for
from optuna.trial import TrialState
from postgres_support import PASSWORD, Postgres, running

TOTAL = 8


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this file's own."""
    pytest.importorskip("psycopg")
    with running() as made:
        yield made


def machine(home: Path, *args: object) -> subprocess.Popen[str]:
    """``python -m nas ARGS`` as on a machine of its own: another folder, another cache."""
    home.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "nas", *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(REPO), "COLUMNS": "200", "XDG_CACHE_HOME": str(home / "cache")},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )


def test_a_machine_joins_and_goes_on_with_what_the_other_began(
    postgres: Postgres, tmp_path: Path, tiny_base: Path, tiny_space: Path
) -> None:
    data = make_dataset(tmp_path / "one" / "data")
    shutil.copytree(tmp_path / "one" / "data", tmp_path / "two" / "copy")
    recipe = write_recipe(
        tmp_path / "r.yaml", data=data, base=tiny_base, space=tiny_space, trials=TOTAL, name="far", slots=1,
        warm_epochs=1, epochs=90, rungs=2, storage=postgres.url, artifacts=tmp_path / "shared",
    )  # fmt: skip  # so many epochs that the signal comes before a second rung is done, on a busy machine too
    (tmp_path / "shared").mkdir()
    first = machine(tmp_path / "one", "search", "--recipe", recipe)
    lines = wait_for(first, f"[4/{TOTAL}]")
    first.send_signal(signal.SIGINT)
    assert first.wait(120) == 130, "".join(lines)
    place = ["worker", postgres.url, "far", "--data", tmp_path / "two" / "copy" / "data.yaml", "--workers", "2"]
    second = machine(tmp_path / "two", *place)
    more, _ = second.communicate(timeout=240)
    assert second.returncode == 0, more
    assert f"{TOTAL} placements of {TOTAL} trained by all machines together" in more
    again = machine(tmp_path / "one", "search", "--recipe", recipe)
    rest, _ = again.communicate(timeout=240)
    said = "".join(lines) + more + rest
    assert again.returncode == 0, said
    assert PASSWORD not in said
    study = optuna.load_study(study_name="far", storage=postgres.url)
    trained = [
        t for t in study.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and "score" in t.user_attrs
    ]
    assert len({t.user_attrs["placement_id"] for t in trained}) == TOTAL
    reached = [(t.user_attrs["placement_id"], t.user_attrs["rung"]) for t in trained]
    assert len(reached) == len(set(reached)), "none twice to the same rung"
    assert not [t for t in study.trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    here = {t.number for t in trained if t.user_attrs["pid"] in {u.user_attrs["pid"] for u in trained[:3]}}
    crossed = [t for t in trained if t.user_attrs.get("continues") in here and t.number not in here]
    assert crossed, "the state of one that the first machine began travelled to the second"
    assert len({t.user_attrs["score"]["batches_sha"] for t in trained if t.user_attrs["rung"] == 1}) == 1
    front = sorted(p.name for p in (tmp_path / "one" / "runs" / "far" / "front").glob("*.pt"))
    assert len(front) == len([p for p in (tmp_path / "one" / "runs" / "far" / "front").glob("*.yaml")]) > 0
    assert ids(study)


def test_another_copy_is_refused_with_what_differs(
    postgres: Postgres, tmp_path: Path, tiny_base: Path, tiny_space: Path, cli
) -> None:
    data = make_dataset(tmp_path / "data")
    recipe = write_recipe(
        tmp_path / "r.yaml", data=data, base=tiny_base, space=tiny_space, trials=2, name="mine",
        output=tmp_path / "runs", storage=postgres.url,
    )  # fmt: skip
    assert cli("search", "--recipe", recipe).code == 0
    other = make_dataset(tmp_path / "other", train=7)
    to = tmp_path / "elsewhere"
    refused = cli("worker", postgres.url, "mine", "--data", other, "--output", to)
    assert refused.code == 2
    assert "was made from other things than this machine has" in refused.err
    assert "data: then" in refused.err and "dataset's images.train: then 8, now 7" in refused.err
    assert PASSWORD not in refused.text and not to.exists()
    wrong = cli("worker", postgres.url, "mina", "--output", to)
    assert wrong.code == 2 and "did you mean 'mine'?" in wrong.err and PASSWORD not in wrong.text
    decided = cli("worker", postgres.url, "mine", "imgsz=96", "--output", to)
    assert decided.code == 2 and "the study decides it" in decided.err and not to.exists()
    done = cli("worker", postgres.url, "mine", "--output", to, "--workers", "1")
    assert done.code == 0, done.text
    assert "2 placements of 2 trained" in done.text


def test_two_supervisors_on_one_study_train_exactly_the_asked_number(
    postgres: Postgres, tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path
) -> None:
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, trials=5, name="both", slots=1,
        output=tmp_path / "runs", storage=postgres.create("both"),
    )  # fmt: skip
    both = [machine(tmp_path / "m", "search", "--recipe", recipe) for _ in range(2)]
    said = [p.communicate(timeout=300)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0], "\n".join(said)
    study = optuna.load_study(study_name="both", storage=postgres.url.removesuffix("/postgres") + "/both")
    assert len(ids(study)) == len(set(ids(study))) == 5
    assert not [t for t in study.trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]


def test_a_search_outlasts_a_restart_of_its_database(
    postgres: Postgres, tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path
) -> None:
    url = postgres.create("away")
    recipe = write_recipe(
        tmp_path / "r.yaml", data=tiny_data, base=tiny_base, space=tiny_space, trials=6, name="away", slots=2,
        output=tmp_path / "runs", storage=url, epochs=3,
    )  # fmt: skip
    process = machine(tmp_path / "m", "search", "--recipe", recipe)
    lines = wait_for(process, "[1/6]")
    postgres.stop("immediate")
    time.sleep(10)
    postgres.start()
    rest, _ = process.communicate(timeout=300)
    assert process.returncode == 0, "".join(lines) + rest
    assert "the storage does not answer" in rest and "the storage is back" in rest
    assert "Traceback" not in rest
    study = optuna.load_study(study_name="away", storage=url)
    assert len(ids(study)) == len(set(ids(study))) == 6
    assert not [t for t in study.trials if t.state in (TrialState.RUNNING, TrialState.WAITING)]
