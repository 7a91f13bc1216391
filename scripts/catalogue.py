"""Writes the catalogue: modules/README.md, PARITY.md, cost.png, search_spaces/light.yaml and full.yaml.

python scripts/catalogue.py                     from the registry and the records modules/*.csv
python scripts/catalogue.py --measure           first measures modules/latency.csv here: minutes, on an idle machine
python scripts/catalogue.py --measure eca sk    only these blocks, the others' figures stay
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from dataclasses import astuple, fields
from pathlib import Path

import torch
from torch import nn

import nas  # noqa: F401
from modules import Attend, deploy, registry
from nas import catalogue, cost, pages, weights

ROOT = Path(__file__).parent.parent
COLOURS = dict(zip(registry.FAMILIES, ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"), strict=True))


@torch.inference_mode()
def latency(name: str, level: str, base: nn.Module, pairs: int) -> catalogue.Measured:
    """The wired block in deploy form, in turn with the base."""
    site = catalogue.levels()[level]
    side = site.size(catalogue.IMGSZ)
    torch.manual_seed(0)
    block = Attend(site.channels, name).eval()
    assert block.gamma is not None
    nn.init.constant_(block.gamma, 0.1)
    deploy.fold(block)
    image, x = torch.rand(1, 3, catalogue.IMGSZ, catalogue.IMGSZ), torch.randn(1, site.channels, side, side)
    times: dict[str, list[float]] = {"base": [], "block": []}
    for i in range(pairs + 2):
        for what, net, value in (("base", base, image), ("block", block, x)):
            start = time.perf_counter()
            net(value)
            if i >= 2:
                times[what].append(1e3 * (time.perf_counter() - start))
    base_ms, block_ms = (statistics.median(times[what]) for what in ("base", "block"))
    where = cost.device_name(torch.device("cpu"))
    return catalogue.Measured(
        *(name, level, 1 + block_ms / base_ms, block_ms, base_ms, where, torch.get_num_threads(), torch.__version__)
    )


def measure(names: list[str], pairs: int) -> None:
    """Rewrite the rows of these blocks in modules/latency.csv."""
    from ultralytics.nn.tasks import yaml_model_load

    file = catalogue.FOLDER / "latency.csv"
    rows = catalogue.latencies() if file.exists() else {}
    plain = weights.build(dict(yaml_model_load("yolov10n.yaml")), {i: str(i) for i in range(80)})
    base = cost.deployed(plain, torch.device("cpu"))
    for spec in catalogue.builtin():
        for level in catalogue.LEVELS:
            if (spec.name in names or not names) and catalogue.stands(spec, level):
                rows[spec.name, level] = found = latency(spec.name, level, base, pairs)
                print(f"{spec.name:12} {level}  {found.block_ms:8.3f} ms  x{found.ratio:.4f}", flush=True)
    with file.open("w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow([field.name for field in fields(catalogue.Measured)])
        for key in sorted(rows):
            writer.writerow([f"{v:.5g}" if isinstance(v, float) else v for v in astuple(rows[key])])


def plot(file: Path) -> None:
    """Latency of every block at P3, P4 and P5, by family, the cheapest first."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    measured = catalogue.latencies()

    def added(name: str, level: str) -> float:
        found = measured.get((name, level))
        return float("nan") if found is None else 100 * found.block_ms / found.base_ms

    order = sorted(catalogue.builtin(), key=lambda s: (registry.FAMILIES.index(s.family), added(s.name, "p5")))
    figure, axis = pyplot.subplots(figsize=(9, 13))
    for level, marker in (("p3", "o"), ("p4", "s"), ("p5", "^")):
        for family, colour in COLOURS.items():
            y = [i for i, s in enumerate(order) if s.family == family]
            x = [added(order[i].name, level) for i in y]
            axis.scatter(x, y, color=colour, marker=marker, s=26, alpha=0.8, label=f"{level.upper()} {family}")
    for i, spec in enumerate(order):
        axis.axhline(i, color="#eeeeee", linewidth=0.6, zorder=0)
        if i and spec.family != order[i - 1].family:
            axis.axhline(i - 0.5, color="grey", linewidth=0.8)
    axis.axvline(100 * (catalogue.LIGHT - 1), color="grey", linewidth=0.8, linestyle="--")
    axis.set_xscale("log")
    ticks = [0.3, 0.5, 1, 2, 5, 10, 20, 50, 100, 200]
    axis.set_xticks(ticks, [f"{t:g} %" for t in ticks])
    axis.set_yticks(range(len(order)), [s.name for s in order], fontsize=8)
    axis.set_ylim(len(order), -1)
    axis.set_xlabel("latency added to YOLOv10n at 640 px, % of its own; dashed: the space light")
    axis.legend(fontsize=8, ncols=3, loc="upper right")
    figure.tight_layout()
    figure.savefig(file, dpi=100)


def main() -> None:
    """Measure if asked, then write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs="*", metavar="BLOCK", help="measure latencies here first")
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="by default all")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.measure is not None:
        measure(args.measure, args.pairs)
    for file, text in pages.files().items():
        (ROOT / file).write_text(text, encoding="utf-8")
        print(file)
    plot(catalogue.FOLDER / "cost.png")


if __name__ == "__main__":
    main()
