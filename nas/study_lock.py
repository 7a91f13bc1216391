"""Goes in: a study's storage. Comes out: the lock under which is decided what the study trains next.

A file's on one machine; PostgreSQL's own where several may work on the study: it is freed when its holder dies, or the
machine that it is on, or the line between.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from nas.locks import FileLock
from nas.shield import SHIELD
from nas.steady import SteadyStorage

TURN = 300  # seconds in PostgreSQL's queue, before one stands at its end anew
TIMED_OUT = "55P03"  # its code for that
LEASE = 60  # seconds that a holder may be silent: one that was stopped loses the lock, and notices when it goes on


class LockLost(RuntimeError):
    """The database went away while the lock was held: somebody else may have held it since."""


class StudyLock(Protocol):
    """What one process of a study holds at a time."""

    @property
    def held(self) -> bool:
        """Whether this object holds it."""

    def acquire(self) -> object:
        """Wait for it, and take it."""

    def release(self) -> None:
        """Give it back; where it is not held, nothing."""

    def check(self) -> None:
        """Make sure that nobody else can have held it since.

        Raises:
            LockLost: It was lost in between.
        """

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...


class DatabaseLock:
    """An advisory lock of PostgreSQL, on a connection of its own that lives while it is held.

    Args:
        storage: Whose database it is, and whose patience.
        name: The study's.
    """

    def __init__(self, storage: SteadyStorage, name: str) -> None:
        self.storage = storage
        self.key = int.from_bytes(hashlib.sha256(f"yolo-attention-nas {name}".encode()).digest()[:8], signed=True)
        self.engine: Engine | None = None
        self.connection: Connection | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self.connection is not None

    def acquire(self) -> None:
        """Wait for it, and take it.

        Raises:
            RuntimeError: This object holds it: it would wait for itself.
            StorageInternalError: The database does not answer.
        """
        if self.held:
            raise RuntimeError("the study's lock is held by this process already")
        while not self.storage.insist(self._wait, whole=False):
            pass

    def _wait(self) -> bool:
        """Wait for a turn; whether it was had."""
        if self.engine is None:
            self.engine = create_engine(
                self.storage.engine.url, poolclass=NullPool, connect_args={"connect_timeout": 10}
            ).execution_options(isolation_level="AUTOCOMMIT")
        connection = self.engine.connect()
        try:
            connection.execute(text(f"SET lock_timeout = '{TURN}s'"))
            if connection.dialect.server_version_info >= (14,):  # type: ignore[operator]
                connection.execute(text(f"SET idle_session_timeout = '{LEASE}s'"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": self.key})
        except BaseException as e:
            connection.close()
            if getattr(getattr(e, "orig", None), "sqlstate", None) == TIMED_OUT:
                return False
            raise
        self.connection = connection
        return True

    def release(self) -> None:
        """Give it back; where it is not held, nothing. The end of the connection frees it in any case."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with SHIELD, contextlib.suppress(SQLAlchemyError):
                connection.close()

    def check(self) -> None:
        """Make sure that nobody else can have held it since.

        Raises:
            LockLost: Its connection has ended.
        """
        if self.connection is None:
            raise LockLost("the study's lock is not held")
        try:
            with SHIELD:
                self.connection.execute(text("SELECT 1"))
        except SQLAlchemyError as e:
            self.release()
            raise LockLost("the study's lock was lost: its database went away") from e

    def __enter__(self) -> DatabaseLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def of(storage: object, name: str, folder: Path) -> StudyLock:
    """The lock of the study called ``name``: whoever holds it decides what is trained next.

    Args:
        storage: Optuna's, as a study holds it.
        folder: Of the study on this machine.
    """
    backend = getattr(storage, "_backend", storage)
    if isinstance(backend, SteadyStorage) and backend.engine.dialect.name == "postgresql":
        return DatabaseLock(backend, name)
    return FileLock(folder / ".lock")
