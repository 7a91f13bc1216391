"""Goes in: the words of `train`, read. Comes out: nothing, or an error where a file that Ultralytics reads holds code.

Ultralytics reads the model, and the checkpoints that its arguments name, with all that a pickle may do. So each is
looked through before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas import trust
from nas.errors import WeightError

NAMED = ("pretrained", "distill_model")  # arguments that may name a checkpoint


def check(model: str, values: Mapping[str, Any], resumes: bool) -> None:
    """Look through all files that a training begins with.

    Raises:
        WeightError: One holds code, lies on another machine, or would write where it should not.
    """
    if trust.given():
        return
    found = content_of(model, "model")
    for key in NAMED:
        content_of(values.get(key), key)
    if resumes and isinstance(found, Mapping):
        args = found.get("train_args")
        args = args if isinstance(args, Mapping) else {}
        for key in NAMED:
            content_of(values.get(key) or args.get(key), f"{key} of {model}")
        refuse_elsewhere(model, args, values)


def content_of(name: Any, key: str) -> Any:
    """What a checkpoint holds, looked through; None for what is no checkpoint.

    Raises:
        WeightError: It holds code.
    """
    from ultralytics.nn.tasks import yaml_model_load
    from ultralytics.utils.checks import REMOTE_FILE_PREFIXES, check_model_file_from_stem

    from nas import checkpoint, weights

    if not isinstance(name, str | Path) or not str(name):
        return None
    if str(name).lower().startswith(REMOTE_FILE_PREFIXES):
        raise WeightError(f"{key}={name}: fetch it first and name the file, so that it can be looked at; {trust.HINT}")
    file = str(check_model_file_from_stem(str(name)))
    if file.lower().endswith((".yaml", ".yml")):
        try:
            model = yaml_model_load(file)
        except Exception:  # Ultralytics reads it in the same way, and says so
            return None
        if isinstance(model, Mapping):
            trust.refuse_code(model, f"{key}={name}")
    return checkpoint.check(weights.find(file)) if file.lower().endswith(".pt") else None


def refuse_elsewhere(model: str, args: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """A training goes on in the folder that its checkpoint names: that has to be the one where it lies.

    Raises:
        WeightError: It is another one, and nobody has named it.
    """
    there = args.get("save_dir")
    lies = Path(model).resolve().parent.parent
    if there and not values.get("save_dir") and Path(str(there)).resolve() != lies:
        raise WeightError(
            f"resume: model={model} would go on writing to {there}, and not where it lies; "
            f"name the folder: save_dir={lies} (or save_dir={there})"
        )
