"""Goes in: a YAML file and command-line values. Comes out: a Recipe, all its faults told at once."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nas import telling
from nas.errors import InputError
from nas.protocol import Protocol
from search_spaces import yaml_file

OBJECTIVES = {  # name on the command line -> (name in the study, direction); the task names its own figure
    "map": ("mAP50-95", "maximize"),
    "accuracy": ("top-1 accuracy", "maximize"),
    "latency": ("latency (x base)", "minimize"),
    "gflops": ("GFLOPs", "minimize"),
}
SCORES = ("map", "accuracy")
TRAIN_DEFAULTS: dict[str, Any] = {  # imgsz and cache depend on the task: see nas/task.py
    "batch": 16,
    "optimizer": "AdamW",
    "lr0": 0.0001,
    "lrf": 0.05,
    "warmup_epochs": 0.0,
    "mosaic": 0.0,
    "close_mosaic": 0,
    "workers": 4,
}
OURS = {  # Ultralytics' arguments that the recipe itself decides
    "data": "--data",
    "model": "--base and --weights",
    "pretrained": "--weights",
    "epochs": "epochs",
    "seed": "--seed",
    "project": "--output",
    "name": "--name",
    "save_dir": "--output",
    "resume": "the same command again",
    "mode": "",
    "task": "",
    "val": "",
    "save": "",
    "plots": "",
    "exist_ok": "",
    "split": "",
    "nms": "",
    "end2end": "",
    "time": "epochs",
    "patience": "epochs",
    "freeze": "--freeze backbone",
    "compile": "",
    "distill_model": "",
    "profile": "",
}
OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop")  # Ultralytics'
MOST_SLOTS, MOST_RUNGS = 256, 5
MOST_EPOCHS, MOST_TRIALS, MOST_RUNS, MOST_PIXELS = 100_000, 10_000_000, 100_000, 8192  # more is a slip of the keyboard
STARTUP = 20
FINALISTS = ("finalists", "finalist_seeds", "finalist_epochs")  # decide no trial of the search
NOT_IDENTITY = (
    "name", "trials", "storage", "output", "data", "weights", "modules", "latency_backend", "slots", "trial_timeout",
    "artifacts", "ray", *FINALISTS,
)  # fmt: skip


class RecipeError(InputError):
    """A recipe that cannot be run; one line a fault."""


class Recipe(BaseModel):
    """A study as a file. Everything that decides a result is in it; see ``studies/`` for complete ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str | None = Field(None, description="Name of the study; its results go to <output>/<name>.")
    data: str = Field("demo", description="Dataset YAML in Ultralytics' format, for classify its folder; or 'demo'.")
    base: str | None = Field(None, description="Model YAML; by default that of the weights.")
    weights: str | None = Field(None, description="Trained weights of the base; 'none' starts from scratch.")
    space: str = Field("article", description="Search space: a shipped name or a YAML file.")
    modules: tuple[str, ...] = Field((), description="Python files with blocks of your own.")
    wire: Literal["residual", "plain"] = Field("residual", description="How a block joins the graph.")
    objectives: tuple[str, ...] = Field(("map", "latency"), description="map (or accuracy), then latency or gflops.")
    sampler: Literal["ehvi", "gp", "tpe", "nsga2", "random"] = Field("ehvi", description="Who proposes placements.")
    rungs: int = Field(2, ge=1, le=MOST_RUNGS, description="1 trains all to the end; else the promising go on.")
    trials: int = Field(100, ge=1, le=MOST_TRIALS, description="Distinct trained placements, the base included.")
    startup: int | None = Field(None, ge=0, description="Sparse placements tried first; by default 20, with ehvi none.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of sampling, building and training.")
    warm_epochs: int = Field(8, ge=0, le=MOST_EPOCHS, description="Epochs of the base on the dataset before any trial.")
    warm_lr0: float = Field(0.001, gt=0, description="Learning rate of those epochs.")
    epochs: int = Field(3, ge=1, le=MOST_EPOCHS, description="Epochs of every trial.")
    block_lr_factor: float = Field(100.0, gt=0, description="Learning rate of blocks and gamma over the base's.")
    freeze: Literal["none", "backbone"] = Field(
        "none",
        description="What of the base stays as it is in a trial; cheap where all sites are in the neck.",
    )
    latency_runs: int = Field(30, ge=3, le=MOST_RUNS, description="Interleaved pairs of a latency measurement.")
    latency_backend: Literal["torch", "onnxruntime", "openvino", "tensorrt"] = Field(
        "torch", description="What runs the model when its latency is measured: torch, or the exported file's runtime."
    )
    max_gflops: float | None = Field(None, gt=0)
    max_latency_ms: float | None = Field(None, gt=0)
    max_params: int | None = Field(None, gt=0)
    train: dict[str, Any] = Field(
        default_factory=lambda: dict(TRAIN_DEFAULTS), description="Ultralytics' training arguments."
    )
    slots: int | Literal["auto"] = Field(
        "auto",
        description="Placements that train at the same time on the device, each in a process; auto measures, 0 trains "
        "in this very process.",
    )
    finalists: int = Field(3, ge=0, le=20, description="Most of the front that are trained again; 0 for none.")
    finalist_seeds: int = Field(5, ge=3, le=30, description="Seeds of each finalist, of the base and of the controls.")
    finalist_epochs: int | None = Field(
        None, ge=1, le=MOST_EPOCHS, description="Their epochs; by default twice those of a trial."
    )
    trial_timeout: float | None = Field(
        None, gt=0, description="Seconds after which a placement's training is ended; by default 20 times the longest."
    )
    storage: str | None = Field(None, description="Optuna storage URL; by default SQLite in the study's folder.")
    artifacts: str | None = Field(
        None,
        description="Where checkpoints travel between machines: a shared folder or s3://bucket/prefix; "
        "by default the study's folder.",
    )
    ray: str | None = Field(None, description="Address of a Ray cluster whose nodes train; 'local' starts one here.")
    output: str = Field("runs", description="Folder that studies are written to.")

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        """No number is true or false, no text is empty or moves the cursor."""
        if isinstance(value, bool):
            raise ValueError(f"expected no truth value, got {str(value).lower()}")
        for text in _texts(value):
            if fault := telling.fault_of(text) or (None if text else "expected a text, got an empty one"):
                raise ValueError(fault)
        return value

    @field_validator("objectives")
    @classmethod
    def _objectives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in OBJECTIVES:
                raise ValueError(
                    f"unknown objective {name!r}; allowed: {', '.join(OBJECTIVES)}{near(name, OBJECTIVES)}"
                )
        costs = value[1:]
        if not costs or value[0] not in SCORES or len(set(costs)) != len(costs) or {*costs} & {*SCORES}:
            raise ValueError(
                "expected map,latency or map,gflops or map,latency,gflops (for classify: accuracy in map's place), "
                f"got {','.join(value)}"
            )
        return value

    @field_validator("name")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        good = value is None or (len(value) <= 80 and all(c.isalnum() or c in "._-" for c in value))
        if not good or (value is not None and value.strip("._-") == ""):
            raise ValueError(f"a study's name has up to 80 letters, digits, '.', '_' or '-', got {str(value)[:100]!r}")
        return value

    @field_validator("slots", mode="before")
    @classmethod
    def _slots(cls, value: Any) -> int | str:
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if value == "auto" or (isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MOST_SLOTS):
            return number
        raise ValueError(
            f"expected auto, a number of processes from 1 to {MOST_SLOTS}, or 0 to train in this very process "
            f"(for a debugger), got {str(value)[:100]!r}"
        )

    @field_validator("train")
    @classmethod
    def _train(cls, value: dict[str, Any]) -> dict[str, Any]:
        faults = train_faults(value)
        if faults:
            raise ValueError("\n".join(faults))
        batch = value.get("batch", TRAIN_DEFAULTS["batch"])
        return {**TRAIN_DEFAULTS, "nbs": batch, **value}  # Ultralytics' 64 would make one step of four batches of 16

    @property
    def protocol(self) -> Protocol:
        """How each training lets its blocks be seen."""
        return Protocol(block_lr_factor=self.block_lr_factor, freeze_backbone=self.freeze == "backbone")

    @property
    def sparse(self) -> int:
        """Sparse placements tried first: at most a third of all, none where the model knows from the first one on."""
        asked = self.startup if self.startup is not None else 0 if self.sampler == "ehvi" else STARTUP
        return min(asked, self.trials // 3)

    @property
    def long_epochs(self) -> int:
        """Epochs of a finalist."""
        return self.finalist_epochs or 2 * self.epochs

    @property
    def imgsz(self) -> int:
        """Side of the square training and deployment image in pixels."""
        return int(self.train.get("imgsz", 640))

    def of_task(self, objective: str, defaults: Mapping[str, Any]) -> Recipe:
        """This recipe with what the base's task decides: its figure's name, and arguments that the user left open."""
        return self.model_copy(
            update={"objectives": (objective, *self.objectives[1:]), "train": {**defaults, **self.train}}
        )

    def metrics(self) -> list[tuple[str, str]]:
        """The objectives' names in the study, with the runtime where it is not torch, and their directions."""
        names = {name: found for name, found in OBJECTIVES.items() if name in self.objectives}
        if self.latency_backend != "torch" and "latency" in names:
            names["latency"] = (f"{self.latency_backend} {OBJECTIVES['latency'][0]}", OBJECTIVES["latency"][1])
        return [names[name] for name in self.objectives]

    def identity(self, **found: Any) -> dict[str, Any]:
        """All that decides a trial's result: this recipe, and what was ``found`` (digests, device, versions)."""
        kept = {k: v for k, v in self.model_dump(mode="json").items() if k not in NOT_IDENTITY}
        if self.latency_backend != "torch":  # torch is left out, so that studies from before there was a choice go on
            kept["latency_backend"] = self.latency_backend
        kept["train"] = {k: v for k, v in kept["train"].items() if k not in ("workers", "device")}
        return kept | found


def digest(identity: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of a recipe's identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def read(path: str | Path | None, overrides: Mapping[str, Any]) -> Recipe:
    """A recipe from a YAML file (or from nothing) with command-line values over it.

    Raises:
        RecipeError: Every fault of the file and the values, one a line.
    """
    data: dict[str, Any] = {}
    if path is not None:
        file = Path(path)
        if not os.path.exists(file):
            raise RecipeError(f"recipe {path}: no such file")
        try:
            loaded = yaml_file.read(file)
        except yaml_file.Unreadable as e:
            raise RecipeError(f"recipe {path}: {e}") from e
        if loaded is None:
            raise RecipeError(f"recipe {path}: it is empty, expected a mapping such as the files of studies/")
        if not isinstance(loaded, dict):
            raise RecipeError(f"recipe {path}: expected a mapping, got {type(loaded).__name__}")
        data = loaded
    given = overrides.get("train", {})
    if "batch" in given and "nbs" not in given and isinstance(data.get("train"), dict):
        data = {**data, "train": {k: v for k, v in data["train"].items() if k != "nbs"}}  # that of another batch
    train = {**(data.get("train") or {}), **overrides.get("train", {})} if _is_map(data.get("train")) else data["train"]
    try:
        return Recipe.model_validate({**data, **{k: v for k, v in overrides.items() if v is not None}, "train": train})
    except ValidationError as e:
        raise RecipeError("\n".join(_fault(err) for err in e.errors())) from e


def train_faults(args: Mapping[str, Any]) -> list[str]:
    """What is wrong with Ultralytics arguments: unknown, decided by the recipe, or refused by Ultralytics."""
    from ultralytics.cfg import get_cfg
    from ultralytics.utils import DEFAULT_CFG_DICT

    faults = []
    for key, value in args.items():
        if any(isinstance(v, float) and not math.isfinite(v) for v in (value if _is_list(value) else [value])):
            faults.append(f"{key}={value}: expected a finite number")
        elif key in OURS:
            instead = f"; use {OURS[key]}" if OURS[key] else ""
            faults.append(f"{key}={value}: the search decides this itself{instead}")
        elif key not in DEFAULT_CFG_DICT:
            faults.append(f"{key}={value}: Ultralytics has no such argument{near(key, DEFAULT_CFG_DICT)}")
        else:
            try:
                get_cfg(overrides={key: value})
            except Exception as e:
                faults.append(f"{key}={value}: {' '.join(str(e).split())}")
    optimizer = str(args.get("optimizer", "auto"))
    if optimizer.lower() not in {name.lower() for name in OPTIMIZERS}:
        faults.append(f"optimizer={optimizer}: allowed: {', '.join(OPTIMIZERS)}{near(optimizer, OPTIMIZERS)}")
    imgsz = args.get("imgsz")
    whole = isinstance(imgsz, int) and not isinstance(imgsz, bool)
    if imgsz is not None and (not whole or not 32 <= imgsz <= MOST_PIXELS or imgsz % 32):
        faults.append(f"imgsz={imgsz}: expected one whole number, a multiple of 32 {_multiple(imgsz)}")
    batch = args.get("batch")
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        faults.append(f"batch={batch}: expected a whole number of at least 1 (candidates must see the same batches)")
    return faults


def imgsz_fault(imgsz: int) -> str | None:
    """Why an image cannot have this side in pixels, or None."""
    if 32 <= imgsz <= MOST_PIXELS and imgsz % 32 == 0:
        return None
    return f"--imgsz {imgsz}: expected a multiple of 32 {_multiple(imgsz)}"


def _multiple(imgsz: Any) -> str:
    """``(for instance 96)``: the nearest side that an image can have; of what is too large also the largest."""
    side = imgsz if isinstance(imgsz, int | float) and math.isfinite(imgsz) else 640
    most = f"up to {MOST_PIXELS} " if side > MOST_PIXELS else ""
    return f"{most}(for instance {min(max(32, round(side / 32) * 32), MOST_PIXELS)})"


def near(name: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'x'?``, or nothing."""
    match = difflib.get_close_matches(str(name), [str(a).strip("'") for a in allowed], n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def _texts(value: Any) -> Iterator[str]:
    """Every text in a field's value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from (_texts(item) if item != "" else ())


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_map(value: Any) -> bool:
    return value is None or isinstance(value, Mapping)


def _fault(error: Any) -> str:
    where = ".".join(str(x) for x in error["loc"]) or "recipe"
    got = str(error.get("input"))[:100]
    if error["type"] == "extra_forbidden":
        return f"{where}: no such field{near(where, Recipe.model_fields)}"
    if error["type"] == "value_error" and where == "slots":
        return f"--workers: {error['msg'].removeprefix('Value error, ')}"
    if error["type"] == "value_error":
        return "\n".join(f"{where}: {line}" for line in error["msg"].removeprefix("Value error, ").splitlines())
    if error["type"] == "literal_error":
        allowed = error["ctx"]["expected"]
        return f"{where}: got {got!r}, allowed: {allowed}{near(got, allowed.replace(' or ', ', ').split(', '))}"
    return f"{where}: {error['msg'].replace('Input should be', 'expected')}, got {got!r}"
