"""Goes in: the demo. Comes out: how well each way of training briefly ranks placements, as CSV files and a table.

    python scripts/protocol.py [--only NAME ...] [--workers 2] [--out studies/protocol]

Every variant trains the same placements, the untouched base and two placebos among them, under the same two seeds.
So does one long training, whose settings are no variant's. A variant is judged by Kendall's tau of its gains over the
base with those of the long training (the other seed on either side, so that shared luck does not count), by the spread
between placements over the noise of a paired difference, and by its seconds. What is finished is kept; the same
command goes on.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")

import pandas as pd

from nas import jobs, recipe, run, setting, spread, warm
from nas.placing import read
from nas.protocol import Protocol
from search_spaces import Placement

PLACEMENTS = (
    "", "neck.p3=mhsa_noise",
    "neck.p3=mhsa", "neck.p3=cot", "neck.p3=sk", "neck.p3=mobilevit", "neck.p3=eca", "neck.p3=s2", "neck.p3=gc",
    "neck.p3=swin", "neck.p4=cot", "neck.p4=mhsa", "neck.p4_td=aft", "neck.p5=parnet", "backbone.p3=sk",
    "backbone.p4=cbam",
)  # fmt: skip
SEEDS = (0, 1)
LONG, SCORE = "long", "map50_95"
AT = (0.5,)


@dataclass(frozen=True)
class Variant:
    """A way to train briefly.

    Args:
        why: What it is, in words.
        protocol: See :class:`nas.protocol.Protocol`.
        epochs: Its length.
        train: Ultralytics' arguments that differ.
        fields: Fields of the recipe that differ.
    """

    why: str
    protocol: Protocol
    epochs: int = 1
    train: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


def neck(**changes: Any) -> Protocol:
    """The backbone frozen, blocks a hundred times as fast as the rest."""
    return Protocol(**{"block_lr_factor": 100.0, "freeze_backbone": True, **changes})


FLAT = {"lr0": 1e-4, "lrf": 1.0, "fraction": 1.0}
VARIANTS = {
    LONG: Variant(
        "what is to be predicted: three epochs, backbone frozen, lr 3e-4 falling to a twentieth, blocks x30",
        Protocol(30.0, ramp=30, freeze_backbone=True), 3, {"lr0": 3e-4, "lrf": 0.05, "fraction": 1.0},
    ),
    "neck": Variant("backbone frozen, lr 1e-4 held, blocks x100, a ramp of ten steps", neck(), train=FLAT),
    "blocks alone": Variant("base frozen, blocks at lr 1e-2", neck(block_only=1.0), train=FLAT),
    "average": Variant("as neck, scored on the average of the weights over 15 steps", neck(ema_steps=15), train=FLAT),
    "before": Variant(
        "the default until now, backbone frozen: lr 5e-4 falling to a twentieth, blocks x20, no ramp, head weights as "
        "Ultralytics",
        Protocol(20.0, ramp=0, hold_heads=False, freeze_backbone=True),
        train={"lr0": 5e-4, "lrf": 0.05, "fraction": 1.0},
    ),
    "falling": Variant("as neck, lr falling to a twentieth", neck(), train={**FLAT, "lrf": 0.05}),
    "blocks first": Variant("half of the steps blocks alone, then as neck", neck(block_only=0.5), train=FLAT),
    "gamma 0.1": Variant("as neck, gamma from 0.1", neck(gamma=0.1), train=FLAT),
    "x20": Variant("as neck, blocks x20", neck(block_lr_factor=20.0), train=FLAT),
    "x300": Variant("as neck, blocks x300", neck(block_lr_factor=300.0), train=FLAT),
    "quarter": Variant("as neck, four epochs of a quarter of the pictures", neck(), 4, {**FLAT, "fraction": 0.25}),
    "96 px": Variant("as neck, at 96 pixels", neck(), train={**FLAT, "imgsz": 96}),
    "double": Variant("as neck, two epochs", neck(), 2, train=FLAT),
    "no ramp": Variant("as neck, full rate from the first step", neck(ramp=0), train=FLAT),
    "lr 1e-3": Variant("as neck, lr 1e-3 and blocks x10", neck(block_lr_factor=10.0), train={**FLAT, "lr0": 1e-3}),
    "heads fall": Variant(
        "as neck, head weights as Ultralytics, two epochs of half of the pictures", neck(hold_heads=False), 2,
        {**FLAT, "fraction": 0.5},
    ),
    "joint": Variant("as neck, backbone trained too", neck(freeze_backbone=False), train=FLAT),
    "from scratch": Variant(
        "plain wiring, all weights random and trained, lr 1e-3", Protocol(1.0), train={**FLAT, "lr0": 1e-3},
        fields={"wire": "plain", "weights": "none", "base": "yolov10n.yaml"},
    ),
}  # fmt: skip


def resolved(variant: Variant, out: Path) -> recipe.Recipe:
    """The demo's recipe with what a variant changes."""
    values = {
        "name": "protocol", "output": str(out / "runs"), "space": "article", "latency_runs": 3,
        "modules": (str(Path(__file__).with_name("placebos.py")),), **variant.fields,
    }  # fmt: skip
    args = [f"{k}={v}" for k, v in {**variant.train, "device": "cpu"}.items()]
    return run.resolve(run.DEMO_RECIPE, values, args)


def planned(variant: Variant) -> list[jobs.Job]:
    """Every placement under every seed; a seed's base first."""
    made = [read(text) if text else Placement() for text in PLACEMENTS]
    return [jobs.Job(p, seed, variant.epochs, AT, variant.protocol) for seed in SEEDS for p in made]


def unpaired_noise(rows: pd.DataFrame) -> float:
    """Standard deviation over seeds of the bare score, pooled over placements."""
    rows = rows[rows.images == rows.images.max()]
    return float(rows.groupby("placement").map50_95.var(ddof=1).mean() ** 0.5)


def table(out: Path) -> str:
    """Markdown: every variant's tau, spread, noise and cost."""
    frames = read_all(out)
    long = spread.gains(frames[LONG], SCORE)
    lines = [
        "| variant | pictures | tau with long (95%) | tau at half | spread | noise, paired | noise, bare "
        "| spread / noise | s a training | failed |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, rows in frames.items():
        failed, rows = int(rows.reason.notna().sum()), rows[rows.reason.isna()]
        budgets = sorted(rows.images.unique())
        found, middle = (spread.gains(rows, SCORE, n) for n in (None, budgets[len(budgets) // 2 - 1]))
        tau, of = spread.across(found, long), spread.spread(found.to_numpy(), int(budgets[-1]))
        seconds = rows[rows.images == budgets[-1]].seconds.median()
        lines.append(
            f"| {name} | {budgets[-1]:.0f} | {tau.value:.2f} ({tau.low:.2f} to {tau.high:.2f}) "
            f"| {spread.across(middle, long).value:.2f} | {of.spread.value:.4f} | {of.noise.value:.4f} "
            f"| {unpaired_noise(rows):.4f} | {of.ratio.value:.1f} | {seconds:.1f} | {failed} |"
        )
    return "\n".join(lines)


def scores(out: Path) -> str:
    """Markdown: tau with the long training by what is read off a short one."""
    frames = read_all(out)
    long = spread.gains(frames[LONG], SCORE)
    lines = [
        "| variant | mAP at the end | mean of the two last | NMS-free head | validation loss |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, rows in frames.items():
        if name == LONG:
            continue
        half = sorted(rows.images.dropna().unique())[0]
        last = spread.gains(rows, SCORE)
        mean = (last + spread.gains(rows, SCORE, half)) / 2
        kinds = [last, mean, spread.gains(rows, f"nms_free_{SCORE}"), -spread.gains(rows, "val_loss")]
        lines.append(f"| {name} | " + " | ".join(f"{spread.across(kind, long).value:.2f}" for kind in kinds) + " |")
    return "\n".join(lines)


def read_all(out: Path) -> dict[str, pd.DataFrame]:
    """Rows of every variant that has run."""
    found = {name: pd.read_csv(file_of(out, name)) for name in VARIANTS if file_of(out, name).is_file()}
    whole = len(PLACEMENTS) * len(SEEDS)
    return {name: rows for name, rows in found.items() if len(rows.groupby(list(jobs.KEY))) == whole}


def file_of(out: Path, name: str) -> Path:
    """Where a variant's rows are."""
    return out / f"{name.replace(',', '').replace(' ', '-')}.csv"


def main() -> None:
    """Run what is missing, variant by variant, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("studies/protocol"))
    args = parser.parse_args()
    for name in args.only:
        variant = VARIANTS[name]
        prepared = setting.prepare(resolved(variant, args.out))
        prepared.folder.mkdir(parents=True, exist_ok=True)
        base = warm.warm_base(prepared)
        for rows in jobs.run_all(prepared, base, planned(variant), file_of(args.out, name), args.workers):
            last = rows[-1]
            print(name, last["placement"], last["seed"], last["map50_95"], last["seconds"], last["reason"], flush=True)
    if LONG in read_all(args.out):
        print(table(args.out), scores(args.out), sep="\n\n")


if __name__ == "__main__":
    main()
