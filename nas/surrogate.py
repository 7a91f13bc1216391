"""Goes in: scores of placements at the rungs they reached. Comes out: what any placement would gain at the top.

A Bayesian linear model: a placement gains the sum of what its blocks give at their sites. How far it has come at a
rung, and how well that tells of the top, is learnt with it, and so are how large effects are beside the noise, and how
much the size that is expected of a block's effect (nas/scout.py) is to be trusted: the belief is the mean over settings
of all of these, by evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from nas.parts import DRAWN, JITTER, LEVEL, SCORE, Kin, Priors, Seen, Setting, design
from nas.summed import Sums
from search_spaces import Placement

__all__ = ["Belief", "Kin", "Priors", "Seen", "View", "believe", "curve"]

REACHED = (0.1, 0.2, 0.5, 1.0)  # share of a gain that is there one rung below
ALIKE = (0.8, 0.98)  # correlation of gains at one rung with those at the next
NEGLIGIBLE, VIEWS = 0.01, 16  # settings of less weight are left out, and so are all beyond so many
ENOUGH = 300  # scores that settings are weighed by
MANY = 800  # more scores are summed up first: the same belief, at a cost that hardly grows with their number


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
    tells = priors.tells if len(set(both.sizes)) > 1 else ((0.0, 1.0),)
    curves = (
        [curve(rungs, reached, alike) for reached in REACHED for alike in ALIKE] if rungs > 1 else [np.ones((1, 1))]
    )
    settings = [Setting(power, signal, c, priors) for (power, _), signal, c in product(tells, priors.signal, curves)]
    likely = np.log([dict(tells)[one.power] for one in settings])
    if sum(len(one.values[:rungs]) for one in seen) > MANY:
        some = thinned(seen, rungs, ENOUGH)
        few = _Data.lay(some, (), rungs)
        part = design([one.placement for one in some], kin)
        products = {power: few.products(*part.matrix(power, priors.pairs)) for power, _ in tells}
        kept = _likely(settings, likely + [_fit(one, few, products[one.power]).log for one in settings])
        matrices = {power: both.matrix(power, priors.pairs) for power in {one.power for one, _ in kept}}
        sums = Sums.lay(seen, candidates, rungs, matrices)
        return Belief(tuple(View(weight, *sums.view(one, shared)) for one, weight in kept))
    matrices = {power: both.matrix(power, priors.pairs) for power, _ in tells}
    data = _Data.lay(seen, candidates, rungs)
    few = data.thinned(ENOUGH)
    products = {power: few.products(*matrix) for power, matrix in matrices.items()}
    kept = _likely(settings, likely + [_fit(one, few, products[one.power]).log for one in settings])
    products = {power: data.products(*matrices[power]) for power in {one.power for one, _ in kept}}
    fits = [(weight, one, _fit(one, data, products[one.power])) for one, weight in kept]
    return Belief(tuple(_view(w, one, fitted, data, *matrices[one.power], shared) for w, one, fitted in fits))


def _likely(settings: Sequence[Setting], logs: np.ndarray) -> list[tuple[Setting, float]]:
    """The settings that count, and how much each is believed in."""
    order = np.argsort(-logs, kind="stable")[:VIEWS]
    weights = np.exp(logs[order] - logs[order[0]])
    kept = [(settings[i], w) for i, w in zip(order, weights, strict=True) if w > NEGLIGIBLE * weights.sum()]
    total = sum(w for _, w in kept)
    return [(one, weight / total) for one, weight in kept]


def thinned(seen: Sequence[Seen], rungs: int, most: int) -> list[Seen]:
    """The trainings of so many scores at most, evenly spread, and of these nothing but those scores."""
    entries = [(k, r) for k, s in enumerate(seen) for r, v in enumerate(s.values[:rungs]) if not math.isnan(v)]
    kept = {entries[i] for i in np.linspace(0, len(entries) - 1, most).astype(int)}
    nan = float("nan")
    return [
        replace(seen[k], values=tuple(v if (k, r) in kept else nan for r, v in enumerate(seen[k].values[:rungs])))
        for k in sorted({k for k, _ in kept})
    ]


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

    def products(self, z: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """[n, n] prior covariance of what the trainings gain, but for the signal's size and the rungs."""
        used = z[: self.rows]
        return np.asarray(((used * prior) @ used.T)[np.ix_(self.of, self.of)])

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
class _Fitted:
    """A setting that has seen the scores; variances over the noise's, which is ``noise``.

    Args:
        log: Log marginal likelihood, up to a constant.
    """

    log: float
    noise: float
    root: tuple[np.ndarray, bool] | None
    alpha: np.ndarray


def _fit(one: Setting, data: _Data, products: np.ndarray) -> _Fitted:
    """Normal-inverse-gamma regression: ``y = level + gain + e``, all normal, the noise's variance inverse gamma."""
    a, b = one.priors.doubt, one.priors.doubt * one.priors.noise**2
    if not len(data.y):
        return _Fitted(0.0, b / a, None, data.y)
    gains = one.signal**2 * products + one.priors.own * data.same
    k = gains * one.curve[np.ix_(data.rung, data.rung)] + data.drawn + data.levels
    k[np.diag_indices_from(k)] += JITTER
    root = cho_factor(k, lower=True)
    alpha = cho_solve(root, data.y)
    a, b = a + 0.5 * len(data.y), b + 0.5 * float(data.y @ alpha)
    return _Fitted(-float(np.log(np.diag(root[0])).sum()) - a * float(np.log(b)), b / a, root, alpha)


def _view(
    weight: float, one: Setting, fitted: _Fitted, data: _Data, z: np.ndarray, prior: np.ndarray, shared: int
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
