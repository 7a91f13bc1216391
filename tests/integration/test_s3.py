"""A study's files in S3: sent and fetched whole, through trouble, told in one line, and shown by the dashboard."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pytest
from conftest import Searched
from optuna.artifacts.exceptions import ArtifactNotFound
from s3_support import BUCKET, SECRET, Trouble, client, configure, held, server

from nas import backends, board_files, dashboard, export, store
from nas.backends import StoreError
from nas.recipe import RecipeError
from nas.store import Store

ADDRESS = f"s3://{BUCKET}/team/first"
NOBODY = "http://127.0.0.1:9"  # the port of nothing


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[str, Trouble]]:
    """The server of all tests here."""
    with server() as found:
        yield found


@pytest.fixture
def trouble(running: tuple[str, Trouble], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Trouble]:
    """boto3 talks to the server, which has one empty bucket; what can be done to its answers."""
    configure(monkeypatch, running[0], tmp_path)
    monkeypatch.setattr(store, "PAUSE", 0.0)
    client().create_bucket(Bucket=BUCKET)
    yield running[1]
    running[1].busy = running[1].torn = 0
    configure(monkeypatch, running[0], tmp_path)
    for key in held():
        client().delete_object(Bucket=BUCKET, Key=key)
    client().delete_bucket(Bucket=BUCKET)


def opened(address: str = ADDRESS) -> Store:
    """The store at an address."""
    found = store.open_store(address)
    assert found is not None
    return found


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("size", [0, 1000, 20_000_000], ids=["empty", "small", "in parts"])
def test_a_file_comes_back_as_it_was_sent(trouble: Trouble, tmp_path: Path, size: int) -> None:
    sent, there, here = write(tmp_path / "a", os.urandom(size)), opened(), tmp_path / "new" / "b"
    digest = there.put("abc-1.pt", sent)
    assert [*held()] == ["team/first/abc-1.pt"]
    opened(f"s3://{BUCKET}/team/first/").get("abc-1.pt", here, digest)
    assert here.read_bytes() == sent.read_bytes() and [*here.parent.iterdir()] == [here]
    for _ in range(2):
        there.drop("abc-1.pt")
    with pytest.raises(StoreError, match=r"artifacts s3://studies/team/first: abc-1\.pt is missing"):
        there.get("abc-1.pt", here, digest)
    assert not held() and here.read_bytes() == sent.read_bytes()


def test_without_a_prefix_files_stand_in_the_bucket_itself(trouble: Trouble, tmp_path: Path) -> None:
    opened(f"s3://{BUCKET}").put("a.pt", write(tmp_path / "a", b"x"))
    assert held() == {"a.pt": b"x"}


def test_a_damaged_file_is_refused(trouble: Trouble, tmp_path: Path) -> None:
    there = opened()
    digest = there.put("a.pt", write(tmp_path / "a", b"whole"))
    client().put_object(Bucket=BUCKET, Key="team/first/a.pt", Body=b"other")
    with pytest.raises(StoreError, match=f"a.pt is damaged: expected SHA-256 {digest}, got"):
        there.get("a.pt", tmp_path / "b", digest)
    assert not (tmp_path / "b").exists() and not [*tmp_path.glob("*.part")]


def test_a_server_that_is_busy_for_a_while_is_asked_again(trouble: Trouble, tmp_path: Path) -> None:
    there = opened()
    trouble.busy = 2
    digest = there.put("a.pt", write(tmp_path / "a", b"whole"))
    trouble.busy = 2
    there.get("a.pt", tmp_path / "b", digest)
    assert (tmp_path / "b").read_bytes() == b"whole" and trouble.busy == 0


def test_a_download_that_is_torn_begins_again(trouble: Trouble, tmp_path: Path) -> None:
    there = opened()
    digest = there.put("a.pt", write(tmp_path / "a", os.urandom(3_000_000)))
    trouble.torn = 2
    there.get("a.pt", tmp_path / "b", digest)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes() and trouble.torn == 0
    trouble.torn = 99
    with pytest.raises(StoreError, match="artifacts s3://studies/team/first: "):
        there.get("a.pt", tmp_path / "c", digest)
    assert trouble.torn == 99 - store.TRIES
    assert not (tmp_path / "c").exists() and not [*tmp_path.glob("*.part")]


def test_a_server_that_stays_busy_is_an_error(
    trouble: Trouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(backends, "ATTEMPTS", 2)
    there, file = opened(), write(tmp_path / "a", b"whole")
    trouble.busy = 99
    for act in (lambda: there.put("a.pt", file), lambda: there.get("a.pt", file), lambda: there.drop("a.pt")):
        with pytest.raises(StoreError, match=r"artifacts s3://studies/team/first: SlowDown: Reduce"):
            act()


def test_checking_leaves_nothing(trouble: Trouble) -> None:
    store.check(ADDRESS)
    assert held() == {}


@pytest.mark.parametrize("configured", ["no bucket", "no endpoint", "no server", "no credentials", "no profile", "key"])
def test_what_cannot_work_is_told_in_a_line(
    trouble: Trouble, configured: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address, started = ADDRESS, time.monotonic()
    if configured == "no bucket":
        address, said = "s3://never/x", "artifacts s3://never/x: NoSuchBucket: .*; create it first"
    elif configured == "no endpoint":
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"//me:/{SECRET}@nowhere")
        said = "endpoint nowhere` was not a valid URI"
    elif configured == "no server":
        monkeypatch.setenv("AWS_ENDPOINT_URL", NOBODY)
        said = "Could not connect to the endpoint URL: .*127.0.0.1:9"
    elif configured == "no credentials":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        said = "Unable to locate credentials; set AWS_ACCESS_KEY_ID"
    elif configured == "no profile":
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        said = r"profile \(nobody\) could not be found"
    else:
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        said = "Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY"
    with pytest.raises(RecipeError, match=said) as caught:
        store.check(address)
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    assert time.monotonic() - started < 15


def test_a_bucket_that_is_gone_is_no_missing_file(trouble: Trouble, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="NoSuchBucket"):
        opened("s3://never").get("a.pt", tmp_path / "a")
    with pytest.raises(ArtifactNotFound):
        opened().artifacts.open_reader("a.pt")


def moved(copied: Searched) -> tuple[optuna.Study, Path]:
    """The finished search, from now on with its files in the bucket."""
    study, folder = dashboard.find("first", None, str(copied.output))
    study.set_user_attr(board_files.PLACE, ADDRESS)
    return study, folder


def names_in(study: optuna.Study) -> dict[str, str]:
    """All files of the front's pages: name -> artifact's id."""
    found = {name: artifact for (_, name), artifact in board_files.stored(study).items()}
    return found | {k: v for t in export.front_trials(study) for k, v in board_files.own(t).items()}


def test_the_dashboards_files_are_in_the_bucket(trouble: Trouble, copied: Searched) -> None:
    study, folder = moved(copied)
    shutil.rmtree(folder / "artifacts")  # of the trials, when they ran
    shared = board_files.refresh(study, folder, export.front_trials(study))
    names, keys = names_in(study), held()
    assert {f"team/first/{artifact}" for artifact in names.values()} == keys.keys()
    assert {name.rpartition(".")[2] for name in names} == {"yaml", "json", "md", "pt", "csv"}
    for trial in export.front_trials(study):
        name = export.point_name(trial)
        assert b"backbone:" in (board_files.read(shared, names[f"{name}.yaml"]) or b"")
        weights = export.checkpoint(folder, trial.number).read_bytes()
        assert board_files.read(shared, names[f"{name}.pt"]) == weights
    assert not (folder / "artifacts").exists()
    attrs = study._storage.get_study_system_attrs(study._study_id)
    board_files.refresh(study, folder, export.front_trials(study))
    assert held() == keys and study._storage.get_study_system_attrs(study._study_id) == attrs


def test_a_dressed_study_that_moves_to_a_bucket_takes_its_weights_along(trouble: Trouble, copied: Searched) -> None:
    study, folder = dashboard.find("first", None, str(copied.output))
    dashboard.dress(study, folder)
    moved(copied)
    dashboard.dress(study, folder)
    assert {f"team/first/{artifact}" for artifact in names_in(study).values()} == held().keys()
    assert all(f"/{names_in(study)[f'{export.point_name(t)}.pt']})" in optuna_dashboard.get_note(study)
               for t in export.front_trials(study))  # fmt: skip
    shutil.rmtree(folder / "weights")
    before = held()
    dashboard.dress(study, folder)  # as another machine does it, which has no weights of its own
    assert held() == before


def test_the_dashboard_serves_them(trouble: Trouble, copied: Searched) -> None:
    from werkzeug.test import Client

    study, folder = moved(copied)
    shared = dashboard.dress(study, folder)
    browser = Client(dashboard.in_turn(optuna_dashboard.wsgi(study._storage, artifact_store=shared), study))
    trial = export.front_trials(study)[0]
    name, page = f"{export.point_name(trial)}.pt", f"/artifacts/{study._study_id}/{trial._trial_id}"
    answer = browser.get(f"{page}/{names_in(study)[name]}")
    assert answer.status_code == 200 and answer.data == export.checkpoint(folder, trial.number).read_bytes()
    assert answer.headers["Content-Disposition"] == f"attachment; filename={name}"


def test_a_running_trial_puts_its_files_there(trouble: Trouble, copied: Searched) -> None:
    study, folder = moved(copied)
    shutil.rmtree(folder / "artifacts")
    trial = study.ask()
    for key, value in export.front_trials(study)[0].user_attrs.items():
        trial.set_user_attr(key, value)
    board_files.of_trial(trial, "backbone: []\n", folder)
    own = board_files.own(study.trials[trial.number])
    assert len(own) == 2 and held().keys() == {f"team/first/{artifact}" for artifact in own.values()}
    assert b"backbone: []\n" in held().values() and not (folder / "artifacts").exists()


class NoServer:
    """In place of the dashboard's server: ends at once."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    def serve_forever(self) -> None:
        """Ctrl-C."""
        raise KeyboardInterrupt


def test_a_store_that_is_away_costs_neither_the_trial_nor_the_dashboard(
    trouble: Trouble, copied: Searched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, folder = moved(copied)
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOBODY)
    monkeypatch.setattr(backends, "ATTEMPTS", 1)
    trial = study.ask()
    for key, value in export.front_trials(study)[0].user_attrs.items():
        trial.set_user_attr(key, value)
    board_files.of_trial(trial, "backbone: []\n", folder)
    study.tell(trial, [0.9, 0.5, 0.1])
    said = capsys.readouterr().err
    assert f"trial {trial.number}: its files are not on the dashboard: artifacts s3://" in said and SECRET not in said
    with pytest.raises(StoreError, match="Could not connect"):
        dashboard.dress(study, folder)
    assert "# first" in optuna_dashboard.get_note(study), "the note stands all the same"
    monkeypatch.setattr(dashboard, "make_server", lambda *_, **__: contextlib.nullcontext(NoServer()))
    dashboard.serve(study, folder, "127.0.0.1", 0)
    assert "the files of the dashboard are not at hand: artifacts s3://" in capsys.readouterr().err
