"""Goes in: a model and batches. Comes out: Ultralytics' figures of its task, for both heads from one forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils.torch_utils import autocast, unwrap_model

from nas.task import TASKS, has_two_heads


class BothHeads(BaseValidator):
    """What makes Ultralytics' validators also score the NMS-free head (YOLOv10, YOLO26), see :data:`VALIDATORS`.

    The one-to-one predictions of the same forward pass are decoded by the head itself and go the way that
    Ultralytics' validation with `nms=False` goes, into metrics of their own: :attr:`nms_free`, None with one head.
    """

    seen: int
    metrics: Any
    end2end: bool
    nms_free: Any = None

    def init_metrics(self, model: nn.Module) -> None:
        """Add a second set of metrics for the one-to-one head."""
        super().init_metrics(model)
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


VALIDATORS = {
    name: t.validator if name == "classify" else type(f"Short{t.validator.__name__}", (BothHeads, t.validator), {})
    for name, t in TASKS.items()
}


def _decode(head: Any, raw: dict[str, Any]) -> torch.Tensor:
    """Predictions [B, most detections, 6 + extra] as the deployed model gives them: top-k, no NMS."""
    chosen = head.end2end
    head.end2end = True
    try:
        return head.postprocess(head._inference(raw).permute(0, 2, 1))
    finally:
        head.end2end = chosen
