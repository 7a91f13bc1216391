"""Goes in: a study. Comes out: `front/`, for each point a YAML and a `.pt` that standard training takes, and a card."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import torch
import ultralytics
import yaml as pyyaml
from optuna.trial import FrozenTrial, TrialState
from ultralytics.nn.tasks import BaseModel

from nas import front, graph, history, outcome, progress, task
from nas.errors import InputError
from nas.recipe import near
from search_spaces import Placement

PICKS = ("knee", "best", "fastest", "verdict")
KEPT_ARGS = ("data", "imgsz", "batch", "epochs", "seed", "optimizer", "lr0")
HEADER = """\
# {label}
# {metric} {value:.4f} on {split} of {data} at {imgsz} px
# {head} head, epochs from the warm base: {epochs}, seed {seed}
# {params:,} parameters, {gflops:.3f} GFLOPs; study {study}, trial {trial}
"""
COMMANDS = """\
# Train it from random weights:  {train} model={name}.yaml data=... epochs=...
"""
COMMANDS_WEIGHTS = """\
# or from these weights:  {train} model={name}.pt data=... epochs=...
"""


class ExportError(InputError):
    """Nothing to export, or no such trial."""


def finished(study: optuna.Study, trials: history.Trials | None = None) -> list[FrozenTrial]:
    """The trained, distinct trials in order; ``trials`` are the study's, where they are at hand."""
    known = study.get_trials(deepcopy=False) if trials is None else trials
    return [t for t in known if t.state == TrialState.COMPLETE and "duplicate_of" not in t.user_attrs]


def trained(study: optuna.Study, trials: history.Trials | None = None) -> list[FrozenTrial]:
    """One trial for each distinct placement that was trained, to whatever rung: the one that got farthest."""
    found: dict[str, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False) if trials is None else trials:
        if (trial.state == TrialState.COMPLETE and "duplicate_of" not in trial.user_attrs) or history.paused(trial):
            found[trial.user_attrs.get("placement_id", str(trial.number))] = trial
    return list(found.values())


def unfinished(study: optuna.Study) -> list[FrozenTrial]:
    """The trained placements that were not trained to the end, the largest gain over the base first."""
    waiting, base = [t for t in trained(study) if history.paused(t)], base_trial(study)
    return sorted(waiting, key=lambda t: -(progress.gain(t, base) or 0.0))


def paused_state(folder: Path, placement_id: str, rung: int) -> Path:
    """Where the state of a training that reached a rung is kept while it may go on."""
    return folder / "paused" / f"{part_of_name(placement_id)}-{int(rung)}.pt"


def directions(study: optuna.Study) -> list[str]:
    """``maximize`` or ``minimize`` for each objective."""
    return [d.name.lower() for d in study.directions]


def front_trials(study: optuna.Study, trials: history.Trials | None = None) -> list[FrozenTrial]:
    """The trials on the Pareto front, best score first."""
    done = finished(study, trials)
    return [done[i] for i in front.pareto([t.values for t in done], directions(study))]


def pick(study: optuna.Study, which: str) -> FrozenTrial:
    """The trial that ``which`` names: ``knee``, ``best`` (score), ``fastest`` (first cost), ``verdict``, or a number.

    ``verdict`` is the finalist that is shown to gain most.

    Raises:
        ExportError: No trained trial yet, no such trial, or no finalist that gains.
    """
    done = finished(study)
    if not done:
        raise ExportError(f"study {study.study_name!r} has no trained trial yet")
    if which.isdigit():
        by_number = {t.number: t for t in done}
        if int(which) not in by_number:
            raise ExportError(f"trial {which} was not trained to the end; those that were: {_brief(sorted(by_number))}")
        return by_number[int(which)]
    if which not in PICKS:
        raise ExportError(f"--pick {which!r}: expected {', '.join(PICKS)} or a trial's number{near(which, PICKS)}")
    if which == "knee":
        return done[front.knee([t.values for t in done], directions(study))]
    if which == "verdict":
        return _winner(study)
    on_front = front_trials(study)
    return on_front[0] if which == "best" else min(on_front, key=lambda t: t.values[1])


def _winner(study: optuna.Study) -> FrozenTrial:
    found = outcome.of_study(study)
    if found is None:
        raise ExportError(f"--pick verdict: there is none yet; python -m nas finalists {study.study_name}")
    won = outcome.winner(found)
    if won is None or won.trial is None:
        raise ExportError(
            f"--pick verdict: {found.sentences[0]} The base is the safe choice; --pick NUMBER takes a trial anyway."
        )
    return study.get_trials(deepcopy=False)[won.trial]


def checkpoint(folder: Path, number: int) -> Path:
    """Where a trial's trained weights are kept while it stands on the front."""
    return folder / "weights" / f"{number}.pt"


def keep(folder: Path, number: int, model: BaseModel, args: Mapping[str, Any]) -> Path:
    """Write a trial's trained weights as an Ultralytics checkpoint in half precision."""
    path = checkpoint(folder, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, model, args)
    return path


def save(path: Path, model: BaseModel, args: Mapping[str, Any], half: bool = True) -> None:
    """Write a checkpoint that ``YOLO(path)`` and ``yolo ... model=path`` take; whole or not at all."""
    kept = {k: args[k] for k in KEPT_ARGS if k in args} | {"task": task.name_of(model.yaml)}
    model = copy.deepcopy(model)
    model = model.half() if half else model.float()
    model.args = kept
    model.criterion = None
    for p in model.parameters():
        p.requires_grad_(False)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        torch.save(
            {
                "epoch": -1,
                "best_fitness": None,
                "model": model,
                "ema": None,
                "updates": None,
                "optimizer": None,
                "train_args": kept,
                "date": datetime.now(UTC).isoformat(),
                "version": ultralytics.__version__,
                "license": "AGPL-3.0-or-later",
            },
            part,
        )
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_front(study: optuna.Study, folder: Path) -> list[Path]:
    """Make ``front/`` show the Pareto front of now; weights of trials that left it are dropped.

    Returns:
        The YAML of each point, best score first.
    """
    target, part = folder / "front", folder / f".front.{os.getpid()}"
    shutil.rmtree(part, ignore_errors=True)
    done = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]  # before the front: others go on
    on_front = front_trials(study)
    names = [write_point(study, folder, trial, part) for trial in on_front]
    part.mkdir(exist_ok=True, parents=True)
    old = folder / f".front.old.{os.getpid()}"
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    part.replace(target)
    shutil.rmtree(old, ignore_errors=True)
    left = {checkpoint(folder, t.number) for t in done} - {checkpoint(folder, t.number) for t in on_front}
    for path in (folder / "weights").glob("*.pt"):  # few; trials may be thousands
        if path in left:
            path.unlink(missing_ok=True)
    return [target / name.name for name in names]


def write_point(study: optuna.Study, folder: Path, trial: FrozenTrial, target: Path) -> Path:
    """Write one trial's YAML and card, and its weights where they are kept, into ``target``.

    Returns:
        The path of the YAML.
    """
    target.mkdir(parents=True, exist_ok=True)
    name = point_name(trial)
    yaml_path = target / f"{name}.yaml"
    yaml_path.write_text(yaml_text(study, trial, name, checkpoint(folder, trial.number).is_file()), encoding="utf-8")
    (target / f"{name}.json").write_text(json.dumps(card(study, trial), indent=2) + "\n", encoding="utf-8")
    if (weights := checkpoint(folder, trial.number)).is_file():
        part = target / f".{name}.{os.getpid()}.part"
        shutil.copyfile(weights, part)  # no link: whoever writes to an exported file must not reach the study's
        part.replace(target / f"{name}.pt")
    return yaml_path


def point_name(trial: FrozenTrial) -> str:
    """``trial-17-3fa0b2c4d1``: the trial's number and its placement's id."""
    return f"trial-{trial.number}-{part_of_name(trial.user_attrs['placement_id'])}"


def part_of_name(placement_id: str) -> str:
    """A placement's id as a part of a file's name.

    Raises:
        ExportError: It is no id, and might be a path: a study's database may come from anybody.
    """
    if not re.fullmatch(r"[0-9a-z]{1,64}", str(placement_id)):
        raise ExportError(f"a placement's id in the study is {str(placement_id)[:100]!r}, no name for a file")
    return str(placement_id)


def yaml_text(study: optuna.Study, trial: FrozenTrial, name: str, has_weights: bool) -> str:
    """The model's YAML as people write it, one row a line, with a header that says what it is."""
    base, wire = study.user_attrs["base_yaml"], study.user_attrs["identity"]["wire"]
    graft = graph.insert(base, Placement.from_json(trial.user_attrs["placement"]), wire)
    score, cost = trial.user_attrs["score"], trial.user_attrs["cost"]
    recipe = study.user_attrs["recipe"]
    facts = {**score, **cost, "data": recipe["data"], "imgsz": recipe["train"]["imgsz"], "study": study.study_name}
    facts |= {"label": trial.user_attrs["label"], "trial": trial.number}
    return HEADER.format(**facts) + commands(study, name, has_weights) + model_text(graft)


def commands(study: optuna.Study, name: str, has_weights: bool, yaml: Mapping[str, Any] | None = None) -> str:
    """How to train a point as comments of its YAML; ``yaml`` is a model's of another base."""
    train = train_command(study, yaml)
    return COMMANDS.format(name=name, train=train) + has_weights * COMMANDS_WEIGHTS.format(name=name, train=train)


def train_command(study: optuna.Study, yaml: Mapping[str, Any] | None = None) -> str:
    """What trains a point: plain `yolo`, or ours where a file of the user's own blocks has to be read first."""
    if option := modules_option(study):
        return f"python -m nas train {option}".rstrip()
    return f"yolo {task.name_of(yaml or study.user_attrs['base_yaml'])} train"


def modules_option(study: optuna.Study) -> str:
    """``--modules mine.py `` for each file of the user's own blocks, or nothing."""
    return "".join(f"--modules {path} " for path in study.user_attrs["recipe"]["modules"])


def model_text(graft: graph.Graft) -> str:
    """A model's YAML, one row a line, each inserted row with its site beside it.

    The chosen scale stands first among the scales: Ultralytics takes the first when a file's name says none.
    """
    edited, sites = dict(graft.yaml), {row: site for site, row in graft.added.items()}
    if edited.get("scales") and edited.get("scale"):
        scale = edited.pop("scale")
        edited["scales"] = {scale: edited["scales"][scale], **edited["scales"]}
    lines, row = [], 0
    for key, value in edited.items():
        if key in ("backbone", "head"):
            lines += ["", f"{key}:"]
            for item in value:
                lines.append(f"  - {_flow(item)}" + (f" # {sites[row]}" if row in sites else ""))
                row += 1
        elif key != "yaml_file":
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def card(study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
    """All that is known of a point, as JSON."""
    attrs, of = trial.user_attrs, task.of(study.user_attrs["base_yaml"])
    told = outcome.of_trial(study, trial.number)
    names = study.metric_names or [str(i) for i in range(len(study.directions))]
    return {
        "study": study.study_name,
        "trial": trial.number,
        "model": base_name(study),
        "placement": attrs["placement"],
        "placement_id": attrs["placement_id"],
        "values": dict(zip(names, trial.values, strict=True)),
        "task": of.name,
        "over_base": gain(study, trial),
        "data": study.user_attrs["recipe"]["data"],
        "weights": study.user_attrs["recipe"]["weights"],
        "imgsz": study.user_attrs["recipe"]["train"]["imgsz"],
        "score": attrs["score"],
        "cost": attrs["cost"],
        "base": study.user_attrs.get("base"),
        "transfer": attrs.get("transfer"),
        "recipe": attrs["recipe"],
        "identity": study.user_attrs["identity"],
        "versions": attrs["versions"],
        "verdict": told,
        "note": told["sentence"] if told else "One short training with one seed: a candidate, no finding.",
    }


def base_name(study: optuna.Study) -> str:
    """What the base of a study is called: its YAML's name, or that of its weights."""
    recipe = study.user_attrs["recipe"]
    return Path(str(recipe["base"] or study.user_attrs["base_yaml"].get("yaml_file") or recipe["weights"])).stem


def base_trial(study: optuna.Study) -> FrozenTrial | None:
    """The trial of the untouched base, once it is trained."""
    return next((t for t in finished(study) if t.user_attrs["placement"] == {}), None)


def gain(study: optuna.Study, trial: FrozenTrial) -> float | None:
    """Score over that of the untouched base under the same budget and batches; None before the base is trained."""
    base = base_trial(study)
    if base is None or "score" not in trial.user_attrs:
        return None
    score, theirs = trial.user_attrs["score"], base.user_attrs["score"]
    same = [p["value"] for p in theirs.get("curve") or () if p["images"] == score["images_seen"]]
    return float(score["value"] - (same[-1] if same else theirs["value"]))


def same(one: Any, two: Any) -> bool:
    """Whether two models' outputs, tensors in any nesting, are equal to the bit."""
    ours, theirs = list(_tensors(one)), list(_tensors(two))
    return 0 < len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _tensors(part)


def refuse_overwrite(study: optuna.Study, name: str, target: Path) -> None:
    """Do not write over a point of another study.

    Raises:
        ExportError: The folder holds a file of the same name that another study wrote.
    """
    there = target / f"{name}.json"
    if there.is_file():
        other = json.loads(there.read_text(encoding="utf-8"))
        if (other.get("study"), other.get("identity")) != (study.study_name, study.user_attrs["identity"]):
            raise ExportError(f"{there} is of study {other.get('study')!r}; export to another folder: -o DIR")


def _flow(value: Any) -> str:
    text = pyyaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
    return text.removesuffix("\n...").strip()


def _brief(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:20])) + (" ..." if len(numbers) > 20 else "")
