"""Goes in: scores of very many trainings. Comes out: what nas/surrogate.py believes, at a cost that hardly grows.

The same model seen from its other side: what is not known are the effects of a few hundred parts, not the gains of
thousands of placements, and all that scores say of effects is in sums over trainings that reached the same rungs. What
a placement has beside the sum of its parts concerns its own scores alone and is integrated out within them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from nas.parts import DRAWN, JITTER, LEVEL, Seen, Setting
from search_spaces import Placement

Score = tuple[int, int, int]  # which of its placement's trainings, at which rung, and the number of its level
Shape = tuple[bool, tuple[Score, ...]]  # whether the placement has any block, and its scores
Alike = tuple[bool, tuple[tuple[int, tuple[bool, ...]], ...]]  # the same: seed of each training, and what is known
Matrices = Mapping[float, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Group:
    """Placements that were trained alike.

    Args:
        shape: What they have in common.
        rows: [n] theirs in the design.
        y: [n, scores].
        asked, members: Candidates that are among them, and which of them each is.
    """

    shape: Shape
    rows: np.ndarray
    y: np.ndarray
    asked: np.ndarray
    members: np.ndarray

    @property
    def rungs(self) -> np.ndarray:
        """[scores]."""
        return np.array([r for _, r, _ in self.shape[1]], dtype=int)

    def levels(self, count: int) -> np.ndarray:
        """[scores, levels] which level each score is on."""
        found = np.zeros((len(self.shape[1]), count))
        found[np.arange(len(found)), [n for _, _, n in self.shape[1]]] = math.sqrt(LEVEL)
        return found

    def noise(self, one: Setting) -> np.ndarray:
        """[scores, scores] variance of what effects and levels do not explain, inverted."""
        of, rungs = np.array([t for t, _, _ in self.shape[1]]), self.rungs
        drawn = DRAWN ** np.arange(len(one.curve))[::-1]
        found = np.equal.outer(of, of) * np.minimum.outer(drawn, drawn)[np.ix_(rungs, rungs)]
        found = found + self.shape[0] * one.priors.own * one.curve[np.ix_(rungs, rungs)]
        return np.asarray(np.linalg.inv(found + JITTER * np.eye(len(rungs))))


@dataclass(frozen=True)
class Sums:
    """All that the model needs of the scores.

    Args:
        groups: The placements.
        scores, levels: How many there are; a level is that of a seed at a rung.
        rungs: Of a whole training.
        filled: [candidates] 1 where there is any block.
        tables: For each power of the size: :class:`Table`.
    """

    groups: tuple[Group, ...]
    scores: int
    levels: int
    rungs: int
    filled: np.ndarray
    tables: Mapping[float, Table]

    @staticmethod
    def lay(seen: Sequence[Seen], candidates: Sequence[Placement], rungs: int, matrices: Matrices) -> Sums:
        """Sum them up; rows of the matrices are the trainings', then the candidates'."""
        levels: dict[tuple[int, int], int] = {}
        groups = []
        for (filled, trainings), rows in _alike(seen, rungs).items():
            shape = [
                (t, r, levels.setdefault((seed, r), len(levels)))
                for t, (seed, known) in enumerate(trainings)
                for r, there in enumerate(known)
                if there
            ]
            if shape:
                groups.append(_group((filled, tuple(shape)), rows, seen, candidates))
        tables = {p: Table.of(z, prior, groups, len(candidates)) for p, (z, prior) in matrices.items()}
        some = np.array([float(len(p) > 0) for p in candidates])
        return Sums(tuple(groups), sum(g.y.size for g in groups), len(levels), rungs, some, tables)

    def view(self, one: Setting, shared: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and standard deviation of each candidate's gain, and its covariance with the first ``shared``."""
        table, root = self.tables[one.power], np.linalg.cholesky(one.curve)
        scale = np.tile(one.signal * np.sqrt(table.prior), self.rungs)
        precision, pull, squares = self._normal(one, table, root, scale)
        factor = cho_factor(precision, lower=True)
        effects = cho_solve(factor, pull)
        a = one.priors.doubt + 0.5 * self.scores
        b = one.priors.doubt * one.priors.noise**2 + 0.5 * (squares - float(pull @ effects))
        weights, mean, own = self._asked(one, table, root, scale)
        half = solve_triangular(factor[0], weights.T, lower=True)
        among = half.T @ half[:, :shared]
        among[np.arange(shared), np.arange(shared)] += own[:shared]
        var = (half**2).sum(0) + own
        return mean + weights @ effects, np.sqrt(var * b / a), among * b / a

    def _normal(
        self, one: Setting, table: Table, root: np.ndarray, scale: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Precision of effects at all rungs and of levels, what the scores pull them to, and the scores' squares."""
        many = len(scale)
        precision, pull = np.zeros((many + self.levels, many + self.levels)), np.zeros(many + self.levels)
        squares = 0.0
        for g, total in zip(self.groups, table.totals, strict=True):
            inverse, shown, level = g.noise(one), root[g.rungs], g.levels(self.levels)
            precision[:many, :many] += np.kron(shown.T @ inverse @ shown, total.products)
            precision[:many, many:] += np.kron(shown.T @ inverse @ level, total.sum[:, None])
            precision[many:, many:] += len(g.y) * level.T @ inverse @ level
            pull[:many] += (total.scores @ inverse @ shown).T.ravel()
            pull[many:] += level.T @ inverse @ g.y.sum(0)
            squares += float((inverse * (g.y.T @ g.y)).sum())
        precision[:many, :many] *= np.multiply.outer(scale, scale)
        precision[:many, many:] *= scale[:, None]
        precision[many:, :many] = precision[:many, many:].T
        precision[np.diag_indices_from(precision)] += 1.0
        pull[:many] *= scale
        return precision, pull, squares

    def _asked(
        self, one: Setting, table: Table, root: np.ndarray, scale: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a candidate's gain is of effects and levels, beside them, and the variance of the latter.

        What it has shown itself counts: its own part is what its scores leave over.
        """
        top = np.tile(root[-1], (len(self.filled), 1))
        level, mean = np.zeros((len(top), self.levels)), np.zeros(len(top))
        own = one.priors.own * self.filled
        for g in self.groups:
            if len(g.asked):
                part = one.priors.own * one.curve[-1][g.rungs]
                share = part @ g.noise(one)
                top[g.asked] -= share @ root[g.rungs]
                level[g.asked] = -share @ g.levels(self.levels)
                mean[g.asked] = g.y[g.members] @ share
                own[g.asked] -= share @ part
        weights = (top[:, :, None] * table.asked[:, None, :]).reshape(len(top), -1) * scale
        return np.c_[weights, level], mean, own


@dataclass(frozen=True)
class Total:
    """Of a group's design: the sum of rows, of their outer products, and of their products with the scores."""

    sum: np.ndarray
    products: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Table:
    """A design in sums.

    Args:
        prior: [columns] variances.
        totals: For each group.
        asked: [candidates, columns] theirs.
    """

    prior: np.ndarray
    totals: tuple[Total, ...]
    asked: np.ndarray

    @staticmethod
    def of(z: np.ndarray, prior: np.ndarray, groups: Sequence[Group], asked: int) -> Table:
        """Sum up; columns that nothing is believed of are left out."""
        used = prior > 0
        rows = [z[g.rows][:, used] for g in groups]
        totals = tuple(Total(x.sum(0), x.T @ x, x.T @ g.y) for x, g in zip(rows, groups, strict=True))
        return Table(prior[used], totals, z[len(z) - asked :][:, used])


def _alike(seen: Sequence[Seen], rungs: int) -> dict[Alike, list[tuple[int, ...]]]:
    """Placements that were trained alike, each by the rows of its trainings."""
    first: dict[str, int] = {}
    again: dict[str, list[int]] = {}
    for row, one in enumerate(seen):
        if first.setdefault(one.placement.id, row) != row:
            again.setdefault(one.placement.id, [first[one.placement.id]]).append(row)
    found: dict[Alike, list[tuple[int, ...]]] = {}
    for key, row in first.items():
        rows = tuple(again[key]) if key in again else (row,)
        trainings = tuple((seen[k].seed, tuple(v == v for v in seen[k].values[:rungs])) for k in rows)
        found.setdefault((len(seen[row].placement) > 0, trainings), []).append(rows)
    return found


def _group(shape: Shape, rows: Sequence[tuple[int, ...]], seen: Sequence[Seen], asked: Sequence[Placement]) -> Group:
    """Of placements of one shape, by the rows of their trainings."""
    y = np.array([[seen[of[t]].values[r] for t, r, _ in shape[1]] for of in rows])
    member = {seen[of[0]].placement.id: i for i, of in enumerate(rows)}
    among = [(i, member[p.id]) for i, p in enumerate(asked) if len(p) and p.id in member]
    who, which = np.array(among, dtype=int).reshape(-1, 2).T
    return Group(shape, np.array([of[0] for of in rows], dtype=int), y, who, which)
