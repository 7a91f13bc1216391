"""Goes in: real tables, for their gains and noise. Comes out: how often the final verdict is right on planted gains.

    python scripts/blind_test.py [--quick] [--studies 1000] [--repeats 200] [--out studies/verdict]

A made study has four finalists, as many random placements and plain convolutions, and the base, trained under the same
seeds. One finalist truly gains what was planted, the others nothing. `nas.verdict` sees the scores alone. A second part
replays whole searches: what their fronts report, before and after the finalists. studies/verdict.md says what came out.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from nas import effects, front, table, trainings, verdict

PLANTED = (0.01, 0.005, 0.0)
COUNT = 4  # finalists; as many random placements, and plain convolutions
FIRST, MOST = 5, 12  # seeds to begin with, and at most
NEAR = 0.002  # gains below it are alike: they are smaller than the noise
BESIDE = 3  # donors of noise on either side of a larger gain
ADVISED = {"as advised": "once", "as advised, until told": "again", "as advised, median noise": "median"}
DIRECTIONS = ("maximize", "minimize")
SEARCHED = 100  # trainings of a search


@dataclass(frozen=True)
class World:
    """What real trainings say of gains and noise.

    Args:
        sizes, sds: Absolute mean gain of the placements with three seeds, and its standard deviation over seeds.
        gains: True gains that random placements and convolutions are drawn from.
        shared: Correlation between two gains under one seed: both have the base's noise.
        base: Score of the base; ``luck``: standard deviation over seeds of what moves base and placements alike.
        times: Noise, over that which was measured.
        pooled: A placement's noise is that of all its donors together, not of one.
        images: Standard deviation over draws of images of a mean gain.
    """

    name: str
    sizes: np.ndarray
    sds: np.ndarray
    gains: np.ndarray
    shared: float
    base: float
    luck: float
    times: float = 1.0
    pooled: bool = False
    images: float = 0.0


@cache
def world(name: str) -> World:
    """A table's placements that were trained under three seeds.

    True gains are means over seeds, drawn to 0 by the share of their square that is noise. Only placements whose seeds
    were decided before any score was seen tell gains; all tell noise, as large gains have no others.
    """
    found = table.read(name)
    whole = table.gains(found, found.budgets[-1]).dropna()
    mean, sd = whole.mean(axis=1).to_numpy(), whole.std(axis=1).to_numpy()
    size, own = np.abs(mean), whole.index.isin(found.drawn)
    drawn = np.array([np.sqrt(np.mean(sd[donors(size, g)] ** 2)) for g in size])
    true = mean * np.maximum(1 - drawn**2 / (3 * np.maximum(mean**2, 1e-12)), 0.0)
    small = (size < 0.01) & own & (sd > 1e-5)
    z = (whole.to_numpy()[small] - mean[small, None]) / sd[small, None]
    alike = z @ z.T / 2
    shared = (alike.sum() - len(z)) / (len(z) * (len(z) - 1))
    base = found.trials[(found.trials.placement == table.BASE) & (found.trials.images == found.budgets[-1])].map50_95
    return World(name, size, sd, true[own], float(shared), float(base.mean()), float(base.std()))


def donors(sizes: np.ndarray, gain: float) -> np.ndarray:
    """The real placements whose noise one of such a gain may have: all near none, else three a side."""
    if abs(gain) < NEAR:
        return np.flatnonzero(sizes < NEAR)
    order = np.argsort(sizes)
    at = int(np.searchsorted(sizes[order], abs(gain)))
    return order[max(at - BESIDE, 0) : at + BESIDE]


def trained(world: World, true: np.ndarray, seeds: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores [placements, seeds] and of the base [seeds]; each placement has the noise of a real one."""
    near = [world.sds[donors(world.sizes, g)] for g in true]
    sd = world.times * np.array([np.sqrt(np.mean(n**2)) if world.pooled else rng.choice(n) for n in near])
    both, own = rng.standard_normal(seeds), rng.standard_normal((len(true), seeds))
    noise = sd[:, None] * (np.sqrt(world.shared) * both + np.sqrt(1 - world.shared) * own)
    other = world.images * (rng.standard_normal(len(true)) + rng.standard_normal()) / np.sqrt(2)
    base = world.base + world.luck * rng.standard_normal(seeds)
    return base + (true + other)[:, None] + noise, base


def study(world: World, planted: float, rng: np.random.Generator) -> np.ndarray:
    """True gains [placements]: finalists in any order, then random placements and convolutions."""
    finalists = rng.permutation([planted] + [0.0] * (COUNT - 1))
    return np.concatenate((finalists, rng.choice(world.gains, 2 * COUNT)))


@dataclass(frozen=True)
class Judged:
    """What was said of the finalists: intervals of their gains [finalists], the noise of all, and the seeds."""

    low: np.ndarray
    high: np.ndarray
    noise: verdict.Noise
    seeds: int


def judge(scores: np.ndarray, base: np.ndarray, images: np.ndarray | None, count: int = COUNT) -> Judged:
    """The verdict; it sees scores alone."""
    gains = verdict.paired(scores, base)
    noise = verdict.noise(gains)
    found = verdict.over_base(gains, noise, count, images)
    return Judged(np.array([i.low for i in found]), np.array([i.high for i in found]), noise, scores.shape[1])


def advised(judged: Callable[[int], Judged], images: np.ndarray | None, target: float, how: str) -> Judged:
    """Five seeds; where no gain is told and one of ``target`` may be there, as many as the verdict advises, up to 12.

    Asked for the noisiest finalist whose interval still has ``target`` in it, once or ``again`` until it is told;
    ``median``: once, for the median variance of all of which neither gain nor loss is told.
    """
    seeds, last = FIRST, 0
    while seeds > last:
        found, last = judged(seeds), seeds
        unsure = np.flatnonzero(found.high >= (0 if how == "median" else target))
        if (found.low > 0).any() or not len(unsure) or (seeds > FIRST and how != "again"):
            break
        order = unsure[np.argsort(found.noise.variance[unsure])]
        asked = int(order[len(order) // 2] if how == "median" else order[-1])
        other = 0.0 if images is None else float(images[asked, asked])
        variance, df = float(found.noise.variance[asked]), float(found.noise.df[asked])
        more = verdict.seeds_to_tell(target, variance, df, seeds, COUNT, other) or MOST
        seeds = min(max(more, seeds + (how == "again")), MOST)
    return found


def word(said: np.ndarray, lost: np.ndarray, true: np.ndarray) -> str:
    """Right, wrong or undecided: ``said`` of which a gain is claimed, ``lost`` of which a loss."""
    if (said & (true == 0)).any() or (lost & (true > 0)).any():
        return "wrong"
    return "right" if (said == (true > 0)).all() else "undecided"


def naive(scores: np.ndarray, base: np.ndarray, true: np.ndarray) -> dict[str, str]:
    """What would be claimed of the best finalist, by how it was found; the last seed is that of the search."""
    gains, none = scores - base, np.zeros(COUNT, bool)

    def best(seeds: slice, tested: bool = False) -> str:
        top = int(np.argmax(gains[:COUNT, seeds].mean(1)))
        sure = not tested or stats.ttest_ind(scores[top, seeds], base[seeds]).pvalue < 0.05
        claimed = (np.arange(COUNT) == top) & (gains[top, seeds].mean() > 0) & sure
        return word(claimed, none, true)

    return {
        "naive: one seed, the search's own": best(slice(-1, None)),
        "naive: mean of 3 seeds above 0": best(slice(0, 3)),
        "naive: t-test of 5 seeds, not paired": best(slice(0, 5), True),
    }


def blind(world: World, planted: float, studies: int, seed: int = 0) -> pd.DataFrame:
    """One row a way of judging: of 100 studies, and how often all intervals held."""
    rng = np.random.default_rng([seed, round(planted * 1e4)])
    words: dict[str, Counter[str]] = {}
    extra: dict[str, list[tuple[bool, int, float]]] = {}
    size = 3 * COUNT
    images = 0.5 * world.images**2 * (np.eye(size) + 1) if world.images else None
    for _ in range(studies):  # all ways of judging see the same scores
        true = study(world, planted, rng)
        scores, base = trained(world, true, MOST + 1, rng)
        judged = cache(lambda n, s=scores, b=base: judge(s[:, :n], b[:n], images))
        found = {f"{n} seeds": judged(n) for n in (3, 5, 8)}
        found |= {name: advised(judged, images, planted or PLANTED[0], how) for name, how in ADVISED.items()}
        mine = true[:COUNT]
        for name, j in found.items():
            words.setdefault(name, Counter())[word(j.low > 0, j.high < 0, mine)] += 1
            held = bool(((j.low <= mine) & (mine <= j.high)).all())
            extra.setdefault(name, []).append((held, j.seeds, float(np.median(j.high - j.low) / 2)))
        for name, said in naive(scores, base, mine).items():
            words.setdefault(name, Counter())[said] += 1
    head = {"table": world.name, "noise": world.times, "noise_of": "all near" if world.pooled else "one near"}
    head |= {"shared": round(world.shared, 2), "images": world.images}
    return pd.DataFrame([head | {"planted": planted} | _line(n, c, extra.get(n), studies) for n, c in words.items()])


def _line(name: str, words: Counter[str], extra: list[tuple[bool, int, float]] | None, studies: int) -> dict:
    """Of 100 studies, with standard errors."""
    line: dict[str, object] = {"way": name}
    for said in ("right", "wrong", "undecided"):
        share = words[said] / studies
        line |= {said: 100 * share, f"{said}_se": 100 * np.sqrt(share * (1 - share) / studies)}
    held, seeds, half = np.array(extra, float).T if extra else (np.array([np.nan]),) * 3
    return line | {"held": 100 * held.mean(), "seeds": seeds.mean(), "half_width": half.mean()}


@cache
def truth(name: str) -> pd.DataFrame:
    """A table's placements: true gain (the model of effects, from all trainings), and latency."""
    found = table.read(name)
    data = trainings.from_table(found)
    placements = [p for p in dict.fromkeys(data.placements) if len(p)]
    gain = effects.predict(effects.fit(data), placements)[0]
    costs = found.placements.set_index("placement_id").latency_ratio
    return pd.DataFrame({"gain": gain, "latency": costs[[p.id for p in placements]].to_numpy()})


def chosen(points: np.ndarray, best: Sequence[int]) -> list[int]:
    """Finalists of a front: its best, then what adds most hypervolume."""
    reference = (min(0.0, points[:, 0].min()), points[:, 1].max() + 0.01)
    kept = [best[0]]
    while len(kept) < min(COUNT, len(best)):
        rest = [i for i in best if i not in kept]
        kept.append(max(rest, key=lambda i: front.hypervolume(points[[*kept, i]], DIRECTIONS, reference)))
    return kept


def searched(world: World, rng: np.random.Generator) -> dict[str, float]:
    """One search at random and its finalists: reported less true gain; nan where there is nothing to say."""
    rows = truth(world.name).sample(SEARCHED, random_state=rng)
    true, latency = rows.gain.to_numpy(), rows.latency.to_numpy()
    scores, base = trained(world, true, 1, rng)
    seen = (scores - base)[:, 0]
    points = np.vstack((np.stack((seen, latency), 1), [0.0, 1.0]))  # the base last
    best = [i for i in front.pareto(points, DIRECTIONS) if i < SEARCHED and seen[i] > 0]
    if not best:
        return {}
    kept, others = chosen(points, best), rng.choice(world.gains, 2 * COUNT)
    again, base = trained(world, np.concatenate((true[kept], others)), FIRST, rng)
    means = (again - base).mean(1)[: len(kept)]
    said = judge(again, base, None, len(kept)).low > 0
    over, top = means - true[kept], int(np.argmax(means))
    return {
        "before: front, mean": float((seen - true)[best].mean()),
        "before: front, best": float((seen - true)[best[0]]),
        "before: the finalists, mean": float((seen - true)[kept].mean()),
        "after: finalists, mean": float(over.mean()),
        "after: finalists, best": float(over[top]),
        "after: claimed, mean": float(over[said].mean()) if said.any() else np.nan,
        "front": len(best),
        "finalists": len(kept),
        "claimed": int(said.sum()),
        "claimed, no gain": int((said & (true[kept] <= 0)).sum()),
    }


def over_report(world: World, repeats: int, seed: int = 0) -> pd.DataFrame:
    """One row a figure: mean and standard error over searches; gains in mAP points."""
    rng = np.random.default_rng([seed, 7])
    found = pd.DataFrame([searched(world, rng) for _ in range(repeats)])
    scale = np.array([100.0 if ":" in c else 1.0 for c in found])
    mean, se = found.mean() * scale, found.std() / np.sqrt(found.notna().sum()) * scale
    frame = pd.DataFrame({"table": world.name, "noise": world.times, "what": found.columns, "mean": mean, "se": se})
    return frame.reset_index(drop=True)


def main() -> None:
    """Plant, judge, tell, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one table, few studies, nothing written")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--out", type=Path, help="a folder for CSV files")
    args = parser.parse_args()
    first, held = world("demo-neck"), world("demo-neck-held")
    worlds = [first, held, *(replace(w, pooled=True) for w in (first, held))]
    others = [replace(first, times=2.0), replace(first, shared=0.0), replace(first, images=0.001)]
    studies, repeats = (60, 20) if args.quick else (args.studies, args.repeats)
    jobs, noises = [(w, studies) for w in worlds] + [(w, studies // 2) for w in others], (1.0, 2.0)
    if args.quick:
        jobs, noises = jobs[:1], noises[:1]
    tests = pd.concat([blind(w, p, n) for w, n in jobs for p in PLANTED], ignore_index=True)
    reports = pd.concat([over_report(replace(first, times=t), repeats) for t in noises], ignore_index=True)
    for frame in (tests, reports):
        print(frame.to_string(index=False, float_format=lambda v: f"{v:.4g}"), flush=True)
    if args.out and not args.quick:
        args.out.mkdir(parents=True, exist_ok=True)
        tests.to_csv(args.out / "blind.csv", index=False, float_format="%.4g")
        reports.to_csv(args.out / "over-report.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
