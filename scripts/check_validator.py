"""Goes in: a base and a dataset. Comes out: the mAP of 20 placements by our validator and by Ultralytics' own.

    bash scripts/run.sh python scripts/check_validator.py                # the demo's scenes
    bash scripts/run.sh python scripts/check_validator.py --data my.yaml --weights yolov10n.pt --imgsz 320 --json

Each placement's gamma is set to 0.05, so that no two models are the same, and it is trained for one step at a rate of
nearly nothing: that is how a trial comes to its score. Ultralytics' validator then scores the very weights that came
out, once with NMS and once without. Ours scores both heads in one pass.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

import modules
from modules.attend import Attend
from nas import data, graph, setting, train, weights
from nas.demo import DEMO_BASE, demo_dataset
from nas.quiet import quiet, same_threads
from nas.recipe import TRAIN_DEFAULTS
from nas.task import TASKS
from search_spaces import Placement

COLUMNS = ("mAP50-95", "mAP50", "NMS-free mAP50-95", "NMS-free mAP50")


class Scored(NamedTuple):
    """Figures in the order of :data:`COLUMNS`, and the seconds of the validation."""

    figures: tuple[float, ...]
    seconds: float


def placements(base: Any, count: int) -> list[Placement]:
    """``count`` placements, blocks and sites spread; every fourth has two blocks."""
    blocks, sites = sorted(modules.names()), [site.name for site in graph.sites(base)]
    found = []
    for i in range(count):
        chosen = {sites[i % len(sites)]: blocks[i * len(blocks) // count]}
        if i % 4 == 3:
            chosen[sites[(i + len(sites) // 2) % len(sites)]] = blocks[(i * len(blocks) // count + 1) % len(blocks)]
        found.append(Placement.of(chosen))
    return found


def ours(model: Any, budget: dict[str, Any]) -> tuple[Any, Scored]:
    """The model after one step, and its score."""
    for gamma in [m.gamma for m in model.modules() if isinstance(m, Attend)]:
        if gamma is not None:
            torch.nn.init.constant_(gamma, 0.05)
    model, score = train.short_train(model, budget, log=Path(budget["project"]) / "log.txt")
    figures = (score.value, score.second, score.nms_free, score.nms_free_second)
    return model, Scored(tuple(x for x in figures if x is not None), score.seconds["validation"])


def theirs(model: Any, budget: dict[str, Any], loaders: dict[bool | None, Any], heads: int) -> Scored:
    """The score by Ultralytics' own validator, with as many threads; from the second on, images are read already."""
    from ultralytics.models.yolo.detect import DetectionValidator  # nas comes first: it reads OMP_NUM_THREADS

    threads = torch.get_num_threads()
    figures, seconds = [], 0.0
    for nms in (None, False)[:heads]:
        args = {k: budget[k] for k in ("data", "imgsz", "device", "workers", "cache")}
        args |= {"model": "x.pt", "batch": 2 * budget["batch"], "nms": nms, "rect": True, "split": "val"}
        args |= {"plots": False, "verbose": False}
        validator = DetectionValidator(loaders.get(nms), save_dir=Path(budget["project"]), args=args)
        validator.add_callback("on_val_start", lambda _: torch.set_num_threads(threads))
        validated = copy.deepcopy(model)
        with quiet(), same_threads(), contextlib.redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            validator(model=validated)
            seconds += time.perf_counter() - start
        loaders[nms] = validator.dataloader
        figures += [float(validator.metrics.box.map), float(validator.metrics.box.map50)]
    return Scored(tuple(figures), seconds)


def main() -> None:
    """Print a line a placement, then the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="demo")
    parser.add_argument("--weights")
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--placements", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.data == "demo":
        args.data, args.weights = str(demo_dataset()), args.weights or str(DEMO_BASE)
    dataset, device = data.check(args.data), setting.pick_device(None)
    base = weights.open_model(args.weights or "yolov10n.pt")
    with tempfile.TemporaryDirectory() as folder:
        budget = {
            **TASKS["detect"].defaults, **TRAIN_DEFAULTS, "data": str(dataset.path), "imgsz": args.imgsz, "seed": 0,
            "batch": args.batch, "fraction": args.batch, "epochs": 1, "lr0": 1e-9, "lrf": 1.0, "project": folder,
            "name": "one", "device": "cpu" if device.type == "cpu" else 0,
        }  # fmt: skip
        rows: list[tuple[Placement, Scored, Scored]] = []
        loaders: dict[bool | None, Any] = {}
        for placement in placements(base.yaml, args.placements):
            graft = graph.insert({**base.yaml, "nc": len(dataset.names)}, placement)
            model = weights.build(graft.yaml, dataset.names)
            weights.transfer(base, model, graft.moved)
            model, mine = ours(model, budget)
            rows.append((placement, mine, theirs(model, budget, loaders, len(mine.figures) // 2)))
            show(*rows[-1], first=len(rows) == 1)
    conclude(rows, args.json, f"{device}, {torch.get_num_threads()} threads")


def show(placement: Placement, mine: Scored, other: Scored, first: bool) -> None:
    """Two lines a placement: it, then the figures by both and their difference."""
    if first:
        print(f"{'':13}" + "".join(f"{c:>19}" for c in COLUMNS[: len(mine.figures)]) + f"{'seconds':>10}")
    print(placement.label)
    for name, scored in (("ours", mine), ("Ultralytics'", other)):
        print(f"{name:13}" + "".join(f"{x:19.9f}" for x in scored.figures) + f"{scored.seconds:10.2f}", flush=True)


def conclude(rows: list[tuple[Placement, Scored, Scored]], as_json: bool, where: str) -> None:
    """The largest difference, and the median seconds after the first placement, which reads the images."""
    largest = max(abs(a - b) for _, x, y in rows for a, b in zip(x.figures, y.figures, strict=True))
    later = rows[1:] or rows
    times = [statistics.median(r.seconds for r in of) for of in zip(*((x, y) for _, x, y in later), strict=True)]
    different = len({mine.figures for _, mine, _ in rows})
    print(f"{len(rows)} placements, {different} different scores; largest difference {largest:.3g}")
    print(f"seconds of a validation of all heads, median: ours {times[0]:.2f}, Ultralytics' {times[1]:.2f} ({where})")
    if as_json:
        print(json.dumps({"largest_difference": largest, "seconds_ours": times[0], "seconds_ultralytics": times[1]}))


if __name__ == "__main__":
    main()
