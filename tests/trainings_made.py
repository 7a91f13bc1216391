"""Simulated trainings with known effects, as data for effects and as a table's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nas.trainings import Trainings
from search_spaces import Placement

BLOCKS = ("cot", "eca", "mhsa", "simam", "sk", "triplet")
SITES = ("backbone.p4", "neck.p3", "neck.p4", "neck.p5")


@dataclass(frozen=True)
class World:
    """What is true: the gain of each block at each site, and of pairs of sites over the sum."""

    alone: dict[tuple[str, str], float]
    pairs: dict[tuple[str, ...], float]

    def gain(self, placement: Placement) -> float:
        """True gain of a placement."""
        items = [(block.name, site) for site, block in placement]
        found = sum(self.alone[item] for item in items)
        return found + sum(self.pairs.get((*a, *b), 0.0) for i, a in enumerate(items) for b in items[i + 1 :])


def world(
    rng: np.random.Generator, block: float = 0.0, site: float = 0.0, both: float = 0.0, pair: float = 0.0
) -> World:
    """A world whose effects are drawn with these standard deviations."""
    blocks, sites = (
        dict(zip(names, rng.normal(0, sd, len(names)), strict=True)) for names, sd in ((BLOCKS, block), (SITES, site))
    )
    spots = [(b, s) for s in SITES for b in BLOCKS]
    alone = {(b, s): blocks[b] + sites[s] + rng.normal(0, both) for b, s in spots}
    return World(alone, {(*x, *y): rng.normal(0, pair) for x in spots for y in spots if x[1] < y[1]})


def placements(rng: np.random.Generator, count: int, most: int = 3) -> list[Placement]:
    """Distinct placements of one to ``most`` blocks."""
    found: dict[str, Placement] = {}
    while len(found) < count:
        sites = rng.choice(SITES, rng.integers(1, most + 1), replace=False)
        placement = Placement.of({str(site): str(rng.choice(BLOCKS)) for site in sites})
        found[placement.id] = placement
    return list(found.values())


def train(rng: np.random.Generator, truth: World, tried: list[Placement], noise: float, repeated: int = 0) -> Trainings:
    """Each placement and the base under seed 0; the first ``repeated`` of them and the base under seeds 1 and 2 too."""
    runs = [(Placement(), 0), *((p, 0) for p in tried)]
    if repeated:
        runs += [(p, s) for s in (1, 2) for p in (Placement(), *tried[:repeated])]
    level = {0: 0.6, 1: 0.62, 2: 0.59}
    scores = [level[s] + truth.gain(p) + rng.normal(0, noise) for p, s in runs]
    return Trainings("made", "mAP50-95", 1600, tuple(p for p, _ in runs), tuple(s for _, s in runs), np.array(scores))


def write_table(folder: Path, data: Trainings, budgets: tuple[int, ...] = (800, 1600)) -> Path:
    """The trainings as a table's folder; at smaller budgets scores are the same shares of the last."""
    rows = [
        {
            "placement_id": p.id, "placement": p.label, "seed": s, "images": images,
            "map50_95": round(score * images / budgets[-1], 8), "nms_free_map50_95": None, "val_loss": 3.5,
            "batches_sha": "ab12", "seconds": 20.5,
        }
        for p, s, score in zip(data.placements, data.seeds, data.values, strict=True)
        for images in budgets
    ]  # fmt: skip
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "trials.csv", index=False)
    costs = {"params": 2_700_000, "gflops": 8.8, "latency_ratio": 1.1}
    ids = {p.label: p.id for p in data.placements}
    pd.DataFrame([{"placement_id": i, "placement": label, **costs} for label, i in ids.items()]).to_csv(
        folder / "placements.csv", index=False
    )
    return folder
