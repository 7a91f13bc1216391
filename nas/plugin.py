"""Goes in: nothing. Comes out: an Ultralytics whose YAML parser knows the row `Attend`.

Ultralytics has no registration hook: `parse_model` looks a layer's name up among the globals of
`ultralytics.nn.tasks`. This file is the one place that puts a name there. It costs nothing until that module is
imported: if it is loaded already the name is set at once, else right after its import.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

TARGET = "ultralytics.nn.tasks"


def register() -> None:
    """Make `Attend` known to Ultralytics, now or as soon as it is imported. Calling it again changes nothing."""
    if TARGET in sys.modules:
        _add(sys.modules[TARGET])
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def _add(tasks: ModuleType) -> None:
    from modules.attend import Attend

    tasks.Attend = Attend  # type: ignore[attr-defined]


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds `ultralytics.nn.tasks` as the import system would, and adds the name once it has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                _add(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
