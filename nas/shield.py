"""Goes in: a call that must not be cut in two. Comes out: its result; an interrupt that came meanwhile, after it.

KeyboardInterrupt can be raised between any two lines. In the middle of a database's transaction it leaves a connection
open that nobody closes, and everybody who writes then waits for it, this process first.
"""

from __future__ import annotations

import threading
from types import TracebackType


class Shield:
    """A context for the main thread, where Python hears signals; for any other thread nothing."""

    def __init__(self) -> None:
        self.depth, self.pending = 0, False

    def __enter__(self) -> Shield:
        if threading.current_thread() is threading.main_thread():
            self.depth += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self.depth -= 1
        if self.pending and not self.depth:
            self.pending = False
            raise KeyboardInterrupt

    def takes(self) -> bool:
        """Whether an interrupt is to wait; the second one is not, in a call that does not come back."""
        if not self.depth or self.pending:
            return False
        self.pending = True
        return True


SHIELD = Shield()
