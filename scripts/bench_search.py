"""Goes in: a table of real trainings, and two made landscapes. Comes out: how fast each search finds their fronts.

    python scripts/bench_search.py [--json] [--quick] [--landscape table additive pairs] [--only NAME ...] [--seeds 20]

Every search is replayed with the program's own samplers and rungs: only the training is looked up. What it is told is
the true score with the measured noise of one training, and the true latency with that of one measurement, drawn anew
for every seed. What it is judged by is the noise-free hypervolume of all that it has trained to the end, by training
images; beside it stands that of the front that it would report, which is chosen by the noisy figures. `stock` is what a
person would write: Optuna's TPE, every placement trained to the end. Images that a first look takes count.

The last line of --json: images that our search needs for the noise-free hypervolume that `stock` (and `random`) have
after 100 whole trainings, over theirs. Syne Tune's MO-ASHA takes part where the extra `bench` is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import pandas as pd
import search_picture
from landscapes import DIRECTIONS, Land, drawn_from, land
from landscapes import NAMES as LANDSCAPES
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from modules import registry
from nas import front, sampler
from nas.history import Past
from nas.proposals import Known, kin_of
from search_spaces import Placement, SearchSpace, sample

TRAININGS = 100  # whole ones, that stock and random get
TIMES = (10, 25, 50, 100)
QUICK, SHORT = 4, 40  # of --quick: seeds of ours, and whole trainings that it gets; the others are quick anyway
OURS, STOCK, RANDOM, SYNE = "ehvi, 2 rungs", "stock", "random", "syne tune mo-asha"
NAMES = {"latency": "latency (x base)", "gflops": "GFLOPs"}


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
    SYNE: ("moasha", 2, 0),
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
    kin = kin_of(world.space, lambda label: registry.spec(label.partition("(")[0]).family, world.promise)
    flops = lambda p: base + sum(world.gflops(Placement.of({s: b})) - base for s, b in p)  # noqa: E731
    wait = lambda p: 1 + sum(world.wait(s, b) for s, b in p)  # noqa: E731
    of = Known(world.space, allowed, kin, flops, wait, ("map", world.objective), count)
    return sampler.make(name, world.space, allowed, seed, known=of)


@dataclass
class Told:
    """What a replayed search was told, and when: after each placement that it has trained to the end."""

    images: list[int] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    reported: list[float] = field(default_factory=list)
    noisy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Replay:
    """Trainings looked up instead of done.

    Args:
        rungs: How many a training has: one is a whole training.
    """

    def __init__(self, world: Land, rungs: int, seed: int) -> None:
        self.world, self.rng = world, np.random.default_rng(10_000 + seed)
        self.at = [len(world.images) - 1] if rungs == 1 else list(range(len(world.images)))
        self.budgets = world.images[self.at]
        self.noise: dict[str, np.ndarray] = {}
        self.measured: dict[str, float] = {}
        self.ended: list[tuple[Placement, float]] = []
        self.told, self.used = Told(), 0

    def score(self, p: Placement) -> np.ndarray:
        """What a training shows at each rung; the same when asked again."""
        if p.id not in self.noise:
            steps = np.sqrt(np.diff(np.r_[0.0, self.world.noise**2])) * self.rng.standard_normal(len(self.world.noise))
            self.noise[p.id] = np.cumsum(steps)
            wrong = self.world.cost_noise * self.rng.standard_normal() * (len(p) > 0)
            self.measured[p.id] = self.world.cost(p) + wrong
        truth = self.world.truth(p)
        assert truth is not None
        return (truth + self.noise[p.id])[self.at]

    def train(self, p: Placement, begun: int, ends: int) -> np.ndarray:
        """Train from one rung to another, and keep the books."""
        values = self.score(p)[:ends]
        self.used += int(self.budgets[ends - 1] - (self.budgets[begun - 1] if begun else 0))
        if ends == len(self.budgets):
            self.ended.append((p, float(values[-1])))
            points = [(value, self.measured[q.id]) for q, value in self.ended]
            best = front.pareto(points, DIRECTIONS)
            limits = (self.world.base, self.world.most)
            self.told.images.append(self.used)
            self.told.true.append(self.world.volume([q for q, _ in self.ended]))
            self.told.reported.append(self.world.volume([self.ended[i][0] for i in best]))
            self.told.noisy.append(front.hypervolume([points[i] for i in best], DIRECTIONS, limits))
        return values


def search(world: Land, name: str, seed: int, trainings: int) -> Told:
    """Replay one search until it has used the images of so many whole trainings."""
    kind, count, sparse = SEARCHES[name]
    replay = Replay(world, count, seed)
    most = trainings * replay.budgets[-1]
    if kind == "moasha":
        return moasha(replay, seed, most)
    replay.used = world.looked if kind == "ehvi" else 0
    study = optuna.create_study(directions=DIRECTIONS)
    study.set_metric_names(["mAP50-95", NAMES[world.objective]])
    study.sampler = of = sampler_of(world, kind, count, seed)
    study.enqueue_trial(world.space.params(Placement()))
    for p in sampler.sparse(world.space, sparse, of.allowed, seed):
        study.enqueue_trial(world.space.params(p))
    while replay.used < most:
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
        values = replay.train(p, begun, ends)
        tell(study, trial, p, replay, values)
        replay.told.seconds.append(time.perf_counter() - started)
    return replay.told


def tell(study: optuna.Study, trial: optuna.Trial, p: Placement, replay: Replay, values: np.ndarray) -> None:
    """Record a trial as the program does: paused below the top, else with its objective values."""
    measured = replay.measured[p.id]
    latency = {"ratio": measured} if replay.world.objective == "latency" else None
    trial.set_user_attr("score", {"curve": [{"value": float(v)} for v in values], "seed": 0})
    trial.set_user_attr("cost", {"gflops": replay.world.gflops(p), "latency": latency})
    if len(values) < len(replay.budgets):
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, [float(values[-1]), measured])


def pace(world: Land, name: str, count: int, asked: int = 6) -> float:
    """Median seconds of a proposal and its bookkeeping in a study that has ``count`` trials already."""
    kind, rungs, _ = SEARCHES[name]
    replay, rng = Replay(world, rungs, 0), np.random.default_rng(0)
    study = optuna.create_study(directions=DIRECTIONS)
    study.set_metric_names(["mAP50-95", NAMES[world.objective]])
    study.sampler = of = sampler_of(world, kind, rungs, 0)
    drawn = {p.id: p for p in [Placement(), *(drawn_from(world.space, rng) for _ in range(4 * count))]}
    spent = []
    for n, p in enumerate([*list(drawn.values())[:count], *[None] * asked]):
        started = time.perf_counter()
        on = of.go_on(study, rungs, True, lambda past: True) if p is None else None
        if p is not None or on is not None:
            study.enqueue_trial(world.space.params(on.placement if on else p))  # type: ignore[union-attr]
        trial = study.ask()
        p = sample(world.space, trial)
        begun = len(on.values) if on else 0
        ends = rungs if n % 3 == 0 else begun + 1
        values = replay.train(p, begun, ends)
        tell(study, trial, p, replay, values)
        spent.append(time.perf_counter() - started)
    return float(np.median(spent[-asked:]))


def moasha(replay: Replay, seed: int, most: float) -> Told:
    """Syne Tune's MO-ASHA on the same rungs, its proposals repaired as those of all others."""
    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import choice
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    world = replay.world
    random.seed(seed), np.random.seed(seed)
    space = {s: choice(list(world.space.choices(s))) for s, _ in world.space.sites}
    top = len(replay.budgets)
    scheduler = MOASHA(space, ["loss", "cost"], time_attr="rung", max_t=3 ** (top - 1), random_seed=seed)
    repair = sampler.DistinctSampler(RandomSampler(), world.space, lambda p: world.truth(p) is not None, seed)
    replay.train(Placement(), 0, top)
    taken = {Placement().id}
    while replay.used < most:
        started = time.perf_counter()
        try:
            params = repair.repair(dict(scheduler.suggest().config), taken, world.space.max_blocks)
        except sampler.Exhausted:
            break
        p = world.space.placement(params)
        taken.add(p.id)
        trial = Trial(len(taken), params, None)
        scheduler.on_trial_add(trial)
        for rung in range(top):
            value = replay.train(p, rung, rung + 1)[-1]
            told = {"loss": -float(value), "cost": replay.measured[p.id], "rung": 3**rung}
            if scheduler.on_trial_result(trial, told) == "STOP":
                break
        replay.told.seconds.append(time.perf_counter() - started)
    return replay.told


def one(job: tuple[str, str, float, bool, str, int, int]) -> Told:
    """A job of a process."""
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    which, objective, noise, blind, name, seed, trainings = job
    return search(land(which, objective, noise, blind), name, seed, trainings)


def after(told: Told, images: float, what: str = "true") -> float:
    """The hypervolume when so many images were used; nan where the replay ended well before."""
    if images > told.images[-1] * 1.1:
        return float("nan")  # it was stopped before
    k = int(np.searchsorted(told.images, images, side="right")) - 1
    return float(getattr(told, what)[k]) if k >= 0 else 0.0


def until(told: Told, level: float, most: float, what: str = "true") -> float:
    """Images after which the hypervolume first was that high; all of them where it never was."""
    return next((float(i) for i, v in zip(told.images, getattr(told, what), strict=True) if v >= level), most)


def mean_se(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def rows(world: Land, found: dict[str, list[Told]]) -> pd.DataFrame:
    """One row a search: hypervolumes after so many whole trainings' images over that of ``stock`` at the end."""
    whole = float(world.images[-1])
    most = TRAININGS * whole
    lines = []
    for name, tolds in found.items():
        line: dict[str, object] = {"search": name, "seeds": len(tolds)}
        unit = np.mean([after(t, most) for t in found.get(STOCK, tolds)])
        for k in TIMES:
            mean, se = mean_se([after(t, k * whole) / unit for t in tolds])
            line |= {f"true_{k}": mean, f"true_{k}_se": se}
        for what in ("reported", "noisy"):
            line[f"{what}_100"] = mean_se([after(t, most, what) / unit for t in tolds])[0]
        for against in (STOCK, RANDOM):
            for what, ending in (("true", ""), ("reported", "_reported")):
                if against in found:
                    level = float(np.mean([after(t, most, what) for t in found[against]]))
                    mean, se = mean_se([until(t, level, max(most, t.images[-1]), what) / most for t in tolds])
                    line |= {f"images_ratio_vs_{against}{ending}": mean, f"images_ratio_vs_{against}{ending}_se": se}
        steps = [s for t in tolds for s in t.seconds[80:120]]
        line["seconds_at_100"] = float(np.mean(steps)) if steps else float("nan")
        lines.append(line)
    return pd.DataFrame(lines)


def curves(world: Land, found: dict[str, list[Told]]) -> pd.DataFrame:
    """Mean and standard error of the noise-free hypervolume over stock's at the end, by whole trainings' images."""
    whole = float(world.images[-1])
    unit = np.mean([after(t, TRAININGS * whole) for t in found.get(STOCK, next(iter(found.values())))])
    lines = []
    for name, tolds in found.items():
        for k in range(1, TRAININGS + 1):
            mean, se = mean_se([after(t, k * whole) / unit for t in tolds])
            lines.append({"search": name, "trainings": k, "mean": mean, "se": se})
    return pd.DataFrame(lines)


def main() -> None:
    """Replay, tell, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--quick", action="store_true", help="ours (few seeds, not to the end), stock and random on the table"
    )
    parser.add_argument("--landscape", nargs="+", default=["table"], choices=LANDSCAPES)
    parser.add_argument("--blind", action="store_true", help="what is promised of a block is what is true of another")
    parser.add_argument("--objective", default="latency", choices=["latency", "gflops"])
    parser.add_argument("--noise", type=float, default=1.0, help="times the measured noise")
    parser.add_argument("--only", nargs="+", default=None, choices=list(SEARCHES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--pace", action="store_true", help="seconds of a proposal in studies of 100 and 1,000 trials")
    parser.add_argument("--out", type=Path, help="a folder for CSV and picture")
    args = parser.parse_args()
    names = args.only or ([OURS, STOCK, RANDOM] if args.quick else list(SEARCHES))
    if SYNE in names and find_spec("syne_tune") is None:
        names.remove(SYNE)
        print(f"{SYNE} is left out: pip install '.[bench]' brings it", flush=True)
    if args.pace:
        warnings.filterwarnings("ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        world = land(args.landscape[0] if args.landscape != ["table"] else "additive", args.objective, args.noise)
        found = {f"seconds_per_proposal_at_{n}": round(pace(world, OURS, n), 3) for n in (100, 1000)}
        print(json.dumps(found))
        return
    seeds = {n: min(args.seeds, QUICK) if args.quick and n == OURS else args.seeds for n in names}
    length = {n: SHORT if args.quick and n == OURS else TRAININGS for n in names}
    first: dict[str, object] | None = None
    for which in args.landscape:
        world = land(which, args.objective, args.noise, args.blind)
        setting = (which, args.objective, args.noise, args.blind)
        jobs = [(*setting, n, s, length[n]) for n in names for s in range(seeds[n])]
        with ProcessPoolExecutor(args.workers) as pool:
            tolds = list(pool.map(one, jobs))
        told = {n: [t for t, j in zip(tolds, jobs, strict=True) if j[4] == n] for n in names}
        frame = rows(world, told)
        print(f"{which}, {args.objective}, noise x{args.noise:g}", flush=True)
        print(frame.to_string(index=False, float_format=lambda v: f"{v:.3f}"), flush=True)
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            stem = f"{which}-{args.objective}-x{args.noise:g}" + "-blind" * args.blind
            frame.to_csv(args.out / f"{stem}.csv", index=False, float_format="%.4g")
            title = {"table": "400 real placements of the demo"}.get(which, f"made landscape: {which}")
            search_picture.draw(curves(world, told), args.out / f"{stem}.png", f"{title}, {args.seeds} seeds")
        ours = frame[frame.search == OURS]
        if first is None and len(ours):
            keys = [c for c in frame if c.startswith("images_ratio")]
            first = {k.replace("stock", "tpe"): round(float(ours.iloc[0][k]), 4) for k in keys} | {"seeds": seeds[OURS]}
    if args.json and first:
        print(json.dumps(first))


if __name__ == "__main__":
    main()
