"""Goes in: a storage URL. Comes out: the Optuna storage, or one error without the password."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from nas import hidden
from nas.recipe import RecipeError
from nas.steady import PATIENCE, SteadyStorage

Say = Callable[[str], None]
TABLES = 10.0  # seconds for another process to make a new database's tables


def open_storage(url: str, say: Say | None = None, wait: bool = False) -> BaseStorage:
    """Connect to a storage.

    Args:
        say: Takes a line when it stops to answer later, and one when it answers again.
        wait: Go on asking for some minutes where it does not answer now.

    Raises:
        RecipeError: It cannot be reached, or is none.
    """
    url, started = hidden.full(url), time.monotonic()
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # the heartbeat is one
                return SteadyStorage(url, say=say, engine_kwargs=options(url))
        except (SQLAlchemyError, ImportError, ValueError, OSError, RuntimeError) as e:
            if wait and isinstance(e, OperationalError) and time.monotonic() - started < PATIENCE:
                time.sleep(1.0)
                continue
            if being_made(e) and time.monotonic() - started < TABLES:
                time.sleep(0.5)
                continue
            reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
            raise RecipeError(hide_password(f"storage {url}: cannot be used: {reason}", url)) from e


def being_made(e: Exception) -> bool:
    """Whether another process makes a new database's tables at this very moment."""
    if isinstance(e, OperationalError):  # SQLite's word for it
        return "already exists" in str(e)
    return isinstance(e, IntegrityError | ProgrammingError)


def options(url: str) -> dict[str, Any]:
    """How SQLAlchemy connects. To a server one connection is kept, and tried before it is used."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 60}}
    more = {"connect_args": {"connect_timeout": 10}} if url.startswith("postgresql") else {}
    return {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 9, **more}


def hide_password(text: str, url: str) -> str:
    """``text`` without the password of ``url``."""
    try:
        parsed = make_url(url)
        shown = parsed.render_as_string(hide_password=True)
    except (ArgumentError, NoSuchModuleError, ValueError):
        return hidden.hide(text)
    return hidden.hide(text.replace(url, shown).replace(parsed.password or "\0", "***"))
