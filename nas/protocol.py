"""Goes in: nothing. Comes out: how a short training is run so that it sees a block (studies/protocol.md)."""

from __future__ import annotations

from dataclasses import dataclass

EXPECTED = {
    "block_lr_factor": "a number above 0",
    "block_only": "a share in [0, 1]",
    "ramp": "a number of steps",
    "ema_steps": "a number of steps",
}


@dataclass(frozen=True)
class Protocol:
    """What a short training does beside Ultralytics' arguments. The defaults are what a search does.

    Args:
        block_lr_factor: Learning rate of inserted blocks and their gamma over that of the base.
        block_only: Share of the steps, from the first, that train the blocks alone: the base is frozen, its norm
            statistics too.
        ramp: Steps over which the learning rate rises to its value. Adam's first steps are as long as its rate
            whatever the gradient; without a ramp they undo a trained base.
        gamma: What gamma starts at; anything but 0 gives up that a candidate starts as the base.
        hold_heads: Keep the weights of the one-to-many and one-to-one losses. Ultralytics lowers the first, the only
            one that reaches the neck, from 0.8 to 0.1 over the epochs: in a training of two it is 0.1 in the second.
        freeze_backbone: Keep the base's backbone as it is, norm statistics too; blocks in it are trained.
        ema_steps: Steps that the moving average of the weights looks back; 0 is Ultralytics' own, whose average over
            2,000 steps has hardly begun in a short training.
    """

    block_lr_factor: float = 1.0
    block_only: float = 0.0
    ramp: int = 10
    gamma: float = 0.0
    hold_heads: bool = True
    freeze_backbone: bool = False
    ema_steps: int = 0

    def __post_init__(self) -> None:
        for name, value, good in (
            ("block_lr_factor", self.block_lr_factor, self.block_lr_factor > 0),
            ("block_only", self.block_only, 0 <= self.block_only <= 1),
            ("ramp", self.ramp, self.ramp >= 0),
            ("ema_steps", self.ema_steps, self.ema_steps >= 0),
        ):
            if not good:
                raise ValueError(f"{name}={value}: expected {EXPECTED[name]}")
