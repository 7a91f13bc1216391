"""Goes in: what a worker runs. Comes out: a real process of it, forked from this one, in place of a fresh Python.

A fresh Python needs ten seconds to import torch and to read the dataset; a thousand rounds of faults have not so long.
All else is the product's own: the worker's main, its messages, its signals, the supervisor's way to end it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nas import children, worker

PIPES: set[int] = set()  # this side's ends of all pipes: a later child must not hold an earlier one's open


class ForkProcess:
    """What the product uses of `subprocess.Popen`."""

    def __init__(self, pid: int, stdin: Any, stdout: Any) -> None:
        self.pid, self.stdin, self.stdout, self.returncode = pid, stdin, stdout, None
        self.asking = threading.Lock()

    def poll(self) -> int | None:
        """Its exit status, once it has one."""
        with self.asking:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int | None:
        """Wait for it."""
        while self.poll() is None:
            time.sleep(0.01)
        return self.returncode

    def terminate(self) -> None:
        """SIGTERM."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """A signal; nothing happens to one that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkChild(children.Child):
    """A worker as a fork of this process."""

    def __init__(
        self, module: str, job: Any, threads: int | None, log: Path | None = None, arguments: Any = (),
        silence: float | None = None,
    ) -> None:  # fmt: skip
        there, here = os.pipe()
        back, away = os.pipe()
        os.set_inheritable(there, True)
        pid = os.fork()
        if pid == 0:
            run(lambda: worker.main(), there, away, log, {here, back} | PIPES)
        os.close(there)
        os.close(away)
        PIPES.update((here, back))
        self.process = ForkProcess(pid, os.fdopen(here, "w"), os.fdopen(back))  # type: ignore[assignment]
        self._attend(silence)
        self.tell(job)


def run(what: Callable[[], int], stdin: int, stdout: int, log: Path | None, close: set[int]) -> None:
    """In a fresh fork: its standard streams, then what it is for; never comes back."""
    code = 70
    try:
        for fd in close:
            os.close(fd)
        os.setsid()
        PIPES.clear()
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode, closefd=False) for fd, mode in enumerate("rww"))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        code = what()
    except BaseException:
        with contextlib.suppress(Exception):  # its disk may be full
            traceback.print_exc()
    finally:
        try:
            sys.stderr.flush()
        finally:
            os._exit(code)
