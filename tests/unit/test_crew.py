"""Workers that die, hang, say nothing or refuse: what becomes of them, and of the trial that they were at."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

import pytest

from nas import crew
from nas.crew import AGAIN, DONE, INTERRUPTED, MOST_ENDS, STOPPED, Crew


class Fake:
    """A worker whose end and words a test decides."""

    silent = False

    def __init__(self, pid: int) -> None:
        self.pid, self.words = pid, queue.Queue[dict[str, Any]]()
        self.process = SimpleNamespace(
            returncode=None, poll=lambda: self.process.returncode, kill=lambda: self.end(-9), wait=lambda: None,
            terminate=lambda: self.end(-15), stdin=None, stdout=None,
        )  # fmt: skip

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    how = "killed by SIGKILL"

    def hear(self, seconds: float) -> dict[str, Any] | None:
        return self.words.get() if not self.words.empty() else None

    def end(self, code: int, **words: Any) -> None:
        """End it, with last words."""
        self.process.returncode = code
        if words:
            self.words.put(words)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """In place of the system's."""
    made = Clock()
    monkeypatch.setattr(crew, "time", made)
    return made


class Watched:
    """A crew of one, what it started, said and buried."""

    def __init__(self, limit: float | None = None, count: int = 1) -> None:
        self.started: list[Fake] = []
        self.said: list[str] = []
        self.buried: list[tuple[int, str, str | None]] = []
        self.crew = Crew(self.start, self.said.append, lambda *how: self.buried.append(how), lambda: limit)  # type: ignore[arg-type]
        self.crew.looked = 0.0
        self.crew.seat(count)

    def start(self, index: int) -> Any:
        self.started.append(Fake(100 + len(self.started)))
        return self.started[-1]

    @property
    def last(self) -> Fake:
        return self.started[-1]


def test_one_that_dies_is_replaced_and_its_trial_closed(clock: Clock) -> None:
    w = Watched()
    w.last.end(-9, began=7)
    w.crew.look()
    assert w.buried == [(100, "killed by SIGKILL", None)]
    assert w.said == ["worker 1 died in trial 7 (killed by SIGKILL); its placement is tried again"]
    w.crew.look()
    assert len(w.started) == 2 and w.crew.at_work


@pytest.mark.parametrize(("code", "died"), [(AGAIN, False), (INTERRUPTED, False), (3, True), (-11, True)])
def test_which_ends_are_deaths(code: int, died: bool, clock: Clock) -> None:
    w = Watched()
    w.last.end(code, failed="its reason")
    w.crew.look()
    assert bool(w.buried[0][1]) is died, "a placement that processes die of is counted"
    w.crew.look()
    assert len(w.started) == 2


@pytest.mark.parametrize("code", [DONE, STOPPED])
def test_one_that_is_done_is_not_started_again(code: int, clock: Clock) -> None:
    w = Watched()
    w.last.end(code, **({"stopped": "all failed"} if code else {}))
    w.crew.look()
    assert not w.crew.at_work
    assert w.crew.reasons == (["all failed"] if code else [])


def test_one_that_is_refused_is_not_started_again(clock: Clock) -> None:
    w = Watched()
    w.last.end(AGAIN, failed="epochs: then 1, now 2", refused=True)
    w.crew.look()
    assert not w.crew.at_work and "epochs: then 1, now 2" in w.crew.reasons[0]


def test_one_that_ends_again_and_again_is_given_up(clock: Clock) -> None:
    w = Watched()
    for _ in range(MOST_ENDS):
        w.last.end(-9)
        w.crew.look()
        clock.now += 30.0
        w.crew.looked = clock.now
        w.crew.look()
    assert len(w.started) == MOST_ENDS and not w.crew.at_work
    assert f"as {MOST_ENDS} before it" in w.crew.reasons[0]


def test_a_finished_trial_between_gives_it_all_its_tries_again(clock: Clock) -> None:
    w = Watched()
    for _ in range(2 * MOST_ENDS):
        w.last.words.put({"began": 1})
        w.last.words.put({"ended": 1})
        w.last.end(-9)
        w.crew.look()
        clock.now += 3.0
        w.crew.look()
    assert w.crew.at_work


def test_one_that_takes_too_long_is_ended_and_its_trial_has_failed(clock: Clock) -> None:
    w = Watched(limit=10.0)
    w.last.words.put({"began": 7})
    w.crew.look()
    for _ in range(4):
        clock.now += 3.0
        w.last.words.put({"alive": True})
        w.crew.look()
    assert w.buried == [(100, "", "took longer than 10 s, the limit of a trial")]
    assert w.crew.seats[0].ends == 0, "the placement's fault, not the worker's"


def test_one_that_says_nothing_is_ended_and_its_trial_tried_again(clock: Clock) -> None:
    w = Watched()
    w.last.silent = True
    w.last.end(-9)
    w.crew.look()
    assert w.buried == [(100, f"gave no sign of life for {crew.SILENCE:.0f} s", None)]
    w.crew.look()
    assert len(w.started) == 2


def test_a_supervisor_that_was_stopped_itself_holds_nobody_for_dead(clock: Clock) -> None:
    w = Watched(limit=10.0)
    w.last.words.put({"began": 7})
    w.crew.look()
    clock.now += 3600.0
    w.crew.look()
    assert w.buried == [] and w.last.running
