"""Goes in: trained weights and a dataset. Comes out: the mAP before any training, stock and with each block at a site.

    bash scripts/run.sh python scripts/check_identity.py --weights yolov10n.pt --data coco128.yaml --site neck.p3

Each row is Ultralytics' own validator; the figures must agree to the last digit.
"""

from __future__ import annotations

import argparse
import sys

from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel

import modules
from nas import graph, weights
from nas.quiet import quiet
from nas.setting import pick_device
from search_spaces import Placement


def score(model: DetectionModel, start: YOLO, data: str, imgsz: int) -> tuple[float, float]:
    """mAP50-95 and mAP50 on the val split, one2many head, by `YOLO.val`."""
    start.model = model
    with quiet():
        found = start.val(data=data, imgsz=imgsz, batch=16, plots=False, verbose=False, workers=0, device="cpu")
    return found.box.map, found.box.map50


def main() -> None:
    """Print a line a block; exit status 1 when one differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--site", default="neck.p3")
    parser.add_argument("--imgsz", type=int, default=640)
    args = parser.parse_args()
    pick_device("cpu")
    base = weights.open_model(args.weights)
    yolo = YOLO(args.weights)
    stock = score(weights.open_model(args.weights), yolo, args.data, args.imgsz)
    print(f"{'stock':12} mAP50-95 {stock[0]:.17g} mAP50 {stock[1]:.17g}", flush=True)
    different = 0
    for name in modules.names():
        graft = graph.insert(base.yaml, Placement.of({args.site: name}))
        model = weights.build(graft.yaml, base.names)
        carried = weights.transfer(base, model, graft.moved)
        found = score(model, yolo, args.data, args.imgsz)
        different += found != stock
        same = "the same" if found == stock else "DIFFERS"
        print(f"{name:12} mAP50-95 {found[0]:.17g} mAP50 {found[1]:.17g} {same}; {carried}", flush=True)
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
