"""Exported detectors beside torch: a table over blocks and formats; with --all every block at one site.

    python scripts/table_deploy.py --weights yolov10n.pt --images coco/images/val neck.p3=eca neck.p5=mhsa+neck.p3=sk
    python scripts/table_deploy.py --weights yolov10n.pt --images coco/images/val --all

The table: detections (the head without NMS) on 20 pictures at two sizes, largest difference of boxes and scores, and
latency as a ratio to the base's in the same runtime. --all compares every output of the other head, not only
detections, on two pictures at two sizes from one file that takes any size. Blocks stand with a gamma around 0.5 in
--all and 0.02 in the table, so that they do something and the detector still detects. Exit status 1 where a block
fails in a format, or differs by more than 1e-3 of the largest value in fp32.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
from ultralytics.nn.tasks import DetectionModel

import nas  # noqa: F401
from modules import Attend
from modules.tooling import settled
from nas import agreement, catalogue, cost, deploy, graph, weights
from nas.grafting import parse as parse_placement
from nas.setting import threads
from search_spaces import Placement

CPU = torch.device("cpu")
TOLERANCE = 1e-3
EXAMPLES = ("neck.p3=eca", "neck.p4=cbam", "backbone.p4=lska", "neck.p4=efficient", "neck.p5=mhsa+neck.p3=sk")
SITE = {"p3": "neck.p3", "p4": "neck.p4", "p5": "neck.p5"}


@torch.no_grad()
def with_blocks(base: DetectionModel, placement: Placement, gamma: float) -> DetectionModel:
    """The base with blocks in it as a training might leave them: gamma about ``gamma``, statistics off their start."""
    graft = graph.insert(base.yaml, placement)
    model = weights.build(graft.yaml, base.names)
    weights.transfer(base, model, graft.moved)
    for i, attend in enumerate(m for m in model.modules() if isinstance(m, Attend)):
        assert attend.gamma is not None
        noise = torch.randn(attend.gamma.shape, generator=torch.Generator().manual_seed(i))
        attend.gamma.copy_(gamma * (1 + 0.2 * noise))
        settled(attend.block)
    return model.eval()


def files(
    model: DetectionModel, fmt: str, sizes: tuple[int, int], folder: Path, exact: bool
) -> Iterator[tuple[int, cost.Runner]]:
    """The model in a format at each of two sizes, as it is deployed at each; ``exact``: OpenVINO in fp32."""
    for size in sizes:
        file = deploy.export(model, fmt, folder / f"at{size}", size, CPU)
        yield size, deploy.open_artifact(file, fmt, CPU, exact=exact)


def table(base: DetectionModel, args: argparse.Namespace, pictures: list) -> int:
    """Print a row a placement and format; the number of failures."""
    sizes, failed = (args.imgsz, args.imgsz * 3 // 4 // 32 * 32), 0
    formats = [(fmt, exact) for fmt in args.formats for exact in (False, True) if fmt == "openvino" or not exact]
    formats = [(fmt, exact) for fmt, exact in formats if not told(fmt)]
    bases: dict[tuple[str, bool], cost.Runner] = {}
    print(f"{len(pictures)} images at {sizes[0]} and {sizes[1]} px, {threads()} threads, {args.runs} pairs\n")
    print("| blocks | format | runs in | detections | one side only | box, px | score | latency, x base |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for text in ("", *args.blocks):
        placement = parse_placement(text.split("+")) if text else Placement()
        model = with_blocks(base, placement, 0.02)
        reference = cost.torch_runner(model, CPU)
        for fmt, exact in formats:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    runners = list(files(model, fmt, sizes, Path(folder), exact))
                    found = agreement.compare([(size, reference, r) for size, r in runners], pictures)
                    if (fmt, exact) not in bases:
                        file = deploy.export(base, fmt, Path(folder) / "base", sizes[0], CPU)
                        bases[fmt, exact] = deploy.open_artifact(file, fmt, CPU, exact=exact)
                    ratio = cost.latency(runners[0][1], bases[fmt, exact], sizes[0], args.runs).ratio
                except Exception as e:
                    failed += 1
                    print(
                        f"| {text} | {fmt} | failed: {type(e).__name__}: {' '.join(str(e).split())[:300]} |", flush=True
                    )
                    continue
            box, score = ("-" if v is None else f"{v:.1e}" for v in (found.box_px, found.score))
            print(
                f"| {text.replace('+', ', ') or 'none'} | {fmt} | {runners[0][1].dtype} | {found.detections} "
                f"| {found.unmatched} | {box} | {score} | {ratio:.3f} |",
                flush=True,
            )
    return failed


def every(base: DetectionModel, args: argparse.Namespace, pictures: list) -> int:
    """Print a line a block: each format's largest relative difference of any box and score; the number of failures."""
    formats, failed = [fmt for fmt in args.formats if not told(fmt)], 0
    for spec in catalogue.builtin():
        if args.blocks and spec.name not in args.blocks:
            continue
        level = next(k for k in ("p4", "p5", "p3") if catalogue.stands(spec, k))
        model = with_blocks(base, Placement.of({SITE[level]: spec.name}), 0.5)
        for name in ("one2one_cv2", "one2one_cv3"):  # its top 300 change places where scores are nearly the same
            setattr(model.model[-1], name, None)
        cells = []
        for fmt in formats:
            try:
                error = difference(model, fmt, pictures[:2])
            except Exception as e:
                cells.append(f"{fmt} FAILED {type(e).__name__}: {' '.join(str(e).split())[:200]}")
                failed += 1
                continue
            good = error < TOLERANCE  # NaN is not
            failed += not good
            cells.append(f"{fmt} {error:.1e}" + ("" if good else " DIFFERS"))
        print(f"{spec.name:12} {SITE[level]}  " + "  ".join(cells), flush=True)
    return failed


@torch.inference_mode()
def difference(model: DetectionModel, fmt: str, pictures: list) -> float:
    """Largest difference of boxes and of scores from torch's, each over its largest value; computed in fp32."""
    worst = torch.zeros(())
    reference = cost.torch_runner(copy.deepcopy(model), CPU)
    with tempfile.TemporaryDirectory() as folder:
        file = deploy.export(model, fmt, Path(folder) / "block", 160, CPU, dynamic=True)
        runner = deploy.open_artifact(file, fmt, CPU, exact=True)
        for size in (160, 224):
            for picture in pictures:
                image = agreement.as_input(picture, size)
                expected, got = reference(image)[0], runner(image)
                got = torch.as_tensor(got[0] if isinstance(got, list | tuple) else got)
                for a, b in ((expected[:, :4], got[:, :4]), (expected[:, 4:], got[:, 4:])):
                    worst = torch.maximum(worst, (a - b).abs().max() / a.abs().max())  # NaN stays NaN
    return float(worst)


def told(fmt: str) -> bool:
    """Say why a format cannot be done here; whether so."""
    reason = deploy.fault(fmt, CPU)
    if reason:
        print(f"{fmt}: {reason}")
    return reason is not None


def main() -> None:
    """Print the table or the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("blocks", nargs="*", help="SITE=BLOCK, several joined by +; with --all names of blocks")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", required=True, type=Path, help="folder of pictures")
    parser.add_argument("--formats", nargs="+", default=["onnx", "torchscript", "openvino"], choices=deploy.FORMATS)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--count", type=int, default=20, help="pictures")
    parser.add_argument("--runs", type=int, default=20, help="pairs of a latency")
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(threads())
    base = weights.open_model(args.weights)
    pictures = agreement.read(sorted(args.images.iterdir())[: args.count])
    if not pictures:
        sys.exit(f"no pictures in {args.images}")
    if not args.all:
        args.blocks = args.blocks or list(EXAMPLES)
    failed = every(base, args, pictures) if args.all else table(base, args, pictures)
    print(f"\n{failed} failures")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
