"""Goes in: a storage URL. Comes out: the Optuna storage, or one error without the password."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from nas.recipe import RecipeError


def open_storage(url: str) -> BaseStorage:
    """Connect to a storage.

    Raises:
        RecipeError: It cannot be reached, or is none.
    """
    try:
        options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # the heartbeat is one
            return RDBStorage(url, engine_kwargs=options, heartbeat_interval=60, grace_period=300)
    except (SQLAlchemyError, ImportError, ValueError, OSError, RuntimeError) as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise RecipeError(hide_password(f"storage {url}: cannot be used: {reason}", url)) from e


def hide_password(text: str, url: str) -> str:
    """``text`` without the password of ``url``."""
    try:
        parsed = make_url(url)
    except (ArgumentError, NoSuchModuleError):
        return text
    return text.replace(url, parsed.render_as_string(hide_password=True)).replace(parsed.password or "\0", "***")
