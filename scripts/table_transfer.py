"""Goes in: nothing. Comes out: what stock `.load()` and ours do with a base's tensors once a block stands in the graph.

bash scripts/run.sh python scripts/table_transfer.py
"""

from __future__ import annotations

import torch
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from nas import graph, weights

SITES = {4: "backbone.p3", 10: "backbone.psa", 22: "neck.p5"}


def main() -> None:
    """Print the table; every tensor of the base is made unique first, so that a tensor tells where it came from."""
    names = {i: str(i) for i in range(80)}
    yaml = yaml_model_load("yolov10n.yaml")
    base = weights.build(yaml, names)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for n, tensor in enumerate(base.state_dict().values()):
            if tensor.dtype.is_floating_point:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) + n)
            else:
                tensor.fill_(n)
    total = len(base.state_dict())
    print(f"YOLOv10n, {total} tensors; one block inserted after a row\n")
    print("| after row | stock: loaded | in a wrong layer | ours: loaded | in a wrong layer | new |")
    print("|---|---:|---:|---:|---:|---:|")
    for row, site in SITES.items():
        graft = graph.insert_rows(yaml, {row: (site, ["c2", "eca"])})
        found = []
        for load in (lambda m: m.load(base, verbose=False), lambda m, g=graft: weights.transfer(base, m, g.moved)):
            model = weights.build(graft.yaml, names)
            load(model)
            found.append(count(base, model, graft.moved))
        fresh = len(model.state_dict()) - total
        (a, b), (c, d) = found
        print(f"| {row} ({site}) | {a} of {total} | {b} | {c} of {total} | {d} | {fresh} |")


def count(base: DetectionModel, model: DetectionModel, moved: dict[int, int]) -> tuple[int, int]:
    """Tensors of the model that hold a tensor of the base, and how many of those stand in another layer."""
    own = base.state_dict()
    back = {new: old for old, new in moved.items()}
    loaded = wrong = 0
    for name, tensor in model.state_dict().items():
        source = next((k for k, v in own.items() if v.shape == tensor.shape and torch.equal(v, tensor)), None)
        if source is None:
            continue
        loaded += 1
        _, row, rest = name.split(".", 2)
        right = f"model.{back[int(row)]}.{rest}" if int(row) in back else None
        wrong += source != right
    return loaded, wrong


if __name__ == "__main__":
    main()
