"""Every block at every site of YOLOv10n where it may stand, and the whole detector in ONNX.

    python scripts/check_sites.py                          one line a block; exit status 1 where anything fails
    python scripts/check_sites.py eca sk --weights x.pt    these blocks, these weights (else random ones)
    python scripts/check_sites.py --onnx eca mhsa          besides, these in ONNX Runtime; `--onnx all`

At each site: the detector's output equals the base's to the bit (both heads); one step of training is finite and moves
gamma and the block; with gamma and running statistics off their start, Ultralytics' fuse() changes nothing by more
than 1e-4 of the largest output. In ONNX, with a block at every site where it may stand, on a photograph at the traced
size and another: every box and score equals torch's within 1e-4 of the largest.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch
from torch import Tensor, nn
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils import ASSETS, DEFAULT_CFG_DICT

import nas  # noqa: F401
from modules import Attend
from modules.tooling import settled
from nas import catalogue, export, graph, weights
from nas.quiet import quiet
from search_spaces import Placement

IMAGE = (1, 3, 256, 192)
STEP = (2, 3, 160, 160)
SURE = 0.25  # score of a detection


def attends(model: nn.Module) -> list[Attend]:
    """The wired blocks of a model."""
    return [m for m in model.modules() if isinstance(m, Attend)]


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Everything that the model returns in eval mode, both heads."""

    def walk(y: object) -> Iterator[Tensor]:
        if isinstance(y, Tensor):
            yield y
        elif isinstance(y, dict):
            for value in y.values():
                yield from walk(value)
        elif isinstance(y, (list, tuple)):
            for value in y:
                yield from walk(value)

    with torch.no_grad():
        return list(walk(model.eval()(x)))


def worst(one: list[Tensor], two: list[Tensor]) -> float:
    """The largest difference, relative to the largest value of its tensor."""
    pairs = zip(one, two, strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1)) for a, b in pairs if a.is_floating_point())


def insert(base: DetectionModel, placement: Placement) -> DetectionModel:
    """The base with blocks in it and its weights carried."""
    graft = graph.insert(base.yaml, placement)
    model = weights.build(graft.yaml, base.names)
    weights.transfer(base, model, graft.moved)
    return model


def step(model: DetectionModel) -> str:
    """One step of SGD on noise; says what is wrong, or nothing."""
    model.train()
    model.args = get_cfg()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    before = [a.gamma.detach().clone() for a in attends(model) if a.gamma is not None]
    image = torch.rand(STEP, generator=torch.Generator().manual_seed(0))
    batch = {
        "img": image,
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.tensor([[1.0], [2.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.6, 0.2, 0.5]]),
    }
    loss = model(batch)[0].sum()
    loss.backward()
    if not math.isfinite(loss.item()):
        return "the loss is not finite"
    if not all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters()):
        return "a gradient is not finite"
    optimizer.step()
    after = [a.gamma for a in attends(model) if a.gamma is not None]
    return "" if all(not torch.equal(a, b) for a, b in zip(after, before, strict=True)) else "gamma did not move"


@torch.no_grad()
def trained(model: DetectionModel, gamma: float = 0.3) -> DetectionModel:
    """Gamma and the blocks' running statistics as a training might leave them."""
    for i, attend in enumerate(attends(model)):
        assert attend.gamma is not None
        attend.gamma.uniform_(-gamma, gamma, generator=torch.Generator().manual_seed(i))
        settled(attend.block)
    return model.eval()


def at_site(base: DetectionModel, expected: list[Tensor], image: Tensor, name: str, site: str) -> list[str]:
    """What fails of one block at one site."""
    faults = []
    model = insert(base, Placement.of({site: name}))
    same = all(torch.equal(a, b) for a, b in zip(outputs(model, image), expected, strict=True))
    if not same:
        faults.append("the output is not the base's")
    if fault := step(copy.deepcopy(model)):
        faults.append(fault)
    trained(model)
    model.model[-1].end2end = False  # the one2many head's values; the other ranks them, and near ties change places
    error = worst(outputs(model, image)[:1], outputs(copy.deepcopy(model).fuse(verbose=False), image)[:1])
    if error > 1e-4:
        faults.append(f"fuse() changes the output by {error:.1e}")
    return [f"{site}: {fault}" for fault in faults]


def onnx(base: DetectionModel, name: str, sites: list[str], folder: str) -> tuple[float, int]:
    """Ultralytics' own ONNX export of the detector with the block at all its sites.

    Returns the largest difference of any box or score, and how many scores are those of detections.
    """
    import onnxruntime

    model = trained(insert(base, Placement.of(dict.fromkeys(sites, name))), gamma=0.02)
    checkpoint = Path(folder) / f"{name}.pt"
    export.save(checkpoint, model, {**DEFAULT_CFG_DICT, "model": str(checkpoint), "imgsz": IMAGE[2], "data": None})
    with quiet():
        file = YOLO(checkpoint).export(format="onnx", imgsz=IMAGE[2:], dynamic=True, simplify=False, device="cpu")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    model = weights.open_model(checkpoint)  # a checkpoint is in half precision
    error, found = 0.0, 0
    for h, w in (IMAGE[2:], (640, 480)):
        photograph = cv2.imread(str(ASSETS / "bus.jpg"))
        assert photograph is not None
        image = torch.from_numpy(cv2.resize(photograph, (w, h))[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
        (got,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        expected = outputs(model, image)[0]
        error = max(error, worst([expected], [torch.from_numpy(got)]))
        found += int((expected[:, 4:] > SURE).sum())
    return error, found


def main() -> None:
    """Print a line a block."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("blocks", nargs="*")
    parser.add_argument("--weights")
    parser.add_argument("--onnx", nargs="+", default=[], metavar="BLOCK")
    args = parser.parse_args()
    if args.weights:
        base = weights.open_model(args.weights)
    else:
        base = weights.build(dict(yaml_model_load("yolov10n.yaml")), {i: str(i) for i in range(80)})
    image = torch.rand(IMAGE, generator=torch.Generator().manual_seed(0))
    expected = outputs(base, image)
    specs = [s for s in catalogue.builtin() if s.name in args.blocks or not args.blocks]
    failed = cases = 0
    for spec in specs:
        sites = [site.name for site in graph.sites(base.yaml) if catalogue.stands(spec, catalogue.level_of(site.name))]
        start = time.perf_counter()
        faults = [fault for site in sites for fault in at_site(base, expected, image, spec.name, site)]
        cases += len(sites)
        failed += len(faults)
        said = "; ".join(faults) or "same to the bit, one step, fuse()"
        print(f"{spec.name:12} {len(sites)} sites in {time.perf_counter() - start:5.1f} s: {said}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for spec in specs if args.onnx == ["all"] else [s for s in catalogue.builtin() if s.name in args.onnx]:
            sites = [s.name for s in graph.sites(base.yaml) if catalogue.stands(spec, catalogue.level_of(s.name))]
            error, found = onnx(base, spec.name, sites, folder)
            failed += error > 1e-4
            said = f"boxes and scores differ by {error:.1e}, {found} of them over {SURE}"
            print(f"{spec.name:12} ONNX, {len(sites)} blocks: {said}", flush=True)
    print(f"{cases} blocks at sites, {failed} failures")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
