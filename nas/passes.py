"""Goes in: what is finally compared. Comes out: the latency of each over the base's, from passes spaced in time.

In a pass all models take turns, deployed as the recipe says; the ratio is to the base in the same round. A machine that
runs hot or hosts others for a minute spoils a pass, and not the comparison.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from nas import cost, deploy, graph, jobs, objective, recipe, weights
from nas.finalists import Contender
from nas.interval import Interval
from nas.setting import Setting
from nas.warm import WarmBase
from search_spaces import Placement

PASSES, APART = 6, 2.0  # half of them before the trainings and half after; seconds between two of them
PAIRS = 10  # forward passes of each model in a pass, in turn
HEADER = ("pass", "placement_id", "ratio", "ms")


def file_of(setting: Setting, of: Sequence[Contender]) -> Path:
    """The file of latencies of exactly these contenders, on this device."""
    name = "-".join([setting.digest[:6], *[c.placement.id for c in of]])
    short = recipe.digest({"of": name, "device": cost.device_name(setting.device)})[:8]
    return setting.folder / "finalists" / f"latency-{short}.csv"


def time_all(setting: Setting, warm: WarmBase, of: Sequence[Contender], until: int) -> None:
    """Measure passes of latency until there are so many: all contenders and the base in turn, deployed."""
    file = file_of(setting, of)
    done = _passes(file)
    if done >= until:
        return
    runners = [_runner(setting, warm, c.placement) for c in of]
    for number in range(done, until):
        if number > done:
            time.sleep(APART)
        with objective.steps(setting).silent(), objective.all_threads(setting):
            found = one_pass(runners, setting.recipe.imgsz, PAIRS, first=number)
        rows = [
            {"pass": number, "placement_id": c.placement.id, "ratio": f"{ratio:.5f}", "ms": f"{ms:.4f}"}
            for c, (ratio, ms) in zip(of, found, strict=True)
        ]
        jobs.append(file, rows, HEADER)


def _passes(file: Path) -> int:
    """Whole passes in a file."""
    if not file.is_file():
        return 0
    with file.open(newline="", encoding="utf-8") as text:
        return len({row["pass"] for row in csv.DictReader(text)})


def _runner(setting: Setting, warm: WarmBase, placement: Placement) -> cost.Runner:
    graft = graph.insert(setting.yaml, placement, setting.recipe.wire)
    model = weights.build(graft.yaml, setting.dataset.names, setting.dataset.channels, setting.recipe.seed)
    weights.transfer(warm.model, model, graft.moved, setting.recipe.seed)
    return deploy.runner(model, setting.recipe.latency_backend, setting.recipe.imgsz, setting.device)


@torch.inference_mode()
def one_pass(runners: Sequence[cost.Runner], imgsz: int, pairs: int, first: int = 0) -> list[tuple[float, float]]:
    """Median ratio to the first runner in the same round, and median milliseconds, of each.

    Args:
        first: Which runner begins the first round; each further round another one.
    """
    image = torch.rand(1, runners[0].channels, imgsz, imgsz, generator=torch.Generator().manual_seed(0))
    image = image.to(runners[0].device, runners[0].image_dtype)
    for runner in runners:
        runner.forward(image), runner.forward(image)
    times = np.zeros((pairs, len(runners)))
    for i in range(pairs):
        for k in range(len(runners)):
            at = (k + i + first) % len(runners)
            times[i, at] = cost.once(runners[at], image)
    ratios = np.median(times / times[:, :1], axis=0)
    return [(float(r), float(ms)) for r, ms in zip(ratios, np.median(times, axis=0), strict=True)]


def timed(setting: Setting, of: Sequence[Contender]) -> list[tuple[Interval, float]]:
    """Of each contender the ratio to the base, its interval over passes, and its milliseconds in the fastest pass."""
    rows = pd.read_csv(file_of(setting, of))
    found = []
    for c in of:
        mine = rows[rows.placement_id == c.placement.id]
        mean, error = float(mine.ratio.mean()), float(mine.ratio.std(ddof=1) / np.sqrt(len(mine)))
        reach = float(stats.t.ppf(0.975, len(mine) - 1)) * error
        found.append((Interval(mean, mean - reach, mean + reach), float(mine.ms.min())))
    return found


def how_timed(setting: Setting) -> dict[str, str | int]:
    """What the latencies were measured with."""
    one = setting.base_cost.latency
    assert one is not None
    facts = {k: getattr(one, k) for k in ("device", "backend", "dtype", "threads", "imgsz", "head")}
    return facts | {"passes": PASSES, "pairs": PAIRS}
