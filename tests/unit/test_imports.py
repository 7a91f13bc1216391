"""Imports point one way: spaces know nothing of ours, blocks know neither the search nor Ultralytics, no cycles."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import REPO, run_python

# From what knows nothing to what knows all; a file may import only those before it.
ORDER = """
    errors machine shield steady telling trust hidden options plugin __init__ doctor quiet locks log study_lock
    children crew onefile front interval spread wording outcome verdict verdict_words mixed protocol shapes rows
    graph fit placing demo plug_ins recipe backends store table trainings effects effects_words storage
    preflight history progress status dataset images labels cost deploy agreement known held checkpoint weights
    folders data label_cache split_files splits task pixels matching resample validate reading score legs
    trainer train parts summed surrogate ehvi rungs proposals sampler setting stamp warm scout probe slots
    deploy_rows deploy_report catalogue pages model_card export carried jobs grafting bundle rescale points
    strips layout drawing charts effects_table space_sites page_facts ablation pictures page report curves
    board_files dashboard report_command effects_report display objective finalists passes judge correlate study
    announce opening turn on_ray worker workers finalists_command run join_command correlate_command train_files
    train_command export_command notebook api show show_blocks cli __main__
    """.split()  # noqa: SIM905


def is_for_types(node: ast.AST) -> bool:
    """``if TYPE_CHECKING:``"""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(file: Path, package: str, inner: bool = True) -> set[str]:
    """Full names that a file imports; without those inside functions unless ``inner``; none for types only."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found: set[str] = set()
    skipped = () if inner else (ast.FunctionDef, ast.AsyncFunctionDef)

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update(a.name for a in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = ".".join([package] * bool(child.level) + [child.module] * bool(child.module))
                found.update(f"{base}.{a.name}" for a in child.names)
                found.add(base)
            elif isinstance(child, skipped) or is_for_types(child):
                continue
            else:
                visit(child)

    visit(tree)
    return found


@cache
def edges(inner: bool) -> dict[str, set[str]]:
    """Module of nas -> modules of nas that it imports."""
    files = {f.stem: [f] for f in (REPO / "nas").glob("*.py")}
    files |= {f.parent.name: sorted(f.parent.glob("*.py")) for f in (REPO / "nas").glob("*/__init__.py")}
    graph = {}
    for name, parts in files.items():
        full = set().union(*(imports(file, "nas", inner) for file in parts))
        used = {part for x in full if x.startswith("nas.") and (part := x.split(".")[1]) in files}
        if any(x.startswith("nas.") and x.split(".")[1] not in files for x in full):
            used.add("__init__")  # such as `from nas import __version__`
        graph[name] = used - {name}
    return graph


def tops(folder: str, **kwargs: bool) -> set[str]:
    """Top-level packages that a folder's files import."""
    found = set()
    for file in (REPO / folder).rglob("*.py"):
        found |= {x.split(".")[0] for x in imports(file, folder, **kwargs)}
    return found


def test_search_spaces_import_nothing_of_ours_and_no_torch() -> None:
    assert not tops("search_spaces") & {"nas", "modules", "torch", "ultralytics", "optuna", "timm"}


def test_blocks_import_neither_the_search_nor_ultralytics_nor_optuna() -> None:
    assert not tops("modules") & {"nas", "ultralytics", "optuna", "search_spaces"}


@pytest.mark.parametrize("inner", [False, True], ids=["at the top of files", "inside functions too"])
def test_no_cycle_among_the_files_of_nas(inner: bool) -> None:
    try:
        TopologicalSorter(edges(inner)).prepare()
    except CycleError as e:
        pytest.fail(f"imports in a circle: {' -> '.join(e.args[1])}")


def test_every_file_of_nas_stands_in_the_order() -> None:
    assert set(edges(True)) <= set(ORDER)


@pytest.mark.parametrize("name", sorted(edges(True)))
def test_a_file_imports_only_what_stands_before_it(name: str) -> None:
    assert edges(True)[name] <= set(ORDER[: ORDER.index(name)])


def test_spaces_and_the_package_itself_load_without_torch() -> None:
    run_python(
        "import sys, search_spaces\n"
        "space = search_spaces.load('article')\n"
        "assert space.size > 1000\n"
        "import nas, nas.cli\n"
        "heavy = {'torch', 'ultralytics', 'optuna'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
