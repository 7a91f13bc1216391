"""A short training of every task: its figures are Ultralytics' own, for both heads, and it repeats itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from task_data import HEADS, make_model
from training import ARGS
from ultralytics.nn.tasks import yaml_model_load

from nas import data, task, train, weights
from nas.protocol import Protocol
from nas.validate import VALIDATORS


def model_of(folder: Path, name: str, found: data.Dataset) -> Any:
    """A tiny model for a dataset."""
    text = yaml_model_load(make_model(folder / f"{name}.yaml", name))
    return weights.build(text | ({"kpt_shape": list(found.keypoints)} if found.keypoints else {}), found.names)


@pytest.mark.parametrize("name", ["segment", "detect26", "segment26", "pose26", "obb26", "classify"])
def test_scores_are_those_of_ultralytics_own_validation(
    name: str, datasets: Callable[[str], Path], tmp_path: Path
) -> None:
    word, _, two_heads = HEADS[name]
    of, place = task.TASKS[word], datasets(word)
    overrides = {
        **ARGS, "epochs": 3 if word == "classify" else 20, "lr0": 0.01, "batch": 8, "nbs": 8, "hsv_h": 0.0,
        "scale": 0.0, "translate": 0.0, "data": str(place), "project": str(tmp_path),
    }  # fmt: skip
    model, log = model_of(tmp_path, name, data.check(place, word)), tmp_path / "log"
    ema, score = train.short_train(model, overrides, protocol=Protocol(ramp=0, hold_heads=False), log=log)
    found = {}
    for nms in (None, False) if two_heads else (None,):
        args = {
            "task": word, "model": "x.pt", "data": str(place), "imgsz": 64, "workers": 0,
            "batch": 8 if word == "obb" else 16, "device": "cpu", "nms": nms, "rect": True, "plots": False,
            "verbose": False, "split": "val",
        }  # fmt: skip
        validator: Any = of.validator(args=args, save_dir=tmp_path / f"val{nms}")
        validator(model=copy.deepcopy(ema))
        found[nms] = of.figures(validator.metrics)
    assert found[None][0] > 0.002, "a score of nothing proves nothing"
    assert (score.value, score.second) == pytest.approx(found[None], abs=1e-6)
    if two_heads:
        assert found[False][0] != found[None][0]
        assert (score.nms_free, score.nms_free_second) == pytest.approx(found[False], abs=1e-6)


def test_half_precision_predictions_of_both_heads_are_decoded(tiny_base: Path, tmp_path: Path) -> None:
    """As on CUDA, where Ultralytics runs the forward pass of a validation in autocast and what follows outside."""
    model = weights.build(str(tiny_base), {0: "red", 1: "green"}).eval()
    validator: Any = VALIDATORS["detect"](save_dir=tmp_path, args={"task": "detect"})
    validator.device, validator.args.quantize, validator.end2end = torch.device("cpu"), 16, False
    validator.one2one_head = model.model[-1]
    with torch.no_grad():
        with torch.autocast("cpu"):
            preds = model(torch.zeros(2, 3, 64, 64))
        assert preds[1]["one2one"]["boxes"].dtype == torch.bfloat16
        assert len(validator.postprocess(preds)) == len(validator.one2one_preds) == 2
    assert not model.end2end


@pytest.mark.parametrize("name", ["pose26", "classify"])
def test_the_same_training_twice_in_one_process_is_the_same(
    name: str, datasets: Callable[[str], Path], tmp_path: Path
) -> None:
    place = datasets(HEADS[name][0])
    found = data.check(place, HEADS[name][0])
    overrides = {**ARGS, "data": str(place), "project": str(tmp_path)}
    first, second = (train.short_train(model_of(tmp_path, name, found), overrides, log=tmp_path / "log") for _ in "12")
    assert first[1].batches_sha == second[1].batches_sha
    other = train.short_train(model_of(tmp_path, name, found), overrides | {"seed": 1}, log=tmp_path / "log")
    assert other[1].batches_sha != first[1].batches_sha
    for (name_1, a), (_, b) in zip(first[0].state_dict().items(), second[0].state_dict().items(), strict=True):
        assert a.equal(b), name_1
