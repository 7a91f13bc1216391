"""Goes in: a linear model with random effects. Comes out: their variances by REML, and the coefficients' posterior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize
from scipy.stats import chi2

LEAST, MOST = -7.0, 3.0  # logarithm of a standard deviation over that of y
MANY = 400  # columns, above which fewer draws must do
QUIET = -5.0  # the least of the noise: below it the sums lose their digits


@dataclass(frozen=True)
class Fit:
    """A fitted model; what it is in units of is y's.

    Args:
        sds: Standard deviation of each part's effects.
        noise: Standard deviation of one observation around the model.
        loglik: Restricted log likelihood, up to a constant that all models with the same fixed columns share.
        mean, cov: Posterior of the coefficients, fixed columns first, then the parts in their order.
    """

    sds: Mapping[str, float]
    noise: float
    loglik: float
    mean: np.ndarray
    cov: np.ndarray


@dataclass(frozen=True)
class _Sums:
    """What the likelihood needs of the data, y in units of its standard deviation; ``owner`` is a column's part."""

    columns: np.ndarray
    y: np.ndarray
    gram: np.ndarray
    moment: np.ndarray
    owner: np.ndarray
    unit: float


def mode(fixed: np.ndarray, parts: Mapping[str, np.ndarray], y: np.ndarray, guarded: bool = True) -> Fit:
    """Fit ``y = fixed @ b + sum(part @ u_part) + noise`` with ``u_part ~ N(0, sd_part^2)`` and ``b`` free, by REML.

    Args:
        fixed: [n, p], of full rank.
        parts: Name -> [n, q].
        guarded: With a half-Cauchy prior on every standard deviation (scale: that of y), the mode taken over their
            logarithms. Without it the likelihood is for comparing models, and standard deviations may be zero.
    """
    sums, logs = _find(fixed, parts, y, guarded)
    return _at(sums, logs, parts)


def fit(fixed: np.ndarray, parts: Mapping[str, np.ndarray], y: np.ndarray) -> Fit:
    """As :func:`mode`, with the standard deviations' own uncertainty: the mean over their posterior.

    A plug-in of the mode makes intervals too short where data are few. Standard deviations are drawn from a t
    distribution around the mode and weighted by their posterior density.
    """
    sums, logs = _find(fixed, parts, y, True)
    draws = 100 if len(sums.owner) < MANY else 30
    steps = np.eye(len(logs)) * 0.01
    bend = np.array([(_slope(sums, logs + step) - _slope(sums, logs - step)) / 0.02 for step in steps])
    sizes, axes = np.linalg.eigh((bend + bend.T) / 2)
    rng, free = np.random.default_rng(0), 5
    normal = rng.standard_normal((draws // 2, len(logs)))
    normal = np.vstack([normal, -normal]) / np.sqrt(rng.chisquare(free, (2 * (draws // 2), 1)) / free)
    tried = logs + (normal / np.sqrt(np.maximum(sizes, 0.25))) @ axes.T
    inside = ((tried > LEAST) & (tried < MOST)).all(1) & (tried[:, -1] > QUIET)
    tried, heavy = tried[inside], (free + len(logs)) / 2 * np.log1p((normal[inside] ** 2).sum(1) / free)
    fits = [_at(sums, one, parts) for one in tried]
    density = np.array([f.loglik + _prior(one) for f, one in zip(fits, tried, strict=True)]) + heavy
    weights = np.exp(density - density.max())
    weights = np.minimum(weights, weights.mean() * np.sqrt(len(weights)))  # one lucky draw must not decide
    weights /= weights.sum()
    mean = sum(w * f.mean for w, f in zip(weights, fits, strict=True))
    cov = sum(w * (f.cov + np.outer(f.mean - mean, f.mean - mean)) for w, f in zip(weights, fits, strict=True))
    sds = sums.unit * np.sqrt(weights @ np.exp(2 * tried))
    named = dict(zip(parts, map(float, sds[:-1]), strict=True))
    return Fit(named, float(sds[-1]), _at(sums, logs, parts).loglik, mean, cov)


def _find(fixed: np.ndarray, parts: Mapping[str, np.ndarray], y: np.ndarray, guarded: bool) -> tuple[_Sums, np.ndarray]:
    """The mode: logarithms of the standard deviations over that of y, the noise last."""
    columns = np.hstack([fixed, *parts.values()])
    owner = np.repeat(np.arange(len(parts) + 1), [fixed.shape[1], *(z.shape[1] for z in parts.values())])
    unit = float(y.std()) or 1.0
    sums = _Sums(columns, y / unit, columns.T @ columns, columns.T @ y / unit, owner, unit)
    found = minimize(
        lambda logs: _loss(sums, logs, guarded),
        np.r_[np.full(len(parts), -1.0), -0.5],
        jac=True,
        method="L-BFGS-B",
        bounds=[(LEAST, MOST)] * len(parts) + [(QUIET, MOST)],
    )
    return sums, found.x


def _at(sums: _Sums, logs: np.ndarray, parts: Mapping[str, np.ndarray]) -> Fit:
    """The fit with given standard deviations, in y's units."""
    scales = np.r_[1.0, np.exp(logs[:-1])][sums.owner] * sums.unit
    mean, cov, loglik = _posterior(sums, logs)
    sds = np.exp(logs) * sums.unit
    named = dict(zip(parts, map(float, sds[:-1]), strict=True))
    return Fit(named, float(sds[-1]), loglik, mean * scales, cov * np.outer(scales, scales))


def _posterior(sums: _Sums, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean and covariance of coefficients over their scales, and the restricted log likelihood."""
    scales, noise = np.r_[1.0, np.exp(logs[:-1])][sums.owner], float(np.exp(logs[-1]))
    precision = sums.gram * np.outer(scales, scales) / noise**2
    precision[np.diag_indices_from(precision)] += sums.owner > 0
    root, failed = lapack.dpotrf(precision, lower=1)
    if failed:
        raise np.linalg.LinAlgError("the fixed columns are not independent")
    cov = lapack.dpotri(root, lower=1)[0]
    cov = np.tril(cov) + np.tril(cov, -1).T
    pull = scales * sums.moment / noise**2
    mean = cov @ pull
    left = (sums.y - sums.columns @ (scales * mean)) / noise
    quadratic = float(left @ left) + float((mean[sums.owner > 0] ** 2).sum())
    logdet = 2 * float(np.log(np.diag(root)).sum())
    return mean, cov, -0.5 * (2 * len(sums.y) * np.log(noise) + logdet + quadratic)


def _loss(sums: _Sums, logs: np.ndarray, guarded: bool) -> tuple[float, np.ndarray]:
    """Negative log likelihood and its gradient in the logarithms of the standard deviations.

    For a part it is the expected square of its standardised effects less their number; for the noise the expected
    square of the standardised residuals less theirs.
    """
    mean, cov, loglik = _posterior(sums, logs)
    squares = mean**2 + np.diag(cov)
    parts = [(squares[sums.owner == k] - 1).sum() for k in range(1, len(logs))]
    left = (sums.y - sums.columns @ (np.r_[1.0, np.exp(logs[:-1])][sums.owner] * mean)) / np.exp(logs[-1])
    residual = float(left @ left) + len(sums.owner) - np.diag(cov)[sums.owner > 0].sum()
    gradient = np.array([*parts, residual - len(sums.y)])
    if guarded:
        loglik, gradient = loglik + _prior(logs), gradient + 1 - 2 / (1 + np.exp(-2 * logs))
    return -loglik, -gradient


def _slope(sums: _Sums, logs: np.ndarray) -> np.ndarray:
    return _loss(sums, logs, True)[1]


def _prior(logs: np.ndarray) -> float:
    """Log density, in the logarithms, of independent half-Cauchy standard deviations."""
    return float((logs - np.log1p(np.exp(2 * logs))).sum())


def left_out(fitted: Fit, columns: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Each observation less what the model says of it without its group; variances stay as fitted.

    Args:
        columns: [n, p + q], as fitted.
        groups: [n] integers.
    """
    weighted = (y - columns @ fitted.mean) / fitted.noise**2
    errors = np.empty(len(y))
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        z = columns[rows]
        own = (np.eye(len(rows)) - z @ fitted.cov @ z.T / fitted.noise**2) / fitted.noise**2
        errors[rows] = np.linalg.lstsq(own, weighted[rows], rcond=None)[0]
    return errors


def p_value(full: Fit, less: Fit) -> float:
    """Of the likelihood ratio of two unguarded modes, one with a part that the other lacks.

    A variance cannot be negative: half of the time the ratio is 0, else chi squared (Self and Liang 1987).
    """
    ratio = 2 * (full.loglik - less.loglik)
    return 0.5 * float(chi2.sf(ratio, 1)) if ratio > 1e-6 else 1.0
