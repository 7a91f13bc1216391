"""Goes in: the words of `train`, as `yolo train` takes them. Comes out: Ultralytics' own training, its inputs checked.

Nothing of the training is ours: `YOLO(model).train(...)` with Ultralytics' trainer, loggers, callbacks and folders.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas import plug_ins, recipe, train_files
from nas.fit import attempt, load_modules

EXAMPLE = "model=front/x.yaml data=my.yaml epochs=100"


@dataclass(frozen=True)
class Call:
    """What the words ask for.

    Args:
        model: YAML or checkpoint; empty where none was named.
        task: The task that was named, or None for that of the model.
        values: The other arguments.
    """

    model: str
    task: str | None
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def resumes(self) -> bool:
        """Whether an interrupted training goes on."""
        return bool(self.values.get("resume"))


def train(args: list[str], modules: list[str]) -> None:
    """`train`: Ultralytics' training with its own arguments and our blocks.

    Raises:
        RecipeError: No model, no data, or an argument that Ultralytics does not have or take.
    """
    faults: list[str] = []
    plug_ins.announce(modules, print)
    load_modules(tuple(modules), faults)
    call = read(args, faults)
    faults += argument_faults(call.values)
    needs_data = not call.resumes and Path(call.model).suffix != ".pt"  # a checkpoint may know its data
    if not call.model:
        faults.append(f"train needs model=..., for instance: {EXAMPLE}")
    elif "/" in call.model and not Path(call.model).is_file():
        faults.append(f"model={call.model}: no such file")
    if needs_data and not call.values.get("data"):
        faults.append(f"train needs data=..., for instance: {EXAMPLE}")
    stop_at(faults)
    train_files.check(call.model, call.values, call.resumes)
    yolo = open_model(call)
    values = dict(call.values)
    if call.resumes:
        refuse_finished(yolo, call)
        values["resume"] = True
    source = values.get("data") or known_data(yolo, call)
    for path in source if isinstance(source, list | tuple) else [source]:
        attempt(lambda p=path: check_data(p, yolo.task), faults)  # type: ignore[misc]
    stop_at(faults)
    warn_of_moved_rows(yolo, call)
    yolo.train(**values | {"data": source})


def read(args: list[str], faults: list[str]) -> Call:
    """Sort words as `yolo` does: a task, the mode, switches without a value, and KEY=VALUE; `cfg=FILE` lies below them.

    What is none of these becomes a fault.
    """
    from ultralytics.cfg import MODES, TASKS, merge_equals_args
    from ultralytics.utils import DEFAULT_CFG_DICT

    values: dict[str, Any] = {}
    try:
        words = merge_equals_args(args)
    except SyntaxError as e:
        raise recipe.RecipeError(str(e)) from e
    for word in words:
        if "=" in word and word[0] not in "-=":
            attempt(lambda w=word: values.update(pair(w)), faults)  # type: ignore[misc]
        elif word in TASKS:
            values["task"] = word
        elif word in MODES:
            values["mode"] = word
        elif isinstance(DEFAULT_CFG_DICT.get(word), bool):
            values[word] = True
        else:
            bare = word.lstrip("-")
            whole = bare if "=" in bare else f"{bare}=..." if bare in DEFAULT_CFG_DICT else None
            hint = f"; write {whole}" if whole else recipe.near(bare, [*TASKS, *DEFAULT_CFG_DICT])
            faults.append(f"argument {word!r}: expected KEY=VALUE, for instance imgsz=320{hint}")
    if values.get("cfg"):
        values = below(str(values.pop("cfg")), faults) | values
    mode = values.pop("mode", "train")
    if mode != "train":
        faults.append(f"{mode}: this command trains; use `yolo {mode} model=...`")
    if isinstance(values.get("resume"), str):  # resume=last.pt is model=last.pt resume=True
        values["model"] = values.pop("resume")
        values["resume"] = True
    return Call(str(values.pop("model", None) or ""), values.pop("task", None), values)


def pair(word: str) -> dict[str, Any]:
    """``imgsz=320`` -> ``{"imgsz": 320}`` by Ultralytics' own rules.

    Raises:
        RecipeError: It has no value.
    """
    from ultralytics.cfg import parse_key_value_pair

    try:
        key, value = parse_key_value_pair(word)
    except (AssertionError, ValueError) as e:
        raise recipe.RecipeError(f"argument {word!r}: {e}") from e
    return {key: value}


def below(path: str, faults: list[str]) -> dict[str, Any]:
    """The arguments of a file of Ultralytics' (`cfg=FILE`), such as the `args.yaml` of an earlier training."""
    from ultralytics.utils import YAML

    if not Path(path).is_file():
        faults.append(f"cfg={path}: no such file")
        return {}
    return {k: v for k, v in YAML.load(path).items() if k != "cfg"}


def argument_faults(values: Mapping[str, Any]) -> list[str]:
    """What Ultralytics would refuse: an argument that it does not have, or a value that it does not take."""
    from ultralytics.cfg import get_cfg
    from ultralytics.utils import DEFAULT_CFG_DICT

    faults = []
    asked = str(values.get("optimizer", "auto"))
    if asked.lower() not in {name.lower() for name in recipe.OPTIMIZERS}:
        faults.append(
            f"optimizer={asked}: expected {', '.join(recipe.OPTIMIZERS)}{recipe.near(asked, recipe.OPTIMIZERS)}"
        )
    start = values.get("pretrained")
    if isinstance(start, str) and start.endswith(".pt") and "/" in start and not Path(start).is_file():
        faults.append(f"pretrained={start}: no such file")
    for key, value in values.items():
        if key not in DEFAULT_CFG_DICT:
            faults.append(f"{key}={value}: Ultralytics has no such argument{recipe.near(key, DEFAULT_CFG_DICT)}")
            continue
        try:
            get_cfg(overrides={key: value})
        except Exception as e:  # its words name key and value
            faults.append(" ".join(str(e).split()))
    return faults


def open_model(call: Call) -> Any:
    """Ultralytics' `YOLO` on the model.

    Raises:
        RecipeError: It cannot be read or built, or it is for another task than the one named.
    """
    from ultralytics import YOLO

    try:
        yolo = YOLO(call.model)
    except ModuleNotFoundError as e:
        hint = "a block of your own comes in by --modules FILE"
        raise recipe.RecipeError(
            f"model={call.model}: it names the module {e.name!r}, which is not here; {hint}"
        ) from e
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as e:
        raise recipe.RecipeError(f"model={call.model}: {type(e).__name__}: {' '.join(str(e).split())}") from e
    if call.task not in (None, yolo.task):
        raise recipe.RecipeError(
            f"{call.task}: model={call.model} is for {yolo.task}; leave the word out, or name a model for {call.task}"
        )
    return yolo


def refuse_finished(yolo: Any, call: Call) -> None:
    """Stop before Ultralytics starts a new training where an old one should go on.

    Raises:
        RecipeError: The checkpoint has no optimizer: its training is finished, or it is no training's.
    """
    saved = yolo.ckpt or {}
    if saved.get("epoch", -1) < 0 or saved.get("optimizer") is None:
        raise recipe.RecipeError(
            f"resume: model={call.model} is no interrupted training (the last.pt of one that is finished holds weights "
            "only); leave resume out to start a new training from it"
        )


def known_data(yolo: Any, call: Call) -> str:
    """The dataset that a checkpoint was trained on, where it is on this machine, and a word about it.

    Raises:
        RecipeError: It knows none, or one that is not here. Ultralytics would train on a dataset of its own.
    """
    found = str(yolo.overrides.get("data") or "")
    if not found or not Path(found).exists():
        was = f"; the checkpoint's own, {found}, is not on this machine" if found else ""
        raise recipe.RecipeError(f"train needs data=..., for instance: {EXAMPLE}{was}")
    print(f"data={found}, as in {call.model}")
    return found


def check_data(path: Any, name: str) -> None:
    """Check a dataset for a task before the training starts; of other tasks Ultralytics checks it as it starts."""
    from nas import data, label_cache, task

    if name in task.TASKS:
        label_cache.check(data.check(path, name).path, name)


def warn_of_moved_rows(yolo: Any, call: Call) -> None:
    """Say where `pretrained=` would not do what its name says: Ultralytics matches weights by the row's number."""
    from ultralytics.nn.tasks import load_checkpoint

    path = call.values.get("pretrained")
    if not isinstance(path, str) or not Path(path).is_file():
        return
    theirs, ours = ([type(m).__name__ for m in net.model] for net in (load_checkpoint(path)[0], yolo.model))
    if theirs != ours:
        row = next(
            (i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(theirs), len(ours))
        )
        print(
            f"warning: pretrained={path} and {call.model} differ from row {row} on. Ultralytics matches weights by the "
            "row's number: behind it they are lost, or land in another layer. A checkpoint that a search exported "
            "has them in their places (model=....pt)",
            file=sys.stderr,
        )


def stop_at(faults: list[str]) -> None:
    """Raise all faults at once."""
    if faults:
        raise recipe.RecipeError("\n".join(faults))
