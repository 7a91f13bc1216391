"""Goes in: what candidates reached at each rung. Comes out: which of them is trained on. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas import front
from nas.recipe import MOST_RUNGS

MOST = MOST_RUNGS
REDUCTION = 3  # each rung is so many times the training of the one below, and takes one in so many of its candidates


@dataclass(frozen=True)
class Candidate:
    """A placement in training.

    Args:
        name: Whatever the caller knows it by.
        values: Its objective values at each rung it reached, first rung first.
        waits: Whether it can go on now: it neither trains, nor is at the top, nor has failed.
    """

    name: int
    values: tuple[tuple[float, ...], ...]
    waits: bool


def shares(rungs: int) -> tuple[float, ...]:
    """The share of a whole training after which each rung ends; the last is 1.

    Raises:
        ValueError: Not from 1 to :data:`MOST`.
    """
    if not 1 <= rungs <= MOST:
        raise ValueError(f"rungs={rungs}: expected a whole number from 1 to {MOST}")
    return tuple(float(REDUCTION) ** -k for k in reversed(range(rungs)))


def promotable(candidates: Sequence[Candidate], rungs: int, directions: Sequence[str]) -> Candidate | None:
    """The next to go on by asynchronous successive halving with several objectives (arXiv 2106.12639, algorithm 1).

    From the highest rung down: of all that ever reached a rung, the best one in :data:`REDUCTION` may go on. Who is
    best is said by :func:`ranked`. None if nobody may.
    """
    for rung in reversed(range(rungs - 1)):
        group = [c for c in candidates if len(c.values) > rung]
        share = len(group) // REDUCTION
        for i in ranked([c.values[rung] for c in group], directions, share) if share else ():
            if group[i].waits and len(group[i].values) == rung + 1:
                return group[i]
    return None


def ranked(values: Sequence[Sequence[float]], directions: Sequence[str], most: int | None = None) -> list[int]:
    """Indices, best first: front after front, and within a front so that every beginning of it is spread evenly.

    Within a front the one with the best first objective comes first, then each time the one farthest from all before
    it (an epsilon net, as in section 3 of the paper), objectives scaled to their range. Only the first ``most`` where
    that is given.
    """
    points = front.losses(values, directions)
    span = np.ptp(points, axis=0) if len(points) else 1.0
    scaled = points / np.where(span > 0, span, 1.0)
    most = len(points) if most is None else most
    order = list[int]()
    for members in front.layers(points):
        if len(order) >= most:
            break
        order += _spread(scaled, points, members, most - len(order))
    return order


def _spread(scaled: np.ndarray, points: np.ndarray, members: np.ndarray, most: int) -> list[int]:
    """The first ``most`` of a front's members [k], ascending, in their order."""
    first = int(np.lexsort(points[members].T[::-1])[0])
    chosen, distance = [first], _distance(scaled, members, first)
    while len(chosen) < min(most, len(members)):
        distance[chosen] = -1.0
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, _distance(scaled, members, chosen[-1]))
    return [int(members[i]) for i in chosen]


def _distance(points: np.ndarray, members: np.ndarray, one: int) -> np.ndarray:
    return np.asarray(((points[members] - points[members[one]]) ** 2).sum(1))
