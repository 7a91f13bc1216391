"""Goes in: a path. Comes out: a lock between the processes of a machine; the system frees it when its holder dies."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

if os.name == "nt":
    import msvcrt

    def _lock(file: IO[Any], shared: bool) -> None:
        while not shared:  # it has none in common; gives up after ten seconds
            try:
                file.seek(0)
                return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
            except OSError:
                continue

    def _unlock(file: IO[Any], shared: bool) -> None:
        if not shared:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _lock(file: IO[Any], shared: bool) -> None:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)

    def _unlock(file: IO[Any], shared: bool) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


class FileLock:
    """A lock that one process at a time holds; taking it waits. Of one thread: two of them would share it.

    Args:
        path: Its file, which is made and stays.
        shared: Held in common with others that ask for it so, and by none of them while one holds it alone. (Windows
            has no such lock: there it is none.)
    """

    def __init__(self, path: Path, shared: bool = False) -> None:
        self.path, self.shared = path, shared
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
            _lock(file, self.shared)
        except BaseException:
            file.close()
            raise
        self.file = file

    def release(self) -> None:
        """Give it back; where it is not held, nothing."""
        file, self.file = self.file, None
        if file is not None:
            _unlock(file, self.shared)
            file.close()

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def of_study(folder: Path) -> FileLock:
    """Whoever holds it decides what a study trains next."""
    return FileLock(folder / ".lock")


def of_file(file: Path) -> FileLock:
    """Whoever holds it adds to a file."""
    name = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"yolo-attention-nas-{name}.lock")


class Steps:
    """A training's steps: several trainings take theirs at the same time, none while a latency is measured.

    Whoever wants to measure holds the gate, which steps have to pass; then it waits for those that are under way.

    Args:
        cache: The user's; no other search of this user disturbs a measurement either.
        device: What trainings and measurements share.
    """

    def __init__(self, cache: Path, device: str) -> None:
        name = "".join(c if c.isalnum() else "-" for c in device)
        self.gate, self.room = cache / "locks" / f"gate-{name}", cache / "locks" / f"room-{name}"
        self.step = FileLock(self.room, shared=True)

    def begin(self) -> None:
        """Wait while somebody measures."""
        if not self.step.held:
            with FileLock(self.gate, shared=True):
                self.step.acquire()

    def end(self) -> None:
        """The step is done; where none was begun, nothing."""
        self.step.release()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Nobody takes a step."""
        with FileLock(self.gate), FileLock(self.room):
            yield
