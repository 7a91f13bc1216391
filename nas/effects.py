"""Goes in: trained placements with their scores. Comes out: what each block does at each site, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import norm

from nas import mixed, spread
from nas.interval import Interval
from nas.trainings import LEAST_PLACEMENTS, EffectsError, Trainings
from search_spaces import Placement

LEAST_SEEN = 2  # placements that a pair has to stand in
MOST_RESTS = 800  # placements that get an effect of their own; with more of them it counts as noise, for time's sake
SHUFFLES = 999
SURE = 0.05  # p-value below which a difference counts as told
Z95 = float(norm.ppf(0.975))
Key = tuple[str, ...]  # kind of effect, then blocks and sites in turn: ("block at site", "eca", "neck.p3")
ANY: Key = ("any block",)


@dataclass(frozen=True)
class Check:
    """How honest the model is.

    Args:
        blocks, sites: P-value that they do not matter, by shuffling them; None where there is only one.
        pairs: P-value that pairs add nothing, by the likelihood ratio ``ratio``; None where the data cannot ask.
        tau: Kendall's rank correlation of gains and their prediction without the placement's own trainings.
        explained: Share of the variance of gains that these predictions explain, beyond how many blocks there are.
    """

    blocks: float | None
    sites: float | None
    pairs: float | None
    ratio: float | None
    tau: Interval
    explained: float

    @property
    def told(self) -> bool:
        """Whether the data tell placements apart at all: blocks or sites matter, and predictions beat the mean."""
        return min(x for x in (self.blocks, self.sites, 1.0) if x is not None) < SURE and self.explained > 0


@dataclass(frozen=True)
class Model:
    """A fitted model of gains: any block + block + site + block at site (+ pair) (+ rest of the placement) + noise.

    Args:
        keys: Of each coefficient.
        index: Its inverse.
        seen: Key -> placements of the data that it rests on.
    """

    data: Trainings
    keys: tuple[Key, ...]
    index: Mapping[Key, int]
    seen: Mapping[Key, int]
    fit: mixed.Fit
    check: Check


def fit(data: Trainings, pairs: bool = True) -> Model:
    """Fit the model, by empirical Bayes: effects are shrunken as much as their own spread in these data asks for.

    The base has gain 0 by definition, but is itself measured: every seed has a level of its own that base and
    placements share, so that the base's noise is part of every interval.

    Args:
        pairs: Ask whether pairs add to the sum of their blocks, which takes most of the time where there are many.

    Raises:
        EffectsError: No base under some seed, or too few placements.
    """
    _refuse(data)
    carried = carried_pairs(data) if pairs else set()
    counts = Counter(p for p in data.placements if len(p))
    repeated = max(counts.values()) > 1 and len(counts) <= MOST_RESTS
    rows = [_coefficients(p, carried) | _rest(p, repeated) for p in data.placements]
    columns, keys = _columns(rows)
    seeds = sorted(set(data.seeds))
    levels = np.array([[float(s == one) for one in seeds] for s in data.seeds])
    fixed = np.hstack([levels, columns.pop("any block")])
    check, fitted, names = _choose(fixed, columns, data)
    chosen = (*(("seed", str(s)) for s in seeds), ANY, *(k for name in names for k in keys[name]))
    index = {key: i for i, key in enumerate(chosen)}
    seen = Counter(k for p in set(data.placements) for k in _coefficients(p, carried))
    return Model(data, chosen, index, dict(seen), fitted, check)


def carried_pairs(data: Trainings) -> set[Key]:
    """The pairs that stand in enough placements to be told from their blocks."""
    counts = Counter(k for p in set(data.placements) for k in _pairs(p))
    return {k for k, count in counts.items() if count >= LEAST_SEEN}


def _refuse(data: Trainings) -> None:
    based = {s for p, s in zip(data.placements, data.seeds, strict=True) if not len(p)}
    if alone := sorted(set(data.seeds) - based):
        raise EffectsError(f"{data.name}: the untouched base was not trained under seed {', '.join(map(str, alone))}")
    others = {p for p in data.placements if len(p)}
    if len(others) < LEAST_PLACEMENTS:
        raise EffectsError(
            f"{data.name}: effects need at least {LEAST_PLACEMENTS} placements beside the base, got {len(others)}"
        )
    if not np.isfinite(data.values).all() or data.values.std() == 0:
        raise EffectsError(f"{data.name}: all scores are the same, or some are no numbers")


def _coefficients(placement: Placement, pairs: set[Key] | None = None) -> dict[Key, int]:
    """What a placement's gain is the sum of, how often each; only ``pairs`` of the pairs, all without it."""
    if not len(placement):
        return {}
    found: Counter[Key] = Counter({ANY: len(placement)})
    for site, block in placement:
        found.update([("block", block.label), ("site", site), ("block at site", block.label, site)])
    found.update(k for k in _pairs(placement) if pairs is None or k in pairs)
    return dict(found)


def _rest(placement: Placement, told: bool = True) -> dict[Key, int]:
    """What a placement's own gain is beyond its parts; only trainings with several seeds tell it from noise."""
    return {("placement", placement.label): 1} if told and len(placement) else {}


def _pairs(placement: Placement) -> list[Key]:
    return [("pair", a.label, s, b.label, t) for (s, a), (t, b) in combinations(placement, 2)]


def _columns(rows: Sequence[Mapping[Key, int]]) -> tuple[dict[str, np.ndarray], dict[str, list[Key]]]:
    """Design matrices by kind, and the keys of their columns; kinds that say what another says are left out."""
    keys: dict[str, list[Key]] = {}
    for key in sorted({k for row in rows for k in row}):
        keys.setdefault(key[0], []).append(key)
    for kind in ("block", "site"):
        if len(keys[kind]) < 2:
            del keys[kind]
    if not {"block", "site"} <= set(keys) and len(keys) > 1:
        del keys["block at site"]  # one block or one site: the same columns
    order: list[str] = [k for k in ("any block", "block", "site", "block at site", "placement", "pair") if k in keys]
    matrices = {k: np.array([[float(row.get(key, 0)) for key in keys[k]] for row in rows]) for k in order}
    return matrices, keys


def _choose(
    fixed: np.ndarray, columns: Mapping[str, np.ndarray], data: Trainings
) -> tuple[Check, mixed.Fit, list[str]]:
    """Keep pairs where the likelihood finds them, then check the model by shuffling and by leaving out."""
    pairs, ratio = None, None
    names = [k for k in columns if k != "pair"]
    if "pair" in columns:
        both = [mixed.mode(fixed, {k: columns[k] for k in ks}, data.values, guarded=False) for ks in (columns, names)]
        pairs, ratio = mixed.p_value(*both), 2 * max(both[0].loglik - both[1].loglik, 0.0)
        names = list(columns) if pairs < SURE else names
    kept = {k: columns[k] for k in names}
    mode = mixed.mode(fixed, kept, data.values)
    tau, explained = _left_out(fixed, kept, mode, data)
    blocks, sites = (_shuffled(fixed, columns, data, i) for i in (1, 0))
    return Check(blocks, sites, pairs, ratio, tau, explained), mixed.fit(fixed, kept, data.values), names


def _shuffled(fixed: np.ndarray, columns: Mapping[str, np.ndarray], data: Trainings, which: int) -> float | None:
    """P-value that blocks (``which`` 1) or sites (0) do not matter: their names are shuffled among placements.

    A block changes places with others at its site, a site with others of its block, so that what is left the same is
    what the null model knows: which sites are filled, or which blocks are there. The statistic is the score of the
    variances of the shuffled names' effects.
    """
    other = {1: "site", 0: "block"}[which]
    if {1: "block", 0: "site"}[which] not in columns:
        return None
    null = {k: columns[k] for k in (other, "placement") if k in columns}
    found = mixed.mode(fixed, null, data.values, guarded=False)
    left = data.values - np.hstack([fixed, *null.values()]) @ found.mean
    order = {p: i for i, p in enumerate(dict.fromkeys(data.placements))}
    sums = np.bincount([order[p] for p in data.placements], left)
    slots = [(order[p], item[which], item[1 - which]) for p in order for item in p]
    owner = np.array([i for i, _, _ in slots])
    moved, held = (np.unique([str(x[k]) for x in slots], return_inverse=True)[1] for k in (1, 2))
    groups = [np.flatnonzero(held == h) for h in range(held.max() + 1)]
    rng, scores = np.random.default_rng(0), []
    for _ in range(SHUFFLES + 1):
        cells = held * (moved.max() + 1) + moved
        parts = [np.bincount(x, sums[owner]) for x in (moved, cells)]
        scores.append(sum(float((x**2).sum()) for x in parts))
        moved = moved.copy()
        for group in groups:
            moved[group] = moved[rng.permutation(group)]
    return float(np.mean(np.array(scores) >= scores[0] * (1 - 1e-12)))


def _left_out(
    fixed: np.ndarray, parts: Mapping[str, np.ndarray], fitted: mixed.Fit, data: Trainings
) -> tuple[Interval, float]:
    """Rank correlation and share of variance of predictions for placements that were left out of the fit."""
    order = {p: i for i, p in enumerate(dict.fromkeys(data.placements))}
    groups = np.array([order[p] for p in data.placements])
    errors = mixed.left_out(fitted, np.hstack([fixed, *parts.values()]), data.values, groups)
    plain = mixed.left_out(mixed.mode(fixed, {}, data.values, guarded=False), fixed, data.values, groups)
    tried = np.array([len(p) > 0 for p in data.placements])
    seeds = fixed[:, :-1] @ fitted.mean[: fixed.shape[1] - 1]
    seen = pd.DataFrame({"group": groups, "gain": data.values - seeds, "error": errors})[tried].groupby("group").mean()
    tau = spread.kendall(seen["gain"].to_numpy(), (seen["gain"] - seen["error"]).to_numpy())
    return tau, 1 - float((errors[tried] ** 2).sum() / (plain[tried] ** 2).sum())


def predict(model: Model, placements: Sequence[Placement]) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation of the true gain over the base, noise not counted; [n] each.

    What the data have not seen (a block, a site, a pair) has mean 0 and the spread of its kind.
    """
    rows = np.zeros((len(placements), len(model.keys)))
    unseen = np.zeros(len(placements))
    for i, placement in enumerate(placements):
        for key, count in (_coefficients(placement) | _rest(placement)).items():
            if key in model.index:
                rows[i, model.index[key]] = count
            else:
                unseen[i] += (count * model.fit.sds.get(key[0], 0.0)) ** 2
    return posterior(model, rows, unseen)


def posterior(model: Model, rows: np.ndarray, unseen: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of sums of coefficients, ``rows`` [n, coefficients]."""
    variance = ((rows @ model.fit.cov) * rows).sum(1) + unseen
    return rows @ model.fit.mean, np.sqrt(np.maximum(variance, 0.0))


def frame(model: Model) -> pd.DataFrame:
    """All effects on the score: one row each, posterior mean, sd, 95% interval, probability above 0.

    ``effect`` says what of: "any block" (the mean over all that was tried), "block at site" (that block alone in the
    base), "block" (the mean over the sites where it was tried), "site" (the mean over the blocks tried there), "pair"
    (what two blocks add together beyond their sum). ``placements`` is how many it rests on.
    """
    spots = sorted(k[1:] for k in model.seen if k[0] == "block at site")
    wanted: dict[Key, list[Key]] = {ANY: spots}
    wanted |= {("block", name): [x for x in spots if x[0] == name] for name in sorted({b for b, _ in spots})}
    wanted |= {("site", name): [x for x in spots if x[1] == name] for name in sorted({s for _, s in spots})}
    wanted |= {("block at site", *spot): [spot] for spot in spots}
    wanted |= {key: [] for key in model.keys if key[0] == "pair"}
    rows = np.zeros((len(wanted), len(model.keys)))
    for row, (key, over) in zip(rows, wanted.items(), strict=True):
        for part in [k for b, s in over for k in (ANY, ("block", b), ("site", s), ("block at site", b, s))] or [key]:
            if part in model.index:
                row[model.index[part]] += 1 / max(len(over), 1)
    mean, sd = posterior(model, rows)
    names = [dict(zip(("block", "site", "with_block", "with_site"), _named(key), strict=False)) for key in wanted]
    found = pd.DataFrame(names, columns=["block", "site", "with_block", "with_site"])
    found.insert(0, "effect", [key[0] for key in wanted])
    return found.assign(
        mean=mean,
        sd=sd,
        low=mean - Z95 * sd,
        high=mean + Z95 * sd,
        p_positive=norm.cdf(mean / np.where(sd > 0, sd, 1e-12)),
        placements=[model.seen[key] for key in wanted],
    )


def _named(key: Key) -> Key:
    return ("", key[1]) if key[0] == "site" else key[1:]
