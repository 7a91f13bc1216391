"""Goes in: the environment this runs in. Comes out: a table of checks, each with how to mend what is wrong."""

from __future__ import annotations

import filecmp
import importlib.metadata
import json
import os
import platform
import shutil
import site
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.table import Table
from rich.text import Text

import nas
import yolo_attention_nas_startup as startup

PACKAGES = ("nas", "modules", "search_spaces")
PINNED = ("torch", "ultralytics", "optuna")
OPTIONAL = {
    "onnx": ("pip install onnx", "ONNX export"),
    "onnxruntime": ("pip install onnxruntime, or onnxruntime-gpu", "ONNX models"),
    "openvino": ("pip install openvino", "OpenVINO export and models"),
    "tensorrt": ("pip install tensorrt (NVIDIA GPUs)", "TensorRT export and models"),
}
STYLES = {"ok": "green", "warning": "yellow", "fault": "bold red"}
INSTALL = "install the project: pip install -e FOLDER, or its wheel"

# What plain `yolo` sees: -P keeps the current folder out, as the `yolo` command does.
PROBE = """
import json, os, sys
hook = sys.modules.get("yolo_attention_nas_startup")
told = {"startup": getattr(hook, "__file__", None), "device": "", "attend": "", "error": ""}
try:
    import torch
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    told["device"] = ", ".join(cuda) or ("Apple GPU" if torch.backends.mps.is_available() else "")
    from ultralytics.nn.tasks import DetectionModel
    rows = {"nc": 1, "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Attend", ["c2", "eca"]]],
            "head": [[[0, 1], 1, "Detect", ["nc"]]]}
    model = DetectionModel(rows, verbose=False)
    told["attend"] = sys.modules[type(model.model[1]).__module__].__file__
except Exception as e:
    told["error"] = f"{type(e).__name__}: {e}"
print("\\n" + json.dumps(told))
"""


@dataclass(frozen=True)
class Check:
    """What was looked at, how it stands, what was seen, and how to mend it."""

    name: str
    state: Literal["ok", "warning", "fault"]
    seen: str
    mend: str = ""


def checks() -> Iterator[Check]:
    """All checks, each as soon as it is known."""
    fault = last_fault()  # before the probe, which may write one
    yield from versions()
    yield from packages()
    yield startup_file()
    yield switch()
    told = probe()
    yield from fresh_process(told)
    yield yolo_command()
    yield fault
    yield thop()
    yield device(told)
    yield from optional()


def show(found: Iterator[Check], console: Console) -> int:
    """Print the checks as a table; the exit status: 1 if one is a fault."""
    table = Table("check", "state")
    table.add_column("what was found, and how to mend it", overflow="fold")
    states = []
    with console.status("looking (starts a fresh Python)") as _:
        for check in found:
            states.append(check.state)
            text = Text(check.seen)
            if check.mend:
                text.append(f"\n-> {check.mend}", style=STYLES[check.state])
            table.add_row(check.name, Text(check.state, style=STYLES[check.state]), text)
    console.print(table)
    bad, odd = states.count("fault"), states.count("warning")
    console.print(f"{bad} fault(s), {odd} warning(s)" if bad or odd else "everything is in order", highlight=False)
    return int(bad > 0)


def installed(name: str) -> str:
    """A distribution's version, empty if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def wanted() -> tuple[str, dict[str, Requirement]]:
    """What the project asks for: the range of Python, and its dependencies by name."""
    try:
        about = importlib.metadata.metadata(startup.DISTRIBUTION)
        python, lines = about["Requires-Python"], importlib.metadata.requires(startup.DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        file = Path(nas.__file__).parents[1] / "pyproject.toml"
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"] if file.is_file() else {}
        python, lines = project.get("requires-python", ""), project.get("dependencies", [])
    needs = [Requirement(line) for line in lines]
    return python, {need.name: need for need in needs if need.marker is None or need.marker.evaluate()}


def versions() -> Iterator[Check]:
    """Python, this project, and what it pins."""
    python, needs = wanted()
    version = platform.python_version()
    if SpecifierSet(python).contains(version, prereleases=True):
        yield Check("Python", "ok", f"{version}, {sys.executable}")
    else:
        yield Check("Python", "fault", f"{version}, wanted {python}", "make the environment with another Python")
    ours = installed(startup.DISTRIBUTION)
    if ours:
        yield Check("project", "ok", f"{startup.DISTRIBUTION} {ours}, used from {Path(nas.__file__).parents[1]}")
    else:
        yield Check("project", "warning", f"not installed, used from {Path(nas.__file__).parents[1]}", INSTALL)
    for name in PINNED:
        need, version = needs.get(name), installed(name)
        if not version:
            yield Check(name, "fault", "not installed", f"pip install '{need or name}'")
        elif need is not None and not need.specifier.contains(version.partition("+")[0], prereleases=True):
            yield Check(name, "fault", f"{version}, wanted {need.specifier}", f"pip install '{need}'")
        else:
            yield Check(name, "ok", version)


def packages() -> Iterator[Check]:
    """Whether the names that this project imports are its own, here and for a script of this folder."""
    strangers = {name: startup.where(name) for name in PACKAGES if not startup.is_ours(name)}
    for name, where in strangers.items():
        mend = "rename that, or start elsewhere" if "/" in where or "\\" in where else INSTALL
        yield Check(name, "fault", f"'import {name}' here finds {where}, not this project's", mend)
    hidden = [
        f"{name}/" for name in PACKAGES if Path(name).is_dir() and Path(name).resolve() != folder_of(name)
        and name not in strangers
    ]  # fmt: skip
    if hidden:
        seen = f"this folder has {', '.join(hidden)} of another project, without an __init__.py"
        yield Check("names", "warning", seen, "Python prefers installed packages to these: rename them")
    elif not strangers:
        yield Check("names", "ok", f"{', '.join(PACKAGES)} are this project's")


def folder_of(package: str) -> Path:
    """Folder of one of our packages."""
    return Path(nas.__file__).parents[1].resolve() / package


def startup_file() -> Check:
    """Where the line stands that Python runs at its start, and whether the module beside it is this project's."""
    name = "start-up file"
    folders = dict.fromkeys([*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])])
    files = [file for folder in folders if (file := Path(folder) / "yolo_attention_nas_startup.pth").is_file()]
    if not files:
        return Check(name, "fault", "none in this environment: plain 'yolo' does not know Attend in a YAML", INSTALL)
    if len(files) > 1:
        return Check(
            name, "warning", f"{len(files)}: {', '.join(map(str, files))}", "uninstall one of the two projects"
        )
    beside, ours = files[0].with_suffix(".py"), Path(startup.__file__)
    if not beside.is_file():
        return Check(name, "fault", f"{files[0]} without its module", "install the project again")
    if not filecmp.cmp(beside, ours, shallow=False):
        return Check(name, "warning", f"{beside} differs from {ours}", "install the project again")
    return Check(name, "ok", str(files[0]))


def switch() -> Check:
    """Whether the environment turns the hook off."""
    value = os.environ.get(startup.SWITCH)
    if startup.is_on():
        return Check("switch", "ok", f"{startup.SWITCH}={value}" if value else f"{startup.SWITCH} is not set")
    return Check(
        "switch", "warning", f"{startup.SWITCH}={value} turns the start-up hook off", f"unset {startup.SWITCH}"
    )


def probe() -> dict[str, Any]:
    """What a fresh Python tells that imports nothing but Ultralytics."""
    env = {**os.environ, "YOLO_AUTOINSTALL": "false"}
    try:
        done = subprocess.run([sys.executable, "-P", "-c", PROBE], env=env, capture_output=True, text=True, timeout=300)
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as e:
        return {"startup": None, "device": "", "attend": "", "error": f"a fresh Python told nothing: {e!r}"}


def fresh_process(told: dict[str, Any]) -> Iterator[Check]:
    """Whether the hook runs there, and whether Ultralytics then builds our row."""
    off = not startup.is_on()
    if told["startup"]:
        yield Check("fresh Python", "ok", "runs the start-up file" + (", which is turned off" if off else ""))
    else:
        yield Check("fresh Python", "fault", "does not run the start-up file", INSTALL)
    row = "row Attend"
    if told["attend"] and Path(told["attend"]).resolve().parent == folder_of("modules"):
        yield Check(row, "ok", "built by the yolo command (a script has its own folder on its path)")
    elif told["attend"]:
        seen = f"built from {told['attend']}, another copy of this project than this command's"
        yield Check(row, "warning", seen, "unset PYTHONPATH, or install this copy")
    elif off:
        yield Check(row, "warning", "plain Ultralytics does not know it: the hook is turned off")
    else:
        yield Check(row, "fault", told["error"], "mend the faults above first, then what this message names")


def yolo_command() -> Check:
    """Whether the `yolo` of the shell is this environment's."""
    found = shutil.which("yolo")
    if found is None:
        mend = "activate the environment, or python -m pip install ultralytics"
        return Check("yolo command", "warning", "not on PATH", mend)
    if Path(found).parent.resolve() == Path(sys.executable).parent.resolve():
        return Check("yolo command", "ok", found)
    seen = f"{found} is not of the environment {sys.prefix}"
    return Check("yolo command", "warning", seen, "activate the environment that you want")


def last_fault() -> Check:
    """What the hook wrote down the last time it failed."""
    file = Path(startup.record())
    try:
        lines = file.read_text(encoding="utf-8").strip().splitlines()
    except OSError:
        return Check("last fault", "ok", "none recorded")
    return Check("last fault", "warning", f"{lines[0]}: {lines[-1]}", f"once it is mended, delete {file}")


def thop() -> Check:
    """Whose `thop` counts the GFLOPs: two distributions install that name."""
    right, other = installed("ultralytics-thop"), installed("thop")
    mend = "pip uninstall -y thop; pip install --force-reinstall --no-deps ultralytics-thop"
    if right and not other:
        return Check("thop", "ok", f"ultralytics-thop {right}")
    if right:
        return Check("thop", "warning", f"ultralytics-thop {right} and thop {other} share the name thop", mend)
    return Check("thop", "fault", f"thop {other}, not ultralytics-thop" if other else "not installed", mend)


def device(told: dict[str, Any]) -> Check:
    """What training would run on."""
    return Check("device", "ok", told["device"] or f"CPU, {os.cpu_count()} cores; no GPU that torch can use")


def optional() -> Iterator[Check]:
    """What only some exports and latency backends need."""
    for name, (get, use) in OPTIONAL.items():
        version = installed(name) or (installed("onnxruntime-gpu") if name == "onnxruntime" else "")
        yield Check(name, "ok", version or f"not installed, needed for {use} only: {get}")
