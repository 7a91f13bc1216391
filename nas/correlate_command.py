"""Goes in: the values of `correlate`. Comes out: placements trained briefly and long, a table, one sentence."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nas import correlate, jobs, opening, plug_ins, run, setting, slots, turn, warm
from nas.recipe import RecipeError
from nas.train import TrainingFailed
from nas.warm import WarmBase


def command(recipe_path: Path | None, flags: dict[str, Any], args: list[str], count: int, times: int) -> None:
    """`correlate`: check, train, judge.

    Raises:
        RecipeError: Every fault of the input, before anything is spent.
        CorrelateError: So much failed that nothing can be concluded.
    """
    if not correlate.FEWEST <= count <= correlate.MOST:
        raise RecipeError(f"--placements {count}: expected {correlate.FEWEST} to {correlate.MOST}")
    if not 3 <= times <= 20:
        raise RecipeError(f"--times {times}: expected 3 to 20 times the short budget")
    console = Console(soft_wrap=True, file=sys.stdout)
    say = lambda text: console.print(text, highlight=False, markup=False)  # noqa: E731
    r = run.resolve(recipe_path, flags, args)
    plug_ins.announce(r.modules, say)
    prepared = setting.prepare(r)
    try:
        run.say_all(prepared, say)
        introduce(prepared, correlate.planned(prepared, count, times), times, say)
    except RecipeError:
        opening.forget(prepared)
        raise
    prepared.folder.mkdir(parents=True, exist_ok=True)
    with turn.interruptible():
        try:
            train(prepared, warm.warm_base(prepared), count, times, say)
        except TrainingFailed as e:
            say(f"error: {e}")
            sys.exit(1)
        except KeyboardInterrupt:
            say("Stopped; the same command goes on from here.")
            sys.exit(130)
    gains = correlate.read(prepared, count, times)
    found = correlate.measure(prepared, gains, times)
    path = correlate.save(found, prepared.folder)
    show(found, gains, prepared.dataset.split, console)
    say(f"{path} has it; a search with this recipe shows it.")


def introduce(prepared: setting.Setting, planned: list[jobs.Job], times: int, say: Callable[[str], None]) -> None:
    """What is about to be trained, and how much that is.

    Raises:
        RecipeError: The space has too few placements.
    """
    count, epochs = len({j.placement for j in planned}), prepared.recipe.epochs
    if count < correlate.FEWEST:
        raise RecipeError(f"space {prepared.space.name}: only {count} placements, too few to rank")
    say(
        f"{count} placements, the base among them, under {len(correlate.SEEDS)} seeds: {epochs} epochs against "
        f"{times * epochs}, as long as {sum(j.epochs for j in planned) / epochs:.0f} trials of a search.\n"
        "Ctrl-C stops it; the same command goes on."
    )


def train(prepared: setting.Setting, base: WarmBase, count: int, times: int, say: Callable[[str], None]) -> None:
    """Run what is missing, a line a training."""
    of = correlate.by_length(correlate.planned(prepared, count, times))
    missing = [j for n, some in of.items() for j in jobs.missing(prepared, some, correlate.file_of(prepared, n))]
    total = sum(map(len, of.values()))
    if len(missing) < total:
        say(f"{total - len(missing)} of {total} trainings were done before.")
    if not missing:
        return
    workers = max(1, slots.choose(prepared, len(missing), say))
    left, done, began = sum(j.epochs for j in missing), 0, time.monotonic()
    work = correlate.run(prepared, base, count, times, workers, slots.share(workers))
    for number, rows in enumerate(work, 1):
        done += missing[number - 1].epochs
        minutes = (time.monotonic() - began) / done * (left - done) / 60
        last, score = rows[-1], prepared.task.columns[0]
        what = last["reason"] or f"{prepared.task.metric} {float(last[score]):.4f}"
        say(f"{number} of {len(missing)}: {last['placement']}, seed {last['seed']}: {what}; {minutes:.0f} min left")


def show(found: correlate.Correlation, gains: correlate.Gains, split: str, console: Console) -> None:
    """The gains at both budgets, the figures, the sentence."""
    title = f"{found.metric} on {split} over the base, mean of {len(correlate.SEEDS)} seeds"
    table = Table(title=title, title_justify="left")
    table.add_column("placement", overflow="fold")
    for epochs in (found.epochs, found.long):
        table.add_column(f"{epochs} epochs", justify="right")
    short, long = gains.short.mean(axis=1), gains.long.mean(axis=1)
    for placement in long.sort_values(ascending=False).index:
        table.add_row(placement, f"{short[placement]:+.4f}", f"{long[placement]:+.4f}")
    console.print(table)
    for epochs, true, noise in (
        (found.epochs, found.short_spread, found.short_noise),
        (found.long, found.spread, found.noise),
    ):
        line = f"{epochs} epochs: true spread between placements {true:.4f}, noise of a paired difference {noise:.4f}"
        console.print(line, highlight=False, markup=False)
    console.print(found.sentence, style="bold", highlight=False, markup=False)
