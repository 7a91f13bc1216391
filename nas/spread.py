"""Goes in: gains by placement and seed. Comes out: their noise, true spread and rank agreement, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nas.interval import Interval as Interval

RESAMPLES = 1000


@dataclass(frozen=True)
class Spread:
    """How far placements truly lie apart, beside what chance does to one of them.

    Args:
        images: The budget.
        placements: How many, the base not counted; ``repeated`` of them with several seeds.
        noise: Standard deviation over seeds of the paired gain, placement over base under the same seed.
        own_noise: That of its part which differs between placements; the base's part is common to all under a seed.
        spread: Standard deviation over placements of the true gain: without noise.
        ratio: Spread over ``noise``.
    """

    images: int
    placements: int
    repeated: int
    noise: Interval
    own_noise: Interval
    spread: Interval
    ratio: Interval


def gains(rows: pd.DataFrame, score: str, images: float | None = None) -> pd.DataFrame:
    """[placement, seed] of a column of scores, minus the base's under the same seed.

    Args:
        rows: With the columns placement, seed and images.
        score: The column.
        images: The budget; of those in the rows the nearest. By default the largest.
    """
    budget = rows.images.max() if images is None else min(rows.images.unique(), key=lambda n: abs(n - images))
    order = dict.fromkeys(rows.placement)
    wide = rows[rows.images == budget].pivot(index="placement", columns="seed", values=score).reindex(list(order))
    return wide.drop(index="base") - wide.loc["base"]


def across(one: pd.DataFrame, two: pd.DataFrame) -> Interval:
    """Kendall's tau-b between one seed's gains of ``one`` and another's of ``two``, mean over all such pairs of seeds.

    What two budgets of one seed share by luck cannot flatter it. Over the placements that have all seeds in both.
    """
    whole = [p for p in one.index if p in two.index and one.loc[p].notna().all() and two.loc[p].notna().all()]
    pairs = [(one.loc[whole, i], two.loc[whole, j]) for i in one.columns for j in two.columns if i != j]
    if len(whole) < 3 or not pairs:
        return Interval(*[float("nan")] * 3)
    return mean_kendall([(a.to_numpy(), b.to_numpy()) for a, b in pairs])


def spread(gains: np.ndarray, images: int, seed: int = 0) -> Spread:
    """Noise and spread of ``gains`` [placements, seeds], NaN where there was no run; see :func:`moments`."""
    counts = np.isfinite(gains).sum(1)
    rng = np.random.default_rng(seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.array([moments(gains[rng.integers(len(gains), size=len(gains))]) for _ in range(RESAMPLES)])
        found = [interval(value, drawn[:, i]) for i, value in enumerate(moments(gains))]
    return Spread(images, len(gains), int((counts > 1).sum()), *found)


def moments(gains: np.ndarray) -> tuple[float, float, float, float]:
    """Noise, own noise, spread, and spread over noise, by the method of moments.

    Gains under one seed share the noise of that seed's base run. It moves all of them alike, so it is part of what one
    gain may be wrong by (``noise``) and no part of what makes placements differ (``own noise``, which is the residual
    of placements and seeds in a table of two ways, and which is what is taken off the spread).
    """
    there = np.isfinite(gains)
    counts = there.sum(1)
    means = np.where(counts > 0, np.nansum(gains, 1) / np.maximum(counts, 1), np.nan)
    inner = np.where(there, gains - means[:, None], 0.0)[counts > 1]
    free = float((counts[counts > 1] - 1).sum())
    if not free:
        return (float("nan"),) * 4
    seeds, lost = _seed_effects(inner, there[counts > 1])
    noise = np.sqrt((inner**2).sum() / free)
    shifts = np.where(there[counts > 1], seeds, 0.0)
    shifts = np.where(there[counts > 1], shifts - (shifts.sum(1) / counts[counts > 1])[:, None], 0.0)
    left = ((inner - shifts) ** 2).sum()
    own = np.sqrt(left / (free - lost)) if free > lost else float("nan")
    levelled = np.where(there, gains - seeds, 0.0).sum(1)[counts > 0] / counts[counts > 0]
    between = levelled.var(ddof=1) - own**2 * (1 / counts[counts > 0]).mean() if len(levelled) > 1 else float("nan")
    true = np.sqrt(max(between, 0.0)) if np.isfinite(between) else float("nan")
    return float(noise), float(own), float(true), float(true / noise) if noise else float("nan")


def _seed_effects(inner: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, int]:
    """Least squares: what each seed adds to every placement, and how many degrees of freedom that takes."""
    counts = there.sum(1)
    normal = np.diag(there.sum(0).astype(float)) - (there / counts[:, None]).T @ there
    return np.linalg.pinv(normal) @ inner.sum(0), int(np.linalg.matrix_rank(normal))


def kendall(one: np.ndarray, two: np.ndarray, seed: int = 0) -> Interval:
    """Kendall's tau-b of two rankings of the same placements; rows with NaN are left out."""
    keep = np.isfinite(one) & np.isfinite(two)
    return mean_kendall([(one[keep], two[keep])], seed) if keep.sum() > 2 else Interval(*[float("nan")] * 3)


def mean_kendall(rankings: list[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> Interval:
    """The mean tau-b of several pairs of rankings of the same placements, which are resampled for the interval."""
    count = len(rankings[0][0])
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)
    weights = np.vstack([np.ones(count), weights])
    taus = np.zeros(len(weights))
    for one, two in rankings:
        a, b = (np.sign(x[:, None] - x[None, :]) for x in (one, two))
        agree, of_a, of_b = (((weights @ m) * weights).sum(1) for m in (a * b, np.abs(a), np.abs(b)))
        with np.errstate(invalid="ignore", divide="ignore"):
            taus += agree / np.sqrt(of_a * of_b) / len(rankings)
    return interval(float(taus[0]), taus[1:])


def interval(value: float, drawn: np.ndarray) -> Interval:
    """A figure with the 2.5% and 97.5% quantiles of its resampled values."""
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(drawn):
        return Interval(value, float("nan"), float("nan"))
    return Interval(value, *(float(q) for q in np.quantile(drawn, [0.025, 0.975])))
