"""Goes in: a trial, and another base or its weights. Comes out: the trial's placement on that model, as files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial
from ultralytics.nn.tasks import guess_model_scale

from nas import cost, export, graph, plug_ins, weights
from nas.errors import InputError
from nas.fit import attempt, load_modules
from nas.grafting import check, graft_model, load_yaml
from search_spaces import Placement, SearchSpace, SpaceError, load

HEADER = """\
# {label}
# found on {searched} (study {study}, trial {trial}), here on {name}: its mAP was not measured
# {params:,} parameters, {gflops:.3f} GFLOPs at {imgsz} px; without the blocks {base_params:,} and {base_gflops:.3f}
"""


class RescaleError(InputError):
    """A placement that does not fit another base; one fault a line."""


@dataclass(frozen=True)
class Rescaled:
    """A placement on another base.

    Args:
        name: Of the base, as files are called by it.
        graft: The base's YAML with the blocks in it.
        model: It built, with the base's weights where there are any.
        base: The base itself.
        start: The weights' file, or None.
        transfer: What became of every tensor of the weights, in words; nothing without weights.
        half: Whether half precision, which checkpoints are in, keeps every value of the weights.
    """

    name: str
    graft: graph.Graft
    model: Any
    base: Any
    start: str | None
    transfer: str
    half: bool


def apply(study: optuna.Study, trial: FrozenTrial, base: str | None, start: str | None) -> Rescaled:
    """Check a trial's placement against another base, build it, and carry the base's weights over.

    Args:
        study: Its image size and its space's `max_tokens` decide what may stand where.
        trial: The trial that the placement is of.
        base: A model YAML; None takes the one inside the weights.
        start: A checkpoint; None leaves the weights random.

    Raises:
        RescaleError: Every fault, one a line.
        WeightError: A tensor that did not arrive.
    """
    facts = study.user_attrs
    faults: list[str] = []
    placement, wire = Placement.from_json(trial.user_attrs["placement"]), facts["identity"]["wire"]
    faults += plug_ins.faults_of(study)
    if not faults:
        load_modules(tuple(facts["recipe"]["modules"]), faults)
    trained = attempt(lambda: weights.open_model(weights.find(str(start))), faults) if start else None
    yaml = attempt(lambda: _yaml(base, trained), faults) if base or trained is not None else None
    names = trained.names if trained is not None else {i: str(i) for i in range(facts["classes"])}
    yaml = {**yaml, "nc": len(names)} if yaml else None
    found = attempt(lambda: graph.sites(yaml), faults) if yaml else None
    if yaml and found:
        imgsz = facts["recipe"]["train"]["imgsz"]
        attempt(lambda: check(placement, yaml, wire, imgsz, _max_tokens(study)), faults)
    untouched = attempt(lambda: _build(yaml, names), faults) if yaml and found else None
    if untouched is not None and trained is not None:
        attempt(lambda: weights.check_same_architecture(trained, untouched), faults)
    if faults:
        raise RescaleError("\n".join(faults))
    assert yaml is not None and untouched is not None
    if trained is None:
        edited = graph.insert(yaml, placement, wire)
        return Rescaled(_name(base, start, yaml), edited, _build(edited.yaml, names), untouched, None, "", True)
    half, name = _survives_half(trained), _name(base, start, yaml)
    trained.yaml = {**yaml, "channels": trained.yaml.get("channels", 3)}
    made = graft_model(trained, placement, wire)
    return Rescaled(name, made.graft, made.model, untouched, start, str(made.transfer), half)


def write_point(study: optuna.Study, trial: FrozenTrial, found: Rescaled, target: Path) -> Path:
    """Write YAML and card, and weights where there are any, as :func:`nas.export.write_point` does.

    Returns:
        The path of the YAML.
    """
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{point_name(trial, found)}.yaml"
    facts = card(study, trial, found)
    header = HEADER.format(
        label=trial.user_attrs["label"],
        searched=facts["searched_on"]["base"],
        study=study.study_name,
        trial=trial.number,
        name=found.name,
        imgsz=facts["imgsz"],
        params=facts["cost"]["params"],
        gflops=facts["cost"]["gflops"],
        base_params=facts["base"]["cost"]["params"],
        base_gflops=facts["base"]["cost"]["gflops"],
    )
    commands = export.commands(study, path.stem, found.start is not None, found.graft.yaml)
    path.write_text(header + commands + export.model_text(found.graft), encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    if found.start is not None:
        export.save(path.with_suffix(".pt"), found.model, {"imgsz": facts["imgsz"]}, half=found.half)
    return path


def point_name(trial: FrozenTrial, found: Rescaled) -> str:
    """``trial-17-3fa0b2c4d1-yolov10s``; Ultralytics reads the scale from it."""
    return f"{export.point_name(trial)}-{found.name}"


def card(study: optuna.Study, trial: FrozenTrial, found: Rescaled) -> dict[str, Any]:
    """All that is known, as JSON: costs of this model; the score stays with the model that it was measured on."""
    there, imgsz = export.card(study, trial), study.user_attrs["recipe"]["train"]["imgsz"]
    moved = ("values", "over_base", "score", "cost", "weights")
    model_cost, base_cost = (cost.Cost(cost.params(m), cost.gflops(m, imgsz)) for m in (found.model, found.base))
    return {
        **{k: v for k, v in there.items() if k not in moved},
        "score": None,
        "weights": Path(found.start).name if found.start else "none",
        "cost": model_cost.to_json(),
        "model": found.name,
        "base": {"cost": base_cost.to_json(), "weights": found.start and Path(found.start).name},
        "transfer": found.transfer,
        "searched_on": {"base": export.base_name(study), **{k: there[k] for k in moved}},
        "note": "Nothing was trained: the score under searched_on is of another model.",
    }


def _yaml(base: str | None, trained: Any) -> dict[str, Any]:
    if base is None:
        return dict(trained.yaml)
    found = load_yaml(base)
    if not isinstance(found, dict) or not {"backbone", "head"} <= set(found):
        raise RescaleError(f"--base {base}: a model YAML has the keys backbone and head")
    return found


def _max_tokens(study: optuna.Study) -> int:
    """The space's; the default where its file is gone."""
    try:
        return load(study.user_attrs["recipe"]["space"]).max_tokens
    except (SpaceError, OSError):
        return SearchSpace("", (), 1).max_tokens


def _build(yaml: Mapping[str, Any] | None, names: Mapping[int, str]) -> Any:
    assert yaml is not None
    try:
        return weights.build(yaml, names, int(yaml.get("channels", 3)))
    except (KeyError, TypeError, IndexError, AttributeError) as e:
        raise RescaleError(f"base: Ultralytics cannot build it: {type(e).__name__}: {e}") from e


def _survives_half(model: Any) -> bool:
    return all(torch.equal(t.half().to(t.dtype), t) for t in model.state_dict().values() if t.is_floating_point())


def _name(base: str | None, start: str | None, yaml: Mapping[str, Any]) -> str:
    """The base's name for files; with the scale put right where Ultralytics would read another one from it."""
    stem = re.sub(r"[^\w.-]", "-", Path(str(base or start)).stem)
    scale = str(yaml.get("scale") or "")
    if not yaml.get("scales") or guess_model_scale(f"{stem}.yaml") in ("", scale):
        return stem
    return f"scale-{scale}-{re.sub(r'yolo', 'model', stem)}"
