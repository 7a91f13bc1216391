"""Goes in: a module of ours and a job. Comes out: a fresh Python that runs it, spoken to in lines of JSON.

`multiprocessing` would import the user's script again in every child, which ends in an error where that has no
`if __name__ == "__main__"`. A fresh interpreter is also what CUDA and torch's threads need.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from nas import log as logs

Message = dict[str, Any]


class Child:
    """A process that was started here. It ends when this process does, however that ends.

    Args:
        module: What it runs, as in ``python -m``.
        job: The first message that it gets.
        threads: Its OMP_NUM_THREADS; None leaves what is there.
        log: Where its other output goes; None for nowhere.
        arguments: What stands behind the module.
        silence: Seconds without a word after which it is killed; None for never.

    Attributes:
        silent: It was killed for that.
    """

    def __init__(
        self,
        module: str,
        job: Mapping[str, Any],
        threads: int | None,
        log: Path | None = None,
        arguments: Sequence[str] = (),
        silence: float | None = None,
    ) -> None:
        path = os.pathsep.join(dict.fromkeys(p or os.getcwd() for p in sys.path))
        env = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
        env |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
        with logs.opened(log) if log else open(os.devnull, "a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=env,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C in a terminal reaches the parent alone, which passes it on
            )
        self._attend(silence)
        self.tell(job)

    def _attend(self, silence: float | None) -> None:
        self.heard: queue.Queue[Message | None] = queue.Queue()
        self.quiet, self.silent = 0.0, False
        threading.Thread(target=self._listen, daemon=True).start()
        if silence is not None:
            threading.Thread(target=self._watch, args=(silence,), daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.quiet = 0.0
            self.heard.put(json.loads(line))
        self.heard.put(None)

    def _watch(self, silence: float) -> None:
        """Kill it when it is silent, in a thread: who started it may wait for a storage that the silent one holds.

        Seconds are counted in steps of this thread, none of which passes while this process is stopped itself.
        """
        step = min(1.0, silence / 4)
        while self.running:
            time.sleep(step)
            self.quiet += step
            if self.quiet > silence and self.running:
                self.silent = True
                self.process.kill()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send it a message; one that has died hears nothing."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass

    def hear(self, seconds: float) -> Message | None:
        """Its next message; None if it ended or said nothing for so long."""
        try:
            return self.heard.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def how(self) -> str:
        """How it ended, in words."""
        code = self.process.returncode
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit status {code}"


def stop(children: list[Child], patience: float = 15.0) -> None:
    """End them as Ctrl-C would, and by force what is still there after so many seconds or another Ctrl-C."""
    for child in children:
        if child.running:
            child.process.terminate()
    end = time.monotonic() + patience
    try:
        while any(c.running for c in children) and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        for child in children:
            if child.running:
                child.process.kill()
            child.process.wait()
            for pipe in (child.process.stdin, child.process.stdout):
                close(pipe)


def close(pipe: IO[str] | None) -> None:
    """Close a pipe whose other end may be gone."""
    try:
        if pipe is not None:
            pipe.close()
    except OSError:
        pass


class Parent:
    """The other end, in the child: messages on the standard streams; what anything else prints goes to stderr.

    A parent that ends closes the pipe; the child is then sent SIGTERM.
    """

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        self.heard: queue.Queue[Message] = queue.Queue()
        self.speaking = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self.heard.put(json.loads(line))
        os.kill(os.getpid(), signal.SIGTERM)

    def hear(self) -> Message:
        """Its next message."""
        return self.heard.get()

    def tell(self, **message: Any) -> None:
        """Send it a message; one that has ended hears nothing."""
        try:
            with self.speaking:
                self.out.write(json.dumps(message) + "\n")
                self.out.flush()
        except (BrokenPipeError, ValueError):
            pass
