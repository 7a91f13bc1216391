"""Goes in: what a model believes of scores, and known costs. Comes out: the expected gain in hypervolume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from nas.surrogate import Belief

LEAST = 1e-9  # a belief that is certain still has a width
DRAWS = 8  # of what is uncertain about the front
NEAR = 200  # candidates that are looked at closely
TAILS = ((0.4, 0.5), (1.0, 0.35), (3.0, 0.15))  # a belief's standard deviation times, and how likely


@dataclass(frozen=True)
class Cells:
    """The cells that the costs of a front's members cut the cost space into.

    Args:
        edges: Of the cells of each cost; the first of each is minus infinity, the last the reference.
        covered: For each member the cells that it covers; None where it is beyond the reference.
    """

    edges: list[np.ndarray]
    covered: list[tuple[slice, ...] | None]

    @staticmethod
    def of(costs: np.ndarray, reference: np.ndarray) -> Cells:
        """Cut.

        Args:
            costs: [n, m], less is better.
            reference: [m] costs beyond which nothing counts.
        """
        edges = [np.r_[-np.inf, np.unique(c[c < r]), r] for c, r in zip(costs.T, reference, strict=True)]
        covered = [
            tuple(slice(int(np.searchsorted(e, c)), None) for e, c in zip(edges, of, strict=True))
            if (of < reference).all()
            else None
            for of in costs
        ]
        return Cells(edges, covered)

    def best(self, score: np.ndarray) -> np.ndarray:
        """The best score [n] of the front, over the reference score, within each cell; at least 0."""
        best = np.zeros([len(e) - 1 for e in self.edges])
        for one, inside in zip(score, self.covered, strict=True):
            if inside is not None:
                best[inside] = np.maximum(best[inside], one)
        return best

    def sizes(self, costs: np.ndarray) -> np.ndarray:
        """[k, cells of cost 1, ...]: how much of each cell candidates of these costs [k, m] cover."""
        size = np.ones([len(costs), *(len(e) - 1 for e in self.edges)])
        for axis, e in enumerate(self.edges):
            width = np.clip(e[None, 1:] - np.maximum(e[None, :-1], costs[:, axis, None]), 0, None)
            size *= width.reshape([len(costs), *(-1 if i == axis else 1 for i in range(costs.shape[1]))])
        return size


def ehvi(
    mean: np.ndarray,
    sd: np.ndarray,
    costs: np.ndarray,
    front_score: np.ndarray,
    front_costs: np.ndarray,
    reference: np.ndarray,
) -> np.ndarray:
    """Expected improvement of hypervolume where the score is uncertain and the costs are known.

    With costs fixed, the volume that a candidate adds is a sum over the cells of the cost space that it covers: the
    cell's size times how far its score is above the cell's best. The expectation of the latter is the expected
    improvement of one normal variable (Jones et al. 1998, eq. 15), so that the whole is exact. Emmerich et al. 2006
    (10.1109/CEC.2006.1688440) define it for uncertain objectives.

    Args:
        mean, sd: [k] of each candidate's score over the reference score.
        costs: [k, m] of the candidates.
        front_score, front_costs: [n], [n, m] of the front's members; more of the first is better, less of the others.
        reference: [m] costs beyond which nothing counts.

    Returns:
        [k], in units of the score times those of the costs.
    """
    cells = Cells.of(front_costs, reference)
    return _gain(mean, sd, cells.sizes(costs), cells.best(front_score))


def _gain(mean: np.ndarray, sd: np.ndarray, sizes: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Sizes of cells times the expected improvement over the best score there, summed over the cells."""
    shape = (len(mean),) + (1,) * best.ndim
    sd = np.maximum(sd, LEAST).reshape(shape)
    z = (mean.reshape(shape) - best) / sd
    return np.asarray(
        (sizes * sd * (z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))).reshape(len(mean), -1).sum(1)
    )


def expected(
    belief: Belief, done: int, costs: np.ndarray, reference: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """What each candidate is expected to add to the true hypervolume, where the scores of the front are uncertain too.

    What is uncertain about the front's members is drawn several times; given each draw, candidates that share blocks
    with them are less uncertain, and a candidate that differs by luck alone adds nothing. This is noisy EHVI
    (Daulton et al. 2021, arXiv 2105.08195, section 4) with the inner expectation in closed form. Tails are heavier than
    normal (:data:`TAILS`): effects of blocks are.

    Args:
        belief: Of the ``done`` first, which are trained, and of the candidates behind them; with covariances
            with the first.
        costs: [done + candidates, m].

    Returns:
        [candidates].
    """
    mean, sd = belief.mean, belief.sd
    rough = ehvi(mean[done:], TAILS[-1][0] * sd[done:], costs[done:], mean[:done], costs[:done], reference)
    worth = np.zeros(len(rough))
    near = np.argsort(-rough, kind="stable")[:NEAR]
    at = near + done
    cells = Cells.of(costs[:done], reference)
    sizes = cells.sizes(costs[at])
    for view in belief.views:
        among = view.shared[:done, :done] + LEAST * np.eye(done)
        tied = np.linalg.solve(among, view.shared[at, :done].T).T
        left = np.sqrt(np.maximum(view.sd[at] ** 2 - (tied * view.shared[at, :done]).sum(1), 0.0))
        draws = np.linalg.cholesky((among + among.T) / 2) @ rng.standard_normal((done, DRAWS // 2))
        for moved in np.c_[draws, -draws].T:
            best, mu = cells.best(view.mean[:done] + moved), view.mean[at] + tied @ moved
            for wider, share in TAILS:
                more = _gain(mu, wider * left, sizes, best)
                worth[near] += view.weight / DRAWS * share * more
    return worth
