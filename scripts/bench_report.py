"""In: a study's folder. Out: how long `report` and `status` take on a study of 1,000 trials, and how large the page is.

    python scripts/bench_report.py runs/demo --trials 1000

The trials are made: placements drawn from the study's own space, each with what a trial of that study recorded, its
score and latency moved. What is timed is the whole command, the start of Python and all imports too.
"""

from __future__ import annotations

import argparse
import copy
import datetime as dt
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas import history, outcome, status
from search_spaces import Placement, load

WHOLE = 0.4  # share of placements trained to the end; the others are paused, but for a few
FAILED, BEYOND = 0.03, 0.03


def main() -> None:
    """Make the study, time the commands, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="folder of a finished study")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        make(args.study, Path(scratch) / "large", args.trials)
        for command in ("report", "status"):
            times = [timed(command, scratch) for _ in range(args.repeats)]
            print(f"{command}: {statistics.median(times):.1f} s (median of {args.repeats}, Python's start included)")
        inside = subprocess.run([sys.executable, "-c", INSIDE, scratch], capture_output=True, text=True, check=True)
        print(inside.stdout.strip())
        print(f"report.html: {(Path(scratch) / 'large' / 'report.html').stat().st_size / 1e6:.2f} MB")


INSIDE = """
import sys, time
from nas import points, report_command, status
start = time.perf_counter()
study, folder = status.find("large", None, sys.argv[1])
report_command.make(study, points.read(study), folder)
print(f"report without imports: {time.perf_counter() - start:.1f} s")
"""


def timed(command: str, output: str) -> float:
    """Seconds of a command from its start to its end."""
    start = time.perf_counter()
    ours = [sys.executable, "-m", "nas", command, "large", "--output", output]
    subprocess.run(ours, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def make(source: str, folder: Path, count: int) -> None:
    """A study of ``count`` made trials that is called ``large``."""
    old, _ = status.find(source)
    folder.mkdir(parents=True)
    new = optuna.create_study(
        study_name="large",
        storage=f"sqlite:///{folder / 'study.db'}",
        directions=[d.name.lower() for d in old.directions],
    )
    new.set_metric_names(list(old.metric_names or ()))
    for key, value in old.user_attrs.items():
        new.set_user_attr(key, value)
    new.add_trials(list(trials(old, count)))
    told = "with" if outcome.of_study(new) else "without"
    print(f"{len(new.get_trials(deepcopy=False)):,} trials, {told} a verdict")


def trials(old: optuna.Study, count: int) -> list[FrozenTrial]:
    """The base, and made trials of different placements."""
    known = old.get_trials(deepcopy=False)
    base = next(t for t in known if t.user_attrs.get("placement") == {})
    done = [t for t in known if t.state == TrialState.COMPLETE and t.user_attrs["placement"]]
    paused = [t for t in known if history.paused(t)] or done
    space, rng = load(old.user_attrs["recipe"]["space"]), np.random.default_rng(0)
    found, seen, clock = [base], {""}, dt.datetime(2026, 1, 1)
    for _ in range(100 * count):
        if len(found) == count:
            break
        many = int(rng.integers(1, len(space.sites) + 1))
        sites = [space.sites[i] for i in rng.choice(len(space.sites), many, replace=False)]
        placement = Placement.of({s: blocks[rng.integers(len(blocks))] for s, blocks in sites})
        if placement.id in seen:
            continue
        seen.add(placement.id)
        whole = rng.random() < WHOLE
        model = (done if whole else paused)[rng.integers(len(done if whole else paused))]
        made = one(model, base, placement, space.params(placement), whole, rng)
        made.datetime_start, made.datetime_complete = clock, clock + dt.timedelta(seconds=10)
        clock += dt.timedelta(seconds=6)
        found.append(made)
    return found


def one(
    model: FrozenTrial,
    base: FrozenTrial,
    placement: Placement,
    params: dict[str, str],
    whole: bool,
    rng: np.random.Generator,
) -> FrozenTrial:
    """A made trial with what another one recorded, its score and latency moved."""
    attrs = copy.deepcopy(model.user_attrs)
    attrs |= {"placement": placement.to_json(), "placement_id": placement.id, "label": placement.label}
    attrs.pop("continues", None)
    moved, luck = float(rng.normal(0.01, 0.03)), float(rng.random())
    attrs["cost"]["latency"]["ratio"] += float(rng.normal(0, 0.05))
    for point in attrs["score"]["curve"]:
        point["value"] += moved
    attrs["score"]["value"] += moved
    shared = {"params": params, "distributions": base.distributions}
    if luck < FAILED:
        kept = {k: attrs[k] for k in ("placement", "placement_id", "label")}
        return create_trial(state=TrialState.FAIL, user_attrs=kept | {"error": "made to fail"}, **shared)
    if luck < FAILED + BEYOND:
        del attrs["score"]
        attrs["infeasible"] = "latency 12 ms above the limit of 11 ms"
        return create_trial(state=TrialState.PRUNED, user_attrs=attrs, **shared)
    if not whole:
        return create_trial(state=TrialState.PRUNED, user_attrs=attrs, **shared)
    values = [attrs["score"]["value"], *model.values[1:]]
    return create_trial(state=TrialState.COMPLETE, values=values, user_attrs=attrs, **shared)


if __name__ == "__main__":
    main()
