"""Goes in: a study's name. Comes out: how far it is and whether waiting pays, in a few lines; asked from any shell.

Also the one place where a study is looked up by its name. Imports neither torch nor Ultralytics, so that it answers at
once; with a storage it needs nothing of the study's folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas import machine, outcome, progress, wording
from nas.preflight import address
from nas.progress import Progress, Reference, clock
from nas.recipe import RecipeError, near
from nas.storage import hide_password, open_storage

SHOWN, RUNNING = 20, 8  # rows of the front, and running trials, that are shown
WIDE = 1000  # columns where no terminal is there to be fitted


def find(which: str, storage: str | None = None, output: str = "runs") -> tuple[optuna.Study, Path]:
    """A study by its name or its folder, or by its name in any storage.

    Raises:
        RecipeError: There is none; says which there are.
    """
    folder = Path(which) if os.path.isfile(Path(which) / "study.db") else Path(output) / which
    if storage is None:
        database = folder / "study.db"
        if not os.path.isfile(database):
            there = sorted(p.parent.name for p in Path(output).glob("*/study.db"))
            raise RecipeError(
                f"study {which!r} not found in {Path(output).resolve()}/; there are: {', '.join(there) or 'none'}"
                f"{near(which, there)}. Where it lies elsewhere: its folder's path, --output, or --storage"
            )
        storage = f"sqlite:///{database.resolve()}"
    refuse_to_make(storage)
    opened = open_storage(storage)
    names = optuna.get_all_study_names(opened)
    name = folder.name if folder.name in names else which
    if name not in names:
        raise RecipeError(f"storage has no study {name!r}; it has: {', '.join(names) or 'none'}{near(name, names)}")
    if name in (".", "..") or Path(name).name != name or "\\" in name:
        raise RecipeError(f"study {name!r}: its name is a path, and its files would lie outside of {output}/")
    study = optuna.load_study(study_name=name, storage=opened)
    if "ready" not in study.user_attrs:
        raise RecipeError(f"study {name!r} was not made by `nas search`")
    return study, folder


def refuse_to_make(url: str) -> None:
    """SQLite makes a file where there is none; who looks for a study wants none made.

    Raises:
        RecipeError: The URL names a file that is not there or holds nothing, or is none.
    """
    parsed = address(url)
    file = parsed.database or ""
    if not parsed.drivername.startswith("sqlite") or file in ("", ":memory:") or file.startswith("file:"):
        return
    if not os.path.isfile(file):
        raise RecipeError(f"storage {url}: cannot be used: no such file: {file}")
    if os.path.getsize(file) == 0:
        raise RecipeError(f"storage {url}: cannot be used: {file} is empty")


def command(which: str, storage: str | None, output: str) -> None:
    """`status`: say how a study stands.

    Raises:
        RecipeError: There is no such study, or its storage cannot be reached.
    """
    study, folder = find(which, storage, output)
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE)
    where = hide_password(storage, storage) if storage else str(folder)
    console.print(f"{study.study_name}: {where}", highlight=False, markup=False, soft_wrap=True)  # to be copied whole
    for part in told(study):
        console.print(part, highlight=False, markup=False)


def told(study: optuna.Study) -> Iterator[str | Table]:
    """All that is said of a study, from top to bottom."""
    attrs, trials = study.user_attrs, study.get_trials(deepcopy=False)
    recipe, metric = attrs["recipe"], (study.metric_names or ["score"])[0]
    reference = Reference.of(recipe["objectives"], attrs["base"]["cost"]["gflops"])
    gone = orphans(study._storage, study._study_id, trials)
    alive = [t for t in trials if t.number not in gone]
    p = progress.read(alive, reference, attrs.get("asked", recipe["trials"]))
    finished = p.trained >= p.asked and not p.running
    facts = Table.grid(padding=(0, 2))
    for i, line in enumerate(states(p, alive, len(gone), finished)):
        facts.add_row("" if i else "state", Text(line))
    facts.add_row("how far", Text(far(p, recipe["rungs"])))
    if not finished:
        facts.add_row("how long", Text(long(p)))
    if said := finals(attrs):
        facts.add_row("finalists", Text(said))
    facts.add_row("best", Text(progress.best(p, metric)))
    if not finished:
        facts.add_row("worth it", Text(progress.waiting(p)))
    yield facts
    if judged := verdict(study):
        yield f"\n{judged}"
    if p.front:
        whole = wording.count(p.whole, "placement")
        yield f"\nPareto front of {whole} trained to the end, hypervolume {p.worth.now:.4f}"
        yield rows(p, metric)
        yield progress.CAVEAT


def finals(attrs: Mapping[str, Any]) -> str | None:
    """How far the finalists are, where they train or were interrupted."""
    told = attrs.get(outcome.PROGRESS)
    if not told:
        return None
    left = f"{told['minutes']:.0f} min left when the last one ended"
    return f"{told['done']} of {told['of']} trainings, {left}; {told['go_on']} goes on if it was stopped"


def states(p: Progress, trials: Sequence[FrozenTrial], gone: int, finished: bool) -> Iterator[str]:
    """Whether it runs, and where; or since when it does not."""
    on = [t for t in trials if t.state == TrialState.RUNNING]
    ends = [t for t in trials if t.datetime_complete]
    if on:
        going = f", {p.going_on} of them trained on" if p.going_on else ""
        yield f"running, {wording.count(len(on), 'placement')} in training{going}"
        yield from map(whose, on[:RUNNING])
        if len(on) > RUNNING:
            yield f"and {len(on) - RUNNING} more"
    elif not ends:
        yield "no placement has begun; a search first warms the base and looks at the blocks"
    else:
        last = max(ends, key=lambda t: str(t.datetime_complete))
        word = "finished" if finished else "stopped, no placement in training"
        yield f"{word}; the last one ended {when(last, last.datetime_complete)}"
    if gone:
        yield f"{wording.count(gone, 'training')} of a process that is gone; a search that goes on tries again"


def whose(trial: FrozenTrial) -> str:
    """A running trial: what, on which machine, since when."""
    attrs = trial.user_attrs
    owner = f"{attrs['host']}, process {attrs.get('pid')}" if "host" in attrs else "machine not known yet"
    what = attrs.get("label", "choosing")
    return f"{what} (trial {trial.number}) on {owner}, begun {when(trial, trial.datetime_start)}"


def when(trial: FrozenTrial, moment: datetime | None) -> str:
    """A time as the machine that wrote it has it, and how long ago that is where it is this one."""
    if moment is None:
        return "at a time not recorded"
    ago = (datetime.now() - moment).total_seconds()
    here = trial.user_attrs.get("host") in (None, machine.name()) and ago >= 0
    return f"{moment:%Y-%m-%d %H:%M:%S}" + (f", {clock(ago)} ago" if here else "")


def far(p: Progress, rungs: int) -> str:
    """How many are trained, and what became of the others."""
    whole = f", {p.whole} of them to the end, {p.paused} paused" if rungs > 1 else ""
    asked = wording.count(p.asked, "placement")
    return f"{p.trained} of {asked} trained{whole}; {p.failed} failed, {p.beyond} beyond limits"


def long(p: Progress) -> str:
    """How long still, and by what pace."""
    if p.pace is None or p.trained >= p.asked:
        return progress.left(p)
    last = wording.count(p.pace.placements, "placement")
    return (
        f"{progress.left(p)}{'' if p.running else ' of training, once it goes on'}, by {p.pace.seconds:.0f} s a "
        f"placement and {p.pace.at_once:.1f} trainings at once (the last {last})"
    )


def rows(p: Progress, metric: str) -> Table:
    """The front, best score first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("trial", metric, "vs base", "latency", "GFLOPs"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("placement", overflow="fold")
    for t in p.front[:SHOWN]:
        cost, over = t.user_attrs["cost"], progress.gain(t, p.base)
        latency = f"x{cost['latency']['ratio']:.3f}" if cost.get("latency") else "-"
        of_base = p.base is not None and t.number == p.base.number
        gain = "-" if over is None or of_base else f"{over:+.4f}"
        score, flops = f"{t.user_attrs['score']['value']:.4f}", f"{cost['gflops']:.3f}"
        table.add_row(str(t.number), score, gain, latency, flops, Text(t.user_attrs["label"]))
    if len(p.front) > SHOWN:
        table.add_row("...", "", "", "", "", f"and {len(p.front) - SHOWN} more")
    return table


def verdict(study: optuna.Study) -> str | None:
    """What the finalists came to, in its first sentence; None before they were trained."""
    if "finalists" not in study.user_attrs:
        return None
    found = outcome.of_study(study)
    return f"Finalists: {found.sentences[0]}" if found and found.sentences else None


def orphans(storage: BaseStorage, study_id: int, trials: Sequence[FrozenTrial]) -> set[int]:
    """Numbers of running trials whose process is gone: by its heartbeat, on this machine by its number."""
    silent: Callable[[int], list[int]] = getattr(getattr(storage, "_backend", storage), "silent", lambda _: [])
    ids, host = set(silent(study_id)), machine.name()
    return {
        t.number
        for t in trials
        if t.state == TrialState.RUNNING
        and (t._trial_id in ids or (t.user_attrs.get("host") == host and gone(t.user_attrs.get("pid"))))
    }


def gone(pid: Any) -> bool:
    """Whether no process of this machine has that number."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, TypeError, ValueError):
        return False
    return False
