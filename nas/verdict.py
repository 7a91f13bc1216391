"""Goes in: scores of finalists, controls and the base under the same seeds. Comes out: what may be said of them. Pure.

A placement's gain is its score over the base's under the same seed, so that what a seed does to both falls out. Three
to ten seeds know the noise of one gain badly, and placements that move the score much are also noisier. So the
variances of all placements are moderated: each is drawn to a trend over the size of the gain, as far as all of them
agree with such a trend (Smyth 2004, doi 10.2202/1544-6115.1027, sections 3 and 6.2; the trend as in limma). A dozen
placements are not a thousand genes: what a placement is drawn to is told by the others alone, and counts for as much
as it is known. What other images would change comes on top: the covariance of a bootstrap over images. Intervals hold
for all finalists at once (Sidak 1967), so that naming the best of them does not make them wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from nas.interval import Interval

LEVEL = 0.95
SMALL = 0.002  # gain below which the noise is taken to be that of no gain, in the score's units
TREND_FROM = 6  # placements from which a trend of the noise is fitted; three have a common one at least
DRAWS = 4000
POWER = 0.9  # with which the advised number of seeds would tell a gain
MOST_SEEDS = 30

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """The noise of paired gains.

    Args:
        variance: Of one gain of each placement, [placements].
        df: Degrees of freedom of each of them, what they lend each other included, [placements].
    """

    variance: Floats
    df: Floats


def paired(scores: Floats, base: Floats) -> Floats:
    """[placements, seeds] scores, [seeds] of the base -> gains."""
    return np.asarray(scores, float) - np.asarray(base, float)


def noise(gains: Floats) -> Noise:
    """Moderated variances of gains [placements, seeds].

    Raises:
        ValueError: Fewer than two seeds.
    """
    count, seeds = gains.shape
    if seeds < 2:
        raise ValueError(f"the noise of gains needs 2 seeds, got {seeds}")
    own, df = gains.var(1, ddof=1), seeds - 1
    least = 1e-5 * float(np.median(own[own > 0])) if (own > 0).any() else 0.0
    told = own > least  # a placement that does nothing says nothing of the others' noise
    if told.sum() < 3:
        return Noise(np.maximum(own, max(least, 1e-14)), np.full(count, float(df)))
    logs = np.log(np.where(told, own, 1.0)) - special.digamma(df / 2) + np.log(df / 2)
    trend, unsure = _expected(logs, np.log(np.abs(gains.mean(1)) + SMALL), told, float(special.polygamma(1, df / 2)))
    prior = 2 * np.array([trigamma_inverse(float(u)) for u in unsure])
    level = np.exp(trend + special.digamma(prior / 2) - np.log(prior / 2))
    return Noise((prior * level + df * own) / (prior + df), prior + df)


def _expected(logs: Floats, sizes: Floats, told: NDArray[np.bool_], chance: float) -> tuple[Floats, Floats]:
    """What the other placements say of each one's log variance: the expected value, and the variance about it.

    That variance is what placements truly differ by (Smyth's trigamma(d0 / 2)) and the error of a trend without this
    placement, by its leverage h: (excess + chance) h / (1 - h). In limma, with thousands of genes, h is nothing.

    Args:
        logs: Log sample variances, unbiased for the log of the true ones, [placements].
        sizes: What the trend is over, [placements].
        told: Placements that the trend is fitted to.
        chance: Variance of ``logs`` about the true ones.
    """
    x = np.stack((np.ones(len(logs)), sizes), 1) if told.sum() >= TREND_FROM else np.ones((len(logs), 1))
    inverse = np.linalg.pinv(x[told].T @ x[told])
    trend = x @ inverse @ x[told].T @ logs[told]
    hat = np.einsum("ij,jk,ik->i", x, inverse, x)
    excess = _excess(float(((logs - trend)[told] ** 2).sum()), int(told.sum()) - x.shape[1], chance)
    lent = np.where(told, hat / np.maximum(1 - hat, 1e-6), hat)
    return trend - np.where(told, (logs - trend) * lent, 0.0), excess + (excess + chance) * lent


def _excess(squares: float, df: int, chance: float) -> float:
    """By how much log variances truly differ, as a variance: the median of what it may be, given their squared rest.

    The estimate of Smyth's section 6.2, mean square less ``chance``, is often 0 for a dozen placements that do differ
    (Chung et al. 2013, doi 10.1007/s11336-013-9328-2). The prior is flat in the standard deviation (Gelman 2006,
    doi 10.1214/06-BA117A).
    """
    sd = np.linspace(0.0, 1 + 5 * np.sqrt(squares / df), 1001)
    total = sd**2 + chance
    logs = -df / 2 * np.log(total) - squares / (2 * total)
    weight = np.cumsum(np.exp(logs - logs.max()))
    return float(sd[np.searchsorted(weight, weight[-1] / 2)] ** 2)


def trigamma_inverse(x: float) -> float:
    """y > 0 with trigamma(y) = x, by Newton's method (Smyth 2004, appendix)."""
    if x > 1e7:
        return float(1 / np.sqrt(x))
    if x < 1e-6:
        return 1 / x
    y = 0.5 + 1 / x
    for _ in range(50):
        found = float(special.polygamma(1, y))
        step = found * (1 - found / x) / float(special.polygamma(2, y))
        y += step
        if abs(step / y) < 1e-8:
            break
    return y


def quantile(df: Floats | float, count: int) -> Floats:
    """Standard errors to which ``count`` intervals reach, to hold all at once with 95%."""
    each = LEVEL ** (1 / max(count, 1))
    return np.asarray(stats.t.ppf((1 + each) / 2, df), float)


def intervals(
    gains: Floats,
    found: Noise,
    contrasts: Floats,
    images: Floats | None = None,
    extra: float = 0.0,
    extra_df: float = float("inf"),
) -> list[Interval]:
    """Sums of gains, with intervals that hold all at once; degrees of freedom of a sum after Satterthwaite (1946).

    Args:
        gains: [placements, seeds].
        contrasts: [sums, placements], the weights.
        images: [placements, placements], covariance of mean gains over other draws of images.
        extra: Variance of each sum that comes on top, in squared units of the score.
        extra_df: Degrees of freedom that it is known with; a variance between m members has m - 1.
    """
    variance = variances(gains.shape[1], found, contrasts, images) + extra
    parts = contrasts**2 * found.variance / gains.shape[1]
    df = variance**2 / ((parts**2 / found.df).sum(1) + extra**2 / extra_df)  # what images do is known, of many draws
    mean, reach = contrasts @ gains.mean(1), quantile(df, len(contrasts)) * np.sqrt(variance)
    return [Interval(float(m), float(m - r), float(m + r)) for m, r in zip(mean, reach, strict=True)]


def variances(seeds: int, found: Noise, contrasts: Floats, images: Floats | None) -> Floats:
    """Of the sums, [sums]: the placements' own, and over images."""
    own: Floats = (contrasts**2) @ found.variance / seeds
    return own if images is None else own + np.maximum(np.einsum("ki,ij,kj->k", contrasts, images, contrasts), 0.0)


def over_images(resampled: Floats, base: Floats) -> Floats:
    """Covariance of mean gains over draws of images: [placements, draws] scores, [draws] of the base."""
    return np.atleast_2d(np.cov(resampled - base, ddof=1))


def over_base(gains: Floats, found: Noise, count: int, images: Floats | None = None) -> list[Interval]:
    """The gains of the first ``count`` placements, which hold all at once."""
    return intervals(gains, found, np.eye(len(gains))[:count], images)


def over_group(
    gains: Floats, found: Noise, count: int, group: Sequence[int], images: Floats | None = None
) -> list[Interval]:
    """The first ``count`` placements over the mean of all that a group like this could hold.

    Another group would have other members: how far these lie apart counts, and that a few members know it badly.
    """
    contrasts = np.eye(len(gains))[:count]
    contrasts[:, list(group)] -= 1 / len(group)
    apart = float(gains.mean(1)[list(group)].var(ddof=1)) / len(group) if len(group) > 1 else 0.0
    return intervals(gains, found, contrasts, images, apart, max(len(group) - 1, 1))


def over_other(
    gains: Floats, found: Noise, pairs: Sequence[tuple[int, int]], images: Floats | None = None
) -> list[Interval]:
    """Each first over its second, all at once. The base's noise is in both and counted twice: too wide, if anything."""
    contrasts = np.zeros((len(pairs), len(gains)))
    for row, (one, other) in zip(contrasts, pairs, strict=True):
        row[one], row[other] = 1.0, -1.0
    return intervals(gains, found, contrasts, images)


def on_front(
    gains: Floats, found: Noise, costs: Floats, errors: Floats, images: Floats | None = None, seed: int = 0
) -> Floats:
    """Probability that each placement, and last the base, stands on the front of all of them, [placements + 1].

    Args:
        costs: [placements + 1, costs], the base last.
        errors: Their standard errors; 0 where a cost is known.
    """
    rng = np.random.default_rng(seed)
    mean, own = gains.mean(1), found.variance / gains.shape[1]
    wide = np.sqrt(found.df / rng.chisquare(found.df, (DRAWS, len(gains))))
    score = mean + rng.standard_normal((DRAWS, len(mean))) * np.sqrt(own) * wide
    if images is not None:
        score += rng.multivariate_normal(np.zeros(len(mean)), images, DRAWS, method="eigh")
    score = np.hstack([score, np.zeros((DRAWS, 1))])
    cost = costs + rng.standard_normal((DRAWS, *costs.shape)) * errors
    beaten = np.zeros((DRAWS, len(costs)), bool)
    for other in range(len(costs)):
        no_worse = (score[:, [other]] >= score) & (cost[:, [other]] <= cost).all(2)
        better = (score[:, [other]] > score) | (cost[:, [other]] < cost).any(2)
        beaten |= no_worse & better
    return np.asarray(1 - beaten.mean(0))


def seeds_to_tell(gain: float, variance: float, df: float, seeds: int, count: int, images: float = 0.0) -> int | None:
    """Seeds with which a true gain of this size would be told, nine times of ten; None where no number up to 30 does.

    Args:
        variance: Of one paired gain; ``df`` its degrees of freedom with ``seeds`` seeds.
        count: Finalists.
        images: Variance over draws of images, which no seed makes less.
    """
    for n in range(seeds, MOST_SEEDS + 1):
        error = variance / n + images
        sure = (df + n - seeds) * (error / (variance / n)) ** 2
        reach = quantile(sure, count) + float(stats.t.ppf(POWER, sure))
        if reach * np.sqrt(error) <= gain:
            return n
    return None
