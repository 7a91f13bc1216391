"""Goes in: a model's YAML as a dict. Comes out: its task, Ultralytics' classes for it, and what is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ultralytics.models.yolo import classify, detect, obb, pose, segment
from ultralytics.nn.tasks import guess_model_task

from nas.errors import InputError
from nas.quiet import quiet

ONE2MANY, ONE2ONE, SINGLE = "one2many", "one2one", "single"  # which head a figure belongs to


class TaskError(InputError):
    """A model of a task that is not searched."""


@dataclass(frozen=True)
class Task:
    """One of Ultralytics' tasks.

    Args:
        name: Ultralytics' word for it, as in `yolo segment train`.
        trainer, validator: Ultralytics' classes.
        metric: What placements are ranked by, in people's words; ``second`` stands beside it.
        columns: Both as names of columns.
        figures: Both, in [0, 1], from the validator's metrics.
        objective: The objective's name on the command line.
        data: What ``--data`` names.
        defaults: Training arguments that depend on the task, where the user says nothing.
    """

    name: str
    trainer: type
    validator: type
    metric: str
    second: str
    columns: tuple[str, str]
    figures: Callable[[Any], tuple[float, float]]
    objective: str = "map"
    data: str = "the dataset's YAML"
    defaults: Mapping[str, Any] = field(default_factory=lambda: {"imgsz": 640, "cache": "ram"})

    def poor(self, classes: int) -> float:
        """A base below this has hardly learnt anything: 0.1, for an accuracy no less than a fifth above chance."""
        return max(0.1, 1.2 / classes) if self.objective == "accuracy" else 0.1


def _maps(part: str) -> Callable[[Any], tuple[float, float]]:
    return lambda metrics: (float(getattr(metrics, part).map), float(getattr(metrics, part).map50))


TASKS = {
    t.name: t
    for t in (
        Task(
            "detect", detect.DetectionTrainer, detect.DetectionValidator,
            "mAP50-95", "mAP50", ("map50_95", "map50"), _maps("box"),
        ),
        Task(
            "segment", segment.SegmentationTrainer, segment.SegmentationValidator,
            "mask mAP50-95", "mask mAP50", ("mask_map50_95", "mask_map50"), _maps("seg"),
        ),
        Task(
            "pose", pose.PoseTrainer, pose.PoseValidator,
            "pose mAP50-95", "pose mAP50", ("pose_map50_95", "pose_map50"), _maps("pose"),
        ),
        Task(
            "obb", obb.OBBTrainer, obb.OBBValidator,
            "OBB mAP50-95", "OBB mAP50", ("obb_map50_95", "obb_map50"), _maps("box"),
        ),
        Task(
            "classify", classify.ClassificationTrainer, classify.ClassificationValidator,
            "top-1 accuracy", "top-5 accuracy", ("top1_accuracy", "top5_accuracy"),
            lambda metrics: (float(metrics.top1), float(metrics.top5)),
            objective="accuracy", data="a folder with train/ and val/, in each a folder of images a class",
            defaults={"imgsz": 224, "cache": False},
        ),
    )
}  # fmt: skip


def name_of(yaml: Mapping[str, Any]) -> str:
    """Ultralytics' word for the task of a model's YAML."""
    with quiet():
        return str(guess_model_task(dict(yaml)))


def of(yaml: Mapping[str, Any]) -> Task:
    """The task of a model's YAML, known by its head.

    Raises:
        TaskError: A task that is not searched.
    """
    name, rows = name_of(yaml), yaml["head"]
    if name not in TASKS:
        what = f"is a model for {name}" if name != "None" else f"ends in {rows[-1][2]}"
        raise TaskError(f"the base {what}; a search knows {', '.join(TASKS)}")
    return TASKS[name]


def has_two_heads(model: Any) -> bool:
    """Whether a model has an NMS-free head beside its one-to-many head."""
    return getattr(model.model[-1], "one2one_cv2", None) is not None
