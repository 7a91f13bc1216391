"""Trials an hour: ours by one worker and by as many as pay, beside stock Ultralytics, side by side in one run.

    bash scripts/run.sh python scripts/bench_throughput.py                 # the demo's scenes
    bash scripts/run.sh python scripts/bench_throughput.py --data my.yaml --weights yolov10n.pt --imgsz 224 --json

Every round has, in turn: one trial by one worker with all threads, one trial by each of N workers at the same time,
and one training by the stock loop, `YOLO(yaml).load(weights).train(...)`, as people run it: one process, the same data,
image size, batch, epochs and fraction, its defaults for everything else. A trial of ours is a whole one: build,
transfer, latency, training, validation of both heads, records in the study. All processes live through all rounds; the
first round pays what a process pays once, and is shown apart. Left out of ours: the sampler's thinking (placements are
given) and the tables that a search writes beside its study. Stock Ultralytics on a CPU leaves one core out; how many
threads each has is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nas.children import Child, Parent, stop

PARTS = ("setup", "steps", "validation", "rest", "total")
PATIENCE = 7200.0  # seconds for one answer
Clock = dict[str, float]


def stock(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Clock]:
    """A training by the stock loop, timed by its own callbacks."""
    from ultralytics import YOLO

    def trial(_: Mapping[str, Any]) -> Clock:
        clock: Clock = dict.fromkeys(PARTS, 0.0)
        marks: Clock = {}

        def begin(name: str) -> Callable[[Any], None]:
            return lambda _: marks.__setitem__(name, time.perf_counter())

        def end(name: str) -> Callable[[Any], None]:
            return lambda _: clock.__setitem__(name, clock[name] + time.perf_counter() - marks[name])

        start = marks["setup"] = time.perf_counter()
        model = YOLO(job["yaml"]).load(job["weights"])
        for event, callback in (
            ("on_train_start", end("setup")),
            ("on_train_epoch_start", begin("steps")),
            ("on_train_epoch_end", end("steps")),
            ("on_val_start", begin("validation")),
            ("on_val_end", end("validation")),
        ):
            model.add_callback(event, callback)
        model.train(**job["budget"])
        return closed(clock, time.perf_counter() - start)

    return trial


def ours(job: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Clock]:
    """A trial as `search` runs it. Each message queues a placement behind the untouched base, which comes first."""
    from optuna.trial import TrialState

    from nas import objective, setting, storage, warm
    from nas import study as studies
    from nas.recipe import Recipe
    from search_spaces import Placement

    prepared = replace(setting.prepare(Recipe.model_validate(job["recipe"])), workers=job["workers"])
    prepared.folder.mkdir(parents=True, exist_ok=True)
    study = studies.open_study(prepared, storage.open_storage(studies.storage_url(prepared)))
    base = warm.warm_base(prepared)

    def trial(message: Mapping[str, Any]) -> Clock:
        start = time.perf_counter()
        study.enqueue_trial(prepared.space.params(Placement.of(message["placement"])))
        study.optimize(objective.make(prepared, base), n_trials=1)
        total = time.perf_counter() - start
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        seconds = done[-1].user_attrs["score"]["seconds"]
        return closed({k: seconds[k] for k in PARTS[:3]} | {"setup": seconds["setup"] + seconds["build"]}, total)

    return trial


def closed(clock: Clock, total: float) -> Clock:
    """With what is in no part, and the whole."""
    parts = {k: clock[k] for k in PARTS[:3]}
    return {**parts, "rest": total - sum(parts.values()), "total": total}


def child() -> None:
    """A process of the benchmark: gets a job, and answers each message with the seconds of one trial."""
    parent = Parent()
    job = parent.hear()
    trial = (stock if job["kind"] == "stock" else ours)(job)
    parent.tell(ready=True)
    while True:
        clock = trial(parent.hear())
        parent.tell(clock=clock, threads=torch.get_num_threads())


def recipe_of(args: argparse.Namespace, folder: Path, name: str) -> dict[str, Any]:
    """The recipe of a search with this budget; no warm-up, so that ours starts from what stock loads."""
    from nas import run

    own = {} if args.data == "demo" else {"data": args.data, "weights": args.weights}
    values = {"epochs": args.epochs, "warm_epochs": 0, "startup": 0, "name": name, "output": str(folder), **own}
    values["freeze"] = "none"  # as stock: the demo's own recipe freezes the backbone, which is cheaper still
    train = [f"imgsz={args.imgsz}", f"batch={args.batch}", f"fraction={args.fraction}"]
    return run.resolve(None, values, train).model_dump(mode="json")


def plan(args: argparse.Namespace, folder: Path) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """What is compared: its name -> a job for each of its processes; and the placements that ours train."""
    from nas import recipe, sampler, setting, slots
    from nas.demo import DEMO_BASE, demo_dataset

    prepared = setting.prepare(recipe.Recipe.model_validate(recipe_of(args, folder, "plan")))
    count = slots.choose(prepared, 1000, print) if args.workers == "auto" else int(args.workers)
    demo = args.data == "demo"
    budget = {
        "data": str(demo_dataset()) if demo else args.data, "imgsz": args.imgsz, "batch": args.batch,
        "epochs": args.epochs, "fraction": args.fraction, "project": str(folder), "name": "stock", "exist_ok": True,
        "device": "cpu" if prepared.device.type == "cpu" else prepared.device.index or 0,
    }  # fmt: skip
    start = str(DEMO_BASE) if demo else str(getattr(prepared.start, "pt_path", args.weights))
    jobs: dict[str, list[dict[str, Any]]] = {}
    for size in sorted({1, count}):
        jobs[f"ours, {size} worker{'s' * (size > 1)}"] = [
            {
                "kind": "ours",
                "workers": size,
                "threads": slots.share(size),
                "recipe": recipe_of(args, folder, f"{size}-{i}"),
            }
            for i in range(size)
        ]
    jobs["stock"] = [{"kind": "stock", "yaml": args.yaml, "weights": start, "budget": budget, "threads": None}]
    found = sampler.sparse(prepared.space, args.rounds + 1 + count, prepared.allowed, 0)
    if len(found) <= args.rounds + count:
        sys.exit(f"error: --rounds {args.rounds}: the space has only {len(found)} placements for {count} workers")
    return jobs, [p.to_json() for p in found]


def measure(args: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """For each way its rounds: the clocks of its trials, and the seconds until all of them were done."""
    jobs, placements = plan(args, folder)
    log = folder / "log.txt"
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in jobs}
    made: dict[str, list[Child]] = {}
    try:
        for name, group in jobs.items():
            made[name] = [Child("bench_throughput", j, j["threads"], log, ["--child"]) for j in group]
            if not all([c.hear(PATIENCE) for c in made[name]]):
                sys.exit(f"error: a process did not start:\n{log.read_text(errors='replace')[-2000:]}")
        for turn in range(args.rounds + 1):
            for name, team in made.items():
                messages = [{"placement": placements[(turn + i) % len(placements)]} for i in range(len(team))]
                start = time.perf_counter()
                for one, message in zip(team, messages, strict=True):
                    one.tell(message)
                heard = [one.hear(PATIENCE) for one in team]
                if not all(heard):
                    sys.exit(f"error: a trial ended early:\n{log.read_text(errors='replace')[-2000:]}")
                seconds = time.perf_counter() - start
                clocks, threads = [h["clock"] for h in heard if h], [h["threads"] for h in heard if h]
                rounds[name].append({"clocks": clocks, "seconds": seconds, "threads": threads[0]})
                if args.verbose:
                    print(f"round {turn}: {name}: {seconds:.1f} s", flush=True)
    finally:
        stop([c for team in made.values() for c in team], patience=5.0)
    return rounds


def summary(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians over the rounds after the first: trials an hour, over stock's of the same round, wall over steps."""
    kept = {name: found[1:] or found for name, found in rounds.items()}
    hour = {name: [3600 * len(r["clocks"]) / r["seconds"] for r in found] for name, found in kept.items()}
    names = [name for name in kept if name != "stock"]
    ratio = {n: statistics.median(a / b for a, b in zip(hour[n], hour["stock"], strict=True)) for n in names}
    over = {n: statistics.median(c["total"] / c["steps"] for r in kept[n] for c in r["clocks"]) for n in kept}
    return {
        "trials_per_hour_ratio": ratio[names[-1]],
        "wall_over_steps": over[names[-1]],
        "single_worker_ratio": ratio[names[0]],
        "single_worker_wall_over_steps": over[names[0]],
        "stock_wall_over_steps": over["stock"],
        "workers": len(kept[names[-1]][0]["clocks"]),
        "trials_per_hour": {name: statistics.median(found) for name, found in hour.items()},
        "rounds": rounds,
    }


def show(found: dict[str, Any]) -> None:
    """A table of medians a trial, and the first round of each."""
    print(f"\n{'seconds a trial':26}" + "".join(f"{p:>11}" for p in PARTS) + f"{'trials/h':>11}{'threads':>11}")
    for name, rounds in found["rounds"].items():
        for label, some in (("first", rounds[:1]), ("after", rounds[1:])):
            clocks = [c for r in some for c in r["clocks"]]
            if clocks:
                parts = "".join(f"{statistics.median(c[p] for c in clocks):11.2f}" for p in PARTS)
                hour = statistics.median(3600 * len(r["clocks"]) / r["seconds"] for r in some)
                print(f"{name + ', ' + label:26}{parts}{hour:11.1f}{some[0]['threads']:11}")
    print(
        f"\ntrials an hour over stock: {found['trials_per_hour_ratio']:.2f} by {found['workers']} workers, "
        f"{found['single_worker_ratio']:.2f} by one\n"
        f"wall time over that of the steps: {found['wall_over_steps']:.2f}; by one worker "
        f"{found['single_worker_wall_over_steps']:.2f}; stock {found['stock_wall_over_steps']:.2f}"
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="demo", help="dataset YAML; default the demo's")
    parser.add_argument("--weights", default="yolov10n.pt", help="what every training starts from (demo: its own)")
    parser.add_argument("--yaml", default="yolov10n.yaml", help="the stock loop's model")
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3, help="after the first, which is shown apart")
    parser.add_argument("--workers", default="auto", help="a number, or auto as `search` measures it")
    parser.add_argument("--json", action="store_true", help="last line is one JSON object")
    parser.add_argument("--verbose", action="store_true", help="a line for every step of a round")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child()
    with tempfile.TemporaryDirectory() as folder:
        found = summary(measure(args, Path(folder)))
    show(found)
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
