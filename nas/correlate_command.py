"""Goes in: the values of `correlate`. Comes out: placements trained briefly and long, a table, one sentence."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nas import correlate, run, setting, warm
from nas.recipe import RecipeError
from nas.train import TrainingFailed


def command(recipe_path: Path | None, flags: dict[str, Any], args: list[str], count: int, times: int) -> None:
    """`correlate`: check, train, judge.

    Raises:
        RecipeError: Every fault of the input, before anything is spent.
    """
    if not correlate.FEWEST <= count <= correlate.MOST:
        raise RecipeError(f"--placements {count}: expected {correlate.FEWEST} to {correlate.MOST}")
    if not 3 <= times <= 20:
        raise RecipeError(f"--times {times}: expected 3 to 20 times the short budget")
    console = Console(soft_wrap=True, file=sys.stdout)
    say = lambda text: console.print(text, highlight=False, markup=False)  # noqa: E731
    r = run.resolve(recipe_path, flags, args)
    prepared = setting.prepare(r)
    prepared.folder.mkdir(parents=True, exist_ok=True)
    run.say_all(prepared, say)
    placements = correlate.chosen(prepared, count)
    if len(placements) < correlate.FEWEST:
        raise RecipeError(f"space {prepared.space.name}: only {len(placements)} placements, too few to rank")
    planned = correlate.planned(prepared, placements, times)
    say(
        f"{len(placements)} placements, the base among them, under {len(correlate.SEEDS)} seeds: {r.epochs} epochs "
        f"against {times * r.epochs}, as long as {sum(j.epochs for j in planned) / r.epochs:.0f} trials of a search.\n"
        "Ctrl-C stops it; the same command goes on."
    )
    try:
        warm.warm_base(prepared)
        train(prepared, count, times, planned, say)
    except TrainingFailed as e:
        say(f"error: {e}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("Stopped; the same command goes on from here.")
        sys.exit(130)
    found = correlate.measure(prepared, count, times)
    path = correlate.save(found, prepared.folder)
    show(prepared, found, count, times, console)
    say(f"{path} has it; a search with this recipe shows it.")


def train(prepared: setting.Setting, count: int, times: int, planned: list[Any], say: Any) -> None:
    """Run what is missing, a line a training."""
    workers, threads = (setting.threads(), 1) if prepared.device.type == "cpu" else (1, setting.threads())
    started = time.monotonic()
    missing = [j for j in planned if j.key not in trainings_done(prepared, j.epochs)]
    if len(missing) < len(planned):
        say(f"{len(planned) - len(missing)} of {len(planned)} trainings were done before.")
    for done, rows in enumerate(correlate.run(prepared, count, times, workers, threads), 1):
        left = (time.monotonic() - started) / done * (len(missing) - done) / 60
        last = rows[-1]
        what = last["reason"] or f"{prepared.task.metric} {float(last['map50_95']):.4f}"
        say(f"{done} of {len(missing)}: {last['placement']}, seed {last['seed']}: {what}; {left:.0f} min left")


def trainings_done(prepared: setting.Setting, epochs: int) -> set[tuple[str, str]]:
    """Keys of the finished trainings of a length."""
    from nas import jobs

    return jobs.done(correlate.file_of(prepared, epochs))


def show(prepared: setting.Setting, found: correlate.Correlation, count: int, times: int, console: Console) -> None:
    """The gains at both budgets, the figures, the sentence."""
    table = Table(title=f"{found.metric} over the base, mean of {len(correlate.SEEDS)} seeds", title_justify="left")
    frame = correlate.frame(prepared, count, times)
    table.add_column("placement", overflow="fold")
    for column in frame.columns:
        table.add_column(str(column), justify="right")
    for placement, values in frame.iterrows():
        table.add_row(str(placement), *(f"{v:+.4f}" for v in values))
    console.print(table)
    for epochs, true, noise in (
        (found.epochs, found.short_spread, found.short_noise),
        (found.long, found.spread, found.noise),
    ):
        line = f"{epochs} epochs: true spread between placements {true:.4f}, noise of a paired difference {noise:.4f}"
        console.print(line, highlight=False, markup=False)
    console.print(found.sentence, style="bold", highlight=False, markup=False)
