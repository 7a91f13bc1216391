"""A training in legs: one after the other they are the training, whichever process runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training import ARGS, build

from nas import train
from nas.legs import Later, Leg, read
from nas.protocol import Protocol

BLOCKS = {"neck.p3": "sk"}
STILL = {  # no draw but the order of the images
    "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "fliplr": 0.0, "translate": 0.0, "scale": 0.0, "erasing": 0.0,
}  # fmt: skip


def leg(base: Path, data: Path, folder: Path, leg: Leg, **args: Any) -> tuple[Any, train.Score]:
    """One leg of a training of a freshly built model."""
    overrides = {**ARGS, "epochs": 3, "lr0": 0.0005, **args, "data": str(data), "project": str(folder)}
    model = build(base, BLOCKS)
    return train.short_train(model, overrides, protocol=Protocol(block_lr_factor=20.0), leg=leg, log=folder / "log.txt")


def same(one: Any, two: Any) -> bool:
    """Whether two models have the same weights to the bit."""
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("workers", [0, 2])
def test_legs_are_the_whole_training_to_the_bit(workers: int, tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    args = {**STILL, "workers": workers}
    whole, all_at_once = leg(tiny_base, tiny_data, tmp_path, Leg(), **args)
    first, second = tmp_path / "1.pt", tmp_path / "2.pt"
    _, one = leg(tiny_base, tiny_data, tmp_path, Leg(0.4, keep=first), **args)
    _, two = leg(tiny_base, tiny_data, tmp_path, Leg(0.5, first, second), **args)
    done, three = leg(tiny_base, tiny_data, tmp_path, Leg(1.0, second), **args)
    assert same(whole, done)
    assert three.value == all_at_once.value and three.images_seen == all_at_once.images_seen
    assert three.epochs == all_at_once.epochs == 3
    assert [p["images"] for p in three.curve] == [s.images_seen for s in (one, two, three)]
    assert [p["value"] for p in three.curve] == [s.value for s in (one, two, three)]
    assert len({one.batches_sha, two.batches_sha, three.batches_sha}) == 3


def test_a_leg_again_is_the_same_with_augmentation_too(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.pt"
    leg(tiny_base, tiny_data, tmp_path, Leg(0.5, keep=half), mosaic=0.5)
    one, score = leg(tiny_base, tiny_data, tmp_path, Leg(1.0, half), mosaic=0.5)
    leg(tiny_base, tiny_data, tmp_path, Leg(0.3), mosaic=0.5)  # draws of another training between them
    two, again = leg(tiny_base, tiny_data, tmp_path, Leg(1.0, half), mosaic=0.5)
    assert same(one, two) and score.batches_sha == again.batches_sha


def test_a_last_leg_leaves_no_file_and_the_state_is_plain(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    _, score = leg(tiny_base, tiny_data, tmp_path, Leg(0.5, keep=tmp_path / "half.pt"))
    state = read(tmp_path / "half.pt")  # weights_only
    assert state["step"] * 4 >= state["images"] == score.images_seen and state["curve"] == list(score.curve)
    leg(tiny_base, tiny_data, tmp_path, Leg(1.0, tmp_path / "half.pt", tmp_path / "end.pt"))
    assert not (tmp_path / "end.pt").exists()


def test_batches_are_left_out_once() -> None:
    later = Later([[0], [1], [2]], 4)
    first = iter(later)
    assert [next(first) for _ in range(4)] == [[1], [2], [0], [1]]
    again = iter(later)
    assert next(again) == [0]


@pytest.mark.parametrize("until", [0.0, -0.5, 1.5])
def test_until_is_a_share(until: float) -> None:
    with pytest.raises(ValueError, match=f"until={until}: expected a share"):
        Leg(until)
