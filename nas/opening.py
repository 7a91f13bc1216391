"""Goes in: a checked recipe. Comes out: its study, opened in its storage, or an error that leaves nothing behind."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from nas import preflight
from nas import study as studies
from nas.recipe import Recipe, RecipeError
from nas.setting import Setting
from nas.storage import hide_password, open_storage

Say = Callable[[str], None]


def existing(r: Recipe, say: Say) -> BaseStorage | None:
    """The recipe's storage, connected and found to take what is written; None where it is yet to be made.

    Raises:
        RecipeError: It cannot be used, or its study of that name is another program's.
    """
    if r.storage is None or preflight.is_to_be_made(r.storage):
        return None
    storage = open_storage(r.storage, say)
    preflight.check_storage(storage, r.storage, r.name)
    return storage


def study(setting: Setting, storage: BaseStorage | None, say: Say) -> optuna.Study:
    """Open the study; where it is refused, the folders and files that were made for it go.

    Raises:
        RecipeError: The storage cannot be used, or the study was made by another recipe or program.
    """
    url = studies.storage_url(setting)
    parsed = make_url(url)
    file = Path(parsed.database or "") if storage is None and parsed.drivername.startswith("sqlite") else None
    made = file if file is not None and not file.exists() else None
    try:
        with preflight.taken_back(setting.folder):
            try:
                setting.folder.mkdir(parents=True, exist_ok=True)
                storage = storage or open_storage(url, say)
                preflight.check_storage(storage, url, setting.recipe.name)
                return studies.open_study(setting, storage)
            except BaseException:
                if made is not None:
                    _remove(storage, made)
                raise
    except RecipeError:
        forget(setting)
        raise
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as e:
        forget(setting)
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise RecipeError(hide_password(f"storage {url}: cannot be used: {reason}", url)) from e


def forget(setting: Setting) -> None:
    """Take the parts of the dataset away that were written for this study."""
    if setting.fresh is not None:
        shutil.rmtree(setting.fresh, ignore_errors=True)
        with contextlib.suppress(OSError):
            setting.fresh.parent.rmdir()
            setting.fresh.parent.parent.rmdir()


def _remove(storage: BaseStorage | None, file: Path) -> None:
    """Take an SQLite file away that was made a moment ago and holds no study."""
    with contextlib.suppress(SQLAlchemyError, OSError):
        if isinstance(storage, RDBStorage) and not optuna.get_all_study_names(storage):
            storage.engine.dispose()
            file.unlink()
        elif storage is None and file.stat().st_size == 0:
            file.unlink()
