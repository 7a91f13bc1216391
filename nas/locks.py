"""Goes in: a path. Comes out: a lock between the processes of a machine; the system frees it when its holder dies."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

LOOK = 0.005  # seconds between tries of a lock that is waited for only so long

if os.name == "nt":
    import msvcrt

    def _lock(file: IO[Any], shared: bool) -> None:
        while not _try(file, shared):
            time.sleep(LOOK)

    def _try(file: IO[Any], shared: bool) -> bool:
        try:
            file.seek(0)
            if not shared:  # it has none in common
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True

    def _unlock(file: IO[Any], shared: bool) -> None:
        if not shared:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _lock(file: IO[Any], shared: bool) -> None:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)

    def _try(file: IO[Any], shared: bool) -> bool:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

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

    def acquire(self, seconds: float | None = None) -> bool:
        """Wait for it, for so long at most, and take it; whether it was had.

        Raises:
            RuntimeError: This object holds it: it would wait for itself.
        """
        if self.held:
            raise RuntimeError(f"lock {self.path} is held by this process already")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+b")
        try:
            if seconds is None:
                _lock(file, self.shared)
            elif not _within(seconds, file, self.shared):
                file.close()
                return False
        except BaseException:
            file.close()
            raise
        self.file = file
        return True

    def check(self) -> None:
        """Whoever holds it, holds it: the system takes it from nobody."""

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


def _within(seconds: float, file: IO[Any], shared: bool) -> bool:
    end = time.monotonic() + seconds
    while not _try(file, shared):
        if time.monotonic() > end:
            return False
        time.sleep(LOOK)
    return True


def of_file(file: Path) -> FileLock:
    """Whoever holds it adds to a file."""
    name = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"yolo-attention-nas-{name}.lock")


class Steps:
    """A training's steps: several trainings take theirs at the same time, none while a latency is measured.

    Whoever wants to measure holds the gate, which steps have to pass; then it waits for those that are under way.
    Nobody waits forever: a process may be stopped, or hang, in the middle of a step or of a measurement.

    Args:
        cache: The user's; no other search of this user disturbs a measurement either.
        device: What trainings and measurements share.
        patience: Seconds after which a step is taken, or a measurement made, all the same.
    """

    def __init__(self, cache: Path, device: str, patience: float = 120.0) -> None:
        name = "".join(c if c.isalnum() else "-" for c in device)
        self.gate, self.room = cache / "locks" / f"gate-{name}", cache / "locks" / f"room-{name}"
        self.step, self.patience = FileLock(self.room, shared=True), patience

    def begin(self) -> None:
        """Wait while somebody measures."""
        if not self.step.held:
            gate = FileLock(self.gate, shared=True)
            gate.acquire(self.patience)
            try:
                self.step.acquire(self.patience)
            finally:
                gate.release()

    def end(self) -> None:
        """The step is done; where none was begun, nothing."""
        self.step.release()

    @contextmanager
    def silent(self) -> Iterator[bool]:
        """Nobody takes a step; False where somebody would not wait: then what is measured may be disturbed."""
        gate, room = FileLock(self.gate), FileLock(self.room)
        try:
            yield gate.acquire(self.patience) and room.acquire(self.patience)
        finally:
            room.release()
            gate.release()
