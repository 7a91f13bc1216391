# ruff: noqa: E501  prose
"""Goes in: a table's folder. Comes out: its data card, README.md, every figure from the files.

python scripts/table_card.py studies/tables/demo-neck
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from nas import effects, recipe, spread, table, trainings
from nas.table import Table
from search_spaces import Placement

PLACEBO = "mhsa_noise", "mhsa_own", "same"
ENDS = 5


def card(found: Table, folder: Path) -> str:
    """The whole text."""
    last, trials = found.budgets[-1], found.trials
    ends = trials[trials.images == last]
    seeds = ends.groupby("placement").seed.nunique()
    base = ends[ends.placement == table.BASE].sort_values("seed").map50_95
    parts = [
        f"# {folder.name}: {len(seeds)} placements of YOLOv10n, trained for real",
        f"Written by `scripts/table_card.py`. {len(ends)} trainings of {len(seeds)} placements, the base and placebos among "
        f"them; {int((seeds >= 3).sum())} placements under three seeds. `recipe.yaml` is what all of them share: the demo's "
        f"scenes, backbone frozen, every candidate an exact copy of the base at first. Each was scored on all of val after "
        f"{', '.join(map(str, found.budgets))} training pictures; {schedule(folder)} mAP50-95 of the one2many head, in [0, 1].",
        f"Base, by seed: {', '.join(f'{v:.4f}' for v in base)}. Median seconds a training: {ends.seconds.median():.1f}.",
        f"Made with `python scripts/make_table.py studies/tables/{folder.name}` from the checkout's root (it is resumable, and a "
        f"larger number extends the table); trained on {said(ends, 'device')} with "
        f"{said(ends, 'versions')}. Latency ratios: {said(found.placements, 'device')}, threads {said(found.placements, 'threads')}, fused model, "
        f"NMS-free head, in turn with the base{weighing(found)}.",
        "## Signal",
        signal(found),
        "## Does the short budget rank as the long one?",
        agreement(found),
        "## Best and worst",
        ranking(found),
        "## Columns",
        "`trials.csv`: placement_id, seed, placement, images (budget), map50_95, nms_free_map50_95, val_loss (sum of the "
        "validation losses, which Ultralytics takes of the one-to-one head), gamma (mean absolute gamma a block, at the end), batches_sha (the same for all of a seed), "
        "seconds (of the whole training), recipe (digest), device, versions, reason (of a failure). `placements.csv`: placement_id, placement, params, "
        "gflops, latency_ratio, latency_ms, base_ms, drawn (1: further seeds, decided before any score was seen). `nas.table.read` reads both."
        + (
            " `latency_1` and `latency_2` are single measurements, `latency_ratio` their mean."
            if "latency_1" in found.placements
            else ""
        )
        + (
            " `cells.csv`: what a search sees of each block at each site before any training (`nas/scout.py`): worth, latency that it adds "
            "over the base's, and the training images that all of it took."
            if (folder / "cells.csv").is_file()
            else ""
        ),
    ]
    return "\n\n".join(parts) + "\n"


def schedule(folder: Path) -> str:
    """What the points along a curve are."""
    made = folder / "recipe.yaml"
    if made.is_file() and recipe.read(made, {"train": {}}).train["lrf"] == 1.0:
        return "the learning rate is held, so a point of a curve is what a training of that length ends with."
    return "the learning rate falls over the whole training, so a point before its end is what a search in rungs sees."


def weighing(found: Table) -> str:
    """How far a single measurement of a latency ratio is off, where there are two of each."""
    if "latency_1" not in found.placements:
        return ""
    apart = found.placements.latency_2 - found.placements.latency_1
    return f"; a single measurement is off by {apart.std() / 2**0.5:.3f} (standard deviation, from two of each)"


def said(rows: pd.DataFrame, column: str) -> str:
    """Every value of a column once."""
    return "; ".join(sorted({str(v) for v in rows[column].dropna()})) if column in rows else "not recorded"


def signal(found: Table) -> str:
    """Noise and spread at every budget."""
    lines = [
        "`spread`: standard deviation of the true gains over the base between placements. `noise`: that of one paired gain "
        "over seeds, as the placements tell it whose further seeds were decided before any score was seen. 95% intervals by "
        "resampling placements.", "",
        "| pictures | spread | noise | spread / noise |", "|---:|---|---|---|",
    ]  # fmt: skip
    for budget in found.budgets:
        of = table.signal(found, budget)
        lines.append(f"| {budget} | {told(of.spread, 4)} | {told(of.noise, 4)} | {told(of.ratio, 1)} |")
    count, first, others = table.luck(found, found.budgets[-1])
    if count:
        lines += [
            "", f"The {count} placements that were best under the first seed (and of which nobody had decided before) "
            f"gained {first:+.4f} under it and {others:+.4f} under the other two: what a front of one seed over-reports "
            "here.",
        ]  # fmt: skip
    return "\n".join(lines)


def agreement(found: Table) -> str:
    """Tau of every budget with the last."""
    last = found.budgets[-1]
    lines = [f"| pictures | tau with {last}, same seed | across seeds |", "|---:|---|---|"]
    for budget in found.budgets:
        same = "1" if budget == last else told(table.agreement(found, budget, last), 2)
        lines.append(f"| {budget} | {same} | {told(table.agreement_across_seeds(found, budget, last), 2)} |")
    return "\n".join(lines)


def told(of: spread.Interval, digits: int) -> str:
    """``0.0123 (0.0100 to 0.0150)``."""
    return f"{of.value:.{digits}f} ({of.low:.{digits}f} to {of.high:.{digits}f})"


def ranking(found: Table) -> str:
    """The ends of the ranking by the model of effects, and the placebos."""
    model = effects.fit(trainings.from_table(found))
    labels = [p for p in found.placements.placement if p != table.BASE]
    mean, sd = effects.predict(model, [Placement.from_label(p) for p in labels])
    order = sorted(range(len(labels)), key=lambda i: -mean[i])
    chosen = order[:ENDS] + order[-ENDS:] + [i for i in order if any(name in labels[i] for name in PLACEBO)]
    costs = found.placements.set_index("placement")
    gains = table.gains(found, found.budgets[-1]).mean(axis=1)
    seeds = found.trials[found.trials.images == found.budgets[-1]].groupby("placement").seed.nunique()
    lines = [
        "Gain over the base: as measured (mean of the seeds), and as the model of effects (`python -m nas effects`) has it "
        "from all trainings together, with its 95% interval.", "",
        "| placement | seeds | measured | model | latency | GFLOPs |", "|---|---:|---:|---|---:|---:|",
    ]  # fmt: skip
    for i in dict.fromkeys(chosen):
        label, cost = labels[i], costs.loc[labels[i]]
        low, high = mean[i] - 1.96 * sd[i], mean[i] + 1.96 * sd[i]
        lines.append(
            f"| {label} | {seeds[label]} | {gains[label]:+.4f} | {mean[i]:+.4f} ({low:+.4f} to {high:+.4f}) "
            f"| x{cost.latency_ratio:.3f} | {cost.gflops:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Write README.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    (folder / "README.md").write_text(card(table.read(folder), folder), encoding="utf-8")


if __name__ == "__main__":
    main()
