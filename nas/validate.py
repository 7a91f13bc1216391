"""Goes in: a model and batches. Comes out: Ultralytics' figures for both heads of YOLOv10, from one forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils.metrics import DetMetrics
from ultralytics.utils.torch_utils import unwrap_model


class Validator(DetectionValidator):
    """Ultralytics' validator that also scores the NMS-free head from the same forward pass."""

    seen: int
    metrics: DetMetrics

    def init_metrics(self, model: nn.Module) -> None:
        """Add a second set of metrics for the one-to-one head."""
        super().init_metrics(model)
        head = unwrap_model(model).model[-1]
        self.one2one_head = head if getattr(head, "one2one_cv2", None) is not None and not self.end2end else None
        self.nms_free = DetMetrics(names=model.names)

    def postprocess(self, preds: Any) -> list[dict[str, torch.Tensor]]:
        """NMS on the one-to-many predictions; the one-to-one predictions are kept for :meth:`update_metrics`."""
        if self.one2one_head is not None:
            self.one2one_preds = _nms_free(self.one2one_head, preds[1]["one2one"], self.args.conf, self.args.max_det)
        return super().postprocess(preds)

    def update_metrics(self, preds: list[dict[str, torch.Tensor]], batch: dict[str, Any]) -> None:
        """Update both sets of metrics."""
        seen = self.seen
        super().update_metrics(preds, batch)
        if self.one2one_head is not None:
            first = self.metrics
            self.seen, self.metrics = seen, self.nms_free
            super().update_metrics(self.one2one_preds, batch)
            self.metrics = first

    def get_stats(self) -> dict[str, Any]:
        """Ultralytics' figures; those of the NMS-free head are in :attr:`nms_free`."""
        if self.one2one_head is not None:
            self.nms_free.process(save_dir=self.save_dir, plot=False)
        return super().get_stats()


def _nms_free(head: Any, raw: dict[str, Any], conf: float, max_det: int) -> list[dict[str, torch.Tensor]]:
    """Decode the one-to-one predictions as the deployed model does: top-k, no NMS."""
    chosen = head.end2end
    head.end2end = True
    try:
        found = head.postprocess(head._inference(raw).permute(0, 2, 1))
    finally:
        head.end2end = chosen
    kept = [x[x[:, 4] > conf][:max_det] for x in found]
    return [{"bboxes": x[:, :4], "conf": x[:, 4], "cls": x[:, 5], "extra": x[:, 6:]} for x in kept]
