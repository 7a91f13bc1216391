"""Goes in: a model and batches. Comes out: Ultralytics' figures of its task, for both heads from one forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from ultralytics.engine.validator import BaseValidator
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils.torch_utils import autocast, unwrap_model

from nas import matching, resample
from nas.task import TASKS, has_two_heads

PARTS = {"segment": "tp_m", "pose": "tp_p"}  # what the task's figure is made of; else boxes
KEPT = 1 << 30  # bytes of images up to which the batches of a validation stay in memory


class BothHeads(BaseValidator):
    """What makes Ultralytics' validators also score the NMS-free head (YOLOv10, YOLO26), see :data:`VALIDATORS`.

    The one-to-one predictions of the same forward pass are decoded by the head itself and go the way that
    Ultralytics' validation with `nms=False` goes, into metrics of their own: :attr:`nms_free`, None with one head.
    """

    seen: int
    metrics: Any
    end2end: bool
    nms_free: Any = None
    resamples = 0
    resampled: Any = None

    def init_metrics(self, model: nn.Module) -> None:
        """Add a second set of metrics for the one-to-one head."""
        super().init_metrics(model)
        self.marks = resample.Marks()
        two = has_two_heads(unwrap_model(model)) and not self.end2end
        self.one2one_head = unwrap_model(model).model[-1] if two else None
        self.nms_free = type(self.metrics)(names=model.names) if two else None

    def postprocess(self, preds: Any) -> list[dict[str, torch.Tensor]]:
        """NMS on the one-to-many predictions; the one-to-one predictions are kept for :meth:`update_metrics`."""
        if self.one2one_head is not None:
            half = self.training and self.args.quantize == 16
            with autocast(half, device=self.device.type):  # as the forward pass
                found = _decode(self.one2one_head, preds[1]["one2one"])
            with_masks = isinstance(preds[0], tuple)  # (predictions, mask prototypes)
            self.end2end = True
            self.one2one_preds = super().postprocess(((found, *preds[0][1:]) if with_masks else found, preds[1]))
            self.end2end = False
        return super().postprocess(preds)

    def update_metrics(self, preds: list[dict[str, torch.Tensor]], batch: dict[str, Any]) -> None:
        """Update both sets of metrics."""
        seen, kept = self.seen, len(self.metrics.stats["conf"])
        super().update_metrics(preds, batch)
        if self.resamples:
            self.mark(preds, batch, self.seen - seen, kept)
        if self.one2one_head is not None:
            first = self.metrics
            self.seen, self.metrics = seen, self.nms_free
            super().update_metrics(self.one2one_preds, batch)
            self.metrics = first

    def mark(self, preds: Any, batch: dict[str, Any], count: int, kept: int) -> None:
        """Note the images of the detections and labels that came after the first ``kept`` entries of the metrics."""
        if isinstance(preds, list):  # Ultralytics' own way: an entry an image
            found, true = ([len(x) for x in self.metrics.stats[name][kept:]] for name in ("conf", "target_cls"))
            self.marks.add(np.repeat(np.arange(count), found), np.repeat(np.arange(count), true), count)
        else:
            self.marks.add(preds.image, batch["batch_idx"].flatten().long().cpu().numpy(), count)

    def get_stats(self) -> dict[str, Any]:
        """Ultralytics' figures; those of the NMS-free head are in :attr:`nms_free`."""
        if self.resamples:
            drawn = resample.weights(self.marks.images, self.resamples)
            part = PARTS.get(self.args.task, "tp")
            self.resampled = resample.mean_ap(self.metrics.stats, self.marks, part, drawn)
        if self.one2one_head is not None:
            self.nms_free.process(save_dir=self.save_dir, plot=False)
        return super().get_stats()


class Batched(DetectionValidator):
    """Ultralytics' validation of boxes, for all images of a batch at once: the same mAP, sooner.

    Where a plot or a file is asked for, which read the predictions image by image, it is Ultralytics' own.
    """

    def postprocess(self, preds: Any) -> Any:
        """Detections of a batch; Ultralytics' list of them, image by image, where it has to be."""
        args, raw = self.args, preds[0] if isinstance(preds, (list, tuple)) else preds
        if args.plots or args.save_json or args.save_txt or args.single_cls:
            return super().postprocess(preds)
        if self.end2end or raw.shape[-1] == 6:
            return matching.without_nms(raw, args.conf, args.max_det)
        found = matching.with_nms(raw, args.conf, args.iou, args.max_det, args.agnostic_nms)
        return super().postprocess(preds) if found is None else found

    def update_metrics(self, preds: Any, batch: dict[str, Any]) -> None:
        """Match a batch's detections with its boxes."""
        if isinstance(preds, list):
            super().update_metrics(preds, batch)
            return
        count, true = len(batch["img"]), matching.boxes_of(batch)
        self.seen += count
        bare = len(np.unique(preds.image)) < count  # then Ultralytics' are in double, and ties sort otherwise
        stats = {
            "tp": matching.match(preds, true, self.iouv.cpu().numpy()),
            "conf": preds.conf.astype(np.float64) if bare else preds.conf,
            "pred_cls": preds.classes,
            "target_cls": true.classes,
            "target_img": np.unique(np.stack((true.image, true.classes)), axis=1)[1],  # a class once an image
        }
        for name, values in stats.items():
            self.metrics.stats[name].append(values)


class Kept:
    """A loader whose batches are the same every time: those of the first pass are kept, if they are small.

    Args:
        loader: Ultralytics' loader, without augmentation or shuffling.
        most: Bytes of images; with more, every pass reads them anew.
    """

    def __init__(self, loader: Any, most: int = KEPT) -> None:
        self.loader, self.most = loader, most
        self.dataset, self.sampler, self.batch_size = loader.dataset, loader.sampler, loader.batch_size
        self.batches: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.loader)

    def close(self) -> None:
        """End the workers; another pass starts new ones."""
        self.loader.reset()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.batches is not None:
            yield from map(dict, self.batches)
            return
        found: list[dict[str, Any]] = []
        size, whole = 0, False
        try:
            for batch in self.loader:
                size += batch["img"].nbytes
                if size <= self.most:
                    found.append(dict(batch))
                else:
                    found.clear()
                yield batch
            whole = True
        finally:
            if not whole:  # or Ultralytics' loader would go on from here
                self.loader.reset()
        if size <= self.most:
            self.batches = found


def _validator(name: str, theirs: type) -> type:
    if name == "classify":
        return theirs
    return type(f"Short{theirs.__name__}", (BothHeads, Batched if name == "detect" else theirs), {})


VALIDATORS = {name: _validator(name, t.validator) for name, t in TASKS.items()}


def _decode(head: Any, raw: dict[str, Any]) -> torch.Tensor:
    """Predictions [B, most detections, 6 + extra] as the deployed model gives them: top-k, no NMS."""
    chosen = head.end2end
    head.end2end = True
    try:
        return head.postprocess(head._inference(raw).permute(0, 2, 1))
    finally:
        head.end2end = chosen
