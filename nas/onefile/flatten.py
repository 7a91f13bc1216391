"""Goes in: names of blocks. Comes out: the text of one Python file that needs none of our packages to build them.

The source of each class and function that is used is taken over as it stands, in order. What only the search needs
goes: registration, rules for counting multiply-adds, the ranges of options (they were checked before).
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import modules
from nas.onefile.scopes import Read, reads
from nas.onefile.sources import FlattenError, Inside, Library, Outside, Source, imported
from nas.onefile.text import CREATE, Key, Used, code, import_lines, lines, names, span

DECORATORS = {Inside("modules.registry", "attention"), Inside("modules.macs", "counted")}
REQUIRE = Inside("modules.checks", "require")  # require(what, allowed, value) -> value
ATTEND, JOIN = Inside("modules.attend", "Attend"), Inside("modules.join", "join")
ANNOTATED = ("Annotated", "typing.Annotated")


@dataclass(frozen=True)
class Flat:
    """The parts of the file.

    Args:
        imports: Import statements, sorted.
        sections: ``(module, code)`` of each module that something is of, in an order in which the file runs.
        blocks: Block's name -> the name of its class in the file.
        names: The same of every definition that is taken over, by module and name.
        needs: Top-level names of the packages that it imports, without the standard library.
    """

    imports: str
    sections: tuple[tuple[str, str], ...]
    blocks: dict[str, str]
    names: dict[tuple[str, str], str]
    needs: tuple[str, ...]


def flatten(
    blocks: Iterable[str], own: frozenset[str] = frozenset(), also: Mapping[str, Outside] | None = None
) -> Flat:
    """Collect the source of registered blocks and of what wires them.

    Args:
        blocks: Names in the registry.
        own: Modules of the user's own blocks, by the stem of their file.
        also: Names that the file imports besides.

    Raises:
        FlattenError: A block that cannot stand in a file of its own.
    """
    library, used = Library(own), Used(outside=dict(also or {}))
    roots = {name: _root(name, library) for name in sorted(blocks)}
    for target in (*roots.values(), ATTEND, JOIN):
        _use(target, library, used)
    used.order = _order(used)
    named = names(used, library)
    sections = tuple((m, code(m, used, library, named)) for m in used.order)
    return Flat(
        import_lines(used.outside),
        sections,
        {name: named[target] for name, target in roots.items()},
        {(target.module, target.name): name for target, name in named.items()},
        tuple(sorted({o.module.split(".")[0] for o in used.outside.values()} - sys.stdlib_module_names)),
    )


def _root(name: str, library: Library) -> Inside:
    block = modules.spec(name).block
    if "." in block.__qualname__ or not (block.__module__ in library.own or block.__module__.startswith("modules.")):
        raise FlattenError(
            f"block {name!r}: its class {block.__qualname__} is of module {block.__module__}; only a class at the top "
            "of a file of --modules, or one of ours, can be put into a single file"
        )
    return Inside(block.__module__, block.__name__)


def _order(used: Used) -> list[str]:
    """The modules, each after those that it needs."""
    needs: dict[str, list[str]] = {}
    for (module, _), found in used.reads.items():
        others = needs.setdefault(module, [])
        others += [target.module for _, target, _ in found if target != CREATE and target.module != module]
    order: list[str] = []

    def visit(module: str, path: tuple[str, ...]) -> None:
        for other in sorted(set(needs[module])):
            if other not in (*order, *path):
                visit(other, (*path, other))
        if module not in order:
            order.append(module)

    for module in used.order:
        visit(module, (module,))
    return order


def _use(target: Inside, library: Library, used: Used) -> None:
    """Take a definition and all that it needs."""
    source = library.source(target.module)
    statement = source.definitions.get(target.name)
    if statement is None:
        raise FlattenError(f"{target.module}: {target.name!r} is no class, function or value at the top of the file")
    key = (target.module, statement.lineno)
    if key in used.statements:
        return
    used.statements[key], used.edits[key], used.reads[key] = statement, [], []
    _take(key, source, statement, library, used)
    if target.module not in used.order:
        used.order.append(target.module)


def _take(key: Key, source: Source, statement: ast.stmt, library: Library, used: Used) -> None:
    """Note what a statement reads, and edit what it must not."""
    local: dict[str, Outside | Inside] = {}
    dropped: set[ast.AST] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.ImportFrom) and _is_inner(node, source, library):
            local |= {name: library.find(t) for name, t in _inner(node, source, library).items()}
            used.edits[key].append(lines(source, node))
    for node, text, inside in _rewritten(statement, source, library):
        used.edits[key].append((*span(source, node), text))
        dropped |= set(ast.walk(node)) - set(ast.walk(inside) if inside is not None else ())
    parents = {child: node for node in ast.walk(statement) for child in ast.iter_child_nodes(node)}
    for read in reads(statement, lambda node: _is_inner(node, source, library)):
        if read.node in dropped:
            continue
        target = local.get(read.node.id) or library.resolve(source.name, read.node.id)
        if isinstance(target, Outside):
            _outside(read.node.id, target, source, used)
        elif isinstance(target, Inside):
            expression, target = _attribute(read, target, parents, source, library)
            if target != CREATE:
                _use(target, library, used)
            used.reads[key].append((expression, target, read.hidden))
        elif not hasattr(builtins, read.node.id) and read.node.id not in ("__name__", "__file__"):
            raise FlattenError(
                f"{source.name}, line {read.node.lineno}: {read.node.id!r} is defined by no plain statement"
            )


def _attribute(
    read: Read, target: Inside, parents: dict[ast.AST, ast.AST], source: Source, library: Library
) -> tuple[ast.expr, Inside]:
    """``deploy.fold`` -> that very definition; a plain name stays what it is."""
    if target.name:
        return read.node, target
    parent = parents.get(read.node)
    if not isinstance(parent, ast.Attribute):
        raise FlattenError(f"{source.name}, line {read.node.lineno}: module {read.node.id!r} is used as a value")
    found = library.find(Inside(target.module, parent.attr))
    if not isinstance(found, Inside) or not found.name:
        raise FlattenError(f"{source.name}, line {read.node.lineno}: {ast.unparse(parent)} is no definition of ours")
    return parent, found


def _rewritten(
    statement: ast.stmt, source: Source, library: Library
) -> Iterator[tuple[ast.expr, str, ast.expr | None]]:
    """Expressions that change, what stands there instead, and the part of them that stays."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        for decorator in statement.decorator_list:
            if _target(decorator.func if isinstance(decorator, ast.Call) else decorator, source, library) in DECORATORS:
                yield decorator, "", None
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and _target(node.func, source, library) == REQUIRE and len(node.args) == 3:
            yield node, source.slice(node.args[2]), node.args[2]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) in ANNOTATED:
            yield node, source.slice(_first(node)), _first(node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            target = _target(node, source, library)
            if isinstance(target, Inside) and target.name and (text := _alias(target, library)):
                yield node, text, None


def _alias(target: Inside, library: Library) -> str:
    """``int`` for ``Count = Annotated[int, ...]``, else nothing."""
    source = library.source(target.module)
    value = getattr(source.definitions.get(target.name), "value", None)
    if isinstance(value, ast.Subscript) and ast.unparse(value.value) in ANNOTATED:
        return source.slice(_first(value))
    return ""


def _first(node: ast.Subscript) -> ast.expr:
    return node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice


def _target(node: ast.expr, source: Source, library: Library) -> Outside | Inside | None:
    """What a name, or an attribute of a module of ours, stands for."""
    if isinstance(node, ast.Name):
        return library.resolve(source.name, node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        owner = library.resolve(source.name, node.value.id)
        if isinstance(owner, Inside) and not owner.name:
            return library.find(Inside(owner.module, node.attr))
    return None


def _is_inner(node: ast.ImportFrom, source: Source, library: Library) -> bool:
    return bool(node.module) and any(isinstance(t, Inside) for t in _inner(node, source, library).values())


def _inner(node: ast.ImportFrom, source: Source, library: Library) -> dict[str, Inside]:
    found = imported(node, source.name, library.own)
    return {name: target for name, target in found.items() if isinstance(target, Inside)}


def _outside(name: str, target: Outside, source: Source, used: Used) -> None:
    if used.outside.setdefault(name, target) != target:
        other = used.outside[name]
        raise FlattenError(f"{source.name}: {name!r} is imported from {target.module}, elsewhere from {other.module}")
