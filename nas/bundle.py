"""Goes in: an exported point. Comes out: a folder that works where only Ultralytics is installed.

In it: the YAML, the weights, one Python file with the blocks that are used, a README and the model card.
"""

from __future__ import annotations

import copy
import json
import pickletools
import platform
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import ultralytics
import yaml as pyyaml

from nas import checkpoint, export, model_card
from nas.errors import InputError
from nas.onefile.block_file import BlockFile, block_file
from nas.task import name_of
from search_spaces import Placement

HOW = re.compile(r"^# Train it.*\n(# or from.*\n)?", re.MULTILINE)
README = """\
# {name}

A YOLO model with attention blocks: {label}. Which figures were measured, and how, is told in [{name}.md]({name}.md).

```bash
pip install {packages}
python {module}.py {task} train model={start} data=my-data.yaml epochs=100 imgsz={imgsz}
python {module}.py {task} val model={trained} data=my-data.yaml
python {module}.py {task} predict model={trained} source=my.jpg
python {module}.py export model={trained} format=onnx imgsz={imgsz}
```

`{module}.py` is the `yolo` command with the blocks known to it; what stands behind it is as in
[Ultralytics' documentation](https://docs.ultralytics.com/usage/cli/). {random}

In Python or a notebook:

```python
import {module}  # before a model that has the blocks is read

from ultralytics import YOLO

model = YOLO("{start}")
```

With this folder on `PYTHONPATH`, plain `yolo` takes every `.pt` of this model too.

| file | what it is |
|---|---|
{files}

Keep the name of `{module}.py`, and keep the file with what you train: checkpoints name their classes by it. Deploy
formats (ONNX, TorchScript, ...) need it no more. A process can use one such file at a time.

Made with Python {python}, torch {torch}, ultralytics {ultralytics}. Licence: AGPL-3.0-or-later, as Ultralytics asks of
what builds on it.
"""


class BundleError(InputError):
    """A point that cannot be bundled, or a folder that holds something else."""


def write(point: Path, target: Path) -> Path:
    """Write the folder.

    Args:
        point: An exported YAML, with its card as JSON, and its weights where there are any, beside it.
        target: The folder to make.

    Returns:
        The path of the Python file.

    Raises:
        BundleError: Nothing to bundle, or ``target`` holds something else.
        FlattenError: A block that cannot stand in one file.
    """
    card = json.loads(point.with_suffix(".json").read_text(encoding="utf-8"))
    if not card["placement"]:
        raise BundleError("this is the untouched base, which plain Ultralytics takes; choose another point by --pick")
    file = block_file(Placement.from_json(card["placement"]))
    refuse(target, file.module, point.stem, card)
    with tempfile.TemporaryDirectory() as scratch:
        fill(Path(scratch), point, card, file)
        target.mkdir(parents=True, exist_ok=True)
        for made in Path(scratch).iterdir():
            shutil.copyfile(made, target / made.name)
    return target / f"{file.module}.py"


def fill(target: Path, point: Path, card: Mapping[str, Any], file: BlockFile) -> None:
    """Write the files into an empty folder; what the YAML says of training does not apply there."""
    name, weights = point.stem, point.with_suffix(".pt")
    script = f"{file.module}.py"
    (target / script).write_text(file.text, encoding="utf-8")
    if weights.is_file():
        carry_over(weights, target / weights.name, file)
    text = point.read_text(encoding="utf-8").replace(str(card["data"]), model_card.data_name(card))
    word = name_of(pyyaml.safe_load(text))
    command = f"# Train it:  python {script} {word} train model={name}.yaml data=... epochs=...\n"
    (target / point.name).write_text(HOW.sub(command, text, count=1), encoding="utf-8")
    (target / "README.md").write_text(readme(name, card, file, weights.is_file(), word), encoding="utf-8")
    use = f"[README.md](README.md) has the commands. `{script}` has the blocks; nothing but Ultralytics is needed."
    facts = model_card.text(card, name, weights.is_file(), use, word)
    (target / f"{name}.md").write_text(facts, encoding="utf-8")


def refuse(target: Path, module: str, name: str, card: Mapping[str, Any]) -> None:
    """Do not write over anything but this very bundle.

    Raises:
        BundleError: The folder holds something else.
    """
    if not target.exists() or not any(target.iterdir()):
        return
    old = target / f"{name}.md"
    if not (target / f"{module}.py").is_file() or not old.is_file():
        raise BundleError(f"--bundle {target}: the folder holds something else; name a new or an empty one")
    if model_card.mark(card) not in old.read_text(encoding="utf-8"):
        raise BundleError(f"--bundle {target}: the folder holds a bundle of another study; name a new or an empty one")


def carry_over(weights: Path, target: Path, file: BlockFile) -> None:
    """Write the checkpoint with its blocks as classes of ``file``, and compare what both models give.

    Raises:
        BundleError: They differ, or the checkpoint still names something that will not be there.
        WeightError: It holds more than weights.
    """
    checkpoint.check(weights)
    content = torch.load(weights, map_location="cpu", weights_only=False)
    with imported(file) as made:
        for key in ("model", "ema"):
            if content.get(key) is not None:
                content[key] = renamed(content[key], file, made)
        content["train_args"] = _args(content.get("train_args") or {})
        torch.save(content, target)
    gone = {module.split(".")[0] for module, _ in file.names}
    if left := sorted(module for module in named_modules(target) if module.split(".")[0] in gone):
        raise BundleError(f"the checkpoint needs {', '.join(left)}, which is no class at the top of a file of blocks")


def renamed(model: Any, file: BlockFile, made: ModuleType) -> Any:
    """A copy of a model whose blocks are of the classes of ``made``; same weights, same output to the bit.

    Raises:
        BundleError: The output differs.
    """
    twin = copy.deepcopy(model)
    for module in twin.modules():
        name = file.names.get((type(module).__module__, type(module).__qualname__))
        if name is not None:
            module.__class__ = getattr(made, name)
            if hasattr(module, "type"):  # of a row of the YAML
                module.type = f"{made.__name__}.{name}"
    for name in ("pt_path", "criterion"):
        twin.__dict__.pop(name, None)
    twin.args = _args(getattr(twin, "args", None) or {})
    if "yaml_file" in twin.yaml:
        twin.yaml = {**twin.yaml, "yaml_file": Path(twin.yaml["yaml_file"]).name}
    if not _same(model, twin):
        raise BundleError("the model with the blocks of the single file gives another output than the exported one")
    return twin


def named_modules(weights: Path) -> set[str]:
    """The modules whose classes or functions a checkpoint names."""
    with zipfile.ZipFile(weights) as archive:
        (pickle,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        operations = pickletools.genops(archive.read(pickle))
        return {str(argument).split(" ")[0] for code, argument, _ in operations if code.name == "GLOBAL"}


@contextmanager
def imported(file: BlockFile) -> Iterator[ModuleType]:
    """The file's classes under its name, so that they pickle; Ultralytics is told nothing."""
    made = ModuleType(file.module)
    made.__dict__["__file__"] = f"{file.module}.py"
    before = sys.modules.get(file.module)
    sys.modules[file.module] = made
    try:
        exec(compile(file.body, f"{file.module}.py", "exec"), made.__dict__)
        yield made
    finally:
        del sys.modules[file.module]
        if before is not None:
            sys.modules[file.module] = before


def readme(name: str, card: Mapping[str, Any], file: BlockFile, has_weights: bool, task: str) -> str:
    """The folder's README: the commands, the files."""
    yaml, weights = f"{name}.yaml", f"{name}.pt"
    rows = {f"{file.module}.py": "the blocks, and the command"}
    rows |= {weights: "the weights"} if has_weights else {}
    rows |= {yaml: "the model without weights", f"{name}.md": "the model card: figures and how they were measured"}
    random = f"`model={yaml}` trains from random weights."
    return README.format(
        name=name,
        label=Placement.from_json(card["placement"]).label,
        packages=" ".join([_pinned(ultralytics.__version__), *file.needs]),
        module=file.module,
        task=task,
        imgsz=card["imgsz"],
        start=weights if has_weights else yaml,
        trained=weights if has_weights else f"runs/{task}/train/weights/best.pt",
        random=random if has_weights else "Weights do not come with it: it trains from random ones.",
        files="\n".join(f"| `{k}` | {v} |" for k, v in rows.items()),
        python=platform.python_version(),
        torch=torch.__version__.split("+")[0],
        ultralytics=ultralytics.__version__,
    )


def _pinned(version: str) -> str:
    """What the blocks were tried with, up to the next minor version, whose parser may be another one."""
    major, minor = version.split(".")[:2]
    return f'"ultralytics>={version},<{major}.{int(minor) + 1}"'


def _args(args: Mapping[str, Any]) -> dict[str, Any]:
    """Training arguments without the folders of this machine."""
    return {k: Path(v).name if k in ("data", "model") and isinstance(v, str) else v for k, v in args.items()}


@torch.no_grad()
def _same(model: Any, twin: Any) -> bool:
    image = torch.rand(1, int(model.yaml.get("channels", 3)), 64, 64, generator=torch.Generator().manual_seed(0))
    one, two = (copy.deepcopy(m).float().eval()(image) for m in (model, twin))
    return export.same(one, two)
