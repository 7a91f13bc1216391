"""Goes in: a statement as a syntax tree. Comes out: the global names that it reads, and what hides others there."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True)
class Read:
    """A name that is read from the module's globals, and the local names that would hide another one there."""

    node: ast.Name
    hidden: frozenset[str]


def reads(statement: ast.stmt, is_global: Callable[[ast.ImportFrom], bool] = lambda _: False) -> list[Read]:
    """The global names that a statement reads, in no order.

    Args:
        statement: A statement at the top of a module.
        is_global: Whether an import inside a function is as good as one at the top of the module.
    """
    found: list[Read] = []

    def walk(node: ast.AST, hidden: frozenset[str], outer: frozenset[str]) -> None:
        """``outer``: what a function in here sees; the names of a class's body are no part of it."""
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load) and node.id not in hidden:
                found.append(Read(node, hidden))
        elif isinstance(node, Function):
            for part in _outside(node):
                walk(part, hidden, outer)
            inner = outer | bound(node, is_global)
            for part in node.body if isinstance(node.body, list) else [node.body]:
                walk(part, inner, inner)
        elif isinstance(node, ast.ClassDef):
            for part in (*node.decorator_list, *node.bases, *node.keywords):
                walk(part, hidden, outer)
            for part in node.body:
                walk(part, outer | bound(node, is_global), outer)
        elif isinstance(node, Comprehension):
            first = node.generators[0].iter
            walk(first, hidden, outer)
            inner = hidden | {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
            for child in ast.iter_child_nodes(node):
                for part in ast.iter_child_nodes(child) if isinstance(child, ast.comprehension) else (child,):
                    if part is not first:
                        walk(part, inner, inner)
        else:
            for child in ast.iter_child_nodes(node):
                walk(child, hidden, outer)

    walk(statement, frozenset(), frozenset())
    return found


def bound(scope: Function | ast.ClassDef, is_global: Callable[[ast.ImportFrom], bool]) -> frozenset[str]:
    """The names that a function or a class's body binds: arguments, assignments, definitions, imports."""
    names: set[str] = set()
    body: list[ast.AST] = list(scope.body) if isinstance(scope.body, list) else [scope.body]
    if not isinstance(scope, ast.ClassDef):
        a = scope.args
        every = (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg)
        names |= {argument.arg for argument in every if argument is not None}
    declared: set[str] = set()
    for node in _own(body):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not is_global(node)):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.Global):
            declared |= set(node.names)
    return frozenset(names - declared)


def _own(body: list[ast.AST]) -> Iterator[ast.AST]:
    """Every node of a scope's body, without the insides of the scopes in it; of comprehensions only ``:=``."""
    for node in body:
        yield node
        if isinstance(node, Comprehension):
            yield from (n.target for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
        elif not isinstance(node, SCOPES):
            yield from _own(list(ast.iter_child_nodes(node)))


def _outside(function: Function) -> Iterator[ast.AST]:
    """What of a function is evaluated where it stands: decorators, defaults, annotations."""
    a = function.args
    yield from (d for d in (*a.defaults, *a.kw_defaults) if d is not None)
    for argument in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg):
        if argument is not None and argument.annotation is not None:
            yield argument.annotation
    if not isinstance(function, ast.Lambda):
        yield from function.decorator_list
        if function.returns is not None:
            yield function.returns
