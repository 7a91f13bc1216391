"""Search for the attention block, and its place, that pays on your data.

`import nas` lets Ultralytics read YAMLs with our blocks. `nas.check`, `nas.search`, `nas.load` and `nas.graft` are the
commands for notebooks and scripts; they are imported on first use.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from nas.plugin import register

if TYPE_CHECKING:
    from nas.api import Point, Study, check, load, search
    from nas.grafting import graft

__version__ = "0.1.0"
__distribution__ = "yolo-attention-nas"
__all__ = ["Point", "Study", "check", "graft", "load", "register", "search"]

# What the user asked for: Ultralytics sets it to 1 for everybody as soon as it is imported.
THREADS = None if "ultralytics" in sys.modules else os.environ.get("OMP_NUM_THREADS")
LAZY = dict.fromkeys(("Point", "Study", "check", "load", "search"), "nas.api") | {"graft": "nas.grafting"}

register()


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, in a notebook without its widgets
    return getattr(importlib.import_module(LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
