"""Goes in: a Recipe. Comes out: all that its trials share, checked whole before anything is spent."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import ultralytics
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES
from ultralytics.utils.torch_utils import select_device

from nas import (
    THREADS,
    cost,
    data,
    demo,
    deploy,
    graph,
    label_cache,
    preflight,
    recipe,
    rows,
    splits,
    store,
    task,
    trust,
    weights,
)
from nas.fit import attempt, fit, load_modules
from nas.quiet import quiet
from nas.reading import Reading
from search_spaces import Placement, SearchSpace, Site, load

DEMO = "demo"
SCRATCH = "none"


@dataclass(frozen=True)
class Setting:
    """What every trial of a study shares.

    Args:
        recipe: As resolved.
        task: The base's.
        dataset: Checked; its val split is what the search is scored on.
        reported: The same with the images in place that finalists are scored on, and the search never sees.
        space: After blocks were left out that cannot stand at a site; ``notes`` says which and why.
        yaml: The base model's YAML as a dict, with the dataset's number of classes and of keypoints.
        sites: The sites of the space, by name.
        start: The trained weights that the base starts from, or None.
        fused: The base as deployed, in the recipe's runtime; latency is measured beside it.
        base_cost: What the base costs.
        folder: Where the study writes.
        identity: All that decides a trial's result; ``digest`` its short hash.
        workers: Processes that train for the study on this device at the same time, this one included.
        store: Where files travel between machines; None where all stays in the folder.
        cards: Devices of the search, all of one kind; ``device`` is the first.
        fresh: Folder in the user's cache that was written for this just now, if any.
    """

    recipe: recipe.Recipe
    task: task.Task
    dataset: data.Dataset
    reported: data.Dataset
    space: SearchSpace
    yaml: dict[str, Any]
    sites: dict[str, Site]
    start: BaseModel | None
    fused: cost.Runner
    base_cost: cost.Cost
    device: torch.device
    folder: Path
    identity: dict[str, Any]
    notes: tuple[str, ...] = field(default=())
    workers: int = 1
    store: store.Store | None = None
    cards: tuple[str, ...] = ()
    fresh: Path | None = None

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of :attr:`identity`."""
        return recipe.digest(self.identity)

    def reporting(self) -> Setting:
        """This setting with what is reported in place of what is searched on; trained on the same images."""
        identity = {**self.identity, "data": self.reported.digest}
        return replace(self, dataset=self.reported, identity=identity)

    @property
    def log(self) -> Path:
        """Where Ultralytics' own output goes."""
        return self.folder / "log.txt"

    def predict(self, placement: Placement) -> tuple[int, float]:
        """Parameters and GFLOPs of a placement, before it is built: the base plus its blocks."""
        params, gflops = self.base_cost.params, self.base_cost.gflops
        for name, block in placement:
            site = self.sites[name]
            more = cost.block_cost(block, site.channels, site.size(self.recipe.imgsz), self.recipe.wire)
            params, gflops = params + more[0], gflops + more[1]
        return params, gflops

    def beyond(self, params: int, gflops: float, latency_ms: float | None = None) -> str | None:
        """The first hard limit that is exceeded, in words, or None."""
        return beyond(self.recipe, params, gflops, latency_ms)

    def poor(self, value: float) -> str | None:
        """What is to be said where the base scores so little that it has hardly learnt anything, or None."""
        if value >= self.task.poor(len(self.dataset.names)):
            return None
        return (
            f"the base itself reaches only {self.task.metric} {value:.4f}: what is compared is how an untrained model "
            "starts. More --warm-epochs, or better --weights"
        )

    def allowed(self, placement: Placement) -> bool:
        """Whether the limits that need no measurement allow a placement."""
        if self.recipe.max_params is None and self.recipe.max_gflops is None:
            return True
        return self.beyond(*self.predict(placement)) is None


def beyond(r: recipe.Recipe, params: int, gflops: float, latency_ms: float | None = None) -> str | None:
    """The first hard limit of a recipe that is exceeded, in words, or None."""
    for name, value, limit, unit in (
        ("params", params, r.max_params, ""),
        ("GFLOPs", gflops, r.max_gflops, ""),
        ("latency", latency_ms, r.max_latency_ms, " ms"),
    ):
        if value is not None and limit is not None and value > limit:
            return f"{name} {value:,.6g}{unit} above the limit of {limit:,.6g}{unit}"
    return None


def prepare(r: recipe.Recipe, base_cost: cost.Cost | None = None) -> Setting:
    """Check a recipe against its dataset, weights, model and space, and measure the base unless its cost is given.

    Raises:
        RecipeError: Every fault that could be found, one a line.
    """
    Reading.datasets.clear()  # labels and images may have been edited since an earlier search of this process
    faults: list[str] = []
    load_modules(r.modules, faults)
    device = attempt(lambda: pick_device(r.train.get("device")), faults)
    attempt(lambda: store.check(r.artifacts), faults)
    if device is not None:
        attempt(lambda: deploy.check_backend(r.latency_backend, device), faults)
    attempt(lambda: preflight.check_folder(Path(r.output) / (r.name or "study"), "output"), faults)
    space = attempt(lambda: load(r.space), faults)
    remote = _is_remote(r)  # nothing is downloaded, and no demo made, for what is refused anyway
    guess = _likely(r)
    dataset = attempt(lambda: data.check(r.data, guess), faults) if remote and r.data != DEMO else None
    seen, left_out = remote and r.data != DEMO, remote and bool(faults)
    start = attempt(lambda: _start(r), faults) if not left_out else None
    yaml = attempt(lambda: _yaml(r, start), faults) if not left_out or r.base else None
    of = attempt(lambda: task.of(yaml or {}), faults) if yaml else None
    r = r.of_task(of.objective, of.defaults) if of else r
    if of and of.name == "classify" and r.train.get("single_cls"):
        faults.append("single_cls=True: with one class there is nothing to classify")
    if r.data != DEMO and (not seen or (dataset and of and of.name != guess)):
        dataset = attempt(lambda: data.check(r.data, of.name if of else guess), faults)
    names = dataset.names if dataset else dict(enumerate(demo.NAMES if r.data == DEMO else map(str, range(80))))
    yaml = {**yaml, **_decided(names, dataset)} if yaml else None
    found = attempt(lambda: graph.sites(yaml), faults) if yaml else None
    notes: list[str] = []
    if found and space:
        space = fit(space, found, r.imgsz, r.wire, faults, notes)
    base = attempt(lambda: _base(yaml, names, dataset, start), faults) if yaml and found and of else None
    if r.data == DEMO and of and not faults:
        dataset = attempt(lambda: data.check(demo.demo_dataset(), of.name), faults)
    if dataset and of:
        attempt(lambda: label_cache.check(dataset.path, of.name), faults)
    planned = attempt(lambda: splits.plan(dataset, of.name), faults) if dataset and of else None
    if faults:
        raise recipe.RecipeError("\n".join(faults))
    assert of and planned and dataset and space and yaml and found and base and device is not None
    fused = deploy.runner(base, r.latency_backend, r.imgsz, device)
    base_cost = base_cost or _measured(r, base, fused)
    refuse_beyond(r, base_cost)
    parts = splits.write(planned)  # from here on nothing is refused
    where = DEMO if r.data == DEMO else dataset.title
    name = r.name or re.sub(r"[^\w.-]", "-", f"{where}-{space.name}")[:80].lstrip("-") or "study"
    return Setting(
        recipe=r.model_copy(update={"name": name}),
        task=of,
        dataset=parts.search,
        reported=parts.report,
        space=space,
        yaml=yaml,
        sites={s.name: s for s in found if s.name in dict(space.sites)},
        start=start,
        fused=fused,
        base_cost=base_cost,
        device=device,
        folder=Path(r.output) / name,
        identity=_identity(r, parts.search, space, device),
        notes=(*dataset.warnings, *parts.notes, *notes),
        store=store.open_store(r.artifacts),
        cards=cards_of(r.train.get("device"), device),
        fresh=parts.made,
    )


def _measured(r: recipe.Recipe, base: BaseModel, fused: cost.Runner) -> cost.Cost:
    """What the base costs."""
    latency = cost.latency(fused, fused, r.imgsz, r.latency_runs)
    return cost.Cost(cost.params(base), cost.gflops(base, r.imgsz), latency)


def refuse_beyond(r: recipe.Recipe, base_cost: cost.Cost) -> None:
    """Stop where no placement could be within the limits.

    Raises:
        RecipeError: The base itself is beyond one.
    """
    assert base_cost.latency is not None
    if too_much := beyond(r, base_cost.params, base_cost.gflops, base_cost.latency.ms):
        raise recipe.RecipeError(f"the limits exclude the base itself: {too_much}")


def _identity(r: recipe.Recipe, dataset: data.Dataset, space: SearchSpace, device: torch.device) -> dict[str, Any]:
    return r.identity(
        data=dataset.digest,
        weights=weights_digest(r),
        space_hash=space.hash,
        modules=[_digest(path) for path in r.modules],
        device=cost.device_name(device),
        torch=torch.__version__,
        ultralytics=ultralytics.__version__,
        **({} if r.latency_backend == "torch" else {"latency_runtime": deploy.version(r.latency_backend)}),
    )


def weights_digest(r: recipe.Recipe) -> str:
    """Twelve hexadecimal digits of the starting weights' file; ``none`` where there are none."""
    path = _weights_path(r)
    return _digest(path) if path else SCRATCH


def _digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def _weights_path(r: recipe.Recipe) -> str | None:
    """The checkpoint to start from: the demo's, the one named, or Ultralytics' own for the base (downloaded once)."""
    if r.weights == SCRATCH:
        return None
    if r.weights is None and r.data == DEMO and r.base is None:
        return str(demo.DEMO_BASE)
    try:
        return weights.find(_weights_name(r))
    except weights.WeightError as e:
        raise weights.WeightError(
            f"{e}; name a checkpoint by --weights, or start from scratch with --weights {SCRATCH}"
        ) from e
    except OSError as e:  # such as a name that is too long
        raise weights.WeightError(f"weights {_weights_name(r)}: {e.strerror or e}") from e


def _weights_name(r: recipe.Recipe) -> str:
    return r.weights or Path(r.base or "yolov10n.yaml").with_suffix(".pt").name


def _is_remote(r: recipe.Recipe) -> bool:
    """Whether the weights would be downloaded."""
    name = _weights_name(r)
    if r.weights == SCRATCH or (r.weights is None and r.data == DEMO and r.base is None) or os.path.isfile(name):
        return False
    return "://" in name or Path(name).name in GITHUB_ASSETS_NAMES


def _start(r: recipe.Recipe) -> BaseModel | None:
    path = _weights_path(r)
    return weights.open_model(path) if path else None


def _yaml(r: recipe.Recipe, start: BaseModel | None) -> dict[str, Any]:
    """The base's YAML: the named one, else the one inside the weights."""
    if r.base is not None or start is None:
        return rows.read(r.base or "yolov10n.yaml")
    found = dict(start.yaml)
    if not {"backbone", "head"} <= set(found):
        raise weights.WeightError(f"weights {r.weights}: the YAML of their model has no backbone and head")
    trust.refuse_code(found, f"weights {r.weights}")
    return found


def _decided(names: dict[int, str], dataset: data.Dataset | None) -> dict[str, Any]:
    """What the dataset decides in a model's YAML."""
    keypoints = dataset.keypoints if dataset else None
    return {"nc": len(names)} | ({"kpt_shape": list(keypoints)} if keypoints else {})


def _likely(r: recipe.Recipe) -> str:
    """The task that a dataset is for by its looks or the base's name, where the base does not say it yet."""
    endings = {"-cls": "classify", "-seg": "segment", "-pose": "pose", "-obb": "obb"}
    named = next((task for end, task in endings.items() if Path(_weights_name(r)).stem.endswith(end)), "detect")
    return "classify" if os.path.isdir(r.data) else named


def _base(
    yaml: dict[str, Any], names: dict[int, str], dataset: data.Dataset | None, start: BaseModel | None
) -> BaseModel:
    channels = dataset.channels if dataset else 3
    rows.refuse_giant(yaml, channels)
    try:
        model = weights.build(yaml, names, channels)
    except weights.WeightError:
        raise
    except Exception as e:  # whatever a row's arguments make of a layer
        reason = " ".join(str(e).split())
        raise weights.WeightError(f"base: Ultralytics cannot build it: {type(e).__name__}: {reason}") from e
    keypoints = dataset.keypoints if dataset else None
    if keypoints and (got := tuple(model.model[-1].kpt_shape)) != keypoints:
        raise weights.WeightError(
            f"base: its head is for {got} keypoints and values, the dataset has {keypoints}; "
            "let the head's row in the YAML say kpt_shape"
        )
    if start is not None:
        weights.check_same_architecture(start, model)
        weights.transfer(start, model, {i: i for i in range(len(model.model))})
    return model


def pick_device(name: Any) -> torch.device:
    """The device of a search, as Ultralytics chooses it, the first of several; on a CPU all cores are used.

    Raises:
        ValueError: None of that name, or several that are not of one kind.
    """
    names = str("" if name is None else name).strip("[]() ").replace(" ", "").split(",")
    found: list[torch.device] = []
    for one in reversed(names):  # the first one last: it is the current device then
        with quiet():
            found.insert(0, select_device(one, verbose=False))
    torch.set_num_threads(threads())  # Ultralytics leaves one out
    kinds = sorted({cost.device_name(device) for device in found})
    if len(kinds) > 1:
        raise ValueError(
            f"device={name}: a search trains on devices of one kind, since latencies of two do not compare; got "
            + ", ".join(kinds)
        )
    if len(set(map(str, found))) < len(found) or (len(found) > 1 and found[0].type != "cuda"):
        raise ValueError(f"device={name}: expected one device, or different cards such as device=0,1")
    return found[0]


def cards_of(name: Any, device: torch.device) -> tuple[str, ...]:
    """The devices of a search as Ultralytics' argument names each."""
    names = str("" if name is None else name).strip("[]() ").replace(" ", "").split(",")
    if len(names) > 1:
        return tuple(names)
    return (str(device.index or 0) if device.type == "cuda" else device.type,)


def threads() -> int:
    """CPU threads of a search: OMP_NUM_THREADS where the user set it, else the cores that this process may use."""
    if THREADS and THREADS.isdigit() and int(THREADS) > 0:
        return int(THREADS)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
