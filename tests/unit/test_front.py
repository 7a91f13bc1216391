"""The Pareto front against brute force, its hypervolume on known figures, its knee."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import front

BOTH = ("maximize", "minimize")
steps = st.integers(0, 5).map(float)


def dominates(a: list[float], b: list[float], directions: list[str]) -> bool:
    """Is ``a`` nowhere worse than ``b`` and somewhere better?"""
    signs = [1 if d == "minimize" else -1 for d in directions]
    x, y = [s * v for s, v in zip(signs, a, strict=True)], [s * v for s, v in zip(signs, b, strict=True)]
    return all(i <= j for i, j in zip(x, y, strict=True)) and x != y


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[float]], list[str]]:
    """Rows of small whole numbers, ties and repeats included, and a direction for each column."""
    m = draw(st.integers(2, 3))
    rows = draw(st.lists(st.lists(steps, min_size=m, max_size=m), max_size=12))
    return rows, draw(st.lists(st.sampled_from(BOTH), min_size=m, max_size=m))


@given(tables())
def test_front_by_brute_force(table: tuple[list[list[float]], list[str]]) -> None:
    rows, directions = table
    found = front.pareto(rows, directions)
    best = [i for i, a in enumerate(rows) if not any(dominates(b, a, directions) for b in rows)]
    first = [i for i in best if rows.index(rows[i]) == i]
    assert sorted(found) == first


@given(tables())
def test_front_is_sorted_best_first_objective_first(table: tuple[list[list[float]], list[str]]) -> None:
    rows, directions = table
    values = [rows[i][0] for i in front.pareto(rows, directions)]
    assert values == sorted(values, reverse=directions[0] == "maximize")


def brute_volume(rows: list[list[float]], directions: list[str], reference: list[float]) -> float:
    """Unit cells between the rows and the reference, counted; all values whole."""
    import itertools

    signs = [1 if d == "minimize" else -1 for d in directions]
    points = [[s * v for s, v in zip(signs, row, strict=True)] for row in rows]
    end = [s * v for s, v in zip(signs, reference, strict=True)]
    cells = itertools.product(*(range(-10, int(e)) for e in end))
    return sum(any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points) for cell in cells)


@given(tables())
def test_hypervolume_by_counting_cells(table: tuple[list[list[float]], list[str]]) -> None:
    rows, directions = table
    reference = [0.0 if d == "maximize" else 5.0 for d in directions]
    assert front.hypervolume(rows, directions, reference) == pytest.approx(brute_volume(rows, directions, reference))


def test_hypervolume_of_known_figures() -> None:
    rows = [[0.5, 1.0], [0.6, 1.5]]  # 0.5 x 1.0 and 0.1 x 0.5
    assert front.hypervolume(rows, BOTH, (0.0, 2.0)) == pytest.approx(0.55)
    assert front.hypervolume([], BOTH, (0.0, 2.0)) == 0.0
    assert front.hypervolume([[0.5, 2.5]], BOTH, (0.0, 2.0)) == 0.0


def test_knee_is_the_corner() -> None:
    rows = [[0.9, 5.0], [0.85, 1.2], [0.1, 1.0], [0.2, 6.0]]
    assert front.knee(rows, BOTH) == 1


def test_knee_does_not_depend_on_units() -> None:
    rows = [[0.9, 5.0], [0.85, 1.2], [0.1, 1.0], [0.5, 3.0]]
    scaled = [[100 * a, b / 1000] for a, b in rows]
    assert front.knee(scaled, BOTH) == front.knee(rows, BOTH) == 1


@given(tables())
def test_knee_stands_on_the_front(table: tuple[list[list[float]], list[str]]) -> None:
    rows, directions = table
    if rows:
        assert front.knee(rows, directions) in front.pareto(rows, directions)
    else:
        with pytest.raises(ValueError, match="empty front"):
            front.knee(rows, directions)
