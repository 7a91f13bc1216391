"""How far a study is, how long still, and whether waiting pays: by hand-made trials whose figures are known."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas import progress, wording
from nas.progress import Reference

START = datetime(2026, 1, 1, 12)
REFERENCE = Reference.of(("map", "latency"), 1.0)


def trial(
    begin: float, end: float | None, score: float | None = None, ratio: float = 1.0, *,
    images: int = 90, name: str = "", paused: bool = False, state: TrialState | None = None, **attrs: Any,
) -> FrozenTrial:  # fmt: skip
    """A trial from ``begin`` to ``end``, in seconds; numbered by :func:`numbered`."""
    if score is not None:
        attrs["score"] = {"value": score, "images_seen": images, "curve": [{"images": images, "value": score}]}
        attrs["cost"] = {"gflops": 1.0, "params": 1, "latency": {"ratio": ratio}}
        attrs["placement"] = {} if name == "base" else {"neck.p3": name}
    whole = score is not None and not paused
    found = create_trial(
        state=state if state is not None else TrialState.COMPLETE if whole else TrialState.PRUNED,
        values=[score, ratio] if whole else None,
        user_attrs={"label": name, "placement_id": name, **attrs},
    )
    found.datetime_start = START + timedelta(seconds=begin)
    found.datetime_complete = None if end is None else START + timedelta(seconds=end)
    return found


def numbered(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """As a study numbers them."""
    found = list(trials)
    for i, t in enumerate(found):
        t.number = i
    return found


def test_states_are_counted_and_a_placement_that_goes_on_is_counted_once() -> None:
    trials = numbered(
        [
            trial(0, 10, 0.5, name="base"),
            trial(10, 20, 0.4, 1.1, name="a", paused=True, images=30),
            trial(20, 30, 0.6, 1.1, name="a", continues=1),
            trial(30, 40, 0.4, 1.2, name="b", paused=True, images=30),
            trial(40, 41, name="c", infeasible="too slow"),
            trial(41, 50, name="d", error="no memory", state=TrialState.FAIL),
            trial(50, 55, name="e", state=TrialState.FAIL),
            trial(55, None, name="b", continues=3, state=TrialState.RUNNING),
        ]
    )
    p = progress.read(trials, REFERENCE, 10)
    assert (p.asked, p.trained, p.whole, p.paused, p.failed, p.beyond) == (10, 3, 2, 1, 1, 1)
    assert (p.running, p.going_on) == (1, 1)
    assert [t.number for t in p.front] == [2, 0] and p.base is trials[0]
    assert progress.best(p, "mAP50-95") == "+0.1000 mAP50-95 over the base by a, latency x1.100"
    assert [progress.images(trials[i], trials) for i in (1, 2)] == [30, 60]


def test_more_than_asked_is_no_overrun() -> None:
    p = progress.read(numbered([trial(0, 1, 0.5, name="base"), trial(1, 2, 0.5, name="a")]), REFERENCE, 1)
    assert (p.asked, p.trained, p.seconds_left, progress.left(p)) == (2, 2, 0.0, "nothing")


def test_nothing_yet() -> None:
    p = progress.read([], REFERENCE, 10)
    assert (p.trained, p.pace, p.seconds_left, p.front, p.base) == (0, None, None, (), None)
    assert progress.left(p) == "not known yet" and "not trained" in progress.best(p, "mAP50-95")
    assert "too early to say: 0 placements" in progress.waiting(p)


def test_the_time_left_counts_two_at_once_and_leaves_a_night_out() -> None:
    night = 8 * 3600
    trials = [trial(0, 10, 0.5, name="base"), trial(0, 10, 0.5, name="a")]
    trials += [
        trial(night + 10 * i, night + 10 * i + 10, 0.5, name=f"{worker}{i}") for i in range(4) for worker in "xy"
    ]
    found = progress.pace(numbered(trials))
    assert found is not None and found.placements == 10
    assert found.seconds == pytest.approx(5.0) and found.at_once == pytest.approx(2.0)
    p = progress.read(trials, REFERENCE, 20)
    assert p.seconds_left == pytest.approx(50.0) and progress.left(p) == "about 0:50"


def test_the_pace_is_that_of_the_last_placements() -> None:
    slow = [trial(100 * i, 100 * i + 100, 0.5, name=f"slow{i}") for i in range(30)]
    fast = [trial(3000 + 2 * i, 3002 + 2 * i, 0.5, name=f"fast{i}") for i in range(progress.WINDOW)]
    found = progress.pace(numbered(slow + fast))
    assert found is not None and found.seconds == pytest.approx(2.0) and found.placements == progress.WINDOW


def test_what_is_trained_on_takes_its_time_too() -> None:
    trials = [trial(0, 10, 0.5, name="base")]
    for i in range(30):
        trials.append(trial(10 + 20 * i, 20 + 20 * i, 0.5, name=f"p{i}", paused=True, images=30))
        trials.append(trial(20 + 20 * i, 30 + 20 * i, 0.5, name=f"p{i}", continues=1 + 2 * i))
    found = progress.pace(numbered(trials))
    assert found is not None and found.seconds == pytest.approx(20.0, rel=0.06)


def run(scores: list[float]) -> progress.Progress:
    """The base, then placements of the scores given, each at 1.01 times its latency."""
    trials = [trial(0, 1, 0.5, name="base")]
    trials += [trial(i + 1, i + 2, s, 1.01, name=f"p{i}") for i, s in enumerate(scores)]
    return progress.read(numbered(trials), REFERENCE, 100)


def test_a_search_that_still_gains_is_worth_waiting_for() -> None:
    p = run([0.5 + 0.01 * i for i in range(1, 40)])
    assert p.worth.base == pytest.approx(0.5) and p.worth.unchanged == 0 and p.worth.late == 10
    assert p.worth.now == pytest.approx(0.5 * 0.01 + 0.89 * 0.99)
    assert p.worth.before == pytest.approx(0.5 * 0.01 + 0.79 * 0.99)
    assert p.worth.share == pytest.approx(0.1 / 0.39, rel=1e-6)
    assert progress.waiting(p).startswith(
        "it still pays: the last 10 placements added 12.58% to the hypervolume, 25.6%"
    )


def test_a_search_that_gains_no_more_is_not() -> None:
    p = run([0.6] * 39)
    assert (p.worth.late, p.worth.unchanged, p.worth.share) == (10, 38, 0.0)
    said = (
        "the last 10 placements added nothing to the hypervolume; the front has not changed for the last 38 placements"
    )
    assert progress.waiting(p) == f"waiting has paid little: {said}"
    assert progress.waiting(p, ended=True) == f"the end of it paid little: {said}"


def test_a_search_that_finds_nothing_says_so() -> None:
    assert progress.waiting(run([0.4] * 39)).startswith("nothing has come of it yet: no placement adds to the base's")
    assert "no placement trained to the end is above the base (mAP50-95 0.5000)" in progress.best(
        run([0.4] * 39), "mAP50-95"
    )
    assert progress.waiting(run([0.6] * 5)) == "too early to say: 6 placements trained"


def test_costs_beyond_twice_the_base_add_nothing_and_gflops_count_in_bases() -> None:
    three = Reference.of(("map", "latency", "gflops"), 8.0)
    assert three.point == (0.0, 2.0, 16.0) and three.directions == ("maximize", "minimize", "minimize")
    assert three.volume([[0.5, 1.0, 8.0]]) == pytest.approx(0.5)
    assert three.volume([[0.9, 2.5, 8.0]]) == 0.0 and three.volume([]) == 0.0


def test_words() -> None:
    assert [wording.count(n, "placement") for n in (0, 1, 2)] == ["0 placements", "1 placement", "2 placements"]
    assert [progress.clock(s) for s in (5, 65, 3665)] == ["0:05", "1:05", "1:01:05"]
