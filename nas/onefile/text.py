"""Goes in: statements of several files, and what is to change in them. Comes out: their text as parts of one file."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from nas.onefile.sources import FlattenError, Inside, Library, Outside, Source

CREATE = Inside("modules.registry", "create")
RESERVED = ("BLOCKS", "create", "main", "carry")  # what the file defines itself
FILES = re.compile(r" \((attend|checks|deploy|forms|layers|macs)\.py\)")  # docstrings that point to another file
PRAGMA = re.compile(r" *# type: ignore(\[[\w, -]*\])?")
SIGNATURE = re.compile(r"^( *(?:async )?def \w+)\(\n +([^\n]*[^,\n])\n *\)([^\n]*:)$", re.MULTILINE)
WIDTH = 120

Edit = tuple[int, int, str]  # bytes from, to, and what stands there instead
Key = tuple[str, int]  # a statement: its module and line


@dataclass
class Used:
    """What is used: statements by module and line, and how each is edited."""

    statements: dict[Key, ast.stmt] = field(default_factory=dict)
    reads: dict[Key, list[tuple[ast.expr, Inside, frozenset[str]]]] = field(default_factory=dict)
    edits: dict[Key, list[Edit]] = field(default_factory=dict)
    outside: dict[str, Outside] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)


def names(used: Used, library: Library) -> dict[Inside, str]:
    """A name for every definition that no other one has and that nothing hides where it is read."""
    hidden: dict[Inside, set[str]] = {CREATE: set()}
    for found in used.reads.values():
        for _, target, there in found:
            hidden.setdefault(target, set()).update(there)
    named, taken = {CREATE: "create"}, {*used.outside, *RESERVED}
    for module in used.order:
        for (owner, _), statement in used.statements.items():
            for name in (
                n for n, s in library.source(module).definitions.items() if owner == module and s is statement
            ):
                target = Inside(module, name)
                free = (n for n in _variants(module, name) if n not in taken | hidden.get(target, set()))
                named[target] = next(free)
                taken.add(named[target])
    return named


def _variants(module: str, name: str) -> Iterator[str]:
    """``heads``, ``psa_heads``, ``psa_heads_2`` ...; a class ``Gate`` of mine.py becomes ``MineGate``."""
    stem, bare = module.split(".")[-1], name.lstrip("_")
    joined = f"{stem}_{bare}"
    if bare.isupper():
        joined = joined.upper()
    elif bare[:1].isupper():
        joined = stem.title().replace("_", "") + bare
    private = "_" if name.startswith("_") else ""
    yield from (name, private + joined, *(f"{private}{joined}_{i}" for i in range(2, 99)))


def code(module: str, used: Used, library: Library, named: dict[Inside, str]) -> str:
    """The statements of a module that are used, in their order, edited."""
    source, parts = library.source(module), []
    mine = sorted((line, s) for (owner, line), s in used.statements.items() if owner == module)
    for line, statement in mine:
        edits = list(used.edits[module, line])
        gone = [(start, stop) for start, stop, _ in edits]
        for node, target, _ in used.reads[module, line]:
            start, stop = span(source, node)
            if not any(a <= start and stop <= b for a, b in gone) and source.text[start:stop].decode() != named[target]:
                if source.text[start:stop].decode() != ast.unparse(node):
                    raise FlattenError(f"{module}, line {node.lineno}: {ast.unparse(node)} cannot be renamed there")
                edits.append((start, stop, named[target]))
        for name in (n for n, s in source.definitions.items() if s is statement):
            if named[Inside(module, name)] != name:
                edits.append(_renamed(source, statement, name, named[Inside(module, name)]))
        parts.append(_edited(source, statement, edits))
    text = parts[0]
    for before, part, (_, statement) in zip(parts, parts[1:], mine[1:], strict=False):
        tight = not isinstance(statement, (ast.FunctionDef, ast.ClassDef)) and "\n" not in before
        text += ("\n" if tight else "\n\n\n") + part
    return text


def _edited(source: Source, statement: ast.stmt, edits: list[Edit]) -> str:
    """A statement's whole lines, with its decorators and the comment above it, edited."""
    lines = source.text.splitlines(keepends=True)
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    while first > 1 and lines[first - 2].startswith(b"#"):
        first -= 1
    start, stop = sum(map(len, lines[: first - 1])), sum(map(len, lines[: statement.end_lineno]))
    text = source.text[start:stop]
    for a, b, new in sorted(set(edits), reverse=True):
        text = text[: a - start] + new.encode() + text[b - start :]
    kept = [line for line in text.decode().splitlines() if line.strip() != "@"]
    return SIGNATURE.sub(_joined, PRAGMA.sub("", FILES.sub("", "\n".join(kept))))


def _joined(signature: re.Match[str]) -> str:
    """A signature that fits on one line now that its annotations are shorter."""
    line = f"{signature[1]}({signature[2]}){signature[3]}"
    return line if len(line) <= WIDTH else signature[0]


def _renamed(source: Source, statement: ast.stmt, name: str, new: str) -> Edit:
    """The edit of the place where a statement defines a name."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        at = _offset(source, statement.lineno, statement.col_offset)
        found = re.compile(rb"\b" + name.encode() + rb"\b").search(source.text, at)
        assert found is not None
        return found.start(), found.end(), new
    target = next(n for n in ast.walk(statement) if isinstance(n, ast.Name) and n.id == name)
    return (*span(source, target), new)


def span(source: Source, node: ast.expr) -> tuple[int, int]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return _offset(source, node.lineno, node.col_offset), _offset(source, node.end_lineno, node.end_col_offset)


def lines(source: Source, node: ast.stmt) -> Edit:
    """The edit that takes a statement's whole lines out, and the empty lines after them."""
    assert node.end_lineno is not None
    lines = source.text.splitlines()
    last = node.end_lineno
    while last < len(lines) and not lines[last].strip():
        last += 1
    return _offset(source, node.lineno, 0), _offset(source, last + 1, 0), ""


def _offset(source: Source, line: int, column: int) -> int:
    return sum(map(len, source.text.splitlines(keepends=True)[: line - 1])) + column


def import_lines(outside: dict[str, Outside]) -> str:
    """Sorted as linters want them: Python's own first, then the others; plain imports before ``from``."""
    groups: dict[bool, tuple[set[str], dict[str, set[str]]]] = {True: (set(), {}), False: (set(), {})}
    for name, target in outside.items():
        plain, members = groups[target.module.split(".")[0] in sys.stdlib_module_names]
        if target.name is None:
            same = name in (target.module, target.module.split(".")[0])
            plain.add(f"import {target.module}" + ("" if same else f" as {name}"))
        else:
            member = target.name if target.name == name else f"{target.name} as {name}"
            members.setdefault(target.module, set()).add(member)
    return "\n\n".join(
        "\n".join([*sorted(plain), *(f"from {m} import {_listed(members[m])}" for m in sorted(members))])
        for plain, members in groups.values()
        if plain or members
    )


def _listed(members: set[str]) -> str:
    return ", ".join(sorted(members, key=_rank))


def _rank(name: str) -> tuple[int, str]:
    """Constants, classes, the rest."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), name
