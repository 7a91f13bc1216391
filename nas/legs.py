"""Goes in: a trainer in the middle of its steps. Comes out: a file, and from it the same training going on."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils.torch_utils import unwrap_model


@dataclass(frozen=True)
class Leg:
    """A part of a training's steps.

    Legs one after the other are one training: the same order of batches, the same moments of the optimizer, the same
    moving average. Each leg draws its augmentations from a seed of its own, so that a leg's result does not depend on
    whether the one before it ran in the same process.

    Args:
        until: Share of all steps after which the leg ends, in (0, 1].
        start: What :func:`save` wrote at the end of the leg before; None is the beginning.
        keep: Where to write the state at the end, if steps are left.
    """

    until: float = 1.0
    start: Path | None = None
    keep: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.until <= 1:
            raise ValueError(f"until={self.until}: expected a share in (0, 1]")


class Later:
    """A loader's endless batch sampler without its first ``skip`` batches; once, a reset loader goes on in order."""

    def __init__(self, sampler: Any, skip: int) -> None:
        self.sampler, self.skip = sampler, skip

    def __iter__(self) -> Iterator[Any]:
        skip, self.skip = self.skip, 0
        return itertools.islice(itertools.chain.from_iterable(iter(lambda: self.sampler, None)), skip, None)


def save(path: Path, trainer: Any) -> None:
    """Write all that a training goes on from, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    state = {
        "step": trainer.step,
        "images": trainer.images_seen,
        "batches": trainer.batches.hexdigest(),
        "curve": trainer.curve,
        "model": unwrap_model(trainer.model).state_dict(),
        "ema": trainer.ema.ema.state_dict(),
        "updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
    }
    try:
        with part.open("wb") as file:  # opened here, a full disk says so
            torch.save(state, file)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(path: Path) -> dict[str, Any]:
    """What :func:`save` wrote; nothing in the file is executed."""
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def restore(state: dict[str, Any], trainer: Any) -> None:
    """Bring a trainer that is set up to where another one was saved."""
    unwrap_model(trainer.model).load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["ema"])
    trainer.ema.updates = state["updates"]
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.step, trainer.images_seen, trainer.curve = state["step"], state["images"], list(state["curve"])
    trainer.batches.update(state["batches"].encode())
    trainer.start_epoch = state["step"] // len(trainer.train_loader)
