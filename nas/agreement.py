"""Goes in: two runners of one model and pictures. Comes out: how far apart their detections are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou
from ultralytics.data.augment import LetterBox
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import xywh2xyxy

from nas.cost import Runner

SURE = 0.25  # score of a detection
SAME = 0.5  # IoU of two boxes of one class that are the same detection


@dataclass(frozen=True)
class Agreement:
    """How far the detections of an exported file are from torch's, over the pictures and sizes of ``sizes``.

    Boxes and scores are compared, of segment, pose and OBB models as well (there of the box before it is turned); of a
    classifier the probabilities of all classes.

    Args:
        detections: Torch's with a score over :data:`SURE`; a classifier's pictures.
        unmatched: Of either side, without a partner of its class (IoU over :data:`SAME`, half the score) on the other.
        box_px: Largest difference of any edge of a box, in pixels of the image that the model sees.
        score: Largest difference of a score.
    """

    images: int
    sizes: tuple[int, ...]
    detections: int
    unmatched: int
    box_px: float | None
    score: float | None


def compare(
    pairs: Iterable[tuple[int, Runner, Runner]], pictures: list[np.ndarray], task: str = "detect", classes: int = 0
) -> Agreement:
    """Run every picture through both.

    Args:
        pairs: Image size, torch, and the exported file at that size.
        pictures: BGR, of any size; they are letterboxed to a square.
        task: Ultralytics' word for what the model does.
        classes: Their number; a head with NMS has more columns than theirs but for task detect.
    """
    boxes: list[float] = []
    scores: list[float] = []
    sizes, unmatched = [], 0
    for size, reference, other in pairs:
        sizes.append(size)
        for picture in pictures:
            image = as_input(picture, size, reference.channels)
            if task == "classify":
                scores.append(float((first(reference, image) - first(other, image)).abs().max()))
                continue
            near, far, lost = match(*(detections(r, image, task, classes) for r in (reference, other)))
            boxes, scores, unmatched = [*boxes, *near], [*scores, *far], unmatched + lost
    largest = (max(boxes, default=None), max(scores, default=None))
    return Agreement(len(pictures), tuple(sizes), len(scores), unmatched, *largest)


@torch.inference_mode()
def first(runner: Runner, image: Tensor) -> Tensor:
    """The first output, fp32 on the CPU: boxes, or a classifier's probabilities."""
    y: Any = runner(image)
    while isinstance(y, list | tuple):
        y = y[0]
    return torch.as_tensor(y).float().cpu()


def detections(runner: Runner, image: Tensor, task: str = "detect", classes: int = 0) -> Tensor:
    """Rows [x1, y1, x2, y2, score, class] with a score over half of :data:`SURE`, after NMS where the head needs it."""
    found = first(runner, image)
    if runner.head == "one2one":
        rows = found[0][found[0, :, 4] > SURE / 2][:, :6]
    else:
        rows = non_max_suppression(found, SURE / 2, nc=classes, rotated=task == "obb")[0][:, :6]
    return torch.cat([xywh2xyxy(rows[:, :4]), rows[:, 4:]], 1) if task == "obb" else rows


def match(ours: Tensor, theirs: Tensor) -> tuple[list[float], list[float], int]:
    """Differences in pixels and in score of every sure detection and its partner, and how many have none."""
    boxes, scores, lost = [], [], 0
    for one, two, counted in ((ours, theirs, True), (theirs, ours, False)):
        free = torch.ones(len(two), dtype=torch.bool)
        for row in one[one[:, 4] > SURE]:  # the surest first; a partner is one detection's only
            iou = box_iou(row[None, :4], two[:, :4])[0].where(free & (two[:, 5] == row[5]), 0)
            if not len(two) or iou.max() < SAME:
                lost += 1
                continue
            near = iou - (two[:, 4] - row[4]).abs()  # the head may find an object twice, with another score
            at = int(near.where(iou >= SAME, -torch.inf).argmax())
            free[at] = False
            if counted:
                boxes.append(float((two[at, :4] - row[:4]).abs().max()))
                scores.append(float((two[at, 4] - row[4]).abs()))
    return boxes, scores, lost


def as_input(picture: np.ndarray, size: int, channels: int = 3) -> Tensor:
    """A picture [height, width, 3], BGR, as Ultralytics shows it to a model: [1, channels, size, size] in [0, 1]."""
    if channels == 1:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)[..., None]
    boxed = LetterBox((size, size), auto=False)(image=picture)
    boxed = boxed[..., None] if boxed.ndim == 2 else boxed
    planes = boxed[..., ::-1].transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes))[None].float() / 255


def read(files: Iterable[Path]) -> list[np.ndarray]:
    """The pictures that can be read."""
    loaded = (cv2.imread(str(file)) for file in files)
    return [picture for picture in loaded if picture is not None]
