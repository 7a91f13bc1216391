"""Goes in: the name of a module of blocks. Comes out: its source, its definitions, and what its names stand for."""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.errors import InputError


class FlattenError(InputError):
    """A block whose source cannot be put into one file: says where and why."""


@dataclass(frozen=True)
class Outside:
    """A name imported from another package: ``from module import name``, or ``import module`` where it has none."""

    module: str
    name: str | None


@dataclass(frozen=True)
class Inside:
    """A name that a module of blocks defines, or that module itself where ``name`` is empty."""

    module: str
    name: str = ""


@dataclass(frozen=True)
class Source:
    """A parsed file.

    Args:
        name: Its module's name.
        path: Where it stands.
        text: Its bytes: the offsets of syntax trees count bytes.
        definitions: Name -> the statement at the top of the file that defines it.
        imports: Name -> what it stands for, of the imports at the top of the file.
    """

    name: str
    path: Path
    text: bytes
    tree: ast.Module
    definitions: Mapping[str, ast.stmt]
    imports: Mapping[str, Outside | Inside]

    @property
    def title(self) -> str:
        """The first line of its docstring, without a full stop at its end."""
        return (ast.get_docstring(self.tree) or "").split("\n")[0].strip().removesuffix(".")

    def slice(self, node: ast.expr) -> str:
        """The text of an expression."""
        return ast.get_source_segment(self.text.decode(), node) or ""


def is_ours(module: str) -> bool:
    """Whether a module is one of the package of blocks."""
    return module.split(".")[0] == "modules"


@functools.lru_cache(maxsize=256)
def _parse(module: str, path: Path, stamp: int, own: frozenset[str]) -> Source:
    text = path.read_bytes()
    tree = ast.parse(text)
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, Outside | Inside] = {}
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            definitions[statement.name] = statement
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            named = (n for target in targets for n in ast.walk(target) if isinstance(n, ast.Name))
            definitions |= {n.id: statement for n in named}
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            for inner in statement.body:
                imports |= imported(inner, module, own)
        else:
            imports |= imported(statement, module, own)
    return Source(module, path, text, tree, definitions, imports)


def imported(statement: ast.stmt, module: str, own: frozenset[str] = frozenset()) -> dict[str, Outside | Inside]:
    """Name -> what it stands for, of an import statement; nothing of another statement.

    Raises:
        FlattenError: A relative import, a star, or `import a.b` of blocks.
    """
    found: dict[str, Outside | Inside] = {}
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            if is_ours(alias.name) or alias.name in own:
                raise FlattenError(f"{module}, line {statement.lineno}: write `from {alias.name} import ...`")
            found[alias.asname or alias.name.split(".")[0]] = Outside(alias.name, None)
    elif isinstance(statement, ast.ImportFrom) and statement.module != "__future__":
        if statement.level or statement.names[0].name == "*":
            raise FlattenError(f"{module}, line {statement.lineno}: a relative import or a star cannot be resolved")
        base = statement.module or ""
        inside = is_ours(base) or base in own
        for alias in statement.names:
            found[alias.asname or alias.name] = Inside(base, alias.name) if inside else Outside(base, alias.name)
    return found


@dataclass(frozen=True)
class Library:
    """The modules whose source goes into a file: the package of blocks and ``own``, the user's files by stem."""

    own: frozenset[str] = frozenset()

    def source(self, module: str) -> Source:
        """A module's parsed file."""
        if module in self.own:
            origin = sys.modules[module].__file__
        else:
            spec = importlib.util.find_spec(module)
            origin = spec.origin if spec else None
        if origin is None:
            raise FlattenError(f"module {module!r} has no source file")
        path = Path(origin)
        return _parse(module, path, path.stat().st_mtime_ns, self.own)

    def resolve(self, module: str, name: str) -> Outside | Inside | None:
        """What a global name of a module stands for, through any number of imports; None for Python's own names."""
        source = self.source(module)
        if name in source.definitions:
            return Inside(module, name)
        target = source.imports.get(name)
        if isinstance(target, Inside):
            return self.find(target)
        return target

    def find(self, target: Inside) -> Outside | Inside:
        """Where ``from module import name`` leads."""
        if not target.name:
            return target
        found = self.resolve(target.module, target.name)
        if found is not None:
            return found
        submodule = f"{target.module}.{target.name}"
        if target.module not in self.own and importlib.util.find_spec(submodule) is not None:
            return Inside(submodule)
        raise FlattenError(f"{target.name!r} is not defined at the top of module {target.module!r}")
