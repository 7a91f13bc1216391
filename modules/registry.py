"""The blocks by name: `@attention` puts a class in, `names`, `spec` and `create` give it out."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import keyword
import os
import pkgutil
import re
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from modules import checks
from modules.checks import Range

if TYPE_CHECKING:
    from torch import nn

Cost = Literal["linear", "quadratic"]
T = TypeVar("T", bound=type)

ENTRY_POINT_GROUP = "nas.modules"

FAMILIES = ("channel", "mixed", "kernel", "linear", "window", "quadratic")  # a folder each, one file a block
CONTROL = "control"  # the family of what attention is compared with (control.py): to be had by name, and in no list

# Ultralytics' `parse_model` replaces a string argument that equals one of its locals by that local's value;
# no block may bear such a name. Those of 8.0 to 8.4, with the comprehensions' (Python 3.12 inlines them).
PARSER_LOCALS = frozenset(
    """
    a act args ast backbone_modules base_modules block c1 c2 ch cm d default_act depth end2end f gd gw
    head_channels hidden_channels i j k kpt_shape layers legacy m m_ max_channels n n_ nc reg_max
    repeat_modules restricted save scale scales t v verbose width x
    """.split()  # noqa: SIM905
)

_SPECS: dict[str, Spec] = {}
_builtin_asked = False


@dataclass(frozen=True)
class Spec:
    """A registered block.

    options: hyperparameter -> default. ranges: hyperparameter -> what it may be, where its annotation says so.
    tokens_divisor: pixels per token of its attention matrix, None if its cost is not quadratic.
    """

    name: str
    block: type[nn.Module]
    title: str
    paper: str
    family: str
    cost: Cost
    tokens_divisor: int | None
    options: Mapping[str, Any]
    ranges: Mapping[str, Range] = field(default_factory=dict)

    @property
    def builtin(self) -> bool:
        """Whether it is one of this package's own."""
        return self.block.__module__.startswith("modules.")

    @property
    def source(self) -> str:
        """The first line of its file: title, authors, venue, year, identifier."""
        return (sys.modules[self.block.__module__].__doc__ or "").strip().split("\n")[0]

    def tokens(self, h: int, w: int) -> int | None:
        """N of the N x N attention matrix on an h x w map; None for a block of linear cost."""
        return None if self.tokens_divisor is None else -(-h * w // self.tokens_divisor)


def attention(name: str, *, paper: str, family: str, cost: Cost = "linear", tokens: int = 1) -> Callable[[T], T]:
    """Register a class `Block(channels, **hyperparameters)`; `tokens`: pixels per token, if quadratic."""
    _load_builtin()

    def register(block: T) -> T:
        _check_name(name)
        if cost not in ("linear", "quadratic"):
            raise ValueError(f"block {name!r}: cost is {cost!r}, allowed: 'linear', 'quadratic'")
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
            raise ValueError(f"block {name!r}: tokens is {tokens!r}, allowed: an int >= 1")
        title = (block.__doc__ or name).strip().split("\n")[0]  # not getdoc, which inherits nn.Module's
        divisor = tokens if cost == "quadratic" else None
        _SPECS[name] = Spec(name, block, title, paper, family, cost, divisor, _signature(name, block), _ranges(block))
        return block

    return register


def names() -> tuple[str, ...]:
    """All registered names, sorted."""
    _load_builtin()
    return tuple(sorted(name for name, found in _SPECS.items() if found.family != CONTROL))


def spec(name: str) -> Spec:
    """The block of that name."""
    _load_builtin()
    if name not in _SPECS:
        raise ValueError(f"unknown block {name!r}{_nearest(name, names())}; allowed: {', '.join(names())}")
    return _SPECS[name]


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that the block does not have, or a value outside its range."""
    known, ranges = spec(name).options, spec(name).ranges
    for option, value in options.items():
        if option not in known:
            allowed = ", ".join(known) or "none, it has no options"
            near = _nearest(option, known)
            raise ValueError(f"block {name!r}: unknown option {option!r}{near}; allowed: {allowed}")
        if option in ranges and not (value is None and known[option] is None):
            checks.require(f"{name}: {option}", ranges[option], value)


def create(name: str, channels: int, **options: Any) -> nn.Module:
    """The named block for maps [B, channels, H, W]."""
    check_options(name, options)
    return spec(name).block(checks.require(f"{name}: channels", checks.Int(), channels), **options)


def load(path: str | Path) -> tuple[str, ...]:
    """Import a user's file of blocks and return the names it registered. Loading it again changes nothing.

    The file is imported under its own stem, so that its classes pickle; no other module may have that name.
    """
    file = Path(path).resolve()
    if not os.path.isfile(file):
        raise ValueError(f"modules file {str(path)!r} does not exist; expected a file of @attention classes")
    if not file.stem.isidentifier() or file.suffix != ".py":
        raise ValueError(f"modules file {file.name!r} cannot be imported; expected a name such as mine.py")
    _load_builtin()
    origin = getattr(sys.modules.get(file.stem), "__file__", None)
    if origin is None or Path(origin).resolve() != file:
        _import_file(file)
    found = _names_of(file.stem)
    if not found:
        raise ValueError(
            f"modules file {str(path)!r} registered no block; expected a class under @attention (modules/GUIDE.md)"
        )
    return found


def load_entry_points() -> tuple[str, ...]:
    """Import the blocks of installed packages, entry-point group `nas.modules`; returns the new names."""
    before = set(names())
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry.load()
        except Exception as error:
            what = f"entry point {entry.name!r} = {entry.value!r}"
            raise ValueError(f"{what} failed: {_brief(error)}") from error
    return tuple(sorted(set(names()) - before))


def _load_builtin() -> None:
    global _builtin_asked
    if not _builtin_asked:
        _builtin_asked = True
        for family in FAMILIES:
            package = importlib.import_module(f"modules.{family}")
            for found in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"modules.{family}.{found.name}")
        importlib.import_module("modules.control")


def _import_file(file: Path) -> None:
    owner = importlib.util.find_spec(file.stem)
    if file.stem in sys.modules or (owner is not None and owner.origin != str(file)):
        raise ValueError(f"modules file {file.name!r}: a module {file.stem!r} exists; rename the file")
    found = importlib.util.spec_from_file_location(file.stem, file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[file.stem] = module
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # no __pycache__ beside the user's file
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(file.stem, None)
        for name in _names_of(file.stem):
            del _SPECS[name]
        raise ValueError(f"modules file {file.name!r} failed: {_brief(error)}") from error
    finally:
        sys.dont_write_bytecode = writes


def _names_of(module: str) -> tuple[str, ...]:
    return tuple(sorted(name for name, entry in _SPECS.items() if entry.block.__module__ == module))


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"block name {name!r}: allowed are lower-case letters, digits and _, a letter first")
    if name in PARSER_LOCALS or keyword.iskeyword(name):
        raise ValueError(f"block name {name!r} would be replaced by Ultralytics' YAML parser; choose another")
    if name in _SPECS:
        raise ValueError(f"block name {name!r} is taken by {_SPECS[name].block.__qualname__}; choose another")


def _signature(name: str, block: type) -> dict[str, Any]:
    parameters = list(inspect.signature(block).parameters.values())
    if not parameters or parameters[0].name != "channels":
        got = repr(parameters[0].name) if parameters else "missing"
        raise ValueError(f"block {name!r}: the first argument is {got}, expected 'channels'")
    rest = parameters[1:]
    for p in rest:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) or p.default is p.empty:
            raise ValueError(f"block {name!r}: argument {p.name!r} must be a keyword with a default")
    return {p.name: p.default for p in rest}


def _ranges(block: type) -> dict[str, Range]:
    try:
        hints = typing.get_type_hints(block.__init__, include_extras=True)  # type: ignore[misc]
    except NameError:  # an annotation that exists for type checkers only
        return {}
    found: dict[str, Range] = {}
    for name, hint in hints.items():
        for part in (hint, *typing.get_args(hint)):  # Count | None holds its range one level down
            for mark in getattr(part, "__metadata__", ()):
                if hasattr(mark, "holds"):
                    found[name] = mark
    return found


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _brief(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
