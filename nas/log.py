"""Goes in: a log's file that several processes add to. Comes out: the file to add to, never much longer than a limit.

A file that has reached the limit becomes log.1.txt, and that log.2.txt, whose lines go: so the latest are always in
log.txt. `logging.handlers.RotatingFileHandler` does this for one process only: with two, each renames what the other
has just begun. Here it is done under a lock and only where somebody opens the file, as each training does. Whoever has
it open goes on in the renamed one until then, and no line is lost. (On Windows an open file cannot be renamed: it
grows until nobody has it open.)
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import IO

from nas.locks import FileLock

LIMIT = 10_000_000  # bytes from which on a file is put aside
FILES = 3  # the latest and the older ones
PATIENCE = 1.0  # seconds; whoever holds the lock so long puts the file aside in our place
BETWEEN = 60.0  # seconds between two frames of a progress bar

_kept: dict[int, tuple[int, int]] = {}  # standard streams that were led to a log: which file they had last


def opened(log: Path) -> IO[str]:
    """The log to add lines to, a new one where it was full. What this process prints into it goes the same way.

    A worker's standard streams are the log's file from its start on; they would stay with the old one for ever.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    led = [fd for fd in (1, 2) if _of(fd) in {_kept.get(fd), *map(_of, _all(log))} - {None}]
    put_aside(log)
    file = log.open("a", buffering=1, encoding="utf-8", errors="replace")  # by lines: others add theirs between
    file.progress = bars(file)  # type: ignore[attr-defined]
    if (now := _of(file.fileno())) is not None:
        for fd in led:
            if _of(fd) != now:
                os.dup2(file.fileno(), fd)
            _kept[fd] = now
    return file


def bars(file: IO[str]) -> Callable[[int, str], None]:
    """What Ultralytics' progress bars ask a stream for, called with a bar and its frame, or nothing at its end.

    They redraw themselves ten times a second, a megabyte in ten minutes; here they do so once a minute.
    """
    last: dict[int, tuple[float, str]] = {}

    def progress(bar: int, frame: str) -> None:
        now, frame = time.monotonic(), frame.removeprefix("\r\033[K")
        drawn, before = last.get(bar, (now, ""))
        if not frame:
            last.pop(bar, None)
            file.write(before)  # the bar ends the line
        elif now - drawn < BETWEEN:
            last[bar] = drawn, frame
        else:
            last[bar] = now, frame
            file.write(frame + "\n")

    return progress


def put_aside(log: Path) -> None:
    """Make room for a new file where the latest has reached the limit; where that cannot be done, nothing."""
    with contextlib.suppress(OSError):
        if log.stat().st_size < LIMIT:
            return
        lock = FileLock(log.with_name(f".{log.name}.lock"))
        if not lock.acquire(PATIENCE):
            return
        try:
            if log.stat().st_size >= LIMIT:  # nobody did it meanwhile
                _rename(log)
        finally:
            lock.release()


def _rename(log: Path) -> None:
    files = _all(log)
    for newer, older in reversed(list(pairwise(files))):
        if newer.exists():
            newer.replace(older)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"a new file; older lines are in those with a number, the oldest in {files[-1].name}\n")


def _all(log: Path) -> list[Path]:
    """The latest, the one before it, and so on."""
    return [log, *(log.with_name(f"{log.stem}.{n}{log.suffix}") for n in range(1, FILES))]


def _of(file: int | Path) -> tuple[int, int] | None:
    """What tells a file from all others; None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino
