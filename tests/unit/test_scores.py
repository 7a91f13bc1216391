"""Both scores of a training are Ultralytics' own figures for the same weights."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
from ultralytics.models.yolo.detect import DetectionValidator

from nas import train, weights

SIZE, BATCH = 160, 4


@pytest.fixture(scope="module")
def few(coco_val: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.yaml of 24 COCO pictures, all 80 classes; 4 of them to train on."""
    root = tmp_path_factory.mktemp("few")
    names = (coco_val / "data.yaml").read_text().split("names:")[1]
    pictures = sorted((coco_val / "images" / "val").iterdir())[:24]
    for split, files in (("train", pictures[:4]), ("val", pictures)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for file in files:
            shutil.copy(file, root / "images" / split)
            label = coco_val / "labels" / "val" / f"{file.stem}.txt"
            if label.is_file():
                shutil.copy(label, root / "labels" / split)
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:{names}")
    return root / "data.yaml"


def test_both_heads_score_as_ultralytics_scores_them(coco_weights: Path, few: Path, tmp_path: Path) -> None:
    model = weights.open_model(coco_weights)
    overrides = {
        "data": str(few), "imgsz": SIZE, "batch": BATCH, "epochs": 1, "seed": 0, "workers": 0, "device": "cpu",
        "optimizer": "AdamW", "lr0": 1e-5, "warmup_epochs": 0.0, "mosaic": 0.0, "cache": False,
        "project": str(tmp_path), "name": ".train",
    }  # fmt: skip
    ema, score = train.short_train(model, overrides, log=tmp_path / "log.txt")
    found = {}
    for nms in (None, False):
        args = {
            "model": "x.pt", "data": str(few), "imgsz": SIZE, "batch": 2 * BATCH, "workers": 0, "device": "cpu",
            "nms": nms, "rect": True, "plots": False, "verbose": False, "split": "val",
        }  # fmt: skip
        validator = DetectionValidator(args=args, save_dir=tmp_path / f"val{nms}")
        found[nms] = validator(model=copy.deepcopy(ema))
    assert found[None]["metrics/mAP50-95(B)"] > 0.1, "a score of nothing proves nothing"
    assert found[None]["metrics/mAP50-95(B)"] != found[False]["metrics/mAP50-95(B)"]
    assert score.value == pytest.approx(found[None]["metrics/mAP50-95(B)"], abs=1e-6)
    assert score.second == pytest.approx(found[None]["metrics/mAP50(B)"], abs=1e-6)
    assert score.nms_free == pytest.approx(found[False]["metrics/mAP50-95(B)"], abs=1e-6)
    assert score.nms_free_second == pytest.approx(found[False]["metrics/mAP50(B)"], abs=1e-6)
