"""Goes in: what is known of an exported point, as JSON. Comes out: its model card in markdown, as model hubs ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml as pyyaml

import modules
from nas.task import name_of
from search_spaces import Placement

Card = Mapping[str, Any]
TASKS = {  # Ultralytics' task -> the pipeline tag of model hubs
    "detect": "object-detection",
    "segment": "image-segmentation",
    "pose": "keypoint-detection",
    "classify": "image-classification",
    "obb": "object-detection",
}
PREDICTS = " Before training it predicts what they predict, to the bit."
HEADS = {"one2many": "one2many head with NMS", "one2one": "NMS-free head", "single": "single head"}
LICENCE = (
    "AGPL-3.0-or-later, as Ultralytics asks of what builds on it. The weights that it started from, and the data that "
    "it was trained on, may ask for more."
)


def write(yaml_path: Path, train: str) -> Path:
    """Write the card beside an exported YAML and its JSON.

    Args:
        yaml_path: The YAML.
        train: The command that trains it, such as ``yolo detect train``.
    """
    has_weights, name = yaml_path.with_suffix(".pt").is_file(), yaml_path.stem
    task = name_of(pyyaml.safe_load(yaml_path.read_text(encoding="utf-8")))
    use = f"{train} model={name}.yaml data=my-data.yaml epochs=100  # from random weights"
    if has_weights:
        use = f"{train} model={name}.pt data=my-data.yaml epochs=100\n{use}"
    use = f"With yolo-attention-nas installed, whose blocks the files name:\n\n```bash\n{use}\n```"
    card = json.loads(yaml_path.with_suffix(".json").read_text(encoding="utf-8"))
    path = yaml_path.with_suffix(".md")
    path.write_text(text(card, name, has_weights, use, task), encoding="utf-8")
    return path


def text(card: Card, name: str, has_weights: bool, use: str, task: str = "detect") -> str:
    """The whole card.

    Args:
        card: What :func:`nas.export.card` or :func:`nas.rescale.card` says.
        name: The files' name without an ending.
        has_weights: Whether a `.pt` belongs to it.
        use: How to use it, in markdown.
        task: Ultralytics' name of what the model does.
    """
    parts = [
        f"---\n{pyyaml.safe_dump(_front_matter(card, name, has_weights, task), sort_keys=False).rstrip()}\n---",
        f"# {name}",
        _what(card),
        "## Figures\n\n" + (_measured(card, has_weights) if card.get("score") else _applied(card)),
        "## Cost\n\n" + _cost(card),
        "## Training\n\n" + _training(card, has_weights),
        f"## How to use\n\n{use}",
        "## Limits\n\n" + _limits(card, has_weights),
        f"## Licence\n\n{LICENCE}",
        f"## Where it comes from\n\n{_origin(card)}",
    ]
    return "\n\n".join(parts) + "\n"


def mark(card: Card) -> str:
    """What a card says of its study that no other study's says."""
    identity = card["identity"]
    return f"study `{card['study']}`, trial {card['trial']}, recipe `{card['recipe']}`, data `{identity['data']}`"


def data_name(card: Card) -> str:
    """The dataset's file, with its folder where the file is called as most are; no path of this machine."""
    path = Path(str(card["data"]))
    return f"{path.parent.name}/{path.name}" if path.stem in ("data", "dataset") and path.parent.name else path.name


def _front_matter(card: Card, name: str, has_weights: bool, task: str) -> dict[str, Any]:
    blocks = sorted({block.name for _, block in Placement.from_json(card["placement"])})
    tag = TASKS.get(task, "object-detection")
    found: dict[str, Any] = {
        "license": "agpl-3.0",
        "library_name": "ultralytics",
        "pipeline_tag": tag,
        "tags": ["ultralytics", "yolo", tag, "attention", *blocks],
    }
    score = card.get("score")
    if score and has_weights:
        metrics = [(score["metric"], score["value"]), (score["second_metric"], score["second"])]
        found["model-index"] = [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": tag},
                        "dataset": {"type": "other", "name": data_name(card), "split": score["split"]},
                        "metrics": [
                            {"type": kind, "value": round(value, 5), "name": f"{kind} ({_head(score['head'])})"}
                            for kind, value in metrics
                        ],
                    }
                ],
            }
        ]
    return found


def _what(card: Card) -> str:
    placement = Placement.from_json(card["placement"])
    base = card["model"]
    if not len(placement):
        return f"`{base}`, the untouched base of a search, trained as its candidates were."
    rows = "\n".join(f"| `{site}` | `{block.label}` | {_paper(block.name)} |" for site, block in placement)
    wire = card["identity"]["wire"]
    kind = "x + gamma (block(x) - x), gamma learned from 0" if wire == "residual" else "block(x)"
    return (
        f"`{base}` with attention blocks at {len(placement)} place{'s' * (len(placement) > 1)}, each wired as "
        f"{kind}.\n\n| site | block | paper |\n|---|---|---|\n{rows}"
    )


def _paper(name: str) -> str:
    if name not in modules.names():
        return "a block of the user's own"
    spec = modules.spec(name)
    return spec.source.removesuffix(".").replace("|", "\\|") if spec.builtin else f"{spec.title} ({spec.paper})"


def _head(head: str) -> str:
    return HEADS.get(head, f"{head} head")


def _measured(card: Card, has_weights: bool) -> str:
    score = card["score"]
    rows = [(_head(score["head"]), score["value"], score["second"])]
    if score["nms_free"] is not None:
        rows.append((HEADS["one2one"], score["nms_free"], score["nms_free_second"]))
    table = "\n".join(f"| {head} | {a:.4f} | {b:.4f} |" for head, a, b in rows)
    lines = [
        f"| head | {score['metric']} | {score['second_metric']} |\n|---|---|---|\n{table}",
        f"Measured by Ultralytics' validator on {score['split']} of `{data_name(card)}` at "
        f"{card['imgsz']} px, after {_epochs(score)} from the base of the search, seed {score['seed']}"
        + (": these weights." if has_weights else ". The weights that reached it were not kept."),
    ]
    gain, told = card.get("over_base"), card.get("verdict")
    if told:
        lines.append(_verdict(told))
    elif card["placement"] and gain is not None:
        lines.append(
            f"That is {gain:+.4f} {score['metric']} over the untouched base ({score['value'] - gain:.4f}), trained on "
            "the same batches in the same order with the same seed. **One short training with one seed proves no "
            "difference**: train both for longer, with several seeds, before you say that one is better."
        )
    return "\n\n".join(lines)


def _verdict(told: Mapping[str, Any]) -> str:
    """What the finalists came to: many seeds, on images that the search did not see."""
    low, high = (100 * told["gain"][k] for k in ("low", "high"))
    seeds = _count(len(told["seeds"]), "seed")
    return (
        f"As a finalist, trained under {seeds} for {_epochs(told)} beside the untouched base and scored on "
        f"{told['split']} ({told['images']} images, which the search never saw): **{told['sentence']}** The gain is "
        f"between {low:+.1f} and {high:+.1f} points with 95%, for all finalists at once."
    )


def _applied(card: Card) -> str:
    there = card["searched_on"]
    score, gain = there["score"], there["over_base"]
    over = "" if gain is None else f", {gain:+.4f} over its untouched base"
    return (
        f"**Not measured: no {score['metric']} of this model is known.** The placement was found on another model, "
        f"`{there['base']}`, where one short training ({_epochs(score)}, seed {score['seed']}, {score['split']} "
        f"of `{data_name(card)}` at {card['imgsz']} px, {_head(score['head'])}) reached {score['metric']} "
        f"{score['value']:.4f}{over}. That figure is of that model; whether the placement pays here is open."
    )


def _cost(card: Card) -> str:
    cost, base = card["cost"], (card.get("base") or {}).get("cost") or {}
    rows = [f"| parameters | {cost['params']:,} | {_or_dash(base.get('params'), ',')} |"]
    rows.append(f"| GFLOPs at {card['imgsz']} px | {cost['gflops']:.3f} | {_or_dash(base.get('gflops'), '.3f')} |")
    latency = cost.get("latency")
    if latency:
        rows.append(f"| latency, ms | {latency['ms']:.2f} (IQR {latency['iqr_ms']:.2f}) | {latency['base_ms']:.2f} |")
        rows.append(f"| latency, ratio to the base | {latency['ratio']:.3f} | 1 |")
    lines = ["| | this model | its base |\n|---|---|---|\n" + "\n".join(rows)]
    lines.append(f"GFLOPs: {cost['gflops_convention']}.")
    if latency:
        run_by = f", run by {latency['backend']}" if latency.get("backend") else ""
        lines.append(
            f"Latency: median of {latency['runs']} forward passes, each in turn with one of the base, and the median "
            f"of their ratios; {latency['device']}, {latency['dtype']}, {_count(latency['threads'], 'thread')}, batch "
            f"{latency['batch']}, {latency['imgsz']} px, {_head(latency['head'])}, fused{run_by}. Measure it on your "
            "own device."
        )
    else:
        lines.append("Latency was not measured.")
    return "\n\n".join(lines)


def _or_dash(value: Any, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _training(card: Card, has_weights: bool) -> str:
    identity = card["identity"]
    if not card.get("score"):
        if not has_weights:
            return "None: the YAML has no weights."
        return (
            f"None. The weights are those of `{Path(str(card['weights'])).name}`, carried through the edit of the "
            f"graph ({card['transfer']})." + (PREDICTS if identity["wire"] == "residual" else "")
        )
    args = ", ".join(f"{k}={v}" for k, v in identity["train"].items())
    own = f"new blocks learned {identity['block_lr_factor']:g} times as fast as the base"
    own += ", whose backbone was frozen" if identity.get("freeze") == "backbone" else ""
    given = Path(str(card["weights"] or f"{card['model']}.pt")).name
    weights = "random weights" if card["weights"] == "none" else f"`{given}` (digest `{identity['weights']}`)"
    epochs = identity["warm_epochs"]
    warm = f" and was fine-tuned on this data for {_count(epochs, 'epoch')}" if epochs else ""
    with_blocks = f"{_epochs(card['score'])} with the blocks; {own}" if card["placement"] else _epochs(card["score"])
    return (
        f"Data: `{data_name(card)}`, digest `{identity['data']}` (class names, image names and sizes, labels). The "
        f"base started from {weights}{warm}; then {with_blocks}. "
        f"Arguments: {args}."
    )


def _epochs(score: Mapping[str, Any]) -> str:
    return _count(score["epochs"], "epoch")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _limits(card: Card, has_weights: bool) -> str:
    if not card.get("score"):
        points = [
            "Whether the blocks pay in this model is not known: train it and the untouched base alike, and compare."
        ]
    else:
        points = [
            "Figures are of one dataset, one image size and one device; they do not carry over to others.",
            "A short training shows who is worth a longer one. Train it to the end before you use it.",
        ]
    if has_weights and card.get("score"):
        points.append("The weights are those of the short training, in half precision: a start, no finished model.")
    return "\n".join(f"- {point}" for point in points)


def _origin(card: Card) -> str:
    versions = ", ".join(_versions(card))
    return (
        f"Found by a search for attention blocks with yolo-attention-nas: {mark(card)}. Placement "
        f"`{card['placement_id']}`. Versions: {versions}."
    )


def _versions(card: Card) -> Iterator[str]:
    for name, version in card["versions"].items():
        yield f"{'yolo-attention-nas' if name == 'nas' else name} {version}"
