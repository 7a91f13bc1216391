"""Who goes on: shares of rungs, the order within a rung, and successive halving on known cases."""

from __future__ import annotations

import pytest

from nas.rungs import Candidate, promotable, ranked, shares

BOTH = ("maximize", "minimize")


def test_each_rung_is_three_times_the_one_below_and_the_last_is_all() -> None:
    assert shares(1) == (1.0,)
    assert shares(3) == pytest.approx((1 / 9, 1 / 3, 1.0))
    for wrong in (0, 6):
        with pytest.raises(ValueError, match=f"rungs={wrong}"):
            shares(wrong)


def test_front_after_front_and_each_beginning_spread() -> None:
    front = [(0.9, 5.0), (0.8, 4.9), (0.5, 3.0), (0.1, 1.0)]
    behind = [(0.7, 5.0), (0.05, 1.0)]
    order = ranked([*behind, *front], BOTH)
    assert set(order[:4]) == {2, 3, 4, 5} and set(order[4:]) == {0, 1}
    assert order[:3] == [2, 5, 4], "best score, then the farthest from it, then the one between them"
    assert ranked([], BOTH) == []


def test_equals_are_all_ranked() -> None:
    assert sorted(ranked([(0.5, 1.0)] * 4, BOTH)) == [0, 1, 2, 3]


def at(name: int, *scores: float, waits: bool = True) -> Candidate:
    """A candidate of cost 1."""
    return Candidate(name, tuple((s, 1.0) for s in scores), waits)


def test_one_in_three_goes_on() -> None:
    assert promotable([at(0, 0.1), at(1, 0.3)], 2, BOTH) is None, "two are too few to take a third of"
    three = [at(0, 0.1), at(1, 0.3), at(2, 0.2)]
    chosen = promotable(three, 2, BOTH)
    assert chosen is not None and chosen.name == 1
    went = [at(0, 0.1), at(1, 0.3, 0.4, waits=False), at(2, 0.2)]
    assert promotable(went, 2, BOTH) is None, "who went on still counts among the best"
    six = [*went, at(3, 0.1), at(4, 0.1), at(5, 0.1)]
    chosen = promotable(six, 2, BOTH)
    assert chosen is not None and chosen.name == 2


def test_who_cannot_go_on_makes_no_room_for_worse() -> None:
    assert promotable([at(0, 0.1), at(1, 0.3, waits=False), at(2, 0.2)], 2, BOTH) is None


def test_the_highest_rung_comes_first() -> None:
    low = [at(i, 0.1 * i) for i in range(6)]
    high = [at(10 + i, 0.9, 0.5 + 0.1 * i) for i in range(3)]
    chosen = promotable([*low, *high], 3, BOTH)
    assert chosen is not None and chosen.name == 12
