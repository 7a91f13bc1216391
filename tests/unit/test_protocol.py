"""How a short training treats blocks and base: ramp, held head weights, frozen steps, frozen backbone, curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training import ARGS, build

from modules.attend import Attend
from nas import train
from nas.protocol import Protocol

BLOCKS = {"neck.p3": "se", "backbone.p4": "eca"}


class Watched(train.TRAINERS["detect"]):  # type: ignore[misc]
    """Notes what holds after every step."""

    def run_callbacks(self, event: str) -> None:
        super().run_callbacks(event)
        if event == "on_train_start":
            self.seen: list[dict[str, Any]] = []
        if event == "on_train_batch_end":
            criterion = self.model.criterion
            self.seen.append(
                {
                    "lr": self.optimizer.param_groups[0]["lr"] / self.optimizer.param_groups[0]["initial_lr"],
                    "o2m": criterion.o2m,
                    "state": {k: v.clone() for k, v in self.model.state_dict().items()},
                    "norms": {m.training for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)},
                }
            )


def watched(base: Path, data: Path, folder: Path, protocol: Protocol, at: tuple[float, ...] = (), **args: Any) -> Any:
    """A trainer after its training; the state before it is in ``start``."""
    model = build(base, BLOCKS)
    overrides = {**ARGS, "epochs": 3, "lrf": 1.0, **args, "data": str(data), "project": str(folder)}
    trainer = Watched(model, overrides, protocol, at)
    trainer.start = {k: v.clone() for k, v in model.state_dict().items()}
    trainer.train()
    return trainer


def ours(trainer: Any) -> set[str]:
    """Names of the tensors of inserted blocks."""
    rows = [i for i, m in enumerate(trainer.model.model) if isinstance(m, Attend)]
    return {k for k in trainer.start if int(k.split(".")[1]) in rows}


def moved(trainer: Any, step: int) -> set[str]:
    """Names of the tensors that are not what they were at the start, after a step."""
    now = trainer.seen[step]["state"]
    return {k for k, v in trainer.start.items() if v.is_floating_point() and not torch.equal(v, now[k])}


def test_the_rate_rises_over_the_ramp_and_stays(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    trainer = watched(tiny_base, tiny_data, tmp_path, Protocol(ramp=4))
    assert [round(s["lr"], 6) for s in trainer.seen] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    trainer = watched(tiny_base, tiny_data, tmp_path, Protocol(ramp=0), lrf=0.1)
    lrs = [s["lr"] for s in trainer.seen]
    assert lrs[0] == 1.0
    assert lrs == sorted(lrs, reverse=True)
    assert lrs[-1] < 0.3


@pytest.mark.parametrize("held", [True, False])
def test_the_heads_losses_keep_their_weights(held: bool, tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    trainer = watched(tiny_base, tiny_data, tmp_path, Protocol(hold_heads=held))
    weights = {round(s["o2m"], 6) for s in trainer.seen}
    assert weights == ({0.8} if held else {0.8, 0.45, 0.1})


def test_a_frozen_base_does_not_move_until_its_time(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    trainer = watched(tiny_base, tiny_data, tmp_path, Protocol(block_only=0.5))
    assert moved(trainer, 2), "the blocks are trained"
    assert moved(trainer, 2) <= ours(trainer)
    assert False in trainer.seen[2]["norms"]
    assert moved(trainer, 5) - ours(trainer)
    assert trainer.seen[5]["norms"] == {True}
    fixed = [k for k in trainer.start if ".dfl." in k]
    assert all(torch.equal(trainer.start[k], trainer.seen[5]["state"][k]) for k in fixed), "no weights of the base"


def test_the_untouched_base_waits_while_others_train_their_blocks(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    model = build(tiny_base)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    overrides = {**ARGS, "epochs": 3, "lrf": 1.0, "data": str(tiny_data), "project": str(tmp_path)}
    trained, _ = train.short_train(model, overrides, protocol=Protocol(block_only=1.0))
    assert all(torch.equal(v, start[k]) for k, v in trained.state_dict().items())
    model = build(tiny_base)
    trained, _ = train.short_train(model, overrides, protocol=Protocol(block_only=0.5))
    assert not all(torch.equal(v, start[k]) for k, v in trained.state_dict().items())


def test_a_frozen_backbone_does_not_move_but_its_block_does(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    trainer = watched(tiny_base, tiny_data, tmp_path, Protocol(block_lr_factor=20.0, freeze_backbone=True))
    rows = len(trainer.model.yaml["backbone"])
    backbone = {k for k in trainer.start if int(k.split(".")[1]) < rows}
    assert backbone & ours(trainer)
    gone = moved(trainer, 5)
    assert not gone & (backbone - ours(trainer))
    assert gone & backbone & ours(trainer)
    assert gone - backbone - ours(trainer), "neck and head are trained"


def test_gamma_starts_where_the_protocol_says(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    trainer = watched(tiny_base, tiny_data, tmp_path, Protocol(gamma=0.3), epochs=1, lr0=1e-9)
    assert train.gammas(trainer.model) == pytest.approx(dict.fromkeys(train.gammas(trainer.model), 0.3))
    assert train.gammas(trainer.model)


def test_the_curve_is_what_shorter_trainings_end_with(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    """With a rate that does not fall, a point of the curve is a training of that length."""
    whole = watched(tiny_base, tiny_data, tmp_path, Protocol(), at=(1 / 3, 2 / 3))
    assert [p["images"] for p in whole.curve] == [8, 16, 24]
    for epochs, point in zip((1, 2), whole.curve, strict=False):
        alone = watched(tiny_base, tiny_data, tmp_path, Protocol(), epochs=epochs)
        assert len(alone.curve) == 1
        assert alone.curve[0] == pytest.approx(point)
    unseen = watched(tiny_base, tiny_data, tmp_path, Protocol())
    assert unseen.batches.hexdigest() == whole.batches.hexdigest(), "looking changes nothing"
    assert unseen.curve[-1] == pytest.approx(whole.curve[-1])


@pytest.mark.parametrize("wrong", [{"block_lr_factor": 0.0}, {"block_only": 1.5}, {"block_only": -0.1}, {"ramp": -1}])
def test_a_protocol_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Protocol(**wrong)
