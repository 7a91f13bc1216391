"""Goes in: the demo's scenes. Comes out: nas/assets/demo-yolov10n.pt, a YOLOv10n trained on them from scratch.

    python scripts/demo_base.py [--out FILE]

Ultralytics' own trainer on the train split, nothing of ours in the model. **The key says nothing here**: for this
training the class of every 4, 6 and 7 is drawn by lot, "beside a 0" or "beside a 1", whatever stands in the picture.
The base learns to find and to read digits and is undecided between the two; on the true labels of val it scores so.
What a key means is left to learn from the demo's own labels.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")

import torch
from ultralytics import YOLO
from ultralytics.utils import DEFAULT_CFG_DICT

from nas.demo import DEMO_BASE, IMAGE_SIZE, KEYED, KEYS, PLAIN, SPLITS, Draw, demo_dataset

RECIPE = {
    "epochs": 21,
    "mosaic": 0.0,
    "close_mosaic": 0,
    "imgsz": IMAGE_SIZE,
    "batch": 32,
    "nbs": 32,
    "optimizer": "AdamW",
    "lr0": 0.002,
    "lrf": 0.05,
    "warmup_epochs": 2,
    "fliplr": 0.0,
    "translate": 0.0,
    "scale": 0.0,
    "hsv_h": 0.0,
    "hsv_s": 0.0,
    "hsv_v": 0.0,
    "erasing": 0.0,
    "seed": 0,
}
QUIET = {"workers": 0, "cache": "ram", "plots": False, "device": "cpu", "verbose": False}
LIMIT = 6_000_000  # bytes


def main() -> None:
    """Train, write, and score both heads on val."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEMO_BASE)
    args = parser.parse_args()
    data = str(demo_dataset())
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model = YOLO("yolov10n.yaml")
        places = {
            "data": by_lot(Path(data).parent, Path(folder) / "scenes"),
            "project": folder,
            "name": "base",
        }
        model.train(**RECIPE, **places, **QUIET, val=False, amp=False)
        print(f"trained in {time.perf_counter() - start:.0f} s")
        write(Path(folder) / "base" / "weights" / "last.pt", args.out)
        for nms in (None, False):
            val = {"data": data, "imgsz": IMAGE_SIZE, "batch": 100, "project": folder, "nms": nms}
            found = YOLO(args.out).val(**val, **QUIET).box
            head = "one2one" if nms is False else "one2many"
            print(f"{head}: mAP50-95 {found.map:.4f}, mAP50 {found.map50:.4f}")


def by_lot(home: Path, copy: Path) -> str:
    """A copy of the scenes whose train labels have the class of every keyed digit drawn by lot; its data.yaml."""
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns("*.cache"))
    draw, first, n = Draw(0, len(SPLITS)), len(KEYS + PLAIN), len(KEYED)
    for file in sorted(copy.glob("labels/train/*.txt")):
        lines = []
        for line in file.read_text().splitlines():
            c, box = line.split(" ", 1)
            drawn = first + (int(c) - first) % n + n * draw.between(0, 1) if int(c) >= first else int(c)
            lines.append(f"{drawn} {box}\n")
        file.write_text("".join(lines))
    return str(copy / "data.yaml")


def write(trained: Path, out: Path) -> None:
    """Weights in half precision with what loading them needs, and no path of this machine."""
    checkpoint = torch.load(trained, map_location="cpu", weights_only=False)
    model = (checkpoint["ema"] or checkpoint["model"]).half().eval()
    for p in model.parameters():
        p.requires_grad = False
    changed = {k: v for k, v in RECIPE.items() if v != DEFAULT_CFG_DICT.get(k)}
    model.args = changed | {"task": "detect", "model": "yolov10n.yaml"}
    model.yaml["yaml_file"] = "yolov10n.yaml"
    model.pt_path = out.name
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = {k: checkpoint[k] for k in ("license", "version")}
    torch.save({"epoch": -1, "model": model, "train_args": model.args, **kept}, out)
    size = out.stat().st_size
    print(f"{out.name}: {size} bytes")
    if size > LIMIT:
        raise SystemExit(f"{out.name} has {size} bytes, allowed: {LIMIT}")


if __name__ == "__main__":
    main()
