"""Validation of all images of a batch at once: the figures of Ultralytics' own, which goes image by image."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training import build, short
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils.metrics import box_iou
from ultralytics.utils.nms import non_max_suppression

from nas import demo, matching, weights
from nas.matching import Boxes
from nas.train import Short
from nas.validate import BothHeads, Kept

IOUS = torch.linspace(0.5, 0.95, 10)


def crowd(draw: np.random.Generator, counts: tuple[int, ...], classes: int, grid: bool) -> Boxes:
    """Boxes that overlap much; on a grid many IoUs are equal."""
    n = sum(counts)
    corner = draw.integers(0, 6, (n, 2)) * 2.0 if grid else draw.uniform(0, 12, (n, 2))
    side = draw.integers(4, 6, (n, 2)) * 2.0 if grid else draw.uniform(8, 14, (n, 2))
    image = np.arange(len(counts)).repeat(counts)
    return Boxes(
        np.hstack((corner, corner + side)).astype(np.float32), draw.integers(0, classes, n).astype(np.float32),
        image, draw.uniform(0, 1, n).astype(np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("grid", [False, True], ids=["anywhere", "on a grid"])
@pytest.mark.parametrize("classes", [1, 3, 40])
def test_detections_are_matched_as_ultralytics_matches_them(classes: int, grid: bool, tmp_path: Path) -> None:
    draw, right = np.random.default_rng(classes + grid), 0
    validator = DetectionValidator(save_dir=tmp_path, args={"task": "detect"})
    for _ in range(20):
        found, true = crowd(draw, (30, 0, 12, 50, 7), classes, grid), crowd(draw, (6, 5, 0, 20, 3), classes, grid)
        got = matching.match(found, true, IOUS.numpy())
        for i in range(5):
            mine, there = found.image == i, true.image == i
            iou = box_iou(torch.from_numpy(true.corners[there]), torch.from_numpy(found.corners[mine]))
            labels = torch.from_numpy(found.classes[mine]), torch.from_numpy(true.classes[there])
            expected = (
                validator.match_predictions(*labels, iou).numpy() if there.any() else np.zeros((mine.sum(), 10), bool)
            )
            assert np.array_equal(got[mine], expected)
            right += expected.sum()
    assert right > 100, "nothing matched proves nothing"


@pytest.mark.parametrize("nobody", [True, False])
def test_nothing_to_match(nobody: bool) -> None:
    draw = np.random.default_rng(0)
    found, true = crowd(draw, (0,) if nobody else (3,), 2, False), crowd(draw, (4,) if nobody else (0,), 2, False)
    assert matching.match(found, true, IOUS.numpy()).shape == (len(found.image), 10)
    assert not matching.match(found, true, IOUS.numpy()).any()


def raw(images: int, classes: int, anchors: int, seed: int = 0) -> torch.Tensor:
    """Predictions of a one-to-many head; the second image has none that count."""
    draw = torch.Generator().manual_seed(seed)
    boxes = torch.rand(images, 4, anchors, generator=draw) * 40 + 10
    scores = torch.rand(images, classes, anchors, generator=draw) ** 6
    scores[1] = 0
    return torch.cat((boxes, scores.round(decimals=3)), 1)  # some scores are equal


def assert_same(found: Boxes | None, expected: list[torch.Tensor]) -> None:
    assert found is not None
    assert np.array_equal(found.image, np.arange(len(expected)).repeat([len(e) for e in expected]))
    rows = torch.cat(expected).numpy()
    assert np.array_equal(np.c_[found.corners, found.conf, found.classes], rows)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize(("classes", "most"), [(1, 300), (5, 300), (5, 7)])
def test_nms_gives_what_ultralytics_nms_gives(classes: int, most: int, agnostic: bool) -> None:
    preds = raw(4, classes, 120)
    expected = non_max_suppression(
        preds.clone(), 0.05, 0.5, max_det=most, agnostic=agnostic, multi_label=True, nc=classes
    )
    assert len(expected[1]) == 0 < len(expected[0])
    assert_same(matching.with_nms(preds, 0.05, 0.5, most, agnostic), expected)


def test_no_detection_at_all() -> None:
    found = matching.with_nms(raw(3, 4, 50) * 0, 0.05, 0.5, 300)
    assert found is not None
    assert found.corners.shape == (0, 4)
    assert matching.without_nms(torch.zeros(3, 20, 6), 0.05, 300).corners.shape == (0, 4)


@pytest.mark.parametrize("most", [300, 4])
def test_the_nms_free_head_is_listed_as_ultralytics_lists_it(most: int) -> None:
    preds = torch.rand(3, 20, 6, generator=torch.Generator().manual_seed(1))
    preds[1, :, 4] = 0
    assert_same(
        matching.without_nms(preds, 0.3, most), non_max_suppression(preds, 0.3, 0.5, max_det=most, end2end=True)
    )


class OneByOne(BothHeads, DetectionValidator):
    """Both heads by Ultralytics' own code."""


def figures(trainer: Any, kind: type, **args: Any) -> tuple[Any, ...]:
    """What a validator says of a trainer's model: all of Ultralytics' figures, rounded, and ours in full."""
    validator = kind(trainer.test_loader, save_dir=trainer.save_dir, args=copy.copy(trainer.args))
    for name, value in args.items():
        setattr(validator.args, name, value)
    result = validator(trainer)
    full = [
        (part.box.all_ap.tolist(), part.box.p.tolist(), part.box.f1_curve.tolist(), part.nt_per_image.tolist())
        for part in (validator.metrics, validator.nms_free)
        if part is not None
    ]
    return result, full, validator.seen


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.yaml of four of the demo's scenes to train on and twenty to score."""
    root = tmp_path_factory.mktemp("scenes")
    for split, count in (("train", 4), ("val", 20)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i, scene in enumerate(demo.scenes(split, count)):
            (root / "images" / split / f"{i}.bmp").write_bytes(demo.bmp(scene.image))
            rows = [(c, (x + u) / 256, (y + v) / 256, (u - x) / 128, (v - y) / 128) for c, x, y, u, v in scene.boxes]
            lines = [" ".join(map(str, row)) for row in rows if i]  # the first has no boxes
            (root / "labels" / split / f"{i}.txt").write_text("\n".join(lines) + "\n")
    names = "".join(f"  {i}: {name!r}\n" for i, name in enumerate(demo.NAMES))
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")
    return root / "data.yaml"


@pytest.fixture
def trained(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The trainer of the demo's base after a step."""
    seen: list[Any] = []
    validator = Short.get_validator

    def noted(self: Short) -> Any:
        seen.append(self)
        return validator(self)

    monkeypatch.setattr(Short, "get_validator", noted)
    short(weights.open_model(demo.DEMO_BASE), scenes, tmp_path, imgsz=128, lr0=1e-6)
    return seen[-1]


def test_every_figure_is_that_of_ultralytics_own_code(trained: Any) -> None:
    theirs = figures(trained, OneByOne)
    assert theirs[0]["metrics/mAP50-95(B)"] > 0.3, "a score of nothing proves nothing"
    assert theirs[0]["val/box_loss"] > 0
    ours = type(trained.validator)
    assert ours is not OneByOne
    assert figures(trained, ours) == theirs
    assert figures(trained, ours) == theirs, "the second time as the first"
    for args in ({"nms": False}, {"conf": 0.2}, {"max_det": 5}, {"iou": 0.3}, {"agnostic_nms": True}):
        assert figures(trained, ours, **args) == figures(trained, OneByOne, **args), args


def test_where_ultralytics_leaves_candidates_out_its_own_code_runs(
    trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = figures(trained, OneByOne)
    monkeypatch.setattr(matching, "MOST", 0)
    assert matching.with_nms(raw(3, 2, 9), 0.0, 0.5, 9) is None
    assert figures(trained, type(trained.validator)) == theirs


class Loader:
    """Three batches, and how often they were read."""

    dataset, sampler, batch_size = "dataset", "sampler", 2
    read = resets = 0

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Any:
        self.read += 1
        return ({"img": torch.full((2, 3, 4, 4), i, dtype=torch.uint8)} for i in range(3))

    def reset(self) -> None:
        self.resets += 1


class Unread:
    """A loader that nobody iterates."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def reset(self) -> None:
        pass


@pytest.mark.parametrize(("most", "read"), [(3 * 96, 1), (3 * 96 - 1, 3)])
def test_batches_are_kept_where_they_are_small(most: int, read: int) -> None:
    loader = Loader()
    kept = Kept(loader, most)
    for _ in range(3):
        batches = list(kept)
        assert [int(b["img"].max()) for b in batches] == [0, 1, 2]
        for batch in batches:
            batch["img"] = batch["img"].float() / 255  # as a validator does
        kept.close()
    assert (loader.read, loader.resets, len(kept), kept.dataset) == (read, 3, 3, "dataset")


def test_a_pass_that_was_broken_off_keeps_nothing() -> None:
    loader = Loader()
    kept: Any = Kept(loader)
    some = iter(kept)
    next(some)
    some.close()
    assert loader.resets == 1, "or the next pass would go on where this one ended"
    assert len(list(kept)) == len(list(kept)) == 3
    assert loader.read == 2


def test_a_second_training_validates_on_the_batches_of_the_first(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Short, "datasets", {})
    first = short(build(tiny_base), tiny_data, tmp_path)[1]
    (kept,) = (v for v in Short.datasets.values() if isinstance(v, Kept))
    assert sum(len(b["img"]) for b in kept.batches or ()) == 4
    kept.loader = Unread(kept.loader)
    second = short(build(tiny_base), tiny_data, tmp_path)[1]
    assert (first.value, first.nms_free) == (second.value, second.nms_free)
