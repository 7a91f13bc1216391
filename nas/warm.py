"""Goes in: a Setting. Comes out: the base fine-tuned on the dataset, once, that every candidate starts from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import ultralytics
from ultralytics.nn.tasks import BaseModel

from nas import store, train, weights
from nas.demo import cache_folder
from nas.protocol import Protocol
from nas.recipe import RecipeError
from nas.setting import Setting

ATTRIBUTE = "warm"  # of a study: the content of the base that its placements start from
PROTOCOL = Protocol(hold_heads=False)  # an ordinary training, but for the ramp
WARM_LRF = 0.1  # the base's learning rate falls to this share of its start; that of trials is held


@dataclass(frozen=True)
class WarmBase:
    """The base that candidates start from.

    Args:
        model: Its weights, fp32 on the CPU.
        cached: Whether an earlier study had trained it.
        transfer: What became of the starting weights, in words.
    """

    model: BaseModel
    cached: bool
    transfer: str


def obtain(setting: Setting, told: Mapping[str, Any]) -> None:
    """Have the very base that a study's first machine has made: trained again elsewhere it would be another.

    Args:
        told: What :func:`share` recorded with the study.

    Raises:
        RecipeError: It is not here, and no store has it.
    """
    if told["sha256"] is None or setting.recipe.warm_epochs == 0:
        return
    path = file_of(setting)
    if path.is_file() and store.sha256_of(path) == told["sha256"]:
        return
    if setting.store is None:
        raise RecipeError(
            "the fine-tuned base that this study's placements start from is not on this machine; let the study have "
            "--artifacts, a folder that all machines reach or s3://bucket/prefix"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        setting.store.get(_name(told["sha256"]), path, told["sha256"])
    except store.StoreError as e:
        raise RecipeError(f"the fine-tuned base of this study could not be had: {e}") from e


def share(setting: Setting) -> dict[str, Any]:
    """Put the fine-tuned base where other machines find it; what they have to know.

    Raises:
        StoreError: The store refuses.
    """
    path = file_of(setting)
    if setting.recipe.warm_epochs == 0 or not path.is_file():
        return {"sha256": None}
    digest = store.sha256_of(path)
    if setting.store is not None:
        setting.store.put(_name(digest), path)
    return {"sha256": digest}


def _name(digest: str) -> str:
    return f"warm-{digest[:16]}.pt"


def file_of(setting: Setting) -> Path:
    """Where the fine-tuned base is kept on this machine."""
    return cache_folder() / "warm" / f"{_key(setting)}.pt"


def warm_base(setting: Setting) -> WarmBase:
    """Fine-tune the base for the recipe's `warm_epochs`; a base that was made from the same things is read back.

    Raises:
        TrainingFailed: With its reason.
    """
    r = setting.recipe
    model = weights.build(setting.yaml, setting.dataset.names, setting.dataset.channels, r.seed)
    note = "from scratch"
    if setting.start is not None:
        rows = {i: i for i in range(len(model.model))}
        note = str(weights.transfer(setting.start, model, rows, r.seed))
    if r.warm_epochs == 0:
        return WarmBase(model, False, note)
    path = file_of(setting)
    if path.is_file():
        return WarmBase(_read(path, setting), True, note)
    overrides = overrides_of(setting, epochs=r.warm_epochs) | {"lr0": r.warm_lr0, "lrf": WARM_LRF}
    model, _ = train.short_train(model, overrides, protocol=PROTOCOL, log=setting.log)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    torch.save(model.state_dict(), part)
    part.replace(path)
    return WarmBase(_read(path, setting), False, note)


def overrides_of(setting: Setting, epochs: int) -> dict[str, Any]:
    """Ultralytics' arguments of one training of this study."""
    r = setting.recipe
    cuda = setting.device.type == "cuda"
    # Ultralytics tests fp16 with a model that it downloads; bf16 needs no test
    amp = {"amp": "bf16"} if cuda and torch.cuda.is_bf16_supported() else {}
    return {
        **amp,
        **r.train,
        "data": str(setting.dataset.path),
        "epochs": epochs,
        "seed": r.seed,
        "device": str(setting.device.index or 0) if cuda else setting.device.type,
        "project": str(setting.folder.resolve()),
        "name": ".train",
    }


def _read(path: Path, setting: Setting) -> BaseModel:
    """The cached weights in a freshly built model, so that a new and a cached base are the same to the bit."""
    model = weights.build(setting.yaml, setting.dataset.names, setting.dataset.channels, setting.recipe.seed)
    if setting.start is not None:  # gives the class branch the width of the starting weights
        weights.transfer(setting.start, model, {i: i for i in range(len(model.model))}, setting.recipe.seed)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


def _key(setting: Setting) -> str:
    """Hash of all that goes into the warm base."""
    keep = ("data", "weights", "base", "train", "warm_epochs", "warm_lr0", "seed")
    parts = {k: setting.identity[k] for k in keep}
    parts |= {"yaml": {k: v for k, v in setting.yaml.items() if k != "yaml_file"}, "device": setting.device.type}
    parts |= {"protocol": asdict(PROTOCOL), "lrf": WARM_LRF}
    parts |= {"torch": torch.__version__, "ultralytics": ultralytics.__version__}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
