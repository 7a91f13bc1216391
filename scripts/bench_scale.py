"""In: how many workers and trials. Out: how long proposals and tells take as a study grows, and what opening it costs.

    python scripts/bench_scale.py --postgres --workers 64 --trials 5000 [--output runs/scale]
    python scripts/bench_scale.py --storage postgresql+psycopg://... --workers 8 --trials 1000
    python scripts/bench_scale.py --postgres --made 10000        # only opens, reports and continues a made study

Workers are processes that take turns as those of a search do (nas/turn.py: the study's lock, the sampler `ehvi`, two
rungs, the storage). Only training is left out: scores come from a made landscape (scripts/landscapes.py), costs from
the space, and each trial records what a real one does. So all that is timed is the search's own work, at a rate of
trials that real trainings never reach: 64 workers that train for ten minutes each ask for 6 proposals a minute.

Written are scale.csv (a row a trial), scale.png and scale.json. The exit status is 1 where anything went wrong: a
process that failed, a placement trained twice to one rung, a trial left running, or another number than asked for.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.trial import TrialState
from scale_open import begin, fill, opened
from scale_setting import postgres, setting_of
from scale_worker import worker

from nas import history, storage
from nas.setting import Setting

BINS = 20
PARTS = ("propose", "wait", "decide", "think", "tell")


def in_child(call: Callable[..., Any], *args: Any) -> Any:
    """Call it in a process of its own: a connection must not be open where others fork."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=lambda: theirs.send(call(*args)))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise SystemExit(f"{call.__name__} failed") from None
    finally:
        process.join()


def faults(setting: Setting, url: str) -> tuple[list[str], dict[str, int]]:
    """What went wrong, in words, and how many trials there are."""
    study = optuna.load_study(study_name=setting.recipe.name, storage=storage.open_storage(url))
    trials = study.get_trials(deepcopy=False)
    legs = [(t.user_attrs["placement_id"], t.user_attrs["rung"]) for t in trials if "score" in t.user_attrs]
    trained, lines = {placement for placement, _ in legs}, []
    if len(trained) != setting.recipe.trials:
        lines.append(f"{len(trained)} distinct placements are trained, not {setting.recipe.trials}")
    if len(legs) != len(set(legs)):
        lines.append(f"{len(legs) - len(set(legs))} trainings to a rung that their placement had reached")
    if left := [t.number for t in trials if not t.state.is_finished()]:
        lines.append(f"trials left unfinished: {left}")
    if failed := [t.number for t in trials if t.state == TrialState.FAIL]:
        lines.append(f"failed trials: {failed}")
    if not all(p.state in (history.DONE, history.PAUSED) for p in history.read(study, setting.space)):
        lines.append("placements in a state that they should not be in")
    lines += [file.read_text(encoding="utf-8") for file in sorted((setting.folder / "rows").glob("*.error"))]
    return lines, {"trials": len(trials), "placements": len(trained)}


def run(setting: Setting, url: str, workers: int, notes: bool) -> tuple[pd.DataFrame, float]:
    """All workers at once, until the last one ends; seconds that it took."""
    (setting.folder / "rows").mkdir(parents=True, exist_ok=True)
    gc.collect(), gc.freeze()
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=worker, args=(setting, url, i, notes)) for i in range(workers)]
    began = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    frames = [pd.read_csv(file) for file in (setting.folder / "rows").glob("*.csv")]
    rows = pd.concat([f for f in frames if len(f)]) if any(map(len, frames)) else pd.DataFrame()
    return rows, time.perf_counter() - began


def binned(rows: pd.DataFrame) -> pd.DataFrame:
    """Median and 95th percentile of each part, in bins of as many trials."""
    rows = rows.sort_values("trial")
    rows["bin"] = (np.arange(len(rows)) * BINS // len(rows)).astype(int)
    table = rows.groupby("bin")[list(PARTS)].quantile([0.5, 0.95]).unstack()
    table.columns = [f"{part}_{'median' if q == 0.5 else 'p95'}" for part, q in table.columns]
    table.insert(0, "trial", rows.groupby("bin").trial.max())
    return table.reset_index(drop=True)


def plot(table: pd.DataFrame, title: str, file: Path) -> None:
    """Proposal and tell over the number of trials."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, names in zip(axes, (("propose", "wait"), ("think", "decide", "tell")), strict=True):
        for k, name in enumerate(names):
            axis.plot(table.trial, table[f"{name}_median"], color=f"C{k}", label=f"{name}, median")
            axis.plot(table.trial, table[f"{name}_p95"], color=f"C{k}", ls="--", label=f"{name}, 95th")
        axis.set(xlabel="trials in the study", ylabel="seconds", ylim=(0, None))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=len(names), fontsize="small")
    figure.suptitle(title)
    figure.savefig(file, dpi=120)


@contextmanager
def database(args: argparse.Namespace, home: Path) -> Iterator[str]:
    """The storage's URL."""
    if args.postgres:
        with postgres() as url:
            yield url
    else:
        yield args.storage or f"sqlite:///{home / 'study.db'}"


def main() -> int:
    """Run, time, check, and say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--postgres", action="store_true", help="start a PostgreSQL of its own; its binaries are needed"
    )
    parser.add_argument("--storage", help="URL of a storage that is there; by default SQLite")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--trials", type=int, default=5000, help="distinct placements")
    parser.add_argument("--rungs", type=int, default=2, help="of a training; with 1 nobody thinks under the lock")
    parser.add_argument("--made", type=int, help="no workers: a made study of so many trials")
    parser.add_argument("--notes", action="store_true", help="write each trial's page of the dashboard too")
    parser.add_argument("--output", type=Path, help="where scale.csv, scale.png and scale.json go")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    home = Path(tempfile.mkdtemp(prefix="nas-scale-"))
    try:
        with database(args, home) as url:
            return measure(args, home, url)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def measure(args: argparse.Namespace, home: Path, url: str) -> int:
    """With a database that is there."""
    name = f"scale-{os.getpid()}"
    setting = setting_of(home, name, args.made or args.trials, url, args.rungs)
    if args.made:
        in_child(fill, setting, url, args.made)
        return told(args, {"made": args.made, "seconds": in_child(opened, setting_of(home, name, 10**6, url), url)}, [])
    in_child(begin, setting, url)
    rows, seconds = run(setting, url, args.workers, args.notes)
    lines, counts = in_child(faults, setting, url)
    found: dict[str, Any] = {"workers": args.workers, **counts, "wall_seconds": round(seconds, 1)}
    if len(rows):
        found |= {"cores": os.cpu_count(), "trials_a_second": round(counts["trials"] / seconds, 2)}
        for part in PARTS:
            found[part] = {str(q): round(float(rows[part].quantile(q)), 4) for q in (0.5, 0.95, 1.0)}
        table = binned(rows)
        print(table.round(3).to_string(index=False))
        if args.output:
            args.output.mkdir(parents=True, exist_ok=True)
            rows.sort_values("trial").to_csv(args.output / "scale.csv", index=False, float_format="%.5g")
            title = f"{args.workers} workers on {os.cpu_count()} cores, {url.partition(':')[0]}: instant trials"
            plot(table, title, args.output / "scale.png")
    found["afterwards"] = in_child(opened, setting_of(home, name, args.trials, url, args.rungs), url)
    return told(args, found, lines)


def told(args: argparse.Namespace, found: Mapping[str, Any], lines: Sequence[str]) -> int:
    """Print it and write it down."""
    print(json.dumps(found, indent=2))
    print("\n".join(lines) or "no fault")
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "scale.json").write_text(json.dumps({**found, "faults": list(lines)}, indent=2) + "\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
