"""Goes in: a Python process of an environment with this project. Comes out: an Ultralytics that knows the row `Attend`.

Python's `site` imports this file at every start, told by the one line of `yolo_attention_nas_startup.pth` beside it.
Looked at before: such a line is what coverage, setuptools, hatch-autorun and autowrapt start with, and the only hook
that needs nothing from the user. `sitecustomize` is one file for a whole environment, and Debian has its own; an entry
point runs only if somebody asks for it, and Ultralytics does not; a `yolo` command of ours would miss scripts,
notebooks and the processes of a multi-GPU training. From Python 3.15 on, a `.start` file (PEP 829) is what takes the
place of the line.

What it costs: one finder in `sys.meta_path`, which answers for `ultralytics.nn.tasks` and leaves once that is imported.
It puts a stand-in named `Attend` there. Our packages, whose names `modules` and `nas` other people use as well, are
imported when a model's row calls the stand-in, not before. YOLO_ATTENTION_NAS=0 turns it off. A fault of this file does
not reach the program: it is written down for `python -m nas doctor`.
"""

import sys
from os import environ

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and __future__ are two imports that every process would pay for
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

TARGET = "ultralytics.nn.tasks"
SWITCH = "YOLO_ATTENTION_NAS"
DISTRIBUTION = "yolo-attention-nas"


def install() -> None:
    """Make `Attend` known to Ultralytics, now or as soon as it is imported. Calling it again changes nothing."""
    if TARGET in sys.modules:
        tell(sys.modules[TARGET])
    elif not any(isinstance(finder, AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, AfterImport())


def is_on() -> bool:
    """Whether the environment leaves the hook on."""
    return environ.get(SWITCH, "").strip().lower() not in ("0", "false", "off", "no")


def tell(tasks: "ModuleType") -> None:
    """Give `ultralytics.nn.tasks` the name `Attend`: the class where it is loaded, else a stand-in."""
    if "modules.attend" in sys.modules and is_ours("modules"):
        join(tasks)
    elif not hasattr(tasks, "Attend"):
        tasks.Attend = stand_in()  # type: ignore[attr-defined]


def join(tasks: "ModuleType") -> None:
    """Put the class in the stand-in's place, and its deploy form into `model.fuse()`."""
    from modules.join import join

    join(tasks)


def stand_in() -> type:
    """A layer class which, called for a model's first row, imports `Attend`, gives it its place, and builds the row."""
    from torch import nn  # Ultralytics' restricted loading builds layers of torch only

    def new(cls: type, *args: "Any", **kwargs: "Any") -> "Any":
        if not is_ours("modules"):
            raise ImportError(
                f"the row Attend is built by the package 'modules' of {DISTRIBUTION}, but 'modules' is "
                f"{where('modules')} here: rename that or start elsewhere ('python -m nas doctor' looks closer)"
            )
        from modules.attend import Attend

        join(sys.modules[TARGET])
        return Attend(*args, **kwargs)

    return type("Attend", (nn.Module,), {"__new__": new, "__module__": "modules.attend"})


def is_ours(package: str) -> bool:
    """Whether a top-level package, loaded or as it would be found, is this project's; imports nothing."""
    if package in sys.modules:
        return getattr(sys.modules[package], "__distribution__", None) == DISTRIBUTION
    from importlib.util import find_spec

    spec = find_spec(package)
    if spec is None or spec.origin is None or not hasattr(spec.loader, "get_data"):
        return False
    return f'__distribution__ = "{DISTRIBUTION}"'.encode() in spec.loader.get_data(spec.origin)  # type: ignore[union-attr]


def where(package: str) -> str:
    """Where a package is loaded from or would be, for a message."""
    from importlib.util import find_spec

    loaded = sys.modules.get(package)
    spec = getattr(loaded, "__spec__", None) if loaded is not None else find_spec(package)
    if spec is None:
        return "not to be found"
    return spec.origin or ", ".join(spec.submodule_search_locations or ["without a file"])


def record() -> str:
    """The file that holds the last fault."""
    from os.path import expanduser, join

    return join(environ.get("XDG_CACHE_HOME") or expanduser("~/.cache"), DISTRIBUTION, "startup-fault.txt")


def remember() -> None:
    """Write the current exception down; silent whatever happens."""
    try:
        import os
        import time
        import traceback

        os.makedirs(os.path.dirname(record()), exist_ok=True)
        with open(record(), "w", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sys.executable} in {os.getcwd()}\n")
            file.write(traceback.format_exc())
    except Exception:
        pass


class AfterImport:
    """A finder: finds `ultralytics.nn.tasks` as the import system would, and tells it once it has run."""

    looking = False

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """The stock spec with a loader that tells; None for every other module and for whatever fails."""
        if fullname != TARGET or self.looking:
            return None
        self.looking = True
        try:
            from importlib.util import find_spec

            spec = find_spec(fullname)
            if spec is not None and hasattr(spec.loader, "exec_module"):
                spec.loader = Telling(spec.loader, self)  # type: ignore[assignment, arg-type]
            return spec
        except Exception:
            remember()
            return None
        finally:
            self.looking = False


class Telling:
    """The stock loader for one import; the module keeps no trace of this class."""

    def __init__(self, loader: "Any", finder: AfterImport) -> None:
        self.loader, self.finder = loader, finder

    def __getattr__(self, name: str) -> "Any":
        return getattr(self.loader, name)

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        """As the stock loader."""
        return self.loader.create_module(spec)

    def exec_module(self, module: "ModuleType") -> None:
        """As the stock loader, then tell the module."""
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        try:
            if self.finder in sys.meta_path:
                sys.meta_path.remove(self.finder)
            tell(module)
        except Exception:
            remember()


try:
    if is_on():
        install()
except Exception:
    remember()
