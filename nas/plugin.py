"""Goes in: nothing. Comes out: an Ultralytics that knows `Attend` (modules/join.py) as soon as it is imported.

It costs nothing until `ultralytics.nn.tasks` is imported: if it is loaded already it is told at once, else right
after its import.
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
    from modules.join import join

    join(tasks)


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
