"""Goes in: the command line. Comes out: one call a command; errors of the input as one message and exit status 2."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import yolo_attention_nas_startup as startup
from nas import hidden, telling
from nas.errors import InputError
from nas.options import (
    BACKENDS,
    Args,
    Artifacts,
    Base,
    BaseYaml,
    BlockLrFactor,
    Data,
    Epochs,
    FinalistsOption,
    Freeze,
    LatencyBackend,
    MaxGflops,
    MaxLatencyMs,
    MaxParams,
    Modules,
    Objectives,
    Output,
    Ray,
    RecipeFile,
    Rungs,
    Sampler,
    Seed,
    Sites,
    Slots,
    Space,
    Startup,
    Storage,
    StudiesFolder,
    StudyName,
    Trials,
    TrialTimeout,
    Trust,
    WarmEpochs,
    Weights,
    Wire,
)
from search_spaces import SpaceError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find which attention block to add to a YOLO detector, and where, on your own data.",
)
modules_app = typer.Typer(help="The attention blocks: list them, look at one, check your own.")
app.add_typer(modules_app, name="modules")


@app.command(context_settings={"ignore_unknown_options": True})
def search(
    args: Args = None,
    recipe: RecipeFile = None,
    data: Data = None,
    weights: Weights = None,
    base: BaseYaml = None,
    space: Space = None,
    trials: Trials = None,
    objectives: Objectives = None,
    sampler: Sampler = None,
    rungs: Rungs = None,
    name: StudyName = None,
    seed: Seed = None,
    epochs: Epochs = None,
    warm_epochs: WarmEpochs = None,
    block_lr_factor: BlockLrFactor = None,
    freeze: Freeze = None,
    wire: Wire = None,
    startup: Startup = None,
    max_gflops: MaxGflops = None,
    max_latency_ms: MaxLatencyMs = None,
    max_params: MaxParams = None,
    latency_backend: LatencyBackend = None,
    slots: Slots = None,
    trial_timeout: TrialTimeout = None,
    modules: Modules = None,
    finalists: FinalistsOption = None,
    no_finalists: Annotated[
        bool, typer.Option("--no-finalists", help="End with the front of single trainings.")
    ] = False,
    storage: Storage = None,
    artifacts: Artifacts = None,
    ray: Ray = None,
    output: StudiesFolder = None,
    trust: Trust = False,
) -> None:
    """Search for the placements on the Pareto front of accuracy and cost: detect, segment, pose, obb, classify.

    Without --data it runs the built-in demo. The same command again continues an interrupted search. It ends with
    finalists, which are trained again under several seeds, and a verdict.

    Example: `python -m nas search --data my.yaml --weights yolov10n.pt --trials 100 imgsz=320`
    """
    from nas import run

    flags = {k: v for k, v in locals().items() if k not in ("run", "args", "recipe", "no_finalists", "trust")}
    run.search(recipe, flags | ({"finalists": 0} if no_finalists else {}), args or [])


@app.command()
def finalists(
    study: Annotated[str, typer.Argument(help="Name or folder of a study.")],
    count: Annotated[int | None, typer.Option("--count", min=1, help="Most of the front; default as searched.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds of each, 3 or more; more can be added, none is dropped.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of each training; default twice those of a trial.")] = None,
    until_told: Annotated[
        bool, typer.Option("--until-told", help="Add seeds as the verdict advises, up to 12, until a gain is told.")
    ] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also where the base has hardly learnt anything.")] = False,
    slots: Slots = None,
    storage: Storage = None,
    output: Output = "runs",
    trust: Trust = False,
) -> None:
    """Train the front again beside the base and controls, on images the search never saw, and say what holds.

    The front's candidates, the untouched base, random placements and plain convolutions of the same cost, all under
    the same seeds. Resumable: the same command goes on, and `--seeds` adds to what is there.

    Example: `python -m nas finalists demo --seeds 8`
    """
    from nas import finalists_command

    finalists_command.command(study, count, seeds, epochs, until_told, anyway, slots, storage, output)


@app.command(context_settings={"ignore_unknown_options": True})
def worker(
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="Where the study is: postgresql+psycopg://...")],
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Its name.")],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="This machine's own: device=0 workers=8.")
    ] = None,
    data: Data = None,
    weights: Weights = None,
    base: BaseYaml = None,
    space: Space = None,
    slots: Slots = None,
    trial_timeout: TrialTimeout = None,
    modules: Modules = None,
    artifacts: Artifacts = None,
    trust: Trust = False,
    output: Output = "runs",
) -> None:
    """Join a study with this machine's devices, until it is done; as many machines as there are.

    The study says what is trained. Where its files lie elsewhere here, name them; another content is refused.

    Example: `python -m nas worker postgresql+psycopg://user@host/db mine --data /data/my.yaml device=0`
    """
    from nas import join_command

    own = ("join_command", "args", "storage", "study", "trust")
    local = {k: v for k, v in locals().items() if k not in (*own, "own")}
    join_command.command(storage, study, local, args or [])


@app.command(context_settings={"ignore_unknown_options": True})
def correlate(
    args: Args = None,
    recipe: RecipeFile = None,
    data: Data = None,
    weights: Weights = None,
    base: BaseYaml = None,
    space: Space = None,
    trials: Trials = None,
    objectives: Objectives = None,
    sampler: Sampler = None,
    rungs: Rungs = None,
    name: StudyName = None,
    seed: Seed = None,
    epochs: Epochs = None,
    warm_epochs: WarmEpochs = None,
    block_lr_factor: BlockLrFactor = None,
    freeze: Freeze = None,
    wire: Wire = None,
    startup: Startup = None,
    max_gflops: MaxGflops = None,
    max_latency_ms: MaxLatencyMs = None,
    max_params: MaxParams = None,
    latency_backend: LatencyBackend = None,
    slots: Slots = None,
    modules: Modules = None,
    storage: Storage = None,
    output: StudiesFolder = None,
    placements: Annotated[int, typer.Option(help="How many placements, the base among them.")] = 12,
    times: Annotated[int, typer.Option(help="The long budget over the short.")] = 4,
    trust: Trust = False,
) -> None:
    """Check on your data that the short trainings of a search rank placements as longer ones do.

    Trains some placements under two seeds for the short and the long budget, and says in one sentence whether to
    rely on the short one. Takes the arguments of `search`; a search with the same ones shows what was found.

    Example: `python -m nas correlate --data my.yaml --weights yolov10n.pt imgsz=320`
    """
    from nas import correlate_command

    own = ("correlate_command", "args", "recipe", "placements", "times", "trust")
    flags = {k: v for k, v in locals().items() if k not in (*own, "own")}
    correlate_command.command(recipe, flags, args or [], placements, times)


@app.command()
def graft(
    base: Annotated[str, typer.Argument(metavar="PT", help="Trained weights, e.g. yolov10n.pt.")],
    sites: Sites = None,
    to: Annotated[
        str, typer.Option("--to", "-o", metavar="PT", help="Where to write; a .yaml has no weights.")
    ] = "grafted.pt",
    wire: Annotated[
        str, typer.Option(metavar="residual|plain", help="residual starts as the base, plain is the bare block.")
    ] = "residual",
    seed: Annotated[int, typer.Option(help="Of the new blocks' weights.")] = 0,
    imgsz: Annotated[int, typer.Option(min=32, help="Side of the image that GFLOPs are told for.")] = 640,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    modules: Modules = None,
    trust: Trust = False,
) -> None:
    """Insert attention blocks into a trained detector: same predictions as before, ready for `yolo train`.

    Example: `python -m nas graft yolov10n.pt neck.p3=eca backbone.p4=cbam -o mine.pt`
    """
    from nas import show

    show.graft(base, sites or [], to, wire, seed, modules or [], force, imgsz)


@app.command()
def dashboard(
    study: Annotated[str, typer.Argument(help="Name or folder of a study.")],
    storage: Storage = None,
    output: Output = "runs",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
) -> None:
    """Open the Optuna dashboard on a study, with notes, the Pareto picture, and YAMLs and weights to download.

    Example: `python -m nas dashboard demo`
    """
    from nas import run

    run.dashboard(study, storage, output, host, port)


@app.command()
def report(
    study: Annotated[str, typer.Argument(help="Name or folder of a study.")],
    to: Annotated[Path | None, typer.Option("--to", "-o", metavar="DIR", help="Default: the study's folder.")] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print the ablation table for a paper instead.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it in markdown instead.")] = False,
    storage: Storage = None,
    output: Output = "runs",
) -> None:
    """Write the study's report: one HTML page that opens from disk, and its pictures.

    Example: `python -m nas report demo`
    """
    from nas import report_command

    report_command.command(study, to, latex, markdown, storage, output)


@app.command()
def status(
    study: Annotated[str, typer.Argument(help="Name or folder of a study.")],
    storage: Storage = None,
    output: Output = "runs",
) -> None:
    """How far a study is, how long it still takes, what is best, and whether waiting pays; from any shell.

    Example: `python -m nas status demo`
    """
    from nas import status

    status.command(study, storage, output)


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="Name or folder of a study.")],
    pick: Annotated[str, typer.Option(help="knee, best, fastest, or a trial's number.")] = "knee",
    to: Annotated[Path | None, typer.Option("--to", "-o", metavar="DIR", help="Where to write; default here.")] = None,
    base: Annotated[
        str | None, typer.Option(metavar="YAML", help="Apply the placement to this model, e.g. yolov10s.yaml.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="PT", help="Carry these weights of that model over, e.g. yolov10s.pt.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a folder that needs Ultralytics only, not this project.")
    ] = None,
    storage: Storage = None,
    output: Output = "runs",
    trust: Trust = False,
) -> None:
    """Write one placement's YAML, weights and model card for standard training.

    --base and --weights apply it to another scale or model; the mAP found by the search is not that model's.

    Example: `python -m nas export demo --pick best -o mine`
    """
    from nas import export_command

    export_command.point(study, pick, to, base, weights, bundle, storage, output)


@app.command()
def effects(
    study: Annotated[str, typer.Argument(metavar="STUDY|TABLE", help="Name or folder of a study, or of a table.")],
    block: Annotated[str | None, typer.Option(help="Where does this block help, and does it?")] = None,
    site: Annotated[str | None, typer.Option(help="Which blocks help at this site?")] = None,
    budget: Annotated[
        int | None, typer.Option(metavar="IMAGES", help="Scores after so many training images; default all.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", "-o", metavar="FILE.html", help="Write the picture.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every effect with its interval.")] = None,
    storage: Storage = None,
    output: Output = "runs",
) -> None:
    """What each block does at each site, with intervals, from all trainings of a study or a table.

    Example: `python -m nas effects demo-neck --block eca`
    """
    from nas import effects_report

    effects_report.command(study, block, site, budget, to, csv, storage, output)


@app.command()
def deploy(
    model: Annotated[Path, typer.Argument(metavar="MODEL.pt", help="A trained detector.")],
    data: Annotated[Path, typer.Option(metavar="YAML", help="Dataset whose val split gives mAP and pictures.")],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="NAME", help="onnx, torchscript, openvino, engine; repeatable."),
    ] = None,
    imgsz: Annotated[int, typer.Option(help="Side of the square image in pixels.")] = 640,
    half: Annotated[bool, typer.Option("--half", help="Half precision, where format and device have it.")] = False,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Files that take images of any size.")] = False,
    base: Annotated[Path | None, typer.Option(metavar="PT", help="Latency also as a ratio to this model's.")] = None,
    to: Annotated[Path | None, typer.Option("--to", "-o", metavar="DIR", help="Default: beside the model.")] = None,
    device: Annotated[str, typer.Option(help="cpu, 0, ...")] = "",
    runs: Annotated[int, typer.Option(help="Interleaved pairs of a latency.")] = 30,
    images: Annotated[int, typer.Option(help="Pictures that detections are compared on.")] = 20,
    modules: Modules = None,
    trust: Trust = False,
) -> None:
    """Export a detector by Ultralytics' exporter; accuracy, latency and agreement with torch of those very files.

    Example: `python -m nas deploy mine.pt --format onnx --format openvino --data my.yaml --base yolov10n.pt`
    """
    from nas import deploy_report

    flags = {k: v for k, v in locals().items() if k not in ("deploy_report", "trust")}
    deploy_report.command(**flags | {"formats": tuple(formats or ()), "modules": modules or []})


@app.command(context_settings={"ignore_unknown_options": True})
def train(args: Args = None, modules: Modules = None, trust: Trust = False) -> None:
    """Train with Ultralytics exactly as `yolo train` does, with our blocks known to it.

    Its words, arguments, loggers, callbacks and folders are Ultralytics' own. A checkpoint brings its data.

    Examples: `python -m nas train model=front/x.yaml data=my.yaml epochs=100 imgsz=640`,
    `python -m nas train model=runs/detect/train/weights/last.pt resume=True`
    """
    from nas import train_command

    train_command.train(args or [], modules or [])


@app.command()
def doctor() -> None:
    """Check this environment, with a sentence on how to mend what is wrong; exit status 1 where something is.

    Example: `python -m nas doctor`
    """
    from rich.console import Console

    from nas import doctor

    raise typer.Exit(doctor.show(doctor.checks(), Console()))


@app.command()
def spaces(name: Annotated[str | None, typer.Argument(help="A space's name or file.")] = None) -> None:
    """List the search spaces, or show one: its sites and the blocks that may stand there.

    Example: `python -m nas spaces article`
    """
    from nas import show

    show.spaces(name)


@app.command("show")
def show_(
    sites: Sites = None,
    base: Base = "yolov10n.yaml",
    wire: str = "residual",
    modules: Modules = None,
    trust: Trust = False,
) -> None:
    """Show a placement as the rows of its model, and what is new in it.

    Example: `python -m nas show neck.p3=eca backbone.p4=cot`
    """
    from nas import show

    show.placement(sites or [], base, wire, modules or [])


@app.command()
def cost(
    sites: Sites = None,
    base: Base = "yolov10n.yaml",
    imgsz: Annotated[int, typer.Option(help="Side of the square image in pixels.")] = 640,
    device: Annotated[str, typer.Option(help="cpu, 0, ...")] = "",
    runs: Annotated[int, typer.Option(min=3, help="Interleaved pairs.")] = 30,
    latency_backend: Annotated[str, typer.Option(metavar="NAME", help=f"What runs the model: {BACKENDS}.")] = "torch",
    modules: Modules = None,
    trust: Trust = False,
) -> None:
    """Parameters, GFLOPs and latency of a placement beside the base.

    Example: `python -m nas cost neck.p3=eca neck.p5=mhsa --imgsz 640`
    """
    from nas import show

    show.cost(sites or [], base, imgsz, device, runs, modules or [], latency_backend)


@modules_app.callback(invoke_without_command=True)
def modules_list(
    context: typer.Context,
    family: Annotated[str | None, typer.Option(help="channel, mixed, kernel, linear, window or quadratic.")] = None,
    scale: Annotated[str, typer.Option(help="Scale of YOLOv10 that parameters and GFLOPs are for.")] = "n",
    modules: Modules = None,
) -> None:
    """List the attention blocks: what each costs, and where it may stand.

    Example: `python -m nas modules`
    """
    if context.invoked_subcommand is None:
        from nas import show_blocks

        show_blocks.modules(modules or [], family, scale)


@modules_app.command("show")
def modules_show(name: str, modules: Modules = None) -> None:
    """What a block computes, its options, costs, references and known results.

    Example: `python -m nas modules show eca`
    """
    from nas import show_blocks

    show_blocks.module(name, modules or [])


@modules_app.command("check")
def modules_check(
    target: Annotated[str, typer.Argument(metavar="FILE|NAME")],
    quick: Annotated[bool, typer.Option("--quick", help="Few channel counts, neither compiler nor ONNX.")] = False,
) -> None:
    """Hold your own block (a Python file), or a registered one, against what every block must do.

    Example: `python -m nas modules check mine.py`
    """
    from nas import show_blocks

    show_blocks.check(target, quick)


def main() -> None:
    """Run a command; what the user can mend is one message, without a traceback."""
    hidden.guard()
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    if sys.argv[1:2] != ["doctor"] and not startup.is_ours("modules"):
        where = startup.where("modules")
        print(f"error: the package 'modules' is not this project's here but {where}: start elsewhere", file=sys.stderr)
        sys.exit(2)
    try:
        if faults := telling.faults_of(sys.argv[1:]):
            raise InputError("\n".join(faults))
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except (InputError, SpaceError) as e:
        print(hidden.hide("\n".join(telling.lines(e))), file=sys.stderr)
        sys.exit(2)
