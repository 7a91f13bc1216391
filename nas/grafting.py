"""Goes in: a trained model and a placement. Comes out: the same model with the blocks in it, all tensors accounted for.

`python -m nas graft` and `nas.graft(...)`; a search does the same for each of its candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ultralytics.nn.tasks import BaseModel

from nas import export, graph, rows, weights
from nas.placing import YAML, GraftError, check, doubts, parse, read
from nas.trust import granted
from search_spaces import Placement

__all__ = ["GraftError", "Grafted", "check", "doubts", "graft", "graft_model", "parse", "read"]

NOT_CARRIED = ("args", "criterion", "names", "pt_path", "save", "yaml")


@dataclass(frozen=True)
class Grafted:
    """A trained model with blocks in it.

    Args:
        model: Ultralytics' model in fp32; under wire "residual" it predicts what the base predicts, to the bit.
        graft: Its YAML, and where each row of the base went.
        transfer: What became of every tensor of the base.
    """

    model: Any
    graft: graph.Graft
    transfer: weights.Transfer


def graft(
    base: str | Path | BaseModel,
    placement: Placement | Mapping[str, Any] | str,
    output: str | Path,
    *,
    wire: str = "residual",
    seed: int = 0,
    overwrite: bool = False,
    trust: bool = False,
) -> Any:
    """Insert blocks into a trained detector and write it as a checkpoint that `yolo train` takes.

    Args:
        base: A checkpoint (Ultralytics' own is downloaded), or a model.
        placement: Site -> block: ``{"neck.p3": "eca", "backbone.p4": "cot(kernel_size=5)"}``; or as in a terminal,
            ``"neck.p3=eca backbone.p4=cot(kernel_size=5)"``.
        output: Where to write, ``mine.pt``; ``mine.yaml`` writes the model without weights, and ``base`` may be a YAML.
        wire: "residual" starts as an exact copy of the base; "plain" is the bare block, and does not.
        seed: Of the new blocks' weights.
        overwrite: Whether ``output`` may exist.
        trust: Read ``base`` also where it holds more than weights; such a file runs code as it is read.

    Returns:
        ``ultralytics.YOLO(output)``.

    Raises:
        GraftError: A site, block or option that does not exist or fit; or ``output`` exists.
        GraphError: A graph that is not understood.
        WeightError: A tensor that did not arrive, or a base that holds more than weights.
    """
    from ultralytics import YOLO

    path = check_output(base, output, overwrite)
    chosen = placement if isinstance(placement, Placement) else read(placement)
    with granted(trust):
        if path.suffix in YAML:
            write_yaml(dict(base.yaml) if isinstance(base, BaseModel) else load_yaml(str(base)), chosen, path, wire)
        else:
            source = base if isinstance(base, BaseModel) else weights.open_model(weights.find(base))
            write(graft_model(source, chosen, wire, seed), source, path)
        return YOLO(str(path))


def graft_model(base: Any, placement: Placement, wire: str = "residual", seed: int = 0) -> Grafted:
    """Build ``base`` with ``placement`` in it, carry its weights, and compare predictions.

    Raises:
        GraftError: The placement does not fit, or the predictions differ.
    """
    base = base.float().eval()
    check(placement, base.yaml, wire)
    edited = graph.insert(base.yaml, placement, wire)
    model = weights.build(edited.yaml, base.names, int(base.yaml.get("channels", 3)), seed).eval()
    carried = weights.transfer(base, model, edited.moved, seed)
    for name, value in vars(base).items():  # such as a classifier's transforms
        if not name.startswith("_") and name not in vars(model) and name not in NOT_CARRIED:
            setattr(model, name, value)
    if wire == "residual" and not same_predictions(base, model):
        raise GraftError(
            "the model with the blocks does not predict what the base predicts: the base is more than its YAML"
        )
    return Grafted(model, edited, carried)


@torch.no_grad()
def same_predictions(base: Any, model: Any) -> bool:
    """Whether both give the same for one image of noise, to the bit."""
    side = 2 * int(max(base.stride))
    side = max(side, 64)
    image = torch.rand(1, int(base.yaml.get("channels", 3)), side, side, generator=torch.Generator().manual_seed(0))
    ours, theirs = _leaves(model.eval()(image)), _leaves(base.eval()(image))
    return 0 < len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def write(grafted: Grafted, base: Any, path: Path) -> None:
    """Write the checkpoint; in half precision where that keeps every value of the base, as Ultralytics does."""
    exact = all(
        not t.dtype.is_floating_point or torch.equal(t.half().to(t.dtype), t) for t in base.state_dict().values()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    export.save(path, grafted.model, dict(getattr(base, "args", {}) or {}), half=exact)


def write_yaml(base: Mapping[str, Any], placement: Placement, path: Path, wire: str = "residual") -> None:
    """Write the model's YAML with the blocks in it, every later reference raised.

    Raises:
        GraftError: The placement does not fit.
    """
    check(placement, base, wire)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = f"# {Path(str(base.get('yaml_file', 'a model'))).name} with {placement.label}\n"
    path.write_text(header + export.model_text(graph.insert(base, placement, wire)), encoding="utf-8")


def check_output(base: Any, output: str | Path, overwrite: bool) -> Path:
    """The path to write to, before anything is spent.

    Raises:
        GraftError: No .pt or .yaml, weights out of a YAML, the base itself, or a file that is there.
    """
    path = Path(output)
    if path.suffix not in (".pt", *YAML):
        raise GraftError(
            f"output {output}: expected a file that ends in .pt or .yaml, for instance {path.with_suffix('.pt')}"
        )
    if str(base).endswith(YAML) and path.suffix == ".pt":
        raise GraftError(
            f"{base} has no weights to carry: name a checkpoint (.pt), or write a YAML: -o {path.with_suffix('.yaml')}"
        )
    if isinstance(base, str | Path) and path.resolve() == Path(base).resolve():
        raise GraftError(f"output {output} is the base itself; give another name")
    if path.exists() and not overwrite:
        raise GraftError(f"output {output} is there already; give another name, or --force (overwrite=True)")
    return path


def load_yaml(base: str) -> dict[str, Any]:
    """A model's YAML by its name or path, or that of a checkpoint.

    Raises:
        GraftError: There is none.
    """
    if base.endswith(".pt"):
        return dict(weights.open_model(weights.find(base)).yaml)
    return rows.read(base)


def _leaves(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [leaf for item in items for leaf in _leaves(item)]
