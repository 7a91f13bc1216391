"""Goes in: a validation's matches, image by image. Comes out: its figure for other draws of the images.

Draws are weights of the images, the same for every model (a Bayesian bootstrap, Rubin 1981: exponential weights, so
that no class ever vanishes). With all weights 1 the figure is Ultralytics' own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from ultralytics.utils.metrics import _AP_X as RECALLS

SEED = 20_250_601
EPS = 1e-16  # Ultralytics'
Floats = NDArray[np.float64]


@dataclass
class Marks:
    """Which image each detection and each label of a validation belongs to, in the order of the metrics' own lists."""

    detections: list[NDArray[np.int64]] = field(default_factory=list)
    labels: list[NDArray[np.int64]] = field(default_factory=list)
    images: int = 0

    def add(self, detections: list[int] | NDArray[np.int64], labels: list[int] | NDArray[np.int64], count: int) -> None:
        """A batch of ``count`` images; image numbers within the batch."""
        self.detections.append(np.asarray(detections, np.int64) + self.images)
        self.labels.append(np.asarray(labels, np.int64) + self.images)
        self.images += count


def weights(images: int, draws: int) -> Floats:
    """[draws, images], mean about 1, the same for the same numbers."""
    return np.random.default_rng(SEED).standard_exponential((draws, images))


def mean_ap(stats: dict[str, list[Any]], marks: Marks, part: str, drawn: Floats) -> Floats:
    """mAP50-95 for each draw of images.

    Args:
        stats: Ultralytics' lists of a validation: conf, pred_cls, target_cls and ``part``.
        part: ``tp``, ``tp_m`` (masks) or ``tp_p`` (poses): [detections, thresholds], whether a detection is right.
        drawn: [draws, images].
    """
    read = {k: np.concatenate(stats[k], 0) for k in ("conf", "pred_cls", "target_cls", part)}
    image, label_image = (np.concatenate(x) for x in (marks.detections, marks.labels))
    order = np.argsort(-read["conf"])
    classes, right, image = read["pred_cls"][order], read[part][order], image[order]
    found = [
        [
            _ap(right[classes == c], drawn_here[image[classes == c]], drawn_here[label_image[read["target_cls"] == c]])
            for c in np.unique(read["target_cls"])
        ]
        for drawn_here in drawn
    ]
    return np.asarray(found, float).mean(1) if len(found) and found[0] else np.zeros(len(drawn))


def _ap(right: NDArray[Any], weight: Floats, labels: Floats) -> float:
    """AP of one class, mean over the thresholds: detections in the order of confidence, and the labels' weights."""
    if not len(right) or not len(labels):
        return 0.0
    hits = (right * weight[:, None]).cumsum(0)
    recall = hits / (labels.sum() + EPS)
    precision = hits / weight.cumsum()[:, None]
    return float(np.mean([_area(recall[:, j], precision[:, j]) for j in range(right.shape[1])]))


def _area(recall: Floats, precision: Floats) -> float:
    """Under the envelope, by 101 points of recall, as Ultralytics' `compute_ap`."""
    at = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    envelope = np.maximum.accumulate(np.concatenate(([1.0], precision, [0.0, 0.0]))[::-1])[::-1]
    return float(trapezoid(np.interp(RECALLS, at, envelope), RECALLS))


def accuracy(targets: list[Any], preds: list[Any], drawn: Floats) -> Floats:
    """Top-1 accuracy for each draw of images."""
    right = np.concatenate([(p[:, 0] == t).numpy() for t, p in zip(targets, preds, strict=True)]).astype(float)
    return np.asarray(drawn @ right / drawn.sum(1))


def figures(validator: Any, draws: int) -> Floats:
    """What a finished validation would have given for other draws of its images, [draws]; see nas/validate.py."""
    if validator.args.task == "classify":
        images = sum(len(t) for t in validator.targets)
        return accuracy(validator.targets, validator.pred, weights(images, draws))
    return np.asarray(validator.resampled)
