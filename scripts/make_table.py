"""Goes in: a folder with recipe.yaml. Comes out: real trainings of its space, as a table.

    python scripts/make_table.py studies/tables/demo-neck [--placements 400] [--random 24] [--best 20] [--workers 2]

In a fixed order: the base and the placebos under three seeds, every placement of one block, then pairs as a shuffle
has them. Every so-many-th placement is trained under two more seeds (they tell the noise), and so are the best of the
first seed (they tell which of them were luck). What is finished is kept; the same command goes on, a larger number
extends the table. Latencies are measured at the end, alone on the machine, beside the base.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
from collections import Counter
from pathlib import Path

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")

import pandas as pd

from nas import cost, deploy, graph, jobs, recipe, scout, setting, warm, weights
from nas.placing import read
from search_spaces import Placement, SearchSpace
from search_spaces import load as load_space

SEEDS = (0, 1, 2)
AT = (1 / 3, 2 / 3)
PLACEBOS = ("neck.p3=same", "neck.p3=mhsa_noise", "neck.p3=mhsa_own")
COSTS = (
    "placement_id", "placement", "params", "gflops", "latency_ratio", "latency_1", "latency_2", "latency_ms", "base_ms",
    "device", "threads", "drawn",
)  # fmt: skip
PAIRS = 60  # of runs that a latency ratio is the median of


def ordered(space: SearchSpace) -> list[Placement]:
    """Every placement of a space with at most two blocks: singles in their order, pairs shuffled."""
    sites = dict(space.sites)
    singles = [Placement.of({s: b}) for s, blocks in sites.items() for b in blocks]
    pairs = [
        Placement.of({s: a, t: b}) for s, t in itertools.combinations(sites, 2) for a in sites[s] for b in sites[t]
    ]
    random.Random(0).shuffle(pairs)
    return singles + (pairs if space.max_blocks > 1 else [])


def first_pass(space: SearchSpace, epochs: int, count: int, repeats: int) -> list[jobs.Job]:
    """Base and placebos under every seed, ``count`` placements under the first, ``repeats`` of them under all."""
    always = [Placement(), *(read(text) for text in PLACEBOS)]
    placements = ordered(space)[:count]
    step = max(1, len(placements) // repeats)
    made = [jobs.Job(p, seed, epochs, AT) for p in always for seed in SEEDS]
    for i, p in enumerate(placements):
        made += [jobs.Job(p, s, epochs, AT) for s in (SEEDS if i % step == step // 2 else SEEDS[:1])]
    return made


def second_pass(space: SearchSpace, epochs: int, file: Path, best: int) -> list[jobs.Job]:
    """The best of the first seed under the other seeds."""
    rows = pd.read_csv(file).dropna(subset=["map50_95"])
    rows = rows[(rows.seed == SEEDS[0]) & (rows.images == rows.images.max())]
    known = {p.label: p for p in ordered(space)}
    top = [p for p in rows.sort_values("map50_95", ascending=False).placement if p in known][:best]
    return [jobs.Job(known[p], seed, epochs, AT) for p in top for seed in SEEDS[1:]]


def weigh(prepared: setting.Setting, folder: Path, drawn: set[str]) -> None:
    """Parameters, GFLOPs and latency of every trained placement that placements.csv does not have.

    Two passes, so that each latency is measured twice, well apart: `latency_ratio` is the mean of both. ``drawn`` are
    those with several seeds that were chosen before any score was seen.
    """
    file = folder / "placements.csv"
    rows = pd.read_csv(folder / "trials.csv").dropna(subset=["map50_95"])
    have = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=list(COSTS))
    have = have.reindex(columns=list(COSTS)).astype({"latency_1": float, "latency_2": float})
    for column in ("latency_1", "latency_2"):
        known = have.dropna(subset=[column])
        missing = [p for p in dict.fromkeys(rows.placement) if p not in set(known.placement)]
        for n, label in enumerate(missing, 1):
            at = next(iter(have.index[have.placement == label]), len(have))
            line = weighed(prepared, label)
            for name, value in {**line, column: line["latency_ratio"]}.items():
                have.loc[at, name] = value
            if n % 20 == 0 or label == missing[-1]:
                have["latency_ratio"] = have[["latency_1", "latency_2"]].mean(axis=1)
                have.to_csv(file, index=False, float_format="%.6g")
                print(f"{column}: {n} of {len(missing)} placements weighed", flush=True)
    have["drawn"] = [int(label in drawn) for label in have.placement]
    have.to_csv(file, index=False, float_format="%.6g")


def weighed(prepared: setting.Setting, label: str) -> dict[str, object]:
    """A line of placements.csv."""
    r, placement = prepared.recipe, Placement.from_label(label)
    graft = graph.insert(prepared.yaml, placement, r.wire)
    model = weights.build(graft.yaml, prepared.dataset.names)
    runner = deploy.runner(model, "torch", r.imgsz, prepared.device)
    found = cost.latency(runner, prepared.fused, r.imgsz, PAIRS)
    return {
        "placement_id": placement.id,
        "placement": label,
        "params": cost.params(model),
        "gflops": prepared.predict(placement)[1],
        "latency_ratio": found.ratio if len(placement) else 1.0,
        "latency_ms": found.ms,
        "base_ms": found.base_ms,
        "device": found.device,
        "threads": found.threads,
    }


def look(prepared: setting.Setting, base: warm.WarmBase, folder: Path) -> None:
    """What a search sees of each block at each site before any training, as cells.csv."""
    file = folder / "cells.csv"
    if not file.is_file():
        cells, images = scout.scout(prepared, base)
        rows = pd.DataFrame(scout.to_json(cells)).assign(images=images)
        rows.to_csv(file, index=False, float_format="%.6g")


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--placements", type=int, default=400)
    parser.add_argument("--random", type=int, default=24, help="of them under three seeds, evenly spread")
    parser.add_argument("--best", type=int, default=20, help="of them under three seeds, the best of the first")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--costs", action="store_true", help="only the costs")
    args = parser.parse_args()
    r = recipe.read(args.folder / "recipe.yaml", {"name": "table", "output": str(args.folder / "runs"), "train": {}})
    space, file = load_space(r.space), args.folder / "trials.csv"
    passes = [] if args.costs else [lambda: first_pass(space, r.epochs, args.placements, args.random)]
    passes += [] if args.costs else [lambda: second_pass(space, r.epochs, file, args.best)]
    prepared = setting.prepare(r)
    prepared.folder.mkdir(parents=True, exist_ok=True)
    base = warm.warm_base(prepared)
    for make in passes:
        planned = make()
        left = len(jobs.missing(prepared, planned, file))
        for n, rows in enumerate(jobs.run_all(prepared, base, planned, file, args.workers), 1):
            last = rows[-1]
            print(f"{n}/{left}", *(last[k] for k in ("placement", "seed", "map50_95", "seconds", "reason")), flush=True)
    look(prepared, base, args.folder)
    often = Counter(job.placement.label for job in first_pass(space, r.epochs, args.placements, args.random))
    weigh(prepared, args.folder, {label for label, seeds in often.items() if seeds > 1})


if __name__ == "__main__":
    main()
