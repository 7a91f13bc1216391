"""Two processes that open a new database at the same moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

from nas import storage
from nas.recipe import RecipeError
from nas.steady import SteadyStorage


def fails_once(monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """The first opening runs into what a statement of SQLite raises, where a table called x is there already."""
    left = [statement]

    def opened(*args: Any, **kwargs: Any) -> SteadyStorage:
        if left:
            with sqlalchemy.create_engine("sqlite://").begin() as connection:
                connection.exec_driver_sql("CREATE TABLE x (y INTEGER)")
                connection.exec_driver_sql(left.pop())
        return SteadyStorage(*args, **kwargs)

    monkeypatch.setattr(storage, "SteadyStorage", opened)


def test_a_database_whose_tables_another_process_makes_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_once(monkeypatch, "CREATE TABLE x (y INTEGER)")
    opened = storage.open_storage(f"sqlite:///{tmp_path / 's.db'}")
    assert optuna.get_all_study_names(opened) == []


def test_another_fault_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_once(monkeypatch, "SELECT z FROM x")
    with pytest.raises(RecipeError, match="no such column: z"):
        storage.open_storage(f"sqlite:///{tmp_path / 's.db'}")
