"""What the tests of training share: the tiny detector with a placement in it, and one short training of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from nas import graph, train, weights
from nas.protocol import Protocol
from search_spaces import Placement

NAMES = {0: "red", 1: "green"}
ARGS = {
    "epochs": 1,
    "seed": 0,
    "imgsz": 64,
    "batch": 4,
    "nbs": 4,
    "workers": 0,
    "device": "cpu",
    "optimizer": "AdamW",
    "lr0": 0.001,
    "warmup_epochs": 0.0,
    "mosaic": 0.0,
    "close_mosaic": 0,
    "cache": "ram",
    "name": ".train",
}


def build(base: Path, blocks: dict[str, Any] | None = None, seed: int = 0) -> DetectionModel:
    """The tiny detector with blocks in it, weights of one seed wherever the blocks stand."""
    text = yaml_model_load(base)
    model = weights.build(text, NAMES, seed=seed)
    if not blocks:
        return model
    graft = graph.insert(text, Placement.of(blocks))
    edited = weights.build(graft.yaml, NAMES, seed=seed)
    weights.transfer(model, edited, graft.moved)
    return edited


def short(
    model: DetectionModel,
    data: Path,
    folder: Path,
    *,
    check: Callable[..., object] | None = None,
    **args: Any,
) -> tuple[DetectionModel, train.Score]:
    """Train briefly."""
    factor = args.pop("block_lr_factor", 1.0)
    overrides = {**ARGS, **args, "data": str(data), "project": str(folder)}
    return train.short_train(
        model, overrides, protocol=Protocol(block_lr_factor=factor), check=check, log=folder / "log.txt"
    )
