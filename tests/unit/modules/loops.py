"""All references by the block's name, gathered from references.py and the references_*.py beside it."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import references

LOOPS: dict[str, Callable[..., references.Array]] = dict(references.LOOPS)
OTHER_OPTIONS: dict[str, dict[str, Any]] = dict(references.OTHER_OPTIONS)
WITHOUT_LOOP = {"mobilevit"}  # against timm only, in test_parity.py

for _file in sorted(Path(__file__).parent.glob("references_*.py")):
    _found = importlib.import_module(_file.stem)
    LOOPS |= _found.LOOPS
    OTHER_OPTIONS |= _found.OTHER_OPTIONS
