"""Goes in: a model with its weights, a protocol. Comes out: Ultralytics' trainers, each for many short trainings."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import nn
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils.torch_utils import init_seeds, unwrap_model

from modules.attend import Attend
from nas import legs, task
from nas.legs import Leg
from nas.locks import Steps
from nas.protocol import Protocol
from nas.reading import Reading
from nas.validate import VALIDATORS

HASHED = ("img", "cls", "bboxes", "batch_idx", "masks", "keypoints")  # of a batch, where its task has it
QUIET = {"plots": False, "val": False, "save": False, "verbose": False, "exist_ok": True, "save_json": False}


class TrainingFailed(RuntimeError):
    """A training that gave no number; the message is the reason that the trial records."""


class Short(Reading):
    """What makes each of Ultralytics' trainers one for many short trainings in one process, see :data:`TRAINERS`.

    It trains the very model it is given, from the weights that are in it; datasets are read once a process; the
    blocks are treated as the protocol says; there is no validation but the one at the end and those asked for; nothing
    is saved, and a loss that is not finite, or a lack of memory, is a failure and no other training than the one
    asked for.

    Args:
        model: The model to train, weights in place.
        overrides: Ultralytics' training arguments.
        protocol: How the training lets the blocks be seen.
        at: Shares of the steps, in (0, 1), after which the model is scored as well.
        check: Called with the model right before the first step, to verify what is in it.
        steps: Those of all trainings on the device, which wait while a latency is measured.
        leg: The part of the training to do.
    """

    resamples = 0  # other draws of the images for which the figure is taken as well

    def __init__(
        self,
        model: BaseModel,
        overrides: Mapping[str, Any],
        protocol: Protocol = Protocol(),  # noqa: B008  frozen
        at: Sequence[float] = (),
        check: Callable[[BaseModel], object] | None = None,
        steps: Steps | None = None,
        leg: Leg = Leg(),  # noqa: B008  frozen
    ):
        self.protocol, self.at, self.check, self.steps, self.leg = protocol, at, check, steps, leg
        self.before = legs.read(leg.start) if leg.start else None
        self.batches = hashlib.sha256()
        self.images_seen = self.step = 0
        self.curve: list[dict[str, float | None]] = []
        self.clock = {"setup": 0.0, "steps": 0.0, "validation": 0.0}
        self.started = time.perf_counter()
        threads = torch.get_num_threads()
        frozen = {"freeze": _backbone(model)} if protocol.freeze_backbone else {}
        super().__init__(overrides={**overrides, **frozen, **QUIET, "model": "yolov10n.yaml"})
        torch.set_num_threads(threads)  # Ultralytics leaves one core out
        self.model, self.asked_batch = model, self.args.batch

    def run_callbacks(self, event: str) -> None:
        """Keep the clock, and do what the protocol says; experiment loggers do not belong to a trial."""
        now = time.perf_counter()
        if event == "on_train_start":
            self.prepare()
            now = time.perf_counter()
            self.clock["setup"] = now - self.started
        elif event == "on_train_epoch_start":
            self.epoch_started, self.validated = now, self.clock["validation"]
        elif event == "on_train_batch_start":
            if self.steps:
                self.steps.begin()
            self.set_lr()
            self.freeze()
            self.step += 1
        elif event == "on_train_batch_end":
            if self.step in self.stops:
                self.validate()
            self.stop = self.step >= self.end
            if self.steps:
                self.steps.end()
        elif event == "on_train_epoch_end":
            self.clock["steps"] += now - self.epoch_started - (self.clock["validation"] - self.validated)

    def prepare(self) -> None:
        """What is left to do right before the first step."""
        model, total = unwrap_model(self.model), len(self.train_loader) * self.epochs
        if self.check is not None and self.before is None:
            self.check(model)
        self.end = max(1, round(self.leg.until * total))
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.frozen_steps = round(self.protocol.block_only * total)
        self.stops = {max(1, round(share * total)) for share in self.at} - {self.end}
        model.criterion = model.init_criterion()
        if self.protocol.hold_heads and hasattr(model.criterion, "update"):
            model.criterion.update = lambda: None
        if back := self.protocol.ema_steps:
            self.ema.decay = lambda updates: 1 - 1 / min(back, updates + 1)
        for net in (model, self.ema.ema):  # on CUDA Ultralytics makes it channels last; on a CPU it is faster too
            if self.device.type == "cpu" and self.args.channels_last is not False:
                net.to(memory_format=torch.channels_last)
            for block in _blocks(net) if self.protocol.gamma else ():
                if block.gamma is not None:
                    nn.init.constant_(block.gamma, self.protocol.gamma)
        if self.before is not None:
            legs.restore(self.before, self)
        init_seeds(self.args.seed + self.step, deterministic=self.args.deterministic)  # same draws whatever was built

    def set_lr(self) -> None:
        """The ramp, then Ultralytics' schedule at every step: read once an epoch, two epochs never come down."""
        factor = self.lf(self.step / len(self.train_loader))
        since = self.step - self.frozen_steps * (self.step >= self.frozen_steps)  # the base's first step has a ramp too
        if since < self.protocol.ramp:
            factor *= (since + 1) / self.protocol.ramp
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def freeze(self) -> None:
        """Freeze all but the blocks, norm statistics too, for the steps that train them alone."""
        if self.step > self.frozen_steps or not self.frozen_steps:
            return
        model, frozen = unwrap_model(self.model), self.step < self.frozen_steps
        ours = {id(p) for block in _blocks(model) for p in block.parameters()}
        for p in self.trained if ours else ():
            p.requires_grad_(id(p) in ours or not frozen)
        self._model_train()
        if frozen:
            inside = {id(m) for block in _blocks(model) for m in block.modules()}
            for m in model.modules():
                if isinstance(m, nn.modules.batchnorm._BatchNorm) and id(m) not in inside:
                    m.eval()

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Hash the batch as it comes from the loader, then as Ultralytics does."""
        for part in HASHED:
            if part in batch:
                self.batches.update(batch[part].numpy().tobytes())
        self.images_seen += len(batch["img"])
        return super().preprocess_batch(batch)

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Ultralytics' optimizer with the parameters of inserted blocks in groups of their own.

        Each keeps the weight decay of its group; gamma has none.
        """
        optimizer = super().build_optimizer(model, *args, **kwargs)
        blocks = _blocks(unwrap_model(model))
        ours = {id(p) for m in blocks for p in m.parameters()}
        undecayed = {id(m.gamma) for m in blocks}
        for group in list(optimizer.param_groups):
            taken = [p for p in group["params"] if id(p) in ours]
            group["params"] = [p for p in group["params"] if id(p) not in ours]
            for free in (True, False):
                chosen = [p for p in taken if (id(p) in undecayed) is free]
                if chosen:
                    rest = {k: v for k, v in group.items() if k != "params"}
                    rest |= {"lr": group["lr"] * self.protocol.block_lr_factor, "param_group": "block"}
                    optimizer.add_param_group(rest | {"params": chosen} | ({"weight_decay": 0.0} if free else {}))
        optimizer.param_groups[:] = [g for g in optimizer.param_groups if g["params"]]
        return optimizer

    def _build_train_pipeline(self) -> None:
        """Ultralytics halves the batch when memory runs out; another batch would be another training."""
        if self.optimizer is not None:
            raise TrainingFailed(f"out of memory with batch={self.asked_batch} at imgsz={self.args.imgsz}")
        super()._build_train_pipeline()
        if self.before is not None:
            loader = self.train_loader
            object.__setattr__(loader, "batch_sampler", legs.Later(loader.batch_sampler.sampler, self.before["step"]))

    def _get_warmup_iterations(self, num_batches: int) -> int:
        """Ultralytics counts them from the start of the process; a later leg has them behind it."""
        return 0 if self.before is not None else super()._get_warmup_iterations(num_batches)

    def optimizer_step(self) -> None:
        """Ultralytics' step; none while all that the untouched base has is frozen."""
        if self.step <= self.frozen_steps and not _blocks(unwrap_model(self.model)):
            self.optimizer.zero_grad()
        else:
            super().optimizer_step()

    def get_validator(self) -> Any:
        """Our validator of the task, quiet."""
        of = VALIDATORS[self.args.task]
        validator = of(self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks)
        validator.resamples = self.resamples
        return validator

    def validate(self) -> tuple[dict[str, Any], float]:
        """Ultralytics' validation, timed, its figures kept as a point of the curve."""
        start, before = time.perf_counter(), draws()
        result = super().validate()
        draw_again(before)
        of, free = task.TASKS[self.args.task], getattr(self.validator, "nms_free", None)
        self.curve.append(
            {
                "images": self.images_seen,
                "value": of.figures(self.validator.metrics)[0],  # trainer.metrics has them rounded
                "nms_free": of.figures(free)[0] if free is not None else None,
                "loss": sum(float(v) for k, v in result[0].items() if k.startswith("val/")),
            }
        )
        self.clock["validation"] += time.perf_counter() - start
        return result

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """A loss that is not finite in any batch ends the training as failed."""
        means = {name: float(value) for name, value in (self.tloss or {}).items()}
        bad = {name: value for name, value in means.items() if not math.isfinite(value)}
        if bad:
            what = ", ".join(f"{name} {value}" for name, value in bad.items())
            raise TrainingFailed(f"loss is not finite in epoch {epoch + 1}: {what}")
        if not all(torch.isfinite(v).all() for v in self.ema.ema.state_dict().values() if v.is_floating_point()):
            raise TrainingFailed(f"weights are not finite after epoch {epoch + 1}")
        return False

    def save_model(self) -> bool:
        """No checkpoint: whoever wants one takes the EMA."""
        return False

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """No results.csv."""

    def final_eval(self) -> None:
        """No second validation."""


TRAINERS = {name: type(f"Short{t.trainer.__name__}", (Short, t.trainer), {}) for name, t in task.TASKS.items()}


def _backbone(model: BaseModel) -> list[int]:
    """Rows of the backbone without those of inserted blocks."""
    return [i for i in range(len(model.yaml["backbone"])) if not isinstance(model.model[i], Attend)]


def _blocks(model: nn.Module) -> list[Attend]:
    return [m for m in model.modules() if isinstance(m, Attend)]


def draws() -> tuple[Any, ...]:
    """The state of all random numbers."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def draw_again(state: tuple[Any, ...]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])


def gammas(model: BaseModel) -> dict[str, float]:
    """Mean absolute gamma of each inserted block, by its row: how far it has left the identity."""
    blocks = {str(m.i): m.gamma for m in model.model if isinstance(m, Attend)}
    return {row: float(gamma.detach().abs().mean()) for row, gamma in blocks.items() if gamma is not None}
