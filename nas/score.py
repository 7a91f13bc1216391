"""What a training reached: the task's figures, on which split and head, after how much training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Score:
    """What a training reached, in [0, 1].

    Args:
        metric: What ``value`` is, such as mAP50-95 or top-1 accuracy; ``second_metric`` what ``second`` is.
        value, second: Of the one-to-many head with NMS where the model has two heads.
        nms_free, nms_free_second: The same of the head that needs no NMS, from the same pass; None without one.
        split: The images that were scored, in words; see :attr:`nas.dataset.Dataset.split`.
        head: ``one2many``, or ``single`` where the model has one head.
        images_seen: Training images, repeats counted.
        batches_sha: Hash of all training batches, images and labels in their order.
        seconds: Wall time by part: setup, steps, validation, rest; ``total`` their sum.
        gamma: Mean absolute gamma of each inserted block after the training, by its row.
        curve: Points along the training, the last its end: ``images`` seen, ``value``, ``nms_free``, and ``loss``,
            the sum of the validation losses.
        resampled: ``value`` for other draws of the split's images, where it was asked for; the same draws for all.
    """

    metric: str
    value: float
    second_metric: str
    second: float
    nms_free: float | None
    nms_free_second: float | None
    split: str
    head: str
    epochs: int
    images_seen: int
    seed: int
    batches_sha: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    gamma: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[Mapping[str, float | None]] = ()
    resampled: Sequence[float] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {k: v for k, v in asdict(self).items() if k != "resampled" or v}
