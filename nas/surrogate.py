"""Goes in: scores of placements at the rungs they reached. Comes out: what any placement would gain at the top.

The score of a training is a walk over its rungs: from one to the next it gains the sum of what its blocks give at their
sites, and noise. Each step of the walk has a Bayesian linear model of its own, averaged over how large effects are
beside the noise, and over how much a block's cost tells of the size of its effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from search_spaces import Block, Placement

Key = tuple[str, ...]
RELATIVE = {  # prior standard deviation of effects, by kind, over that of a block at a site
    "any": 0.5,
    "block": 1.0,
    "family": 0.7,
    "site": 1.0,
    "cell": 1.0,
    "family at site": 0.7,
    "sites": 0.7,
    "blocks": 0.7,
}
PAIRS = ("sites", "blocks")
SIGNAL = (3.0, 10.0)  # effects over noise
COST_TELLS = (0.0, 0.25, 0.5, 0.75)  # exponents of the extra cost that the size of effects grows with
LEAST_WEIGHT = 0.15
OWN = 0.5  # share of what the model cannot explain that is the placement's own and no noise
NOISE, DOUBT = 0.01, 5.0  # prior of the noise, in the score's units, and half the number of trainings that it is worth
LEVEL = 1e4  # prior variance of a seed's level over the noise's
NEGLIGIBLE = 0.01


@dataclass(frozen=True)
class Seen:
    """A training.

    Args:
        placement: What was trained; the empty one is the base.
        values: Its score at each rung it reached, first rung first.
        seed: Trainings under one seed share its luck.
    """

    placement: Placement
    values: tuple[float, ...]
    seed: int = 0


@dataclass(frozen=True)
class Kin:
    """What is known of blocks before any training.

    Args:
        family: Of a block's label.
        size: What a block at a site costs, over what is much in this space; see :func:`kin_of`.
    """

    family: Callable[[str], str]
    size: Callable[[str, Block], float]


@dataclass(frozen=True)
class Design:
    """Sparse design matrix of some placements: entry ``rows[k], columns[k]`` is the weight of cells first and second.

    The weight of an entry is the geometric mean of its two cells'; an entry of one cell names it twice.
    """

    count: int
    kinds: tuple[str, ...]
    rows: np.ndarray
    columns: np.ndarray
    first: np.ndarray
    second: np.ndarray
    costs: np.ndarray

    def matrix(self, power: float, paired: bool) -> tuple[np.ndarray, np.ndarray]:
        """[placements, columns] where effects grow with that power of the cost, and the prior variance of columns."""
        w = np.clip(self.costs**power, LEAST_WEIGHT, 1.0)
        z = np.zeros((self.count, len(self.kinds)))
        np.add.at(z, (self.rows, self.columns), np.sqrt(w[self.first] * w[self.second]))
        prior = np.array([RELATIVE[k] ** 2 * (paired or k not in PAIRS) for k in self.kinds])
        return z, prior


def design(placements: Sequence[Placement], kin: Kin) -> Design:
    """What each placement's gain is the sum of."""
    cells: dict[tuple[str, Block], int] = {}
    keys: dict[Key, int] = {}
    entries: list[tuple[int, int, int, int]] = []
    for row, placement in enumerate(placements):
        here = [(s, b.label, cells.setdefault((s, b), len(cells))) for s, b in placement]
        for site, block, cell in here:
            family = kin.family(block)
            parts: tuple[Key, ...] = (
                ("any",), ("block", block), ("family", family), ("site", site), ("cell", site, block),
                ("family at site", site, family),
            )  # fmt: skip
            entries += [(row, keys.setdefault(key, len(keys)), cell, cell) for key in parts]
        for (s, a, one), (t, b, two) in combinations(here, 2):
            parts = (("sites", s, t), ("blocks", *sorted((a, b))))
            entries += [(row, keys.setdefault(key, len(keys)), one, two) for key in parts]
    costs = np.array([kin.size(s, b) for s, b in cells])
    rows, columns, first, second = np.array(entries, dtype=int).reshape(-1, 4).T
    return Design(len(placements), tuple(k[0] for k in keys), rows, columns, first, second, costs)


def believe(
    seen: Sequence[Seen], candidates: Sequence[Placement], kin: Kin, rungs: int, pairs: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """What the model holds of each candidate's true gain over the base at the top rung.

    True: what trainings under many seeds would have on average. What a candidate has shown itself counts.

    Args:
        seen: All trainings so far, the base's among them.
        candidates: Any placements, tried or not.
        rungs: How many there are.
        pairs: Whether two blocks may add something together beyond their sum.

    Returns:
        Mean and standard deviation, [candidates] each.
    """
    mean, var = walk(seen, candidates, kin, rungs, pairs)
    return mean.sum(0), np.sqrt(var.sum(0))


def walk(
    seen: Sequence[Seen], candidates: Sequence[Placement], kin: Kin, rungs: int, pairs: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`believe`, step by step: mean and variance of what each adds to the gain, [rungs, candidates] each."""
    both = design([*(one.placement for one in seen), *candidates], kin)
    tells = COST_TELLS if len(set(both.costs)) > 1 else (0.0,)
    matrices = [both.matrix(power, paired) for power in tells for paired in {False, pairs}]
    found = [_step(step, seen, candidates, matrices) for step in range(rungs)]
    return np.array([mean for mean, _ in found]), np.array([var for _, var in found])


def _step(
    step: int, seen: Sequence[Seen], candidates: Sequence[Placement], matrices: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of what candidates gain in one step, averaged over the models by their evidence."""
    there = [k for k, one in enumerate(seen) if len(one.values) > step]
    gained = np.array([seen[k].values[step] - (seen[k].values[step - 1] if step else 0.0) for k in there])
    seeds = np.array([seen[k].seed for k in there])
    same = {p.id: i for i, p in enumerate(candidates) if len(p)}
    owner = np.array([same.get(seen[k].placement.id, -1) for k in there], dtype=int)
    levels = LEVEL * (seeds[:, None] == seeds)
    split = [(z[there], z[len(seen) :], prior) for z, prior in matrices]
    models = [_model(z, others, prior * s**2, levels, gained) for z, others, prior in split for s in SIGNAL]
    logs = np.array([m.log for m in models])
    weights = np.exp(logs - logs.max())
    weights *= weights > NEGLIGIBLE
    weights /= weights.sum()
    mean, squares = np.zeros(len(candidates)), np.zeros(len(candidates))
    for m, weight in zip(models, weights, strict=True):
        if weight:
            mu, var = m.predict(owner)
            mean += weight * mu
            squares += weight * (var + mu**2)
    return mean, np.maximum(squares - mean**2, 0.0)


@dataclass(frozen=True)
class _Model:
    """One step under one setting of the priors; variances over the noise's.

    Args:
        log: Log marginal likelihood, up to a constant.
        noise: Variance of what the effects do not explain.
    """

    log: float
    noise: float
    root: tuple[np.ndarray, bool] | None
    alpha: np.ndarray
    z: np.ndarray
    others: np.ndarray
    prior: np.ndarray

    def predict(self, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance for the others, of which ``owner[k]`` (or none, -1) was training k."""
        scaled = self.others * self.prior
        var = (scaled * self.others).sum(1)
        if self.root is None:
            return np.zeros(len(var)), (var + OWN * (var > 0)) * self.noise
        cross = scaled @ self.z.T
        own = OWN * (np.abs(self.others).sum(1) > 0)  # the base is what gains are counted from
        for k, i in enumerate(owner):
            if i >= 0:
                cross[i, k] += OWN  # what the model cannot explain is in part the placement's own
        half = solve_triangular(self.root[0], cross.T, lower=True)
        return cross @ self.alpha, np.maximum(var + own - (half**2).sum(0), 0.0) * self.noise


def _model(z: np.ndarray, others: np.ndarray, prior: np.ndarray, levels: np.ndarray, y: np.ndarray) -> _Model:
    """Normal-inverse-gamma regression ``y = level + z b + e``, b ~ N(0, noise prior), e ~ N(0, noise)."""
    a, b = DOUBT, DOUBT * NOISE**2
    if not len(y):
        return _Model(0.0, b / a, None, np.zeros(0), z, others, prior)
    k = (z * prior) @ z.T + levels
    k[np.diag_indices_from(k)] += 1.0
    root = cho_factor(k, lower=True)
    alpha = cho_solve(root, y)
    a, b = a + 0.5 * len(y), b + 0.5 * float(y @ alpha)
    log = -float(np.log(np.diag(root[0])).sum()) - a * float(np.log(b))
    return _Model(log, b / a, root, alpha, z, others, prior)
