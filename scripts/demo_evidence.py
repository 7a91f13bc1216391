"""Goes in: the demo's scenes and base. Comes out: which blocks gain on them, and whether placebos do, as CSV and table.

    python scripts/demo_evidence.py [--epochs 5] [--seeds 0 1 2] [--only LABEL ...] [--csv FILE]

Every placement starts from the same base and sees the same batches as the untouched base under the same seed; a gain
is the difference between the two. Three placebos stand where the best block stands: `same` returns its input,
`mhsa_noise` is mhsa reading noise, `mhsa_own` is mhsa whose pixels attend to themselves alone (the same weights
without a view of the rest of the picture); see scripts/placebos.py.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")

import torch

import modules
from nas import graph, plugin, train, weights
from nas.demo import DEMO_BASE, IMAGE_SIZE, NAMES, demo_dataset
from nas.protocol import Protocol
from search_spaces import Placement

RECIPE: dict[str, Any] = {
    "imgsz": IMAGE_SIZE,
    "batch": 32,
    "nbs": 32,
    "optimizer": "AdamW",
    "lr0": 0.001,
    "lrf": 0.1,
    "warmup_epochs": 0,
    "mosaic": 0.0,
    "close_mosaic": 0,
    "fliplr": 0.0,
    "translate": 0.0,
    "scale": 0.0,
    "hsv_h": 0.0,
    "hsv_s": 0.0,
    "hsv_v": 0.0,
    "erasing": 0.0,
    "cache": "ram",
    "workers": 0,
    "device": "cpu",
    "amp": False,
}
BLOCK_LR_FACTOR = 10.0
BOTH = "neck.p3+neck.p4"
PLACEMENTS = (
    f"mhsa@{BOTH}",
    "mhsa@neck.p3",
    "mhsa@neck.p4",
    f"mobilevit@{BOTH}",
    f"parnet@{BOTH}",
    f"sk@{BOTH}",
    f"eca@{BOTH}",
    f"simam@{BOTH}",
    f"same@{BOTH}",
    f"mhsa_noise@{BOTH}",
    f"mhsa_own@{BOTH}",
)
FIELDS = (
    "placement",
    "seed",
    "epochs",
    "map50_95",
    "gain",
    "nms_free_map50_95",
    "gamma",
    "batches_sha",
    "seconds",
)


def main() -> None:
    """Train every placement under every seed, write a row each, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=list(PLACEMENTS), help="for instance mhsa@neck.p3+neck.p4")
    parser.add_argument("--csv", type=Path, default=Path("studies/demo-evidence.csv"))
    parser.add_argument("--base", type=Path, default=DEMO_BASE)
    parser.add_argument("--lr0", type=float, default=RECIPE["lr0"])
    parser.add_argument("--factor", type=float, default=BLOCK_LR_FACTOR)
    args = parser.parse_args()
    plugin.register()
    modules.load(str(Path(__file__).with_name("placebos.py")))
    base = weights.open_model(args.base)
    data = str(demo_dataset())
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, args.csv.open("w", newline="") as file:
        out = csv.DictWriter(file, FIELDS, lineterminator="\n")
        out.writeheader()
        for seed in args.seeds:
            places = {"data": data, "epochs": args.epochs, "seed": seed, "project": folder, "name": "run"}
            places["lr0"] = args.lr0
            start: train.Score | None = None
            for label in ("base", *args.only):
                score = run(base, label, RECIPE | places, args.factor, Path(folder) / "log")
                start = start or score
                if score.batches_sha != start.batches_sha:
                    raise SystemExit(f"{label}, seed {seed}: other batches than the base's; nothing can be compared")
                rows.append(row(label, score, start))
                out.writerow(rows[-1])
                file.flush()
                print(*rows[-1].values(), flush=True)
    print(table(rows))


def run(base: Any, label: str, overrides: dict[str, Any], factor: float, log: Path) -> train.Score:
    """Build ``block@site+site`` on the base, train it and score it."""
    graft = graph.insert(base.yaml, placement(label))
    seed = overrides["seed"]
    torch.manual_seed(seed)
    model = weights.build(graft.yaml, dict(enumerate(NAMES)), seed=seed)
    weights.transfer(base, model, graft.moved, seed)
    return train.short_train(model, overrides, protocol=Protocol(block_lr_factor=factor), log=log)[1]


def placement(label: str) -> Placement:
    """``base`` or ``block@site+site``."""
    block, _, sites = label.partition("@")
    return Placement.of({site: block for site in sites.split("+")} if sites else {})


def row(label: str, score: train.Score, base: train.Score) -> dict[str, Any]:
    """A line of the CSV."""
    return {
        "placement": label,
        "seed": score.seed,
        "epochs": score.epochs,
        "map50_95": f"{score.value:.4f}",
        "gain": f"{score.value - base.value:+.4f}",
        "nms_free_map50_95": f"{score.nms_free:.4f}",
        "gamma": " ".join(f"{g:.3f}" for g in score.gamma.values()),
        "batches_sha": score.batches_sha,
        "seconds": f"{score.seconds['total']:.0f}",
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Mean mAP50-95, and mean and standard deviation of the gain over the seeds, as Markdown."""
    lines = ["| placement | mAP50-95 | gain | sd of the gain | smallest gain |", "|---|---|---|---|---|"]
    for label in dict.fromkeys(r["placement"] for r in rows):
        mine = [r for r in rows if r["placement"] == label]
        gains = [float(r["gain"]) for r in mine]
        spread = statistics.stdev(gains) if len(gains) > 1 else float("nan")
        mean = statistics.mean(float(r["map50_95"]) for r in mine)
        lines.append(f"| {label} | {mean:.4f} | {statistics.mean(gains):+.4f} | {spread:.4f} | {min(gains):+.4f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
