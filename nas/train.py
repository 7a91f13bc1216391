"""Goes in: a model with its weights. Comes out: the model after a short training, and its score on the named split."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils import LOGGER

from nas import legs, resample, task
from nas import log as logs
from nas.legs import Leg
from nas.locks import Steps
from nas.protocol import Protocol
from nas.score import Score
from nas.trainer import TRAINERS, Short, TrainingFailed, draw_again, draws, gammas


@contextlib.contextmanager
def _tidy() -> Iterator[None]:
    """Leave what was there before to itself: Ultralytics looks through all of it for garbage after each training."""
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()


@_tidy()
def short_train(
    model: BaseModel,
    overrides: Mapping[str, Any],
    *,
    protocol: Protocol = Protocol(),  # noqa: B008  frozen
    at: Sequence[float] = (),
    check: Callable[[BaseModel], object] | None = None,
    steps: Steps | None = None,
    leg: Leg = Leg(),  # noqa: B008  frozen
    resamples: int = 0,
    log: Path | None = None,
) -> tuple[BaseModel, Score]:
    """Train ``model`` as ``overrides`` say and score the result on the val split.

    Args:
        model: The model, its weights in it.
        overrides: Ultralytics' training arguments.
        protocol: How the training lets inserted blocks be seen.
        at: Shares of the training in (0, 1) after which the model is scored as well, see :attr:`Score.curve`.
        check: Called with the model right before the first step.
        steps: Those of all trainings on the device, which wait while a latency is measured.
        leg: The part of the training to do; the whole by default.
        resamples: Other draws of the images for which the figure is taken as well, see :attr:`Score.resampled`.
        log: File that takes what Ultralytics prints.

    Returns:
        The exponential moving average of the weights, in fp32 on the CPU, and its score.

    Raises:
        TrainingFailed: Not finite, out of memory, or any other error of the training, with its reason.
    """
    start = time.perf_counter()
    before = draws()
    with quietly(log):
        try:
            trainer = TRAINERS[task.of(model.yaml).name](model, overrides, protocol, at, check, steps, leg)
            trainer.resamples = resamples
            trainer.train()
            if leg.keep and leg.until < 1:
                legs.save(leg.keep, trainer)
        except TrainingFailed:
            raise
        except (RuntimeError, MemoryError, ValueError, FloatingPointError) as e:
            raise TrainingFailed(_reason(e)) from e
        finally:
            draw_again(before)
            if steps:
                steps.end()
    trained = trainer.ema.ema.float().cpu().to(memory_format=torch.contiguous_format)
    return trained, _score(trainer, time.perf_counter() - start)


def scan(model: BaseModel, overrides: Mapping[str, Any], log: Path | None = None) -> None:
    """Have Ultralytics read the labels and write its caches beside them, as the first training of a process does.

    Raises:
        TrainingFailed: The dataset cannot be read.
    """
    in_memory = overrides.get("cache") in ("ram", True)
    with quietly(log):
        try:
            trainer = TRAINERS[task.of(model.yaml).name](
                model, {**overrides, **({"cache": False} if in_memory else {})}
            )
            for mode, path in (("train", trainer.data["train"]), ("val", trainer.data.get("val"))):
                trainer.build_dataset(path or trainer.data["test"], mode, trainer.args.batch)
        except (RuntimeError, MemoryError, ValueError, OSError) as e:
            raise TrainingFailed(_reason(e)) from e
        finally:
            Short.datasets.clear()


def _score(trainer: Any, total: float) -> Score:
    of, validator = task.TASKS[trainer.args.task], trainer.validator
    value, second = of.figures(validator.metrics)  # trainer.metrics has them rounded
    if not math.isfinite(value):
        raise TrainingFailed(f"validation gave no finite {of.metric}: {value}")
    free = getattr(validator, "nms_free", None)
    nms_free = of.figures(free) if free is not None else (None, None)
    return Score(
        metric=of.metric,
        value=value,
        second_metric=of.second,
        second=second,
        nms_free=nms_free[0],
        nms_free_second=nms_free[1],
        split=str(trainer.args.split),
        head=task.ONE2MANY if task.has_two_heads(trainer.ema.ema) else task.SINGLE,
        epochs=math.ceil(trainer.step / len(trainer.train_loader)),
        images_seen=trainer.images_seen,
        seed=int(trainer.args.seed),
        batches_sha=trainer.batches.hexdigest()[:16],
        seconds={**trainer.clock, "rest": total - sum(trainer.clock.values()), "total": total},
        gamma=gammas(trainer.ema.ema),
        curve=tuple(trainer.curve),
        resampled=tuple(resample.figures(validator, trainer.resamples).tolist()) if trainer.resamples else (),
    )


def _reason(e: BaseException) -> str:
    text = " ".join(str(e).split()) or type(e).__name__
    return f"out of memory: {text[:200]}" if "out of memory" in text.lower() else f"{type(e).__name__}: {text[:400]}"


@contextlib.contextmanager
def quietly(log: Path | None) -> Iterator[None]:
    """Send what Ultralytics prints and logs to a file, see nas/log.py."""
    if log is None:
        yield
        return
    handlers, propagate = LOGGER.handlers[:], LOGGER.propagate
    with logs.opened(log) as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        LOGGER.handlers, LOGGER.propagate = [handler], False
        try:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield
        finally:
            LOGGER.handlers, LOGGER.propagate = handlers, propagate
