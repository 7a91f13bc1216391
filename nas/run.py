"""Goes in: a command's values. Comes out: the command done, step by step, with what it says on the way."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas import recipe as recipes

if TYPE_CHECKING:
    from optuna import Study

    from nas.setting import Setting
    from nas.warm import WarmBase

SHOWN = 3
DEMO_RECIPE = Path(__file__).parent / "assets" / "demo.yaml"


def search(recipe_path: Path | None, flags: dict[str, Any], args: list[str]) -> None:
    """`search`: check, warm, run, report.

    Raises:
        RecipeError: Every fault of the input, before anything is spent.
    """
    r = resolve(recipe_path, flags, args)
    os.environ.setdefault("YOLO_VERBOSE", "true")
    from optuna.exceptions import StorageInternalError

    from nas import export, workers
    from nas import study as studies
    from nas.display import Display
    from nas.train import TrainingFailed

    console = Console(soft_wrap=True, file=sys.stdout)  # this very stream: trainings redirect sys.stdout to the log
    say = lambda text: console.print(text, highlight=False, markup=False)  # noqa: E731
    started = time.monotonic()
    greet(r, say)
    try:
        study, setting, base = begin(r, say)
    except TrainingFailed as e:
        say(f"error: {e}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("Stopped before the first placement; the same command goes on.")
        sys.exit(130)
    status = 0
    with Display(study, setting, console) as display:
        try:
            workers.run(study, setting, base, display)
        except KeyboardInterrupt:
            status = 130
        except studies.SearchStopped as e:
            display.say(f"stopped: {e}")
            status = 1
    try:
        studies.write(study, setting, pictures=True, say=say)
    except OSError as e:
        say(f"stopped: {setting.folder} cannot be written to: {e.strerror}; the study itself has what was finished")
        sys.exit(1)
    except StorageInternalError:  # it was said why
        sys.exit(1)
    show_front(study, setting, console, status, time.monotonic() - started)
    if status == 0 and setting.recipe.finalists and len(export.finished(study)) > 1:
        from nas import finalists_command

        status = finalists_command.at_the_end(study, setting, base, console)
    if export.front_trials(study):
        from nas import points, report_command

        report_command.make(study, points.read(study), setting.folder)
        what_next(study, setting, console)
    sys.exit(status)


def begin(r: recipes.Recipe, say: Callable[[str], None]) -> tuple[Study, Setting, WarmBase]:
    """All that comes before the first placement: check, measure, open the study, warm the base.

    Raises:
        RecipeError: Every fault of the input, before anything is spent.
        TrainingFailed: The base could not be trained.
    """
    from nas import opening, plug_ins, warm
    from nas import setting as settings
    from nas import study as studies
    from nas.train import TrainingFailed

    if r.ray is not None:
        from nas import on_ray

        on_ray.connect(r)
    storage = opening.existing(r, say)  # before anything is spent or written
    plug_ins.announce(r.modules, say)
    setting = settings.prepare(r)
    study = opening.study(setting, storage, say)
    studies.write_recipe(setting)
    study.set_user_attr("artifacts", setting.store.address if setting.store else None)
    study.set_user_attr("asked", setting.recipe.trials)  # what `status` counts towards; it may be more than at first
    say_all(setting, say)
    for line in (*outlook(setting), f"study: {setting.folder}" + continued(len(studies.export.trained(study)))):
        say(line)
    if told := study.user_attrs.get(warm.ATTRIBUTE):
        warm.obtain(setting, told)
    try:
        base = warm.warm_base(setting)
    except TrainingFailed as e:
        raise TrainingFailed(f"the base could not be trained: {e}; see {setting.log}") from e
    say(f"warm base: {base.transfer}" + ("; fine-tuned before, read from the cache" if base.cached else ""))
    if said := studies.look_ahead(study, setting, base, say):
        say(said)
    if not told:
        study.set_user_attr(warm.ATTRIBUTE, warm.share(setting))
    return study, setting, base


def resolve(recipe_path: Path | None, flags: dict[str, Any], args: list[str]) -> recipes.Recipe:
    """The recipe that file, flags and KEY=VALUE arguments make together; the demo's where no data is named."""
    values = {k: v for k, v in flags.items() if v is not None}
    for key in ("objectives", "modules"):
        if isinstance(values.get(key), str):
            values[key] = tuple(x.strip() for x in values[key].split(","))
        elif key in values:
            values[key] = tuple(values[key])
    train = parse(args, options=tuple(flags))
    for key in ("epochs", "seed"):  # these two are fields of the recipe; people write them the way of Ultralytics
        if key in train and key in values and values[key] != train[key]:
            raise recipes.RecipeError(
                f"--{key} {values[key]} and {key}={train[key]}: they say the same and differ; keep one"
            )
        if key in train:
            values[key] = train.pop(key)
    if recipe_path is None and values.get("data") in (None, "demo"):
        own = [f"--{key}" for key in ("weights", "base") if key in values]
        if own and "data" not in values:
            raise recipes.RecipeError(
                f"{' and '.join(own)} without --data: name your dataset's YAML, or leave both for the demo"
            )
        recipe_path = DEMO_RECIPE
    return recipes.read(recipe_path, {**values, "train": train})


def parse(args: list[str], options: tuple[str, ...] = ()) -> dict[str, Any]:
    """``imgsz=320`` -> ``{"imgsz": 320}`` by Ultralytics' own rules; ``options`` are the command's own.

    Raises:
        RecipeError: An argument that is no KEY=VALUE.
    """
    if not args:
        return {}
    from ultralytics.cfg import parse_key_value_pair

    found = {}
    for arg in args:
        if arg.startswith("-"):
            raise recipes.RecipeError(unknown_option(arg, options))
        if "=" not in arg or arg.startswith("="):
            raise recipes.RecipeError(f"argument {arg!r}: expected KEY=VALUE, for instance imgsz=320")
        try:
            key, value = parse_key_value_pair(arg)
        except Exception as e:
            raise recipes.RecipeError(f"argument {arg!r}: {' '.join(str(e).split())}") from e
        found[key] = value
    return found


def unknown_option(arg: str, options: tuple[str, ...]) -> str:
    """What to write instead of ``--imgsz``: a training argument of Ultralytics, or the option that is nearest."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    name = arg.lstrip("-").split("=")[0].replace("-", "_")
    if name in DEFAULT_CFG_DICT:
        return f"{arg}: Ultralytics' training arguments are written KEY=VALUE: {name}=..."
    names = {"slots": ("workers", "per-gpu")}
    known = [f"--{name}" for option in options for name in names.get(option, (option.replace("_", "-"),))]
    return f"no such option: {arg}{recipes.near(arg, known)}"


def greet(r: recipes.Recipe, say: Any) -> None:
    """What will happen, how long it takes, and how to use one's own data."""
    if r.data == "demo":
        say(
            f"Demo: {r.trials} placements of attention blocks in YOLOv10n, trained briefly on pictures of handwritten\n"
            "digits made for this. Each starts as an exact copy of a trained detector. About 15 seconds of one\n"
            "core a placement, and then the finalists: 25 minutes for 100 on two cores. Ctrl-C stops it; the same\n"
            "command goes on.\n"
            "Your own data:  python -m nas search --data my-data.yaml --weights yolov10n.pt imgsz=320"
        )
    else:
        say(
            f"Checking {r.data}, the weights and the space, and measuring the base; "
            f"then training {r.trials} placements.\nCtrl-C stops it; the same command goes on."
        )


def continued(done: int) -> str:
    """``, continued after 12 placements``, or nothing."""
    from nas import wording

    return f", continued after {wording.count(done, 'placement')}" if done else ""


def outlook(setting: Any) -> list[str]:
    """What `correlate` has found of this recipe, or that it has not been asked."""
    from nas import correlate

    found = correlate.stored(setting)
    if found is not None:
        return [f"short training: {found.sentence}"]
    if is_demo(setting.recipe):
        return ["short training: measured on the demo in studies/protocol.md; `correlate` checks it on your data"]
    return [
        "warning: nobody has checked that so short a training ranks placements on this data as a longer one would; "
        "`python -m nas correlate` with the same arguments does"
    ]


def is_demo(r: recipes.Recipe) -> bool:
    """Whether a recipe trains as the demo's own does."""
    decides = ("data", "base", "weights", "wire", "warm_epochs", "epochs", "block_lr_factor", "freeze", "train")
    demo = resolve(None, {}, [])
    return all(getattr(r, name) == getattr(demo, name) for name in decides)


def say_all(setting: Any, say: Callable[[str], None]) -> None:
    """Say what the checks found."""
    for line in introduce(setting):
        say(line)


def introduce(setting: Any) -> list[str]:
    """What the checks found."""
    from nas import rungs, wording

    r, d, c = setting.recipe, setting.dataset, setting.base_cost
    lines = [f"note: {text}" for text in setting.notes]
    start = r.weights or (setting.start.pt_path if setting.start is not None else "none, from scratch")
    lines += [
        f"weights: {start}",
        f"data: {d.images['train']} images to train on, {d.images['val']} to search on ({d.split}), "
        f"{setting.reported.images['val']} to report on ({setting.reported.split}); {len(d.names)} classes",
        f"base: {c.params:,} parameters, {c.gflops:.2f} GFLOPs at {r.imgsz} px, {c.latency.ms:.1f} ms "
        f"on {c.latency.device} ({c.latency.backend}, {c.latency.dtype}, {c.latency.threads} threads, "
        f"{c.latency.head} head)",
        f"space: {setting.space.name}, {len(setting.space.sites)} sites, {setting.space.size:,} placements; "
        f"sampler {r.sampler}; objectives {', '.join([setting.task.metric, *r.objectives[1:]])}",
        f"training: {wording.count(r.epochs, 'epoch')} a placement, after {r.warm_epochs} of the base"
        + (f"; {rungs.shares(r.rungs)[0]:.0%} of it first, the rest for the promising" if r.rungs > 1 else ""),
    ]
    if r.finalists:
        count = (3 * r.finalists + 1) * r.finalist_seeds
        lines.append(
            f"finalists: at the end up to {count} trainings of {wording.count(r.long_epochs, 'epoch')}, as long as "
            f"{count * r.long_epochs / r.epochs:.0f} placements trained to the end; --no-finalists for none"
        )
    return lines


def show_front(study: Any, setting: Any, console: Console, status: int, seconds: float) -> None:
    """The front of the search's single trainings."""
    from nas import export

    done, points = export.trained(study), export.front_trials(study)
    if status == 130:
        ended = len(export.finished(study))
        to_the_end = f", {ended} of them trained to the end" if ended < len(done) else ""
        console.print(
            f"Stopped after {len(done)} placements{to_the_end}; the same command goes on from here.", markup=False
        )
    if not points:
        return
    whole = f" ({len(export.finished(study))} trained to the end)" if setting.recipe.rungs > 1 else ""
    title = f"Pareto front of {len(done)} placements{whole}, {seconds / 60:.1f} minutes"
    table = Table(title=title, title_justify="left")
    of = setting.task
    for column in ("trial", of.metric, "vs base", "latency", "GFLOPs"):
        table.add_column(column, justify="right")
    table.add_column("placement", overflow="fold")
    base = export.base_trial(study)
    for t in points:
        score, cost = t.user_attrs["score"], t.user_attrs["cost"]
        over = export.gain(study, t)
        gain = "-" if over is None else f"{over:+.4f}"
        latency, flops = f"x{cost['latency']['ratio']:.3f}", f"{cost['gflops']:.3f}"
        table.add_row(str(t.number), f"{score['value']:.4f}", gain, latency, flops, Text(t.user_attrs["label"]))
    console.print(table)
    if better := [x for x in export.unfinished(study) if (export.gain(study, x) or 0) > 0][:SHOWN]:
        names = ", ".join(f"{x.user_attrs['label']} ({export.gain(study, x):+.4f})" for x in better)
        console.print(f"Above the base where they stopped, and not trained to the end: {names}", markup=False)
    if said := base is not None and setting.poor(base.user_attrs["score"]["value"]):
        console.print(f"warning: {said}", highlight=False, markup=False)
    console.print(
        f"'vs base': {of.metric} on {setting.dataset.split} over the untouched base under the same batches. One seed, "
        "one short\ntraining: differences of a few 0.001 are noise; these are candidates, no findings.",
        highlight=False,
        markup=False,
    )


def what_next(study: Any, setting: Any, console: Console) -> None:
    """Where the results are, and what to do with them."""
    from nas import outcome

    folder, found = setting.folder, outcome.of_study(study)
    won = outcome.winner(found) if found else None
    verdict = "" if found else f"The verdict:  python -m nas finalists {folder}\n"
    take = f"Take one:     python -m nas export {folder} --pick {'verdict' if won else 'knee'} -o mine"
    take += "" if won else "    (no gain is shown for any of them; the base is the safe choice)"
    console.print(
        f"\n{verdict}"
        f"Read it:      {folder}/report.html    (again: python -m nas report {folder})\n"
        f"Look at it:   python -m nas dashboard {folder}    (pictures, YAMLs and weights to download)\n"
        f"{take}\n"
        f"Train it:     yolo {setting.task.name} train model=mine/<name>.pt data=... epochs=100",
        highlight=False,
        markup=False,
    )


def dashboard(which: str, storage: str | None, output: str, host: str, port: int) -> None:
    """`dashboard`: find the study, dress it, serve it."""
    from nas import dashboard as boards

    study, folder = boards.find(which, storage, output)
    if not boards.is_loopback(host):
        print(
            f"warning: the dashboard has no login and can delete studies; on {host} everyone who reaches this machine "
            "can use it. Put it behind an authenticating proxy.",
            file=sys.stderr,
        )
    if not boards.is_free(host, port):
        raise recipes.RecipeError(f"port {port} of {host} is in use; try --port {port + 1}")
    print(
        f"Dashboard of {study.study_name}: http://{host}:{port}/dashboard/studies/{study._study_id}  (Ctrl-C stops it)"
    )
    boards.serve(study, folder, host, port)
