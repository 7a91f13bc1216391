"""Goes in: a name. Comes out: what can be searched without training: a table of real trainings, or a made landscape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from nas import front, table
from search_spaces import Block, Placement, SearchSpace
from search_spaces import load as load_space

NAMES = ("table", "additive", "pairs")
DIRECTIONS = ("maximize", "minimize")
HINT = 1.0  # made landscapes: the logarithm of a promise is wrong by so much (standard deviation)


@dataclass(frozen=True)
class Land:
    """What can be searched without training.

    Args:
        space: What may stand where; ``truth`` has every placement that is allowed, or makes it.
        truth: Placement -> true score at each of ``images``.
        cost: Placement -> the true objective beside the score; a measurement of it has ``cost_noise``.
        gflops: Placement -> GFLOPs, known before.
        promise, wait: Site and block -> what a first look says of its worth and of the latency it adds (nas/scout.py);
            that look takes ``looked`` images.
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
    promise: Callable[[str, Block], float]
    wait: Callable[[str, Block], float]
    looked: int
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
def land(name: str, objective: str, noise: float, blind: bool = False) -> Land:
    """A landscape by its name; ``blind``: what is promised of a block is what is true of another one."""
    return from_table("demo-neck", objective, noise, blind) if name == "table" else made(name, objective, noise, blind)


def from_table(name: str, objective: str, noise: float, blind: bool) -> Land:
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
    twice = found.placements[["latency_1", "latency_2"]].dropna().to_numpy()
    wrong = float(np.std(np.diff(twice, axis=1), ddof=1) / np.sqrt(2))
    column = {"latency": "latency_ratio", "gflops": "gflops"}[objective]
    own = [table.signal(found, b).own_noise.value for b in budgets]
    cells = pd.read_csv(table.find(name) / "cells.csv").set_index(["site", "block"])
    worth = cells.worth.sample(frac=1, random_state=0).set_axis(cells.index) if blind else cells.worth
    return Land(
        name="table",
        space=space,
        truth=lambda p: truth.get(p.id),
        cost=lambda p: float(costs.loc[p.id, column]),
        gflops=lambda p: float(costs.loc[p.id, "gflops"]) if p.id in costs.index else float("inf"),
        promise=lambda site, block: float(worth[site, block.label]),
        wait=lambda site, block: float(cells.latency[site, block.label]),
        looked=int(cells.images.iloc[0]),
        noise=noise * np.maximum.accumulate(own),
        images=np.array(budgets),
        base=float(base[-1]),
        most=float(np.quantile(costs.loc[list(truth), column], 0.95)),
        cost_noise=noise * wrong if objective == "latency" else 0.0,
        objective=objective,
    )


def made(name: str, objective: str, noise: float, blind: bool, seed: int = 7) -> Land:
    """Gains that are sums over blocks at sites (few of them large, none told by its cost); ``pairs``: and of pairs.

    A training shows 1 - exp(-3 t) of its gain after a share t of its images. A first look tells an effect's size, and
    the time that a block waits, up to a random factor.
    """
    space, rng = load_space("article"), np.random.default_rng(seed)
    sites = [s for s, _ in space.sites]
    blocks = list(space.blocks)
    at = dict(zip(sites, rng.gamma(0.7, 1.0, len(sites)), strict=True))
    effect = {(s, b): 0.01 * at[s] * float(rng.gamma(0.7, 1.0) - 0.3) for s in sites for b in blocks}
    flops = {(s, b): float(rng.lognormal(-4, 1)) for s in sites for b in blocks}
    idle = {b: float(rng.gamma(2.0, 0.02)) for b in blocks}
    both = {frozenset((a, b)): 0.02 * float(rng.standard_normal()) for a in blocks for b in blocks}
    shown = np.array([1 - np.exp(-1.0), 1 - np.exp(-3.0)]) / (1 - np.exp(-3.0))

    def truth(p: Placement) -> np.ndarray:
        gain = sum(effect[s, b.label] for s, b in p)
        if name == "pairs":
            gain += sum(both[frozenset((a.label, b.label))] for i, (_, a) in enumerate(p) for _, b in list(p)[:i])
        return 0.5 + gain * shown

    def gflops(p: Placement) -> float:
        return 0.5 * (1 + sum(flops[s, b.label] for s, b in p))

    def wait(site: str, label: str) -> float:
        return flops[site, label] + idle[label] * (1 + sites.index(site) / 10)

    def cost(p: Placement) -> float:
        return gflops(p) if objective == "gflops" else 1 + sum(wait(s, b.label) for s, b in p)

    drawn = [drawn_from(space, rng) for _ in range(2000)]
    spread = float(np.std([truth(p)[-1] for p in drawn]))
    size = np.abs(list(effect.values())) if not blind else rng.permutation(np.abs(list(effect.values())))
    hints = dict(zip(effect, size * np.exp(HINT * rng.standard_normal(len(size))), strict=True))
    waits = {cell: wait(*cell) * float(np.exp(0.2 * rng.standard_normal())) for cell in effect}
    return Land(
        name=name,
        space=space,
        truth=truth,
        cost=cost,
        gflops=gflops,
        promise=lambda site, block: float(hints[site, block.label]),
        wait=lambda site, block: waits[site, block.label],
        looked=160,
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
