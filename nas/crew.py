"""Goes in: how to start a worker. Comes out: that many of them at work, whatever becomes of one.

A worker is a process that trains, and so one that may die, hang, or lose its device. Nothing is lost with it but the
training that it was at: whoever called it closes that trial and starts another process in its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nas.children import Child, Message, stop

DONE, STOPPED = 0, 1  # exit statuses of one that ended of itself, and is not started again
AGAIN, INTERRUPTED = 75, 130  # of one that could not go on, and closed its trial; a new process may
SILENCE = 120.0  # seconds without a word (there is one every ALIVE) until it is held for stopped, and killed
ALIVE = 5.0  # seconds between words of a worker that has nothing to say
MOST_ENDS = 5  # of a worker's processes in a row without a finished trial between
GAP = 5.0  # seconds between two looks from which on this process itself was stopped, or waited for its storage


@dataclass
class Seat:
    """A worker's place.

    Args:
        index: From 0.
        child: The process of now; None while it waits for its next one.
        trial: The trial that it trains, since ``since``.
        ends: Of its processes since the last trial that one finished.
        again: When the next process may start.
        over: It ended of itself, or has ended too often.
        refused: Its last process could not begin, because of its input.
    """

    index: int
    child: Child | None = None
    trial: int | None = None
    since: float = 0.0
    ends: int = 0
    again: float = 0.0
    over: bool = False
    refused: bool = False
    reason: str = ""


@dataclass
class Crew:
    """Workers and what was heard of them.

    Args:
        start: Starts the process of the worker of an index.
        say: Takes what a person should know.
        bury: Closes the trial of a process that is no more: its id, how it ended, and the trial's error if it is to
            have one and not be tried again.
        limit: Seconds that a trial may take by now; None without a limit.
    """

    start: Callable[[int], Child]
    say: Callable[[str], None]
    bury: Callable[[int, str, str | None], None]
    limit: Callable[[], float | None]
    seats: list[Seat] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    looked: float = field(default_factory=time.monotonic)

    def seat(self, count: int) -> None:
        """Start so many."""
        for index in range(count):
            self.seats.append(Seat(index))
            self._fill(self.seats[-1])

    @property
    def at_work(self) -> bool:
        """Whether one is, or is to be started again."""
        return any(not seat.over for seat in self.seats)

    @property
    def children(self) -> list[Child]:
        """The processes of now."""
        return [seat.child for seat in self.seats if seat.child is not None]

    def look(self) -> None:
        """Hear them, end those that take too long, and start again what has ended."""
        now, gap = time.monotonic(), time.monotonic() - self.looked
        for seat in self.seats:
            if seat.over:
                continue
            if seat.child is None:
                if now >= seat.again:
                    self._fill(seat)
                continue
            if gap > GAP:  # what they said meanwhile is not read yet
                seat.since += gap
            ended = not seat.child.running
            for message in _messages(seat.child, ended):
                self._hear(seat, message)
            if ended:
                self._ended(seat, seat.child)
            else:
                self._end_what_takes_too_long(seat, seat.child, now)
        self.looked = time.monotonic()

    def stop(self) -> None:
        """End all processes."""
        stop(self.children)

    def _fill(self, seat: Seat) -> None:
        seat.child, seat.trial = self.start(seat.index), None

    def _hear(self, seat: Seat, message: Message) -> None:
        if "began" in message:
            seat.trial, seat.since = int(message["began"]), time.monotonic()
        if "ended" in message:
            seat.trial, seat.ends = None, 0
        if (text := message.get("said")) and text not in self.told:
            self.told.add(text)
            self.say(text)
        seat.refused = bool(message.get("refused", seat.refused))
        seat.reason = message.get("stopped") or message.get("failed") or seat.reason

    def _end_what_takes_too_long(self, seat: Seat, child: Child, now: float) -> None:
        limit = self.limit() if seat.trial is not None else None
        if limit is None or now - seat.since <= limit:
            return
        seat.reason = f"took longer than {limit:.0f} s, the limit of a trial"
        self.say(f"worker {seat.index + 1} was ended: trial {seat.trial} {seat.reason}")
        child.process.kill()
        stop([child])
        self.bury(child.pid, "", seat.reason)
        self._again(seat, 0)

    def _ended(self, seat: Seat, child: Child) -> None:
        code = child.process.returncode
        stop([child])
        died = code not in (DONE, STOPPED, AGAIN, INTERRUPTED)
        how = f"gave no sign of life for {SILENCE:.0f} s" if child.silent else child.how
        where = "" if seat.trial is None else f" in trial {seat.trial}"
        again = "; its placement is tried again" if where else ""
        if child.silent:
            seat.reason = f"worker {seat.index + 1} was ended{where}: it {how}"
            self.say(seat.reason + again)
        elif died:
            seat.reason = f"worker {seat.index + 1} died{where} ({child.how})"
            self.say(seat.reason + again)
        elif code not in (DONE, STOPPED):
            seat.reason = f"worker {seat.index + 1} ended: {seat.reason or child.how}"
            self.say(seat.reason)
        self.bury(child.pid, how if died else "", None)
        if code in (DONE, STOPPED) or seat.refused:
            self._over(seat, "" if code == DONE else seat.reason or how)
        else:
            self._again(seat, 1)

    def _again(self, seat: Seat, more: int) -> None:
        seat.ends, seat.child, seat.trial = seat.ends + more, None, None
        if seat.ends >= MOST_ENDS:
            return self._over(seat, f"{seat.reason}, as {seat.ends} before it one after the other")
        seat.again = time.monotonic() + (2.0 ** (seat.ends - 2) if seat.ends > 1 else 0.0)

    def _over(self, seat: Seat, reason: str) -> None:
        seat.over, seat.child = True, None
        if reason:
            self.reasons.append(reason)


def _messages(child: Child, ended: bool) -> Iterator[Message]:
    """What it has said since; all of it where it has ended."""
    while (message := child.hear(1.0 if ended else 0.0)) is not None:
        yield message
