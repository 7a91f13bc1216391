"""Goes in: a path. Comes out: a lock between the processes of a machine; the system frees it when its holder dies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

if os.name == "nt":
    import msvcrt

    def _lock(file: IO[Any]) -> None:
        while True:  # msvcrt gives up after ten seconds
            try:
                file.seek(0)
                return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
            except OSError:
                continue

    def _unlock(file: IO[Any]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _lock(file: IO[Any]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)

    def _unlock(file: IO[Any]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


class FileLock:
    """A lock that one process at a time holds; taking it waits. Of one thread: two of them would share it.

    Args:
        path: Its file, which is made and stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[Any] | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self.file is not None

    def acquire(self) -> None:
        """Wait for it, and take it.

        Raises:
            RuntimeError: This object holds it: it would wait for itself.
        """
        if self.held:
            raise RuntimeError(f"lock {self.path} is held by this process already")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+b")
        try:
            _lock(file)
        except BaseException:
            file.close()
            raise
        self.file = file

    def release(self) -> None:
        """Give it back; where it is not held, nothing."""
        file, self.file = self.file, None
        if file is not None:
            _unlock(file)
            file.close()

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def of_study(folder: Path) -> FileLock:
    """Whoever holds it decides what a study trains next."""
    return FileLock(folder / ".lock")


def of_latency(cache: Path, device: str) -> FileLock:
    """Whoever holds it measures a latency on this machine's device; no other search of this user does."""
    return FileLock(cache / "locks" / f"latency-{''.join(c if c.isalnum() else '-' for c in device)}")
