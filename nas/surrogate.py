"""Goes in: scores of placements at the rungs they reached. Comes out: what any placement would gain at the top.

A Bayesian linear model: a placement gains the sum of what its blocks give at their sites. How far it has come at a
rung, and how well that tells of the top, is learnt with it, and so are how large effects are beside the noise, and how
much the size that is expected of a block's effect (nas/scout.py) is to be trusted: the belief is the mean over settings
of all of these, by evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

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
REACHED = (0.1, 0.2, 0.5, 1.0)  # share of a gain that is there one rung below
ALIKE = (0.8, 0.98)  # correlation of gains at one rung with those at the next
DRAWN = 0.6  # share of the noise's variance that is there one rung below
LEAST_SIZE = 0.02
LEVEL = 1e4  # prior variance of a seed's level at a rung over the noise's
NEGLIGIBLE, VIEWS = 0.01, 16  # settings of less weight are left out, and so are all beyond so many
ENOUGH = 300  # scores that settings are weighed by


@dataclass(frozen=True)
class Priors:
    """What is assumed of a figure before any is seen.

    Args:
        noise: Its standard deviation; as sure as ``doubt`` times two trainings would make it.
        signal: Standard deviations of a block's effect at a site over the noise's, to choose from.
        tells: Powers of the expected size that effects grow with, to choose from, and how likely each is.
        own: Variance of what a placement has beside the sum of its parts, over the noise's.
        pairs: Whether two blocks may add something together beyond their sum.
    """

    noise: float = 0.005
    doubt: float = 5.0
    signal: tuple[float, ...] = (3.0, 10.0, 30.0)
    tells: tuple[tuple[float, float], ...] = ((0.0, 0.2), (1.0, 0.8))
    own: float = 0.1
    pairs: bool = True


SCORE = Priors()
LATENCY = Priors(noise=0.01, signal=(1.0, 3.0), tells=((0.0, 1.0),), own=0.2, pairs=False)


@dataclass(frozen=True)
class Seen:
    """A training.

    Args:
        placement: What was trained; the empty one is the base.
        values: Its score at each rung it reached, first rung first; nan where it is not known.
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
        size: How large the effect of a block at a site may be, over the largest in this space.
    """

    family: Callable[[str], str]
    size: Callable[[str, Block], float]


@dataclass(frozen=True)
class View:
    """What is believed under one setting.

    Args:
        weight: How much this setting is believed in.
        mean, sd: Of each candidate's gain, [candidates].
        shared: Covariance of gains, [candidates, the first so many of them].
    """

    weight: float
    mean: np.ndarray
    sd: np.ndarray
    shared: np.ndarray


@dataclass(frozen=True)
class Belief:
    """What is held of each candidate's true gain over the base at the top rung: a mixture of normal views."""

    views: tuple[View, ...]

    @property
    def mean(self) -> np.ndarray:
        """[candidates]."""
        return np.asarray(sum(v.weight * v.mean for v in self.views))

    @property
    def sd(self) -> np.ndarray:
        """[candidates]."""
        squares = sum(v.weight * (v.sd**2 + v.mean**2) for v in self.views)
        return np.sqrt(np.maximum(squares - self.mean**2, 0.0))


@dataclass(frozen=True)
class Design:
    """Sparse design matrix of some placements: entry ``rows[k], columns[k]`` is the weight of cells first and second.

    The weight of an entry is the smaller of its two cells' sizes; an entry of one cell names it twice.
    """

    count: int
    kinds: tuple[str, ...]
    rows: np.ndarray
    columns: np.ndarray
    first: np.ndarray
    second: np.ndarray
    sizes: np.ndarray

    def matrix(self, power: float, paired: bool) -> tuple[np.ndarray, np.ndarray]:
        """[placements, columns] where effects grow with that power of the size, and the prior variance of columns."""
        w = np.clip(self.sizes**power, LEAST_SIZE, 1.0)
        z = np.zeros((self.count, len(self.kinds)))
        np.add.at(z, (self.rows, self.columns), np.minimum(w[self.first], w[self.second]))
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
    sizes = np.array([kin.size(s, b) for s, b in cells])
    rows, columns, first, second = np.array(entries, dtype=int).reshape(-1, 4).T
    return Design(len(placements), tuple(k[0] for k in keys), rows, columns, first, second, sizes)


def believe(
    seen: Sequence[Seen],
    candidates: Sequence[Placement],
    kin: Kin,
    rungs: int = 1,
    priors: Priors = SCORE,
    shared: int = 0,
) -> Belief:
    """What the model holds of each candidate's true gain over the base at the top rung.

    True: what trainings under many seeds would have on average. What a candidate has shown itself counts.

    Args:
        seen: All trainings so far, the base's among them.
        candidates: Any placements, tried or not.
        rungs: How many a whole training has.
        shared: Covariances with so many of the first candidates are told as well.
    """
    both = design([*(one.placement for one in seen), *candidates], kin)
    data = _Data.lay(seen, candidates, rungs)
    tells = priors.tells if len(set(both.sizes)) > 1 else ((0.0, 1.0),)
    curves = (
        [curve(rungs, reached, alike) for reached in REACHED for alike in ALIKE] if rungs > 1 else [np.ones((1, 1))]
    )
    matrices = {power: both.matrix(power, priors.pairs) for power, _ in tells}
    settings = [_Setting(power, signal, c, priors) for (power, _), signal, c in product(tells, priors.signal, curves)]
    likely = np.log([dict(tells)[one.power] for one in settings])
    few = data.thinned(ENOUGH)
    logs = likely + [_fit(one, few, *matrices[one.power]).log for one in settings]
    order = np.argsort(-logs, kind="stable")[:VIEWS]
    weights = np.exp(logs[order] - logs[order[0]])
    kept = [(settings[i], w) for i, w in zip(order, weights, strict=True) if w > NEGLIGIBLE * weights.sum()]
    total = sum(w for _, w in kept)
    views = []
    for one, weight in kept:
        z, prior = matrices[one.power]
        fitted = _fit(one, data, z, prior)
        views.append(_view(weight / total, one, fitted, data, z, prior, shared))
    return Belief(tuple(views))


def curve(rungs: int, reached: float, alike: float) -> np.ndarray:
    """Covariance between rungs of what a unit of gain at the top shows at each of them, [rungs, rungs]."""
    below = np.arange(rungs)[::-1]
    return np.outer(reached**below, reached**below) * alike ** np.abs(np.subtract.outer(below, below))


@dataclass(frozen=True)
class _Data:
    """All scores, one an entry.

    Args:
        y: The scores; ``of`` whose training (its row in the design), ``rung`` where.
        levels: [n, n] prior covariance of the levels of seeds at rungs; ``drawn`` of the noise.
        same: [n, n] whether two are of the same placement, the base left out; ``mine`` [candidates, n].
        rows: Trainings in the design; candidates come behind them.
        filled: [candidates] 1 where there is any block.
    """

    y: np.ndarray
    of: np.ndarray
    rung: np.ndarray
    levels: np.ndarray
    drawn: np.ndarray
    same: np.ndarray
    mine: np.ndarray
    rows: int
    filled: np.ndarray

    @staticmethod
    def lay(seen: Sequence[Seen], candidates: Sequence[Placement], rungs: int) -> _Data:
        """Lay them out."""
        entries = [(k, r, v) for k, s in enumerate(seen) for r, v in enumerate(s.values[:rungs]) if not math.isnan(v)]
        of = np.array([k for k, _, _ in entries], dtype=int)
        rung = np.array([r for _, r, _ in entries], dtype=int)
        numbers: dict[str, int] = {}
        name = np.array([numbers.setdefault(s.placement.id, len(numbers)) for s in seen], dtype=int)
        blank = np.array([not len(s.placement) for s in seen], dtype=bool)
        asked = np.array([numbers.get(p.id, -1) if len(p) else -1 for p in candidates], dtype=int)
        seed = np.array([s.seed for s in seen], dtype=int)
        drawn = DRAWN ** np.arange(rungs)[::-1]
        return _Data(
            y=np.array([v for _, _, v in entries]),
            of=of,
            rung=rung,
            levels=LEVEL * np.equal.outer(seed[of], seed[of]) * np.equal.outer(rung, rung),
            drawn=np.equal.outer(of, of) * np.minimum.outer(drawn, drawn)[np.ix_(rung, rung)],
            same=np.equal.outer(name[of], name[of]) & ~blank[of],
            mine=np.equal.outer(asked, name[of]),
            rows=len(seen),
            filled=np.array([float(len(p) > 0) for p in candidates]),
        )

    def thinned(self, most: int) -> _Data:
        """So many of them at most, evenly spread."""
        n = len(self.y)
        if n <= most:
            return self
        kept = np.unique(np.linspace(0, n - 1, most).astype(int))
        square = np.ix_(kept, kept)
        return _Data(
            self.y[kept], self.of[kept], self.rung[kept], self.levels[square], self.drawn[square], self.same[square],
            self.mine[:, kept], self.rows, self.filled,
        )  # fmt: skip


@dataclass(frozen=True)
class _Setting:
    """One choice of all that is not known: see the constants of this module and :class:`Priors`."""

    power: float
    signal: float
    curve: np.ndarray
    priors: Priors


@dataclass(frozen=True)
class _Fitted:
    """A setting that has seen the scores; variances over the noise's, which is ``noise``.

    Args:
        log: Log marginal likelihood, up to a constant.
    """

    log: float
    noise: float
    root: tuple[np.ndarray, bool] | None
    alpha: np.ndarray


def _fit(one: _Setting, data: _Data, z: np.ndarray, prior: np.ndarray) -> _Fitted:
    """Normal-inverse-gamma regression: ``y = level + gain + e``, all normal, the noise's variance inverse gamma."""
    a, b = one.priors.doubt, one.priors.doubt * one.priors.noise**2
    if not len(data.y):
        return _Fitted(0.0, b / a, None, data.y)
    used = z[: data.rows]
    gains = one.signal**2 * ((used * prior) @ used.T)[np.ix_(data.of, data.of)] + one.priors.own * data.same
    k = gains * one.curve[np.ix_(data.rung, data.rung)] + data.drawn + data.levels
    k[np.diag_indices_from(k)] += 1e-6
    root = cho_factor(k, lower=True)
    alpha = cho_solve(root, data.y)
    a, b = a + 0.5 * len(data.y), b + 0.5 * float(data.y @ alpha)
    return _Fitted(-float(np.log(np.diag(root[0])).sum()) - a * float(np.log(b)), b / a, root, alpha)


def _view(
    weight: float, one: _Setting, fitted: _Fitted, data: _Data, z: np.ndarray, prior: np.ndarray, shared: int
) -> View:
    """What a fitted setting believes of the candidates."""
    asked, used = z[data.rows :], z[: data.rows]
    own = one.priors.own * data.filled
    var = one.signal**2 * (asked**2 @ prior) + own
    among = one.signal**2 * ((asked * prior) @ asked[:shared].T)
    among[np.arange(shared), np.arange(shared)] += own[:shared]
    if fitted.root is None:
        return View(weight, np.zeros(len(var)), np.sqrt(var * fitted.noise), among * fitted.noise)
    cross = one.signal**2 * ((asked * prior) @ used.T)[:, data.of] + one.priors.own * data.mine
    cross = cross * one.curve[-1][data.rung]
    half = solve_triangular(fitted.root[0], cross.T, lower=True)
    var = np.maximum(var - (half**2).sum(0), 0.0)
    among -= half.T @ half[:, :shared]
    return View(weight, cross @ fitted.alpha, np.sqrt(var * fitted.noise), among * fitted.noise)
