"""Goes in: a base, a dataset, a budget. Comes out: one trial's wall time by part, beside stock Ultralytics.

    bash scripts/run.sh python scripts/bench_trial.py                 # the demo's scenes
    bash scripts/run.sh python scripts/bench_trial.py --data my.yaml --weights yolov10n.pt --imgsz 224 --json

Both train the same weights on the same images for the same epochs in one process, in turn (ours, stock, ours, ...);
the first of each pays what a process pays once, and is shown apart. The stock loop is
`YOLO(yaml).load(weights).train(...)` with its defaults for everything but the budget.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from typing import Any

import torch
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer

from nas import data, graph, setting, train, weights
from search_spaces import Placement

PARTS = ("setup", "steps", "validation", "second validation", "rest", "total")


class Stock(DetectionTrainer):
    """Ultralytics' trainer with a stopwatch on its parts."""

    clock: dict[str, float] = {}  # noqa: RUF012

    def run_callbacks(self, event: str) -> None:
        now = time.perf_counter()
        if event == "on_train_start":
            self.clock["setup"] = now - self.clock["start"]
        elif event == "on_train_epoch_start":
            self.clock["epoch"] = now
        elif event == "on_train_epoch_end":
            self.clock["steps"] = self.clock.get("steps", 0.0) + now - self.clock["epoch"]
        super().run_callbacks(event)

    def validate(self) -> Any:
        start = time.perf_counter()
        result = super().validate()
        self.clock["validation"] = self.clock.get("validation", 0.0) + time.perf_counter() - start
        return result

    def final_eval(self) -> None:
        start = time.perf_counter()
        super().final_eval()
        self.clock["second validation"] = time.perf_counter() - start


def stock(yaml: str, start: str, budget: dict[str, Any]) -> dict[str, float]:
    """Seconds by part of the stock loop."""
    Stock.clock = {"start": time.perf_counter()}
    YOLO(yaml).load(start).train(trainer=Stock, **budget)
    return _closed(Stock.clock, time.perf_counter() - Stock.clock["start"])


def ours(yaml: Any, names: dict[int, str], base: Any, placement: Placement, budget: dict[str, Any]) -> dict[str, float]:
    """Seconds by part of a trial: build, transfer, train, score both heads."""
    start = time.perf_counter()
    graft = graph.insert(yaml, placement)
    model = weights.build(graft.yaml, names)
    weights.transfer(base, model, graft.moved)
    built = time.perf_counter() - start
    _, score = train.short_train(model, {**train_defaults(), **budget})
    clock = {k: score.seconds[k] for k in ("setup", "steps", "validation")}
    clock["setup"] += built
    return _closed(clock, time.perf_counter() - start)


def train_defaults() -> dict[str, Any]:
    """The recipe's training arguments."""
    from nas.recipe import TRAIN_DEFAULTS
    from nas.task import TASKS

    return {**TASKS["detect"].defaults, **TRAIN_DEFAULTS}


def _closed(clock: dict[str, float], total: float) -> dict[str, float]:
    parts = {k: clock.get(k, 0.0) for k in PARTS[:4]}
    return {**parts, "rest": total - sum(parts.values()), "total": total}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="demo")
    parser.add_argument("--weights")
    parser.add_argument("--placement", nargs="*", default=["neck.p3=eca"])
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    from nas.grafting import parse

    if args.data == "demo":
        from nas.demo import DEMO_BASE, demo_dataset

        args.data, args.weights = str(demo_dataset()), args.weights or str(DEMO_BASE)
    dataset, base = data.check(args.data), weights.open_model(args.weights or "yolov10n.pt")
    device = setting.pick_device(None)
    start = args.weights or "yolov10n.pt"
    yaml_text = {**base.yaml, "nc": len(dataset.names)}
    times: dict[str, list[dict[str, float]]] = {"ours": [], "stock": []}
    with tempfile.TemporaryDirectory() as folder:
        budget = {
            "data": str(dataset.path), "imgsz": args.imgsz, "batch": args.batch, "epochs": args.epochs,
            "fraction": args.fraction, "seed": 0, "project": folder, "exist_ok": True,
            "device": "cpu" if device.type == "cpu" else 0,
        }  # fmt: skip
        for _ in range(args.pairs):
            with contextlib.redirect_stdout(io.StringIO()):
                placed = parse(args.placement)
                times["ours"].append(ours(yaml_text, dataset.names, base, placed, {**budget, "name": "ours"}))
                times["stock"].append(stock("yolov10n.yaml", start, {**budget, "name": "stock"}))
    show(times, args.json, device)


def show(times: dict[str, list[dict[str, float]]], as_json: bool, device: torch.device) -> None:
    """A table of medians, and the first run of each."""
    print(f"{'seconds':24}" + "".join(f"{p:>19}" for p in PARTS) + f"   ({device}, {torch.get_num_threads()} threads)")
    for name, runs in times.items():
        later = runs[1:] or runs
        print(f"{name + ', first':24}" + "".join(f"{runs[0][p]:19.2f}" for p in PARTS))
        print(
            f"{name + ', median after':24}" + "".join(f"{statistics.median(r[p] for r in later):19.2f}" for p in PARTS)
        )
    pairs = list(zip(times["ours"], times["stock"], strict=True))[1:] or list(zip(*times.values(), strict=True))
    ratio = statistics.median(s["total"] / o["total"] for o, s in pairs)
    over = statistics.median(o["total"] / o["steps"] for o, _ in pairs)
    print(
        f"stock / ours: {ratio:.2f} (median of {len(pairs)} pairs after the first); ours, wall over steps: {over:.2f}"
    )
    if as_json:
        print(json.dumps({"stock_over_ours": ratio, "wall_over_steps": over, "times": times}))


if __name__ == "__main__":
    main()
