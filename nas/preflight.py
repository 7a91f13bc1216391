"""Goes in: where a study is written and stored. Comes out: why it cannot be, found out without leaving anything."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from nas.recipe import RecipeError
from nas.storage import hide_password


def check_folder(folder: Path, what: str) -> None:
    """Whether a folder can be written to, or made.

    Raises:
        RecipeError: It or one above it is a file, or refuses.
    """
    place = folder
    try:
        while not _is_there(place) and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise RecipeError(f"{what} {folder}: {place} is a file, expected a folder")
        with tempfile.TemporaryDirectory(prefix=".nas-", dir=place):
            pass
    except OSError as e:
        raise RecipeError(f"{what} {folder}: cannot be written: {e.strerror or e} ({place})") from e


def _is_there(place: Path) -> bool:
    """Whether there is anything of that name; a name that is too long is an OSError."""
    try:
        os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def address(url: str) -> URL:
    """A storage's URL in its parts.

    Raises:
        RecipeError: It is none; what may be its password is not told.
    """
    try:
        return make_url(url)
    except (SQLAlchemyError, ValueError) as e:  # a port that is no number as well
        shown = f"{url.partition('://')[0]}://..." if "://" in url else url[:80]
        raise RecipeError(
            f"storage {shown}: cannot be used: no such address; expected one such as sqlite:///study.db or "
            "postgresql+psycopg://user@host:5432/name"
        ) from e


def is_to_be_made(url: str) -> bool:
    """Whether a storage is an SQLite file that is not there yet: opening it would make it.

    Raises:
        RecipeError: It is no address of a storage, or there is no folder for the file.
    """
    parsed = address(url)
    file = parsed.database or ""
    if not parsed.drivername.startswith("sqlite") or file in ("", ":memory:") or file.startswith("file:"):
        return False
    if os.path.isfile(file):
        return False
    try:
        check_folder(Path(file).absolute(), "storage") if not os.path.lexists(file) else None
        if not Path(file).absolute().parent.is_dir() or os.path.isdir(file):
            raise RecipeError("a folder" if os.path.isdir(file) else f"no such folder: {Path(file).absolute().parent}")
    except (RecipeError, OSError) as e:
        raise RecipeError(f"storage {hide_password(url, url)}: cannot be used: {e}") from e
    return True


def check_storage(storage: BaseStorage, url: str, name: str | None = None) -> None:
    """Whether a storage can be written to, and holds no other program's study of that name.

    Raises:
        RecipeError: It says why not.
    """
    try:
        if isinstance(storage, RDBStorage):
            with storage.engine.begin() as connection:
                connection.exec_driver_sql("UPDATE studies SET study_name = study_name WHERE 1 = 0")
        if name is None or name not in optuna.get_all_study_names(storage):
            return
        study = optuna.load_study(study_name=name, storage=storage)
        trials = study.get_trials(deepcopy=False)  # before the attributes: another search may be making it just now
        attributes = study.user_attrs
        foreign = "identity" not in attributes and bool(attributes or trials)
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise RecipeError(hide_password(f"storage {url}: cannot be used: {reason}", url)) from e
    if foreign:
        raise RecipeError(f"study {name!r} of this storage was made by another program; choose another --name")


@contextlib.contextmanager
def taken_back(*folders: Path) -> Iterator[None]:
    """Where the block refuses its input, the empty folders that it made are removed."""
    new = []
    for folder in folders:
        place = folder.absolute()
        while not place.exists() and place != place.parent:
            new.append(place)
            place = place.parent
    try:
        yield
    except Exception:
        for folder in new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
