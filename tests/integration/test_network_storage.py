"""A study in PostgreSQL: seen from a machine that has nothing but its address; the password is told nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from conftest import TRIALS, Searched, call_cli
from postgres_support import PASSWORD, server

from nas import storage


@pytest.fixture(scope="module")
def address(searched: Searched) -> Iterator[str]:
    """A finished study in a PostgreSQL of its own."""
    pytest.importorskip("psycopg")
    with server() as url:
        here = f"sqlite:///{searched.folder / 'study.db'}"
        optuna.copy_study(from_study_name="first", from_storage=here, to_storage=url)
        yield url


def test_status_and_report_from_elsewhere(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = call_cli("status", "first", "--storage", address)
    assert said.code == 0 and f"{TRIALS} of {TRIALS} placements trained" in said.text
    assert PASSWORD not in said.text and "***" in said.text and not list(tmp_path.iterdir())
    made = call_cli("report", "first", "--storage", address, "-o", tmp_path / "report")
    assert made.code == 0, made.text
    page = (tmp_path / "report" / "report.html").read_text()
    assert PASSWORD not in page and "no verdict yet" in page
    table = call_cli("report", "first", "--storage", address, "--markdown")
    assert table.code == 0 and "| base |" in table.out and PASSWORD not in table.text


def test_a_wrong_name_and_a_wrong_address_are_one_line(address: str) -> None:
    wrong = call_cli("status", "fist", "--storage", address)
    assert wrong.code == 2 and "has no study 'fist'" in wrong.err and "did you mean 'first'" in wrong.err
    gone = call_cli("status", "first", "--storage", address.replace("127.0.0.1:", "127.0.0.1:1"))
    assert gone.code == 2 and "cannot be used" in gone.err
    assert PASSWORD not in wrong.err + gone.err and len(gone.err.strip().splitlines()) == 1


def test_two_processes_see_one_study(address: str) -> None:
    one, two = (optuna.load_study(study_name="first", storage=storage.open_storage(address)) for _ in range(2))
    one.set_user_attr("asked", 99)
    assert two.user_attrs["asked"] == 99
    assert "99 placements" in call_cli("status", "first", "--storage", address).text
