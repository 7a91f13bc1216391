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
from ultralytics.nn.tasks import BaseModel, yaml_model_load
from ultralytics.utils.torch_utils import select_device

from nas import THREADS, cost, data, deploy, graph, recipe, splits, task, weights
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
        r = self.recipe
        for name, value, limit, unit in (
            ("params", params, r.max_params, ""),
            ("GFLOPs", gflops, r.max_gflops, ""),
            ("latency", latency_ms, r.max_latency_ms, " ms"),
        ):
            if value is not None and limit is not None and value > limit:
                return f"{name} {value:,.6g}{unit} above the limit of {limit:,.6g}{unit}"
        return None

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


def prepare(r: recipe.Recipe, base_cost: cost.Cost | None = None) -> Setting:
    """Check a recipe against its dataset, weights, model and space, and measure the base unless its cost is given.

    Raises:
        RecipeError: Every fault that could be found, one a line.
    """
    Reading.datasets.clear()  # labels and images may have been edited since an earlier search of this process
    faults: list[str] = []
    load_modules(r.modules, faults)
    device = attempt(lambda: pick_device(r.train.get("device")), faults)
    if device is not None:
        attempt(lambda: deploy.check_backend(r.latency_backend, device), faults)
    start = attempt(lambda: _start(r), faults)
    yaml = attempt(lambda: _yaml(r, start), faults)
    of = attempt(lambda: task.of(yaml or {}), faults) if yaml else None
    r = r.of_task(of.objective, of.defaults) if of else r
    if of and of.name == "classify" and r.train.get("single_cls"):
        faults.append("single_cls=True: with one class there is nothing to classify")
    dataset = attempt(lambda: data.check(_data_path(r), of.name if of else _likely(r)), faults)
    parts = attempt(lambda: splits.divide(dataset, of.name), faults) if dataset and of else None
    names = dataset.names if dataset else {i: str(i) for i in range(80)}
    yaml = {**yaml, **_decided(names, dataset)} if yaml else None
    found = attempt(lambda: graph.sites(yaml), faults) if yaml else None
    space = attempt(lambda: load(r.space), faults)
    notes: list[str] = [*(dataset.warnings if dataset else ()), *(parts.notes if parts else ())]
    if found and space:
        space = fit(space, found, r.imgsz, r.wire, faults, notes)
    base = attempt(lambda: _base(yaml, names, dataset, start), faults) if yaml and found and of else None
    if faults:
        raise recipe.RecipeError("\n".join(faults))
    assert of and parts and dataset and space and yaml and found and base and device is not None
    fused = deploy.runner(base, r.latency_backend, r.imgsz, device)
    if base_cost is None:
        measured = cost.latency(fused, fused, r.imgsz, r.latency_runs)
        base_cost = cost.Cost(cost.params(base), cost.gflops(base, r.imgsz), measured)
    where = DEMO if r.data == DEMO else dataset.title
    name = r.name or re.sub(r"[^\w.-]", "-", f"{where}-{space.name}")[:80].lstrip("-") or "study"
    setting = Setting(
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
        notes=tuple(notes),
    )
    assert base_cost.latency is not None
    too_much = setting.beyond(base_cost.params, base_cost.gflops, base_cost.latency.ms)
    if too_much:
        raise recipe.RecipeError(f"the limits exclude the base itself: {too_much}")
    return setting


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


def _data_path(r: recipe.Recipe) -> Path | str:
    if r.data == DEMO:
        from nas.demo import demo_dataset

        return demo_dataset()
    return r.data


def _weights_path(r: recipe.Recipe) -> str | None:
    """The checkpoint to start from: the demo's, the one named, or Ultralytics' own for the base (downloaded once)."""
    if r.weights == SCRATCH:
        return None
    if r.weights is None and r.data == DEMO and r.base is None:
        from nas.demo import DEMO_BASE

        return str(DEMO_BASE)
    name = r.weights or Path(r.base or "yolov10n.yaml").with_suffix(".pt").name
    try:
        return weights.find(name)
    except weights.WeightError as e:
        raise weights.WeightError(
            f"{e}; name a checkpoint by --weights, or start from scratch with --weights {SCRATCH}"
        ) from e


def _start(r: recipe.Recipe) -> BaseModel | None:
    path = _weights_path(r)
    return weights.open_model(path) if path else None


def _yaml(r: recipe.Recipe, start: BaseModel | None) -> dict[str, Any]:
    """The base's YAML: the named one, else the one inside the weights."""
    if r.base is not None:
        try:
            found = yaml_model_load(r.base)
        except (FileNotFoundError, OSError) as e:
            raise weights.WeightError(f"base {r.base}: no such model YAML (for instance yolov10n.yaml)") from e
    elif start is not None:
        found = dict(start.yaml)
    else:
        found = yaml_model_load("yolov10n.yaml")
    if not isinstance(found, dict) or not {"backbone", "head"} <= set(found):
        raise weights.WeightError(f"base {r.base}: a model YAML has the keys backbone and head")
    return found


def _decided(names: dict[int, str], dataset: data.Dataset | None) -> dict[str, Any]:
    """What the dataset decides in a model's YAML."""
    keypoints = dataset.keypoints if dataset else None
    return {"nc": len(names)} | ({"kpt_shape": list(keypoints)} if keypoints else {})


def _likely(r: recipe.Recipe) -> str:
    """The task that a dataset is for by its looks, where the base does not say it."""
    return "classify" if Path(r.data).is_dir() else "detect"


def _base(
    yaml: dict[str, Any], names: dict[int, str], dataset: data.Dataset | None, start: BaseModel | None
) -> BaseModel:
    try:
        model = weights.build(yaml, names, dataset.channels if dataset else 3)
    except (KeyError, TypeError, IndexError, AttributeError) as e:
        raise weights.WeightError(f"base: Ultralytics cannot build it: {type(e).__name__}: {e}") from e
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
    """The one device of a search, as Ultralytics chooses it; on a CPU all cores are used (Ultralytics leaves one out).

    Raises:
        ValueError: More than one, or none of that name.
    """
    if "," in str(name or ""):
        raise ValueError(f"device={name}: a search trains on one device; start one search a card on one storage")
    with quiet():
        device = select_device("" if name is None else str(name), verbose=False)
    torch.set_num_threads(threads())
    return device


def threads() -> int:
    """CPU threads of a search: OMP_NUM_THREADS where the user set it, else the cores that this process may use."""
    if THREADS and THREADS.isdigit() and int(THREADS) > 0:
        return int(THREADS)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
