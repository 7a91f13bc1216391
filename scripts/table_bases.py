"""Goes in: nothing. Comes out: each base that Ultralytics ships, a block at every site: tensors carried, same output.

bash scripts/run.sh python scripts/table_bases.py             # family x scale x task, about 10 minutes on 2 cores
bash scripts/run.sh python scripts/table_bases.py yolov8n.yaml yolo11s-seg.yaml
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import cycle
from typing import Any

import torch
from ultralytics.nn.tasks import yaml_model_load

from nas import grafting, graph, weights
from search_spaces import Placement

TASKS = ("", "-seg", "-pose", "-obb", "-cls")
FAMILIES = {  # stem, scales, suffixes
    "v8": ("yolov8", "nsmlx", (*TASKS, "-p2", "-p6", "-pose-p6", "-seg-p6", "-ghost")),
    "v9": ("yolov9", "tsmce", ("",)),
    "v9 seg": ("yolov9", "ce", ("-seg",)),
    "v10": ("yolov10", "nsmblx", ("",)),
    "11": ("yolo11", "nsmlx", TASKS),
    "12": ("yolo12", "nsmlx", TASKS),
    "26": ("yolo26", "nsmlx", (*TASKS, "-p2", "-p6", "-sem", "-depth")),
}
BLOCKS = ("eca", "cbam", "simam", "coord", "sk", "triplet", "gct", "lka", "shuffle", "ema")


def main() -> int:
    """Print one row a base; exit status 1 if any tensor was lost or any output changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bases", nargs="*", help="model YAMLs; all families by default")
    names = parser.parse_args().bases or [
        f"{stem}{scale}{suffix}.yaml"
        for stem, scales, suffixes in FAMILIES.values()
        for suffix in suffixes
        for scale in scales
    ]
    print("| base | task | sites | tensors carried | output equal to the bit | seconds |")
    print("|---|---|---:|---:|---|---:|")
    good = [row(name) for name in names]
    print(f"\n{sum(good)} of {len(good)} bases: every tensor carried, the output equal to the bit")
    return 0 if all(good) else 1


def row(name: str) -> bool:
    """One base with a block at every site; whether all went well."""
    started = time.perf_counter()
    yaml = yaml_model_load(name)
    base = shaken(weights.build(yaml, {i: f"class {i}" for i in range(int(yaml["nc"]))}))
    sites = graph.sites(base.yaml)
    placement = Placement.of(dict(zip([s.name for s in sites], cycle(BLOCKS), strict=False)))
    task = weights.guess_model_task(base.yaml)
    try:
        done = grafting.graft_model(base, placement)
    except grafting.GraftError as e:
        print(f"| {name} | {task} | {len(sites)} | {e} | no | |", flush=True)
        return False
    carried, seconds = done.transfer, time.perf_counter() - started
    print(f"| {name} | {task} | {len(sites)} | {carried.loaded} of {carried.total} | yes | {seconds:.1f} |", flush=True)
    return carried.loaded == carried.total


@torch.no_grad()
def shaken(model: Any) -> Any:
    """The model with every tensor its own, as after a training: batch norms' statistics and scales too."""
    draw = torch.Generator().manual_seed(0)
    for key, tensor in model.state_dict().items():
        if key.endswith("running_var") or (tensor.ndim == 1 and key.endswith("bn.weight")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
        elif tensor.dtype.is_floating_point and "dfl" not in key:
            tensor.add_(0.02 * torch.randn(tensor.shape, generator=draw))
    return model


if __name__ == "__main__":
    sys.exit(main())
