"""Goes in: objective values. Comes out: the Pareto front, its hypervolume and its knee. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import moocore
import numpy as np

Values = Sequence[Sequence[float]]


def losses(values: Values, directions: Sequence[str]) -> np.ndarray:
    """``values`` [n, m] with every ``maximize`` column negated, so that less is better."""
    signs = np.array([-1.0 if d == "maximize" else 1.0 for d in directions])
    return np.asarray(values, dtype=float).reshape(-1, len(signs)) * signs


def pareto(values: Values, directions: Sequence[str]) -> list[int]:
    """Indices of the rows that no other row dominates, best first objective first; of equal rows the first stays."""
    points = losses(values, directions)
    if not len(points):
        return []
    kept = np.flatnonzero(moocore.is_nondominated(points, keep_weakly=False))
    return [int(i) for i in kept[np.lexsort(points[kept].T[::-1])]]


def layers(points: np.ndarray) -> Iterator[np.ndarray]:
    """Of losses [n, m]: indices, ascending, of the front, of the front of all others, and so on; equals together."""
    if len(points):
        rank = moocore.pareto_rank(points)
        order = np.argsort(rank, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(rank[order])) + 1)


def hypervolume(values: Values, directions: Sequence[str], reference: Sequence[float]) -> float:
    """Volume that the rows dominate, up to ``reference`` (in the objectives' own units); 0 for no row."""
    points = losses(values, directions)
    if not len(points):
        return 0.0
    return float(moocore.hypervolume(points, ref=losses([reference], directions)[0]))


def knee(values: Values, directions: Sequence[str]) -> int:
    """Index of the row nearest to the ideal point once every objective of the front spans [0, 1].

    Raises:
        ValueError: No rows.
    """
    points = losses(values, directions)
    if not len(points):
        raise ValueError("the knee of an empty front")
    front = pareto(values, directions)
    low, high = points[front].min(0), points[front].max(0)
    scaled = (points[front] - low) / np.where(high > low, high - low, 1.0)
    return front[int(np.argmin((scaled**2).sum(1)))]
