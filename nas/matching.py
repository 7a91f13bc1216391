"""Goes in: predictions and boxes of a batch. Comes out: detections, and at which IoU each of them is right.

The same figures as Ultralytics' `non_max_suppression` and `match_predictions` give image by image, for all images of
a batch at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from ultralytics.utils.ops import xywh2xyxy

APART = 7680  # pixels between classes in NMS, as in Ultralytics
MOST = 30000  # candidates of an image that Ultralytics' NMS looks at; with more it has its own choice
FEW = 3000  # candidates of an image up to which NMS on a CPU is faster than on a GPU

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Boxes:
    """Boxes of a batch: corners [n, 4], class [n], image [n] in ascending order, and confidence [n] of detections.

    Detections of an image are in the order of descending confidence.
    """

    corners: Floats
    classes: Floats
    image: NDArray[np.int64]
    conf: Floats


def with_nms(raw: torch.Tensor, conf: float, iou: float, most: int, agnostic: bool = False) -> Boxes | None:
    """Detections from a one-to-many head's predictions [images, 4 + classes, anchors].

    Returns:
        At most ``most`` an image; None where an image has so many candidates that Ultralytics leaves some out.
    """
    image, anchor, label = (raw[:, 4:] > conf).transpose(1, 2).nonzero(as_tuple=True)
    counts = torch.bincount(image, minlength=len(raw)).tolist()
    if max(counts) > MOST:
        return None
    corners = xywh2xyxy(raw[:, :4].transpose(1, 2))[image, anchor].float()
    scores, classes = raw[image, 4 + label, anchor].float(), label.float()
    if max(counts) <= FEW:
        image, corners, scores, classes = (x.cpu() for x in (image, corners, scores, classes))
    moved = corners if agnostic else corners + classes[:, None] * APART
    kept, start = [], 0
    for n in counts:
        if n:
            found = torchvision.ops.nms(moved[start : start + n], scores[start : start + n], iou)
            kept.append(found[:most] + start)
        start += n
    chosen = torch.cat(kept) if kept else image[:0]
    return _boxes(corners[chosen], scores[chosen], classes[chosen], image[chosen])


def without_nms(found: torch.Tensor, conf: float, most: int) -> Boxes:
    """Detections from an NMS-free head's predictions [images, n, 6]: corners, confidence, class."""
    sure = found[..., 4] > conf
    image, row = (sure & (sure.cumsum(1) <= most)).nonzero(as_tuple=True)
    rows = found[image, row].float()
    return _boxes(rows[:, :4], rows[:, 4], rows[:, 5], image)


def match(found: Boxes, true: Boxes, thresholds: Floats) -> Bools:
    """[detections, thresholds]: is this detection right?

    In the order of confidence each detection takes, at each threshold, the box of its class that it overlaps most
    among those that are not taken, if it overlaps it enough.
    """
    right = np.zeros((len(found.image), len(thresholds)), bool)
    detection, box = _pairs(found, true)
    iou = _iou(true.corners[box], found.corners[detection])
    near = iou >= thresholds.min()
    detection, box, iou = detection[near], box[near], iou[near]
    torn = np.bincount(detection, minlength=len(found.image)) > 1  # between two boxes
    hard = np.isin(box, box[torn[detection]])
    _take_first(detection[~hard], box[~hard], iou[~hard, None] >= thresholds, right)
    _take_best(detection[hard], box[hard], iou[hard], thresholds, right)
    return right


def _take_first(detection: NDArray[np.int64], box: NDArray[np.int64], enough: Bools, right: Bools) -> None:
    """Where no detection has a choice, each box goes to the first that overlaps it enough."""
    if not len(box):
        return
    order = np.argsort(box, kind="stable")
    enough, box = enough[order], box[order]
    so_far = enough.cumsum(0)
    first = np.flatnonzero(np.r_[True, box[1:] != box[:-1]])
    before = (so_far[first] - enough[first]).repeat(np.diff(np.r_[first, len(box)]), 0)
    right[detection[order]] = enough & (so_far - before == 1)


def _take_best(
    detection: NDArray[np.int64], box: NDArray[np.int64], iou: Floats, thresholds: Floats, right: Bools
) -> None:
    """Where some have a choice, one detection after the other."""
    taken = np.zeros((box.max(initial=-1) + 1, len(thresholds)), bool)
    each = np.arange(len(thresholds))
    numbers, starts = np.unique(detection, return_index=True)
    for i, (start, end) in zip(numbers, pairwise([*starts, len(detection)]), strict=True):
        mine = slice(start, end)
        free = np.where(taken[box[mine]], 0, iou[mine, None])
        best = free.argmax(0)
        right[i] = free[best, each] >= thresholds
        taken[box[mine][best], each] |= right[i]


def _pairs(found: Boxes, true: Boxes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of a detection and a box of one image and class: by detection, then by box."""
    wide = 1 + int(max(found.classes.max(initial=0), true.classes.max(initial=0)))
    have = true.image * wide + true.classes.astype(np.int64)
    want = found.image * wide + found.classes.astype(np.int64)
    order = np.argsort(have, kind="stable")
    start, end = (np.searchsorted(have[order], want, side) for side in ("left", "right"))
    counts = end - start
    detection = np.arange(len(want)).repeat(counts)
    within = np.arange(len(detection)) - (counts.cumsum() - counts).repeat(counts)
    return detection, order[start.repeat(counts) + within]


def _iou(a: Floats, b: Floats) -> Floats:
    """IoU of pairs of boxes [n, 4], as Ultralytics' `box_iou` has it."""
    sides = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(0)
    of_a, of_b = a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2]
    shared = sides[:, 0] * sides[:, 1]
    return shared / (of_a[:, 0] * of_a[:, 1] + of_b[:, 0] * of_b[:, 1] - shared + np.float32(1e-7))


def _boxes(corners: torch.Tensor, conf: torch.Tensor, classes: torch.Tensor, image: torch.Tensor) -> Boxes:
    rows = torch.cat((corners, conf[:, None], classes[:, None], image[:, None].float()), 1).cpu().numpy()
    return Boxes(rows[:, :4], rows[:, 5], rows[:, 6].astype(np.int64), rows[:, 4])


def boxes_of(batch: dict[str, torch.Tensor]) -> Boxes:
    """The boxes that a batch of Ultralytics has in its labels, in pixels of the batch's images."""
    h, w = batch["img"].shape[2:]
    image = batch["batch_idx"].flatten()
    corners = xywh2xyxy(batch["bboxes"]) * torch.tensor((w, h, w, h), device=image.device)
    classes = batch["cls"].flatten()
    return _boxes(corners.float(), torch.ones_like(classes), classes, image)
