"""Goes in: a trained `.pt`, formats and a dataset. Comes out: each format's file, its accuracy, latency and agreement.

All figures of a row are of one and the same file; only the second image size of a file of fixed size needs another.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.nn.tasks import BaseModel

from nas import agreement, cost, data, deploy, label_cache, task, weights
from nas.quiet import quiet, same_threads
from nas.recipe import imgsz_fault, near


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Args:
        model: The checkpoint; ``base`` one to take the ratio of latencies to.
        formats: Of :data:`nas.deploy.FORMATS`.
        target: Folder of the files.
        images: Pictures of the val split that detections are compared on.
        runs: Interleaved pairs of a latency.
    """

    model: Path
    formats: tuple[str, ...]
    data: Path
    imgsz: int
    target: Path
    device: torch.device
    base: Path | None = None
    half: bool = False
    dynamic: bool = False
    images: int = 20
    runs: int = 30

    @property
    def torch_half(self) -> bool:
        """Whether torch itself computes in half precision: on a GPU, where that is asked for."""
        return self.half and self.device.type == "cuda"


@dataclass(frozen=True)
class Row:
    """One format: its figures (``value`` is the task's ``metric`` on the val split), or why it has none."""

    format: str
    file: str | None = None
    megabytes: float | None = None
    metric: str | None = None
    value: float | None = None
    latency: cost.Latency | None = None
    ratio: float | None = None
    agreement: agreement.Agreement | None = None
    missing: str | None = None


def check(order: Order) -> None:
    """All faults that can be told before anything is spent, also when no format can be done.

    Raises:
        DeployError: One fault a line.
    """
    faults = []
    for fmt in order.formats:
        if fmt not in deploy.FORMATS:
            runs = [name for name, known in deploy.FORMATS.items() if known.backend == fmt]
            hint = f"; did you mean {runs[0]!r}?" if runs else near(fmt, deploy.FORMATS)
            faults.append(f"--format {fmt!r}: expected {', '.join(deploy.FORMATS)}{hint}")
    if not order.formats:
        faults.append(f"deploy needs --format, for instance --format onnx; there are {', '.join(deploy.FORMATS)}")
    for what, value, least in (("--runs", order.runs, 3), ("--images", order.images, 1)):
        if value < least:
            faults.append(f"{what} {value}: expected at least {least}")
    if fault := imgsz_fault(order.imgsz):
        faults.append(fault)
    if not faults:
        reasons = {fmt: deploy.fault(fmt, order.device, order.half) for fmt in order.formats}
        if all(reasons.values()):
            faults += [f"--format {fmt}: {reason}" for fmt, reason in reasons.items()]
    if faults:
        raise deploy.DeployError("\n".join(faults))


def run(order: Order, say: Callable[[str], None] = lambda text: None) -> list[Row]:
    """Torch's row first, then a row a format.

    Raises:
        DeployError: See :func:`check`.
        WeightError: The checkpoint or the base cannot be read.
        TaskError: It is of a task that has no figure here.
        DataError: The dataset is faulty.
    """
    check(order)
    model = weights.open_model(order.model)
    base = weights.open_model(order.base) if order.base else None
    of = task.of(model.yaml)
    found = data.check(order.data, of.name)
    label_cache.check(found.path, of.name)
    if len(model.names) != len(found.names):
        raise deploy.DeployError(
            f"--data {order.data}: it has {len(found.names)} classes, {order.model.name} has {len(model.names)}"
        )
    pictures = agreement.read(image_files(order.data, of.name)[: order.images])
    reference = cost.torch_runner(model, order.device, half=False)
    rows = [torch_row(order, model, base)]
    for fmt in order.formats:
        if reason := deploy.fault(fmt, order.device, order.half):
            rows.append(Row(fmt, missing=reason))
            continue
        say(f"{fmt}: exporting, validating on {found.images['val']} images, timing")
        try:
            rows.append(format_row(order, fmt, model, base, reference, pictures))
        except deploy.DeployError as e:
            rows.append(Row(fmt, missing=str(e).removeprefix(f"{fmt}: ")))
        except Exception as e:  # whatever a runtime raises on a file that was exported and loaded
            rows.append(Row(fmt, missing=f"failed: {type(e).__name__}: {' '.join(str(e).split())[:500]}"))
    if all(row.missing for row in rows[1:]):
        raise deploy.DeployError("\n".join(f"--format {row.format}: {row.missing}" for row in rows[1:]))
    return rows


def torch_row(order: Order, model: BaseModel, base: BaseModel | None) -> Row:
    """The model as torch runs it, fused, on the same head."""
    ours = cost.torch_runner(model, order.device, order.torch_half)
    theirs = cost.torch_runner(base, order.device, order.torch_half) if base else ours
    measured = cost.latency(ours, theirs, order.imgsz, order.runs)
    nms = False if cost.nms_free(model) else None
    accuracy = validate(order, order.model, task.of(model.yaml), nms)
    size = order.model.stat().st_size / 1e6
    ratio = measured.ratio if base else None
    return Row("torch", str(order.model), size, *accuracy, measured, ratio)


def format_row(
    order: Order,
    fmt: str,
    model: BaseModel,
    base: BaseModel | None,
    reference: cost.Runner,
    pictures: list[np.ndarray],
) -> Row:
    """Export, load, time, validate and compare one format."""
    target = order.target / (order.model.stem + ("_half" if order.half else ""))
    settings: dict[str, Any] = {"half": order.half, "dynamic": order.dynamic}
    second = second_size(order.imgsz)

    def opened(net: BaseModel, where: Path, size: int) -> tuple[Path, cost.Runner]:
        file = deploy.export(net, fmt, where, size, order.device, **settings)
        return file, deploy.open_artifact(file, fmt, order.device, cost.channels(net), order.half)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        file, ours = opened(model, target, order.imgsz)
        theirs = opened(base, Path(scratch) / "base", order.imgsz)[1] if base else ours
        measured = cost.latency(ours, theirs, order.imgsz, order.runs)
        smaller = ours if order.dynamic else opened(model, Path(scratch) / "smaller", second)[1]
        pairs = [(order.imgsz, reference, ours), (second, reference, smaller)]
        of = task.of(model.yaml)
        agreed = agreement.compare(pairs, pictures, of.name, len(model.names))
        accuracy = validate(order, file, of)
    ratio = measured.ratio if base else None
    return Row(fmt, str(file), megabytes(file), *accuracy, measured, ratio, agreed)


def validate(order: Order, file: Path, of: task.Task, nms: bool | None = None) -> tuple[str, float]:
    """The task's figure of a checkpoint or an exported file on the val split, by Ultralytics' own validator."""
    from ultralytics import YOLO

    device = order.device.index or 0 if order.device.type == "cuda" else "cpu"
    with quiet(), same_threads(), tempfile.TemporaryDirectory() as scratch:
        found = YOLO(file, task=of.name).val(
            data=str(order.data), imgsz=order.imgsz, device=device, quantize=16 if order.torch_half else None, nms=nms,
            batch=1, rect=False, plots=False, workers=0, project=scratch, name="val", verbose=False,
        )  # fmt: skip
    return of.metric, of.figures(found)[0]


def image_files(place: Path, of: str) -> list[Path]:
    """The pictures of a dataset's val split, in order."""
    from ultralytics.data.utils import IMG_FORMATS, check_cls_dataset, check_det_dataset

    with quiet():
        info = check_cls_dataset(place) if of == "classify" else check_det_dataset(str(place), autodownload=False)
    if of == "classify":
        return sorted(f for f in Path(info["val"]).rglob("*") if f.suffix[1:].lower() in IMG_FORMATS)
    return [Path(file) for file in data.images_of(info["val"], place, "val")]


def second_size(imgsz: int) -> int:
    """Another size that detections are compared at: three quarters of the first, a multiple of 32."""
    smaller = max(32, round(0.75 * imgsz / 32) * 32)
    return smaller if smaller != imgsz else imgsz + 32


def megabytes(file: Path) -> float:
    """Size of a file or of all files of a folder."""
    files = [f for f in file.rglob("*") if f.is_file()] if file.is_dir() else [file]
    return sum(f.stat().st_size for f in files) / 1e6
