"""One real search beside what a person would write, for the same time; then both fronts scored again by three seeds.

    python scripts/beside_stock.py studies/beside-stock --minutes 35 [--trials 400] [--carry]

Both run on the demo, at the same time, each on one core of its own. Ours is `python -m nas search --space neck`. The
other is a loop: Optuna's TPE for two objectives proposes blocks for the same sites, at most as many, and each placement
is `YOLO(yaml).load(weights).train(epochs=1, ...)` on the same pictures with Ultralytics' defaults; its latency is
measured as ours is. Afterwards the members of both fronts, and the base, are trained under three seeds as the search
trains, their latencies measured anew, all in turn; scores.csv and front.png in the folder say what came out. What is
there is not done again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")

import numpy as np
import optuna
import pandas as pd
import yaml

SPACE, SEEDS, PAIRS = "neck", (0, 1, 2), 60
APART = 0.08  # of the picture, between two names
SEARCH = ["-m", "nas", "search", "--space", SPACE, "--workers", "1"]


def loop(folder: Path, minutes: float, carry: bool) -> None:
    """The stock loop; every placement's figures as a line of stock.csv."""
    import torch
    from ultralytics import YOLO

    from nas import cost, deploy, graph, run, setting, weights
    from nas.demo import DEMO_BASE, demo_dataset
    from nas.sampler import DistinctSampler

    torch.set_num_threads(1)
    values = {"space": SPACE, "name": "plan", "output": str(folder / "runs")}
    prepared = setting.prepare(run.resolve(None, values, []))
    repair = DistinctSampler(optuna.samplers.RandomSampler(), prepared.space, prepared.allowed, 0)
    base = weights.open_model(DEMO_BASE)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.TPESampler(seed=0))
    rows, ends = [], time.monotonic() + 60 * minutes
    while time.monotonic() < ends:
        trial = study.ask()
        asked = {s: trial.suggest_categorical(s, prepared.space.choices(s)) for s, _ in prepared.space.sites}
        repair._thin(asked, prepared.space.max_blocks)
        placement = prepared.space.placement(asked)
        file = prepared.folder.parent / "yolov10n-stock.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        graft = graph.insert(prepared.yaml, placement)
        file.write_text(yaml.safe_dump(graft.yaml, sort_keys=False))
        with contextlib.redirect_stdout(sys.stderr):
            model = YOLO(file).load(DEMO_BASE)
            if carry:
                weights.transfer(base, model.model, graft.moved)
            metrics = model.train(
                data=str(demo_dataset()), imgsz=prepared.recipe.imgsz, epochs=1, batch=16, device="cpu", workers=0,
                project=str(folder / "runs"), name="stock", exist_ok=True, seed=0,
            )  # fmt: skip
        runner = deploy.runner(model.model, "torch", prepared.recipe.imgsz, prepared.device)
        ratio = cost.latency(runner, prepared.fused, prepared.recipe.imgsz, prepared.recipe.latency_runs).ratio
        study.tell(trial, [float(metrics.box.map), ratio])
        rows.append({"placement": placement.label, "map50_95": float(metrics.box.map), "latency": ratio})
        pd.DataFrame(rows).to_csv(folder / "stock.csv", index=False, float_format="%.5g")
    best = {t.number for t in study.best_trials}
    pd.DataFrame(rows).assign(front=[int(i in best) for i in range(len(rows))]).to_csv(
        folder / "stock.csv", index=False, float_format="%.5g"
    )


def race(folder: Path, minutes: float, trials: int, carry: bool) -> None:
    """Both at the same time, each on one core."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = [sys.executable, *SEARCH, "--trials", str(trials), "--name", "ours", "--output", str(folder / "runs")]
    theirs = [sys.executable, __file__, str(folder), "--minutes", str(minutes), "--loop", *["--carry"] * carry]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    started = []
    for core, (name, command) in enumerate((("ours", ours), ("stock", theirs))):
        pinned = ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) > 1 else command
        log = (folder / f"{name}.log").open("w")
        started.append(subprocess.Popen(pinned, env=env, stdout=log, stderr=subprocess.STDOUT))
    search, stock = started
    with contextlib.suppress(subprocess.TimeoutExpired):
        search.wait(60 * minutes)
    search.terminate()
    if search.wait(300) not in (0, 130) or stock.wait(900):
        sys.exit(f"error: one of both failed; see {folder}/ours.log and {folder}/stock.log")


def fronts(folder: Path) -> dict[str, list[str]]:
    """Labels of each front, as each reports it."""
    from nas import export

    study = optuna.load_study(study_name="ours", storage=f"sqlite:///{(folder / 'runs/ours/study.db').resolve()}")
    stock = pd.read_csv(folder / "stock.csv")
    mine = [t.user_attrs["label"] for t in export.front_trials(study)]
    return {"ours": mine, "stock": list(dict.fromkeys(stock.placement[stock.front == 1]))}


def again(folder: Path) -> pd.DataFrame:
    """Members of both fronts and the base: mean score over the seeds, its standard error, latency."""
    from nas import cost, deploy, graph, jobs, run, setting, warm, weights
    from search_spaces import Placement

    prepared = setting.prepare(run.resolve(None, {"space": SPACE, "name": "again", "output": str(folder / "runs")}, []))
    base = warm.warm_base(prepared)
    found = fronts(folder)
    labels = list(dict.fromkeys([Placement().label, *found["ours"], *found["stock"]]))
    placements = {label: Placement.from_label(label) for label in labels}
    file = folder / "trainings.csv"
    planned = [jobs.Job(p, seed, prepared.recipe.epochs, ()) for p in placements.values() for seed in SEEDS]
    for rows in jobs.run_all(prepared, base, planned, file, os.cpu_count() or 1):
        print(*(rows[-1][k] for k in ("placement", "seed", "map50_95")), flush=True)
    scores = pd.read_csv(file).groupby("placement").map50_95.agg(["mean", "sem"])
    ratios: dict[str, list[float]] = {label: [] for label in labels}
    for _ in range(3):  # in turn, so that a slow minute is everybody's
        for label, p in placements.items():
            model = weights.build(graph.insert(prepared.yaml, p).yaml, prepared.dataset.names)
            runner = deploy.runner(model, "torch", prepared.recipe.imgsz, prepared.device)
            ratio = cost.latency(runner, prepared.fused, prepared.recipe.imgsz, PAIRS).ratio if len(p) else 1.0
            ratios[label].append(ratio)
    lines = [
        {
            "placement": label, "ours": int(label in found["ours"]), "stock": int(label in found["stock"]),
            "map50_95": scores["mean"][label], "standard_error": scores["sem"][label],
            "latency": sorted(ratios[label])[1],
        }
        for label in labels
    ]  # fmt: skip
    frame = pd.DataFrame(lines)
    frame.to_csv(folder / "scores.csv", index=False, float_format="%.5g")
    return frame


def draw(frame: pd.DataFrame, folder: Path) -> None:
    """Both fronts as scored again; named is what stands on the front of all of them, where there is room."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from nas import front

    figure, axis = plt.subplots(figsize=(7.5, 4.6))
    looks = {"stock": ("#b35900", "s", "stock loop"), "ours": ("#1f5fa8", "o", "search")}
    for name, (colour, marker, words) in looks.items():
        rows = frame[frame[name] == 1].sort_values("latency")
        axis.errorbar(
            rows.latency, rows.map50_95, rows.standard_error, fmt=marker, color=colour, capsize=3, label=words
        )
    points = frame[["map50_95", "latency"]].to_numpy()
    scaled, named = points / np.ptp(points, axis=0), list[int]()
    for i in front.pareto(points, ("maximize", "minimize")):
        if all(np.abs(scaled[i] - scaled[k]).max() > APART for k in named):  # else names would hide each other
            named.append(i)
            text = frame.placement[i].replace("neck.", "").replace(" + ", "\n")
            axis.annotate(text, points[i][::-1], xytext=(7, -3), textcoords="offset points", fontsize=7, va="top")
    base = frame[frame.placement == "base"].iloc[0]
    axis.axhline(base.map50_95, color="#666666", linewidth=0.8, linestyle="--", label="untouched base")
    axis.set_xlabel("latency over the base's")
    axis.set_ylabel("mAP50-95, mean of three seeds (bars: standard error)")
    axis.legend(loc="lower right", frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(folder / "front.png", dpi=150)


def main() -> None:
    """Race, score again, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=35.0)
    parser.add_argument("--trials", type=int, default=400, help="that our search may at most begin")
    parser.add_argument(
        "--carry", action="store_true", help="the loop gets the base's weights whole, as our graft does"
    )
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loop:
        return loop(args.folder, args.minutes, args.carry)
    if not (args.folder / "stock.csv").is_file():
        race(args.folder, args.minutes, args.trials, args.carry)
    draw(again(args.folder), args.folder)


if __name__ == "__main__":
    main()
