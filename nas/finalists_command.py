"""Goes in: a study. Comes out: its finalists trained, a table with intervals, and the verdict, kept with the study."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import optuna
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas import (
    cost,
    dashboard,
    export,
    finalists,
    jobs,
    judge,
    outcome,
    passes,
    plug_ins,
    points,
    recipe,
    report_command,
    setting,
    slots,
    turn,
    verdict_words,
    warm,
    wording,
)
from nas import study as studies
from nas.errors import InputError
from nas.finalists import Contender
from nas.interval import Interval
from nas.outcome import BASE, CANDIDATE, CONVOLUTION, RANDOM, Outcome
from nas.recipe import RecipeError
from nas.setting import Setting
from nas.train import TrainingFailed
from nas.warm import WarmBase

FILE = "verdict.json"
MOST = 12  # seeds, unless more are asked for
LEAST_SEEDS = 3
FEWEST = 3  # finalists, where the search was told to have none and they are asked for after all
Say = Callable[[str], None]


def command(
    which: str,
    count: int | None,
    seeds: int | None,
    epochs: int | None,
    until_told: bool,
    anyway: bool,
    workers: str | None,
    storage: str | None,
    output: str,
) -> None:
    """`finalists`: find the study, prepare what it shares, train, judge.

    Raises:
        InputError: No such study, or one that was made from other things than are here now.
    """
    if seeds is not None and seeds < LEAST_SEEDS:
        raise RecipeError(f"--seeds {seeds}: expected {LEAST_SEEDS} or more; fewer know nothing of the noise")
    study, folder = dashboard.find(which, storage, output)
    console = Console(soft_wrap=True, file=sys.stdout)
    say = lambda text: console.print(text, highlight=False, markup=False)  # noqa: E731
    plug_ins.again(study, say)
    prepared = of_study(study, folder, storage, count, seeds, epochs, workers)
    finalists.contenders(study, prepared)  # whether there is anything to compare, before anything is spent
    refuse_poor(study, prepared, anyway)
    try:
        base = warm.warm_base(prepared)
    except TrainingFailed as e:
        say(f"error: the base could not be trained: {e}; see {prepared.log}")
        sys.exit(1)
    status = run(study, prepared, base, console)
    while until_told and status == 0 and (more := wanted(study)):
        say(f"\nNot told yet: {more} seeds.")
        prepared = with_seeds(prepared, more)
        status = run(study, prepared, base, console)
    if status == 0:
        page, *_ = report_command.make(study, points.read(study), prepared.folder)
        say(f"\nRead it:  {page}")
    sys.exit(status)


def wanted(study: optuna.Study) -> int | None:
    """More seeds, as the verdict advises, up to :data:`MOST`; None where a gain is told or it advises no more."""
    found = outcome.of_study(study)
    if found is None or found.advice is None or outcome.winner(found) is not None:
        return None
    more = min(found.advice, MOST)
    return more if more > len(found.seeds) else None


def of_study(
    study: optuna.Study,
    folder: Path,
    storage: str | None,
    count: int | None,
    seeds: int | None,
    epochs: int | None,
    workers: str | None,
) -> Setting:
    """What a study shares, checked to be what it was made from.

    Raises:
        RecipeError: It is not; says the differences.
    """
    read = dict(study.user_attrs["recipe"])
    asked = {"finalists": count, "finalist_seeds": seeds, "finalist_epochs": epochs, "slots": workers}
    read |= {k: v for k, v in asked.items() if v is not None}
    read |= {"name": study.study_name, "output": str(folder.parent), "storage": storage}
    train = {k: v for k, v in read.pop("train").items() if v is not None}
    made = recipe.read(None, {**read, "finalists": read.get("finalists") or FEWEST, "train": train})
    prepared = setting.prepare(made, cost.Cost.from_json(study.user_attrs["base"]["cost"]))
    studies.refuse_another_recipe(study, prepared)
    return prepared


def run(study: optuna.Study, prepared: Setting, base: WarmBase, console: Console) -> int:
    """:func:`compute`, shown; the exit status.

    Raises:
        FinalistsError: So much failed that nothing can be said.
    """
    say = lambda text: console.print(text, highlight=False, markup=False)  # noqa: E731
    try:
        found = compute(study, prepared, base, say)
    except TrainingFailed as e:
        say(f"error: {e}")
        return 1
    except KeyboardInterrupt:
        say(f"Stopped; `{again(study, prepared)}` goes on from here.")
        return 130
    show(found, console)
    return 0


def compute(study: optuna.Study, prepared: Setting, base: WarmBase, say: Say) -> Outcome:
    """Train what is missing, judge, and keep the outcome with the study.

    Raises:
        FinalistsError: So much failed that nothing can be said.
        TrainingFailed: No process could start.
        KeyboardInterrupt: Stopped; what was trained is kept.
    """
    of = finalists.contenders(study, prepared)
    if (had := finalists.there(prepared, of)) > prepared.recipe.finalist_seeds:
        say(f"{had} seeds are there and all count: a verdict does not choose among its seeds.")
        prepared = with_seeds(prepared, had)
    introduce(study, prepared, of, say)
    with turn.interruptible():
        passes.time_all(prepared, base, of, passes.PASSES // 2)
        train(study, prepared, base, of, say)
        passes.time_all(prepared, base, of, passes.PASSES)
    found = judge.judge(study, prepared, of, again(study, prepared))
    keep(study, prepared.folder, found)
    return found


def at_the_end(study: optuna.Study, prepared: Setting, base: WarmBase, console: Console) -> int:
    """What `search` does after its last placement: :func:`run`, whose failure does not make the search a failed one."""
    try:
        refuse_poor(study, prepared, anyway=False)
        return run(study, prepared, base, console)
    except InputError as e:
        console.print(f"No verdict: {e}", highlight=False, markup=False)
        return 0


def refuse_poor(study: optuna.Study, prepared: Setting, anyway: bool) -> None:
    """No verdict on a base that has hardly learnt anything: how an untrained model starts is another question.

    Raises:
        FinalistsError: The base's score in the search is that low.
    """
    base = export.base_trial(study)
    said = prepared.poor(base.user_attrs["score"]["value"] if base else 0.0)
    if said and not anyway:
        raise finalists.FinalistsError(f"{said}; no verdict on that (`finalists --anyway` gives one all the same)")


def with_seeds(prepared: Setting, count: int) -> Setting:
    """The same with so many seeds."""
    return replace(prepared, recipe=prepared.recipe.model_copy(update={"finalist_seeds": count}))


def again(study: optuna.Study, prepared: Setting) -> str:
    """The command that goes on with these very finalists."""
    asked, r = study.user_attrs["recipe"], prepared.recipe
    options = (("--count", "finalists", 3), ("--seeds", "finalist_seeds", 5), ("--epochs", "finalist_epochs", None))
    given = "".join(
        f" {flag} {getattr(r, name)}" for flag, name, default in options if getattr(r, name) != asked.get(name, default)
    )
    return f"python -m nas finalists {prepared.folder}{given}"


def introduce(study: optuna.Study, prepared: Setting, of: Sequence[Contender], say: Say) -> None:
    """What is about to be trained, on what it is judged, and how much that is."""
    r, roles = prepared.recipe, (CANDIDATE, RANDOM, CONVOLUTION)
    counts = {role: sum(c.role == role for c in of) for role in roles}
    plan = finalists.planned(prepared, of)
    left = len(jobs.missing(prepared.reporting(), plan, finalists.trainings(prepared)))
    work = (
        f"as long as {left * r.long_epochs / r.epochs:.0f} placements trained to the end"
        if left
        else "all trained before"
    )
    others = sum(bool(t.user_attrs["placement"]) for t in export.front_trials(study)) - counts[CANDIDATE]
    more = f" ({others} more left out; --count takes more)" if others > 0 else ""
    say(
        f"\nFinalists: {counts[CANDIDATE]} of the front{more}, the base, "
        f"{wording.count(counts[RANDOM], 'random placement')} and "
        f"{wording.count(counts[CONVOLUTION], 'plain convolution')}, each under "
        f"{r.finalist_seeds} seeds for {wording.count(r.long_epochs, 'epoch')}: "
        f"{work}.\n"
        f"They are scored on {prepared.reported.split} ({prepared.reported.images['val']} images), which the search "
        f"never saw. Ctrl-C stops it; the same command goes on."
    )


def train(study: optuna.Study, prepared: Setting, base: WarmBase, of: Sequence[Contender], say: Say) -> None:
    """Run what is missing, a line a training; the study tells `status` how far it is."""
    plan = finalists.planned(prepared, of)
    missing = jobs.missing(prepared.reporting(), plan, finalists.trainings(prepared))
    if len(missing) < len(plan):
        say(f"{len(plan) - len(missing)} of {len(plan)} trainings were done before.")
    if not missing:
        return
    workers = max(1, slots.choose(prepared, len(missing), say))
    began, score = time.monotonic(), prepared.task.columns[0]
    for number, rows in enumerate(finalists.train(prepared, base, plan, workers, slots.share(workers)), 1):
        left = (time.monotonic() - began) / number * (len(missing) - number) / 60
        last, done = rows[-1], len(plan) - len(missing) + number
        study.set_user_attr(
            outcome.PROGRESS, {"done": done, "of": len(plan), "minutes": left, "go_on": again(study, prepared)}
        )
        what = last["reason"] or f"{prepared.task.metric} {float(last[score]):.4f}"
        say(f"{number} of {len(missing)}: {last['placement']}, seed {last['seed']}: {what}; {left:.0f} min left")


def keep(study: optuna.Study, folder: Path, found: Outcome) -> None:
    """Store the outcome with the study and in its folder, whole or not at all."""
    told = json.loads(json.dumps(found.to_json()))
    study.set_user_attr(outcome.ATTRIBUTE, told)
    study.set_user_attr(outcome.PROGRESS, {})
    path = folder / "finalists" / FILE
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def show(found: Outcome, console: Console) -> None:
    """The finalists, a line on the controls, then the verdict."""
    console.print(table(found))
    for role, name in ((RANDOM, "random placement"), (CONVOLUTION, "plain convolution")):
        gains = [wording.points(e.gain.value) for e in found.of(role) if e.gain]
        if gains:
            console.print(f"{wording.count(len(gains), name)}: {', '.join(gains)}", highlight=False)
    console.print()
    for number, sentence in enumerate(found.sentences):
        console.print(Text(sentence, style="bold" if number == 0 else ""), highlight=False)


def table(found: Outcome) -> Table:
    """The finalists with their intervals, gains in points of 0.01; the controls stand in the report."""
    seeds = f"{len(found.seeds)} seeds of {wording.count(found.epochs, 'epoch')}"
    title = f"Gain over the base in points of {found.metric} on {found.split}, ± for 95% ({seeds})"
    rows = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    rows.add_column("placement", overflow="fold", min_width=22)
    for column in ("gain", "search said", "over plain", "latency", "on front"):
        rows.add_column(column, justify="right", no_wrap=True)
    for e in (found.entries[0], *found.of(CANDIDATE)):
        rows.add_row(
            Text(e.label.replace(" + ", "\n")),
            _gain(e.gain) if e.role != BASE else "-",
            "-" if e.searched is None or e.role == BASE else wording.points(e.searched),
            _gain(e.over_convolution) if e.over_convolution else "-",
            f"x{e.latency.value:.2f}±{e.latency.high - e.latency.value:.2f}" if e.latency else "-",
            "-" if e.front is None else f"{e.front:.0%}",
        )
    return rows


def _gain(found: Interval | None) -> str:
    if found is None:
        return "failed"
    return f"{wording.points(found.value)}±{(found.high - found.value) / verdict_words.POINT:.1f}"
