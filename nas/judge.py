"""Goes in: what the finalists' trainings and latencies gave. Comes out: the Outcome, every figure with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna

from nas import export, finalists, passes, verdict, verdict_words
from nas.finalists import Contender, FinalistsError
from nas.interval import Interval
from nas.objective import VERSIONS
from nas.outcome import CANDIDATE, CONVOLUTION, GAIN, LOSS, NONE, RANDOM, Entry, Outcome
from nas.setting import Setting
from search_spaces import Placement

Timed = tuple[Interval, float]  # latency over the base's, and milliseconds


@dataclass(frozen=True)
class Measured:
    """Those that were trained under every seed, without the base: candidates first.

    Args:
        gains: [placements, seeds] over the base; ``noise`` theirs.
        images: [placements, placements], covariance of mean gains over draws of images.
        count: How many are candidates.
    """

    of: tuple[Contender, ...]
    gains: np.ndarray
    noise: verdict.Noise
    images: np.ndarray
    count: int


def judge(study: optuna.Study, setting: Setting, of: Sequence[Contender], command: str) -> Outcome:
    """Read the trainings and say what they say.

    Raises:
        FinalistsError: The base, or all candidates, could not be trained.
    """
    scores, resampled, reasons = finalists.scores(setting, of)
    timed = dict(zip([c.placement.id for c in of], passes.timed(setting, of), strict=True))
    found = measure(setting, of, scores, resampled, reasons)
    facts = compare(setting, found, timed)
    entries = []
    for c, mine, reason in zip(of, scores, reasons, strict=True):
        made = replace(_entry(study, setting, c, mine, timed[c.placement.id], reason), **facts.get(c.placement.id, {}))
        entries.append(replace(made, sentence=verdict_words.entry(made, setting.task.metric)))
    ranked = sorted((e for e in entries if e.role == CANDIDATE), key=lambda e: -(e.gain.value if e.gain else 1e9))
    controls = [e for role in (RANDOM, CONVOLUTION) for e in entries if e.role == role]
    base = export.base_trial(study)
    told = Outcome(
        metric=setting.task.metric,
        split=setting.reported.split,
        search_split=setting.dataset.split,
        images=setting.reported.images["val"],
        head=base.user_attrs["score"]["head"] if base else "",
        epochs=setting.recipe.long_epochs,
        seeds=finalists.seeds(setting),
        noise=float(np.sqrt(np.median(found.noise.variance[: found.count]))),
        outcome=_outcome(ranked),
        sentences=(),
        entries=(entries[0], *ranked, *controls),
        latency=passes.how_timed(setting),
        command=command,
        recipe=setting.digest,
        versions=VERSIONS,
    )
    told = replace(told, advice=advice(found))
    half = advice(found, verdict_words.POINT / 2)
    return replace(told, sentences=verdict_words.whole(told, over_random(found), half))


def measure(
    setting: Setting,
    of: Sequence[Contender],
    scores: np.ndarray,
    resampled: np.ndarray,
    reasons: Sequence[str | None],
) -> Measured:
    """Gains of those that were trained whole.

    Raises:
        FinalistsError: The base, or all candidates, could not be trained.
    """
    if reasons[0]:
        raise FinalistsError(f"the base failed in a training: {reasons[0]}; see {setting.log}")
    kept = [i for i, c in enumerate(of) if i and not reasons[i]]
    count = sum(of[i].role == CANDIDATE for i in kept)
    if not count:
        lost = next(r for c, r in zip(of, reasons, strict=True) if c.role == CANDIDATE)
        raise FinalistsError(f"every candidate failed in a training: {lost}; see {setting.log}")
    gains = verdict.paired(scores[kept], scores[0])
    images = verdict.over_images(resampled[kept], resampled[0])
    return Measured(tuple(of[i] for i in kept), gains, verdict.noise(gains), images, count)


def compare(setting: Setting, m: Measured, timed: dict[str, Timed]) -> dict[str, dict[str, Any]]:
    """Placement id -> the fields of its Entry that come from comparing."""
    ids = [c.placement.id for c in m.of]
    facts: dict[str, dict[str, Any]] = {i: {} for i in ids}
    everyone = np.eye(len(ids))
    gains = verdict.over_base(m.gains, m.noise, m.count, m.images)
    if len(ids) > m.count:
        gains += verdict.intervals(m.gains, m.noise, everyone[m.count :], m.images)
    for i, gain in zip(ids, gains, strict=True):
        facts[i]["gain"] = gain
    if group := _of(m, RANDOM):
        for i, gain in zip(ids, verdict.over_group(m.gains, m.noise, m.count, group, m.images), strict=False):
            facts[i]["over_random"] = gain
    plain = [(i, ids.index(p)) for i in range(m.count) if (p := _plain(setting, m.of[i])) in ids]
    if plain:
        for (at, _), gain in zip(plain, verdict.over_other(m.gains, m.noise, plain, m.images), strict=True):
            facts[ids[at]]["over_convolution"] = gain
    base = Placement().id
    for i, share in zip([*ids, base], _on_front(setting, m, timed, base), strict=True):
        facts.setdefault(i, {})["front"] = float(share)
    return facts


def over_random(m: Measured) -> Interval | None:
    """The candidates' mean gain over that of random placements."""
    group = _of(m, RANDOM)
    if not group:
        return None
    contrast = np.zeros((1, len(m.of)))
    contrast[0, : m.count], contrast[0, group] = 1 / m.count, -1 / len(group)
    apart = float(m.gains.mean(1)[group].var(ddof=1)) / len(group) if len(group) > 1 else 0.0
    return verdict.intervals(m.gains, m.noise, contrast, m.images, apart, max(len(group) - 1, 1))[0]


def advice(m: Measured, point: float = verdict_words.POINT) -> int | None:
    """Seeds with which the candidates that may gain a point would be told: if they gain that, or what they seem to.

    None where none of them would be told by 30 seeds; the number that there is where none is open. How often this rule
    is right: studies/verdict.md.
    """
    found, seeds = verdict.over_base(m.gains, m.noise, m.count, m.images), m.gains.shape[1]

    def told(i: int, gain: float) -> int | None:
        variance, df, images = (float(x) for x in (m.noise.variance[i], m.noise.df[i], m.images[i, i]))
        return verdict.seeds_to_tell(gain, variance, df, seeds, m.count, images)

    wanted = [
        told(i, point) or told(i, max(gain.value, point))
        for i, gain in enumerate(found)
        if gain.low <= 0 and gain.high >= point
    ]
    known = [n for n in wanted if n is not None]
    return max(known, default=None if wanted else seeds)


def _of(m: Measured, role: str) -> list[int]:
    return [i for i, c in enumerate(m.of) if c.role == role]


def _plain(setting: Setting, one: Contender) -> str:
    return finalists.convolutions(one.placement, setting).id


def _on_front(setting: Setting, m: Measured, timed: dict[str, Timed], base: str) -> np.ndarray:
    """Probability of standing on the front of all, the base last."""
    ids = [*(c.placement.id for c in m.of), base]
    gflops = [*(setting.predict(c.placement)[1] for c in m.of), setting.base_cost.gflops]
    values, errors = [], []
    for name in setting.recipe.objectives[1:]:
        found = [timed[i][0] for i in ids]
        values.append([x.value for x in found] if name == "latency" else gflops)
        errors.append([(x.high - x.value) / 2 if name == "latency" else 0.0 for x in found])
    return verdict.on_front(m.gains, m.noise, np.array(values).T, np.array(errors).T, m.images)


def _entry(
    study: optuna.Study, setting: Setting, one: Contender, scores: np.ndarray, timed: Timed, reason: str | None
) -> Entry:
    params, gflops = setting.predict(one.placement)
    trial = study.get_trials(deepcopy=False)[one.trial] if one.trial is not None else None
    return Entry(
        role=one.role,
        placement_id=one.placement.id,
        placement=one.placement.to_json(),
        label=one.placement.label,
        params=params,
        gflops=gflops,
        trial=one.trial,
        stands_for=one.stands_for,
        latency=timed[0],
        latency_ms=timed[1],
        scores=() if reason else tuple(float(s) for s in scores),
        searched=export.gain(study, trial) if trial is not None else None,
        reason=reason,
    )


def _outcome(candidates: Sequence[Entry]) -> str:
    gains = [e.gain for e in candidates if e.gain]
    if any(g.low > 0 for g in gains):
        return GAIN
    return LOSS if all(g.high < 0 for g in gains) else NONE
