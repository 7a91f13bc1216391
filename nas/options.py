"""Goes in: nothing. Comes out: the options that several commands share, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas import hidden, trust

Args = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Ultralytics' training arguments, e.g. imgsz=320 batch=32"),
]
Sites = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SITE=BLOCK]...", help="e.g. neck.p3=eca 'backbone.p4=cot(kernel_size=5)'"),
]
Modules = Annotated[
    list[str] | None, typer.Option("--modules", metavar="FILE", help="Python file with blocks of your own; repeatable.")
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        callback=lambda given: trust.grant() if given else None,
        help="Load checkpoints that hold code, run a dataset's download script; only for files you know.",
    ),
]
Base = Annotated[str, typer.Option(metavar="YAML|PT", help="Model YAML, or a checkpoint to read it from.")]
Storage = Annotated[
    str | None,
    typer.Option(metavar="URL", envvar=hidden.VARIABLE, help="Optuna storage; default SQLite in the study's folder."),
]
Output = Annotated[str, typer.Option(metavar="DIR", help="Folder that holds the studies.")]
BACKENDS = "torch (default) | onnxruntime | openvino | tensorrt"


# The options of a search; `correlate` takes the same.
RecipeFile = Annotated[Path | None, typer.Option(metavar="FILE", help="A study as a YAML file; flags win over it.")]
Data = Annotated[
    str | None,
    typer.Option(metavar="YAML|DIR", help="Your dataset in Ultralytics' format; for classify its folder."),
]
Weights = Annotated[
    str | None, typer.Option(metavar="PT", help="Trained weights of the base; 'none' starts from scratch.")
]
BaseYaml = Annotated[str | None, typer.Option(metavar="YAML", help="Model YAML; default that of the weights.")]
Space = Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Search space, see `spaces`; default article.")]
Trials = Annotated[int | None, typer.Option(help="Distinct trained placements, the base included; default 100.")]
Objectives = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="map,latency (default), map,gflops or all three; accuracy for map in classify."),
]
Sampler = Annotated[str | None, typer.Option(metavar="ehvi|gp|tpe|nsga2|random", help="Who proposes; default ehvi.")]
Rungs = Annotated[
    int | None,
    typer.Option(
        help="1 to 5. 2 (default): a third of the training for all, the rest for the promising; 3: a ninth, then a "
        "third; 1: all to the end."
    ),
]
StudyName = Annotated[str | None, typer.Option(help="Name of the study; the same name continues it.")]
Seed = Annotated[int | None, typer.Option(help="Seed of sampling, building and training; default 0.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs of every trial; default 3.")]
WarmEpochs = Annotated[
    int | None, typer.Option(help="Epochs that fine-tune the base on your data before any trial; default 8.")
]
FinalistsOption = Annotated[
    int | None,
    typer.Option("--finalists", help="Most of the front that are trained again at the end; default 3, 0 for none."),
]
BlockLrFactor = Annotated[
    float | None, typer.Option(help="Learning rate of the new blocks over the base's; default 100.")
]
Freeze = Annotated[
    str | None, typer.Option(metavar="none|backbone", help="What of the base stays as it is in a trial.")
]
Wire = Annotated[
    str | None,
    typer.Option(metavar="residual|plain", help="residual (default) starts as the base, plain is the bare block."),
]
Startup = Annotated[
    int | None,
    typer.Option(help="Placements of one or two blocks tried first; default 20 (ehvi: none), at most a third."),
]
MaxGflops = Annotated[float | None, typer.Option(help="Train nothing above it.")]
MaxLatencyMs = Annotated[float | None, typer.Option(help="Train nothing slower (on this device).")]
MaxParams = Annotated[int | None, typer.Option(help="Train nothing larger.")]
LatencyBackend = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"What runs the model when it is timed: {BACKENDS}.")
]
Slots = Annotated[
    str | None,
    typer.Option(
        "--workers",
        "--per-gpu",
        metavar="N|auto",
        help="Placements trained at once, each by a process, on the CPU or each GPU; auto (default) measures it; 0 "
        "trains in this very process, for a debugger.",
    ),
]
TrialTimeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="End a training that takes longer; default 20 times the longest so far."),
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Train on the nodes of this Ray cluster; `auto` finds it."),
]
Artifacts = Annotated[
    str | None,
    typer.Option(metavar="DIR|s3://...", help="Where checkpoints travel between machines; default the study's folder."),
]
StudiesFolder = Annotated[str | None, typer.Option(metavar="DIR", help="Folder that holds the studies; default runs.")]
