"""Goes in: a table of real trainings, and two made landscapes. Comes out: how fast each search finds their fronts.

    python scripts/bench_search.py [--json] [--quick] [--landscape table additive pairs] [--only NAME ...] [--seeds 20]

Every search is replayed with the program's own samplers and rungs: only the training is looked up. What it is told is
the true score with the measured noise of one training, drawn anew for every seed; what it is judged by is the true
hypervolume of the front that it would report, by training images. `stock` is what a person would write: Optuna's
default sampler, every placement trained to the end.

The last line of --json: images that our search needs for the true hypervolume that `stock` (and `random`) have after
100 whole trainings, over theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from modules import registry
from nas import front, sampler, table
from nas.history import Past
from nas.proposals import Known, kin_of
from search_spaces import Placement, SearchSpace, sample
from search_spaces import load as load_space

TRAININGS = 100  # whole ones, that stock and random get
TIMES = (10, 25, 50, 100)
OURS, STOCK, RANDOM = "ehvi, 2 rungs", "stock", "random"
DIRECTIONS = ("maximize", "minimize")
NAMES = {"latency": "latency (x base)", "gflops": "GFLOPs"}


@dataclass(frozen=True)
class Land:
    """What can be searched without training.

    Args:
        space: What may stand where; ``truth`` has every placement that is allowed, or makes it.
        truth: Placement -> true score at each of ``images``.
        cost: Placement -> the true objective beside the score; a measurement of it has ``cost_noise``.
        gflops: Placement -> GFLOPs, known before.
        noise: Standard deviation of one training's score at each of ``images``.
        images: Training images at which scores are known, ascending.
        base: The base's true score at the end: a front below it is worth nothing.
        most: Cost beyond which nothing counts.
    """

    name: str
    space: SearchSpace
    truth: Callable[[Placement], np.ndarray | None]
    cost: Callable[[Placement], float]
    gflops: Callable[[Placement], float]
    noise: np.ndarray
    images: np.ndarray
    base: float
    most: float
    cost_noise: float = 0.0
    objective: str = "latency"

    def volume(self, placements: Sequence[Placement]) -> float:
        """True hypervolume over the base."""
        points = [(self.truth(p)[-1], self.cost(p)) for p in placements]  # type: ignore[index]
        return front.hypervolume(points, DIRECTIONS, (self.base, self.most))


@cache
def land(name: str, objective: str, noise: float) -> Land:
    """A landscape by its name: ``table``, ``additive`` or ``pairs``."""
    return from_table("demo-neck", objective, noise) if name == "table" else made(name, objective, noise)


def from_table(name: str, objective: str, noise: float) -> Land:
    """A table's placements: the truth is the mean over its seeds, the noise what it measured."""
    found = table.read(name)
    budgets = [found.budgets[0], found.budgets[-1]]
    space = load_space("neck")
    labels = {p.label for p in space.placements()}
    gains = pd.DataFrame({b: table.gains(found, b).mean(axis=1) for b in budgets})
    gains.loc[table.BASE] = 0.0
    base = found.trials[found.trials.placement == table.BASE].groupby("images").map50_95.mean()[budgets].to_numpy()
    truth = {Placement.from_label(p).id: base + row.to_numpy() for p, row in gains.iterrows() if p in labels}
    costs = found.placements.set_index("placement_id")
    costs["latency_ratio"], wrong = smoothed(found.placements)
    column = {"latency": "latency_ratio", "gflops": "gflops"}[objective]
    own = [table.signal(found, b).own_noise.value for b in budgets]
    return Land(
        name="table",
        space=space,
        truth=lambda p: truth.get(p.id),
        cost=lambda p: float(costs.loc[p.id, column]),
        gflops=lambda p: float(costs.loc[p.id, "gflops"]) if p.id in costs.index else float("inf"),
        noise=noise * np.maximum.accumulate(own),
        images=np.array(budgets),
        base=float(base[-1]),
        most=float(np.quantile(costs.loc[list(truth), column], 0.95)),
        cost_noise=noise * wrong if objective == "latency" else 0.0,
        objective=objective,
    )


def smoothed(placements: pd.DataFrame) -> tuple[np.ndarray, float]:
    """Latencies as sums over blocks at sites, and what single measurements are wrong by.

    Two measurements of the whole table differ by as much as each differs from such sums.
    """
    read = [list(Placement.from_label(p)) for p in placements.placement]
    cells = sorted({cell for row in read for cell in row})
    x = np.array([[float(cell in row) for cell in cells] for row in read])
    y = placements.latency_ratio.to_numpy() - 1
    adds = np.linalg.lstsq(x, y, rcond=None)[0]
    free = len(y) - len(cells)
    return 1 + x @ adds, float(np.sqrt(((y - x @ adds) ** 2).sum() / free))


def made(name: str, objective: str, noise: float, seed: int = 7) -> Land:
    """Gains that are sums over blocks at sites (few of them large, none told by its cost); ``pairs``: and of pairs.

    A training shows 1 - exp(-3 t) of its gain after a share t of its images.
    """
    space, rng = load_space("article"), np.random.default_rng(seed)
    sites = [s for s, _ in space.sites]
    blocks = list(space.blocks)
    at = dict(zip(sites, rng.gamma(0.7, 1.0, len(sites)), strict=True))
    effect = {(s, b): 0.01 * at[s] * float(rng.gamma(0.7, 1.0) - 0.3) for s in sites for b in blocks}
    flops = {(s, b): float(rng.lognormal(-4, 1)) for s in sites for b in blocks}
    wait = {b: float(rng.gamma(2.0, 0.02)) for b in blocks}
    both = {frozenset((a, b)): 0.02 * float(rng.standard_normal()) for a in blocks for b in blocks}
    shown = np.array([1 - np.exp(-1.0), 1 - np.exp(-3.0)]) / (1 - np.exp(-3.0))

    def truth(p: Placement) -> np.ndarray:
        gain = sum(effect[s, b.label] for s, b in p)
        if name == "pairs":
            gain += sum(both[frozenset((a.label, b.label))] for i, (_, a) in enumerate(p) for _, b in list(p)[:i])
        return 0.5 + gain * shown

    def gflops(p: Placement) -> float:
        return 0.5 * (1 + sum(flops[s, b.label] for s, b in p))

    def cost(p: Placement) -> float:
        waits = sum(wait[b.label] * (1 + sites.index(s) / 10) for s, b in p)
        return gflops(p) if objective == "gflops" else gflops(p) / 0.5 + waits

    drawn = [drawn_from(space, rng) for _ in range(2000)]
    spread = float(np.std([truth(p)[-1] for p in drawn]))
    return Land(
        name=name,
        space=space,
        truth=truth,
        cost=cost,
        gflops=gflops,
        noise=noise * spread / 2.8 * np.sqrt([1 / 3, 1.0]),
        images=np.array([400, 1200]),
        base=0.5,
        most=float(np.quantile([cost(p) for p in drawn], 0.95)),
        objective=objective,
    )


def drawn_from(space: SearchSpace, rng: np.random.Generator) -> Placement:
    """Any placement, every number of blocks as often."""
    count = int(rng.integers(1, space.max_blocks + 1))
    sites = [space.sites[i] for i in rng.permutation(len(space.sites))[:count]]
    return Placement.of({s: blocks[rng.integers(len(blocks))] for s, blocks in sites})


class Evolution(BaseSampler):
    """Mutates one site of a random member of the front; the first ten are drawn."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.rng = space, np.random.default_rng(seed)

    def infer_relative_search_space(self, study, trial):  # type: ignore[no-untyped-def]
        """All sites."""
        return {s: optuna.distributions.CategoricalDistribution(self.space.choices(s)) for s, _ in self.space.sites}

    def sample_relative(self, study, trial, search_space):  # type: ignore[no-untyped-def]
        """A neighbour."""
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(done) < 10:
            return self.space.params(drawn_from(self.space, self.rng))
        best = front.pareto([t.values for t in done], DIRECTIONS)
        parent = self.space.placement(done[best[self.rng.integers(len(best))]].params)
        around = [p for p in self.space.neighbours(parent) if len(p)]
        return self.space.params(around[self.rng.integers(len(around))])

    def sample_independent(self, study, trial, param_name, param_distribution):  # type: ignore[no-untyped-def]
        """Not asked for."""
        raise NotImplementedError


SEARCHES: dict[str, tuple[str, int, int]] = {  # name -> sampler, rungs, sparse placements first
    OURS: ("ehvi", 2, 0),
    "ehvi, 1 rung": ("ehvi", 1, 0),
    STOCK: ("stock", 1, 0),
    "tpe, sparse start": ("tpe", 1, 20),
    "tpe, halving": ("tpe", 2, 20),
    "gp, sparse start": ("gp", 1, 20),
    "nsga2 of 10": ("nsga2", 1, 0),
    "nsga2 of 50": ("nsga2-50", 1, 0),
    "evolution": ("evolution", 1, 0),
    RANDOM: ("random", 1, 0),
    "random, halving": ("random", 2, 0),
}
EXTRA: dict[str, Callable[[SearchSpace, int], BaseSampler]] = {
    "stock": lambda space, seed: TPESampler(seed=seed),
    "nsga2-50": lambda space, seed: NSGAIISampler(seed=seed, population_size=50),
    "evolution": Evolution,
    "random": lambda space, seed: RandomSampler(seed=seed),
}


def sampler_of(world: Land, name: str, count: int, seed: int) -> sampler.DistinctSampler:
    """The program's sampler, or one of the others in its repair."""
    allowed = lambda p: world.truth(p) is not None  # noqa: E731
    if name in EXTRA:
        return sampler.DistinctSampler(EXTRA[name](world.space, seed), world.space, allowed, seed)
    base = world.gflops(Placement())

    def extra(site: str, block: object) -> float:
        return world.gflops(Placement.of({site: block})) - base

    kin = kin_of(world.space, lambda label: registry.spec(label.partition("(")[0]).family, extra)
    flops = whole(world, extra)
    of = Known(world.space, allowed, kin, flops, lambda p: flops(p) / base, ("map", world.objective), count)
    return sampler.make(name, world.space, allowed, seed, known=of)


def whole(world: Land, extra: Callable[[str, object], float]) -> Callable[[Placement], float]:
    """GFLOPs by the sum of blocks, as the program knows them before it builds."""
    base = world.gflops(Placement())
    return lambda p: base + sum(extra(s, b) for s, b in p)


@dataclass
class Told:
    """What a replayed search was told, and when."""

    images: list[int]
    true: list[float]
    noisy: list[float]
    seconds: list[float]


def search(world: Land, name: str, seed: int, trainings: int) -> Told:
    """Replay one search until it has used the images of so many whole trainings."""
    kind, count, sparse = SEARCHES[name]
    rng, noise, measured = np.random.default_rng(10_000 + seed), {}, {}
    at = [len(world.images) - 1] if count == 1 else list(range(len(world.images)))
    budgets = world.images[at]

    def score(p: Placement) -> np.ndarray:
        if p.id not in noise:
            steps = np.sqrt(np.diff(np.r_[0.0, world.noise**2])) * rng.standard_normal(len(world.noise))
            noise[p.id] = np.cumsum(steps)
            measured[p.id] = world.cost(p) + world.cost_noise * rng.standard_normal() * (len(p) > 0)
        return (world.truth(p) + noise[p.id])[at]

    study = optuna.create_study(directions=DIRECTIONS)
    study.set_metric_names(["mAP50-95", NAMES[world.objective]])
    study.sampler = of = sampler_of(world, kind, count, seed)
    study.enqueue_trial(world.space.params(Placement()))
    for p in sampler.sparse(world.space, sparse, of.allowed, seed):
        study.enqueue_trial(world.space.params(p))
    told, used = Told([], [], [], []), 0
    while used < trainings * budgets[-1]:
        started = time.perf_counter()
        on: Past | None = None
        if study.trials and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            on = of.go_on(study, count, True, lambda past: True)
        if on is not None:
            study.enqueue_trial(world.space.params(on.placement))
        try:
            trial = study.ask()
            p = sample(world.space, trial)
        except sampler.Exhausted:
            break
        begun = len(on.values) if on else 0
        ends = count if not len(p) else begun + 1
        values = score(p)[:ends]
        used += int(budgets[ends - 1] - (budgets[begun - 1] if begun else 0))
        trial.set_user_attr("score", {"curve": [{"value": float(v)} for v in values], "seed": 0})
        latency = {"ratio": measured[p.id]} if world.objective == "latency" else None
        trial.set_user_attr("cost", {"gflops": world.gflops(p), "latency": latency})
        if ends < count:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, [float(values[-1]), measured[p.id]])
        told.seconds.append(time.perf_counter() - started)
        if ends == count:
            done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            best = [done[i] for i in front.pareto([t.values for t in done], DIRECTIONS)]
            told.images.append(used)
            told.true.append(world.volume([world.space.placement(t.params) for t in best]))
            told.noisy.append(front.hypervolume([t.values for t in best], DIRECTIONS, (world.base, world.most)))
    return told


def one(job: tuple[str, str, float, str, int, int]) -> Told:
    """A job of a process."""
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    which, objective, noise, name, seed, trainings = job
    return search(land(which, objective, noise), name, seed, trainings)


def after(told: Told, images: float, what: str = "true") -> float:
    """The hypervolume when so many images were used."""
    k = int(np.searchsorted(told.images, images, side="right")) - 1
    return float(getattr(told, what)[k]) if k >= 0 else 0.0


def until(told: Told, level: float, most: float) -> float:
    """Images after which the true hypervolume first was that high; all of them where it never was."""
    return next((float(i) for i, v in zip(told.images, told.true, strict=True) if v >= level), most)


def mean_se(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def rows(world: Land, found: dict[str, list[Told]]) -> pd.DataFrame:
    """One row a search: true hypervolume after so many whole trainings' images over that of ``stock`` at the end."""
    whole = float(world.images[-1])
    levels = {k: np.mean([after(t, TRAININGS * whole) for t in found[k]]) for k in (STOCK, RANDOM) if k in found}
    unit = levels.get(STOCK, 1.0)
    lines = []
    for name, tolds in found.items():
        line: dict[str, object] = {"search": name, "seeds": len(tolds)}
        for k in TIMES:
            mean, se = mean_se([after(t, k * whole) / unit for t in tolds])
            line |= {f"true_{k}": mean, f"true_{k}_se": se}
        line["noisy_100"] = mean_se([after(t, TRAININGS * whole, "noisy") / unit for t in tolds])[0]
        for against, level in levels.items():
            need = [
                until(t, level, t.images[-1] if t.images[-1] > TRAININGS * whole else TRAININGS * whole) for t in tolds
            ]
            mean, se = mean_se([n / (TRAININGS * whole) for n in need])
            line |= {f"images_ratio_vs_{against}": mean, f"images_ratio_vs_{against}_se": se}
        steps = [s for t in tolds for s in t.seconds[80:120]]
        line["seconds_at_100"] = float(np.mean(steps)) if steps else float("nan")
        lines.append(line)
    return pd.DataFrame(lines)


def main() -> None:
    """Replay, tell, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="ours, stock and random on the table, 6 seeds")
    parser.add_argument("--landscape", nargs="+", default=["table"], choices=["table", "additive", "pairs"])
    parser.add_argument("--objective", default="latency", choices=["latency", "gflops"])
    parser.add_argument("--noise", type=float, default=1.0, help="times the measured noise")
    parser.add_argument("--only", nargs="+", default=None, choices=list(SEARCHES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="a folder for the CSV")
    args = parser.parse_args()
    names = args.only or ([OURS, STOCK, RANDOM] if args.quick else list(SEARCHES))
    seeds = min(args.seeds, 6) if args.quick else args.seeds
    first: dict[str, object] | None = None
    for which in args.landscape:
        world = land(which, args.objective, args.noise)
        jobs = [(which, args.objective, args.noise, n, s, TRAININGS) for n in names for s in range(seeds)]
        with ProcessPoolExecutor(args.workers) as pool:
            tolds = list(pool.map(one, jobs))
        found = {n: [t for t, j in zip(tolds, jobs, strict=True) if j[3] == n] for n in names}
        frame = rows(world, found)
        print(f"{which}, {args.objective}, noise x{args.noise:g}", flush=True)
        print(frame.to_string(index=False, float_format=lambda v: f"{v:.3f}"), flush=True)
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            frame.to_csv(args.out / f"{which}-{args.objective}-x{args.noise:g}.csv", index=False, float_format="%.4g")
        ours = frame[frame.search == OURS]
        if first is None and len(ours):
            keys = [c for c in frame if c.startswith("images_ratio")]
            first = {k.replace("stock", "tpe"): round(float(ours.iloc[0][k]), 4) for k in keys} | {"seeds": seeds}
    if args.json and first:
        print(json.dumps(first))


if __name__ == "__main__":
    main()
