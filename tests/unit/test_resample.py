"""A figure for other draws of images: with equal weights Ultralytics' own, for every task and way of validating."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_data import HEADS, make_model
from ultralytics.utils.metrics import ap_per_class

from nas import resample, setting, task, train, warm, weights
from nas.recipe import Recipe


def test_equal_weights_give_ultralytics_figure() -> None:
    rng = np.random.default_rng(0)
    image = np.sort(rng.integers(0, 40, 900))
    conf, classes = rng.random(900), rng.integers(0, 5, 900).astype(float)
    right = rng.random((900, 10)) < np.linspace(0.7, 0.1, 10) * conf[:, None]
    label_image = np.sort(rng.integers(0, 40, 300))
    labels = rng.integers(0, 5, 300).astype(float)
    marks = resample.Marks([image], [label_image], 40)
    stats = {"conf": [conf], "pred_cls": [classes], "target_cls": [labels], "tp": [right]}
    theirs = ap_per_class(right, conf, classes, labels)[5].mean()
    drawn = np.vstack([np.ones(40), np.full(40, 3.0), resample.weights(40, 50)])
    ours = resample.mean_ap(stats, marks, "tp", drawn)
    assert ours[0] == pytest.approx(theirs, abs=1e-12) and ours[1] == pytest.approx(theirs, abs=1e-12)
    assert ours[2:].std() > 0.001


def test_whole_weights_are_copies_of_images() -> None:
    """An image with weight 2 counts as if it were there twice."""
    rng = np.random.default_rng(1)
    image, label_image = np.sort(rng.integers(0, 6, 60)), np.sort(rng.integers(0, 6, 30))
    conf, right = rng.random(60), rng.random((60, 10)) < 0.5
    ones, labels = np.zeros(60), np.zeros(30)
    weight = np.array([2, 1, 1, 3, 1, 1])
    stats = {"conf": [conf], "pred_cls": [ones], "target_cls": [labels], "tp": [right]}
    ours = resample.mean_ap(stats, resample.Marks([image], [label_image], 6), "tp", weight[None].astype(float))
    order = np.repeat(np.arange(60), weight[image])
    twice = ap_per_class(right[order], conf[order], ones[order], labels[np.repeat(np.arange(30), weight[label_image])])
    assert ours[0] == pytest.approx(twice[5].mean(), abs=0.01)  # copies have equal confidences, their order is chance


def test_a_class_without_detections_counts_zero() -> None:
    stats = {
        "conf": [np.array([0.9])], "pred_cls": [np.array([0.0])], "target_cls": [np.array([0.0, 1.0])],
        "tp": [np.ones((1, 10), bool)],
    }  # fmt: skip
    marks = resample.Marks([np.array([0])], [np.array([0, 1])], 2)
    assert resample.mean_ap(stats, marks, "tp", np.ones((1, 2)))[0] == pytest.approx(0.4975, abs=0.003)


@pytest.mark.parametrize("name", [n for n in HEADS if not n.endswith("26")] + ["detect26"])
def test_every_task_is_resampled(
    name: str, datasets: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = resample.weights
    monkeypatch.setattr(resample, "weights", lambda n, k: np.vstack([np.ones(n), draw(n, k - 1)]))
    marked: list[tuple[int, int, int]] = []
    mean_ap = resample.mean_ap

    def watched(stats: dict[str, Any], marks: resample.Marks, part: str, drawn: np.ndarray) -> np.ndarray:
        for ids, lists in ((marks.detections, stats["conf"]), (marks.labels, stats["target_cls"])):
            assert sum(map(len, ids)) == sum(map(len, lists))
        labels = np.concatenate(marks.labels)
        marked.append((marks.images, len(set(labels.tolist())), stats[part][0].shape[1]))
        return mean_ap(stats, marks, part, drawn)

    monkeypatch.setattr(resample, "mean_ap", watched)
    recipe = Recipe(
        data=str(datasets(HEADS[name][0])), base=str(make_model(tmp_path / "m.yaml", name)), weights="none",
        warm_epochs=0, latency_runs=3, output=str(tmp_path), train={"imgsz": 64, "batch": 4, "workers": 0},
    )  # fmt: skip
    prepared = setting.prepare(recipe).reporting()
    model = weights.build(prepared.yaml, prepared.dataset.names, 3, 0)
    overrides = warm.overrides_of(prepared, 1) | {"lr0": 0.01}
    _, score = train.short_train(model, overrides, resamples=4, log=tmp_path / "log.txt")
    assert len(score.resampled) == 4
    assert score.resampled[0] == pytest.approx(score.value, abs=1e-6)
    assert task.TASKS[HEADS[name][0]].metric == score.metric
    assert marked == ([] if HEADS[name][0] == "classify" else [(8, 8, 10)])  # labels in each of the 8 images
