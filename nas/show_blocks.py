"""Goes in: a block's name, a family, a user's file. Comes out: the catalogue, a block's page, the contract's word."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas.recipe import RecipeError
from nas.show import load_files, named


def modules(files: list[str], family: str | None, scale: str) -> None:
    """Print the catalogue of blocks."""
    import modules as blocks
    from nas import catalogue

    load_files(files)
    specs = [blocks.spec(name) for name in blocks.names()]
    families = sorted({s.family for s in specs})
    if family is not None and family not in families:
        near = difflib.get_close_matches(family, families, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise RecipeError(f"--family {family!r}{hint}; allowed: {', '.join(families)}")
    try:
        catalogue.levels(scale)
    except ValueError as e:
        raise RecipeError(f"--scale: {e}") from e
    measured = catalogue.latencies()
    console = Console() if sys.stdout.isatty() else Console(width=int(os.environ.get("COLUMNS", 150)))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("name", no_wrap=True)
    for column in ("parameters", "GFLOPs", "latency"):
        table.add_column(column, no_wrap=True, justify="right", min_width=16)
    if console.width >= 92:
        table.add_column("paper", no_wrap=True, max_width=11, overflow="ellipsis")
    if console.width >= 120:
        table.add_column("stands", no_wrap=True)
        table.add_column("", no_wrap=True, max_width=console.width - 105, overflow="ellipsis")
    for group in families if family is None else [family]:
        chosen = [s for s in specs if s.family == group]
        table.add_row(Text(group, style="bold"))
        for spec in chosen:
            row = [Text(cell) for cell in _row(spec, scale, measured)]
            table.add_row(*row[: len(table.columns)], end_section=spec is chosen[-1])
    console.print(f"what each block adds at P3 / P4 / P5 of YOLOv10{scale}, 640 px", style="bold", highlight=False)
    console.print(table)
    one = next(iter(measured.values()))
    where = f"{one.device}, {one.threads} threads, base {catalogue.base_range()} ms"
    latency = f"(base + block) / base, deploy form, batch 1, {where}"
    if scale != "n":
        latency = "measured at scale n only"
    console.print(
        f"latency: {latency}; `cost SITE=NAME` measures here\n"
        "a name's formula, options, references: `modules show NAME`; - where a map has too many tokens for it",
        highlight=False,
        soft_wrap=True,
    )


def _row(spec: Any, scale: str, measured: Mapping[tuple[str, str], Any]) -> list[str]:
    from nas import catalogue

    def cost(level: str) -> tuple[int, float]:
        return catalogue.costs(spec, level, scale)

    def latency(level: str) -> str:
        found = measured.get((spec.name, level)) if scale == "n" else None
        return "?" if found is None else f"{found.ratio:.3f}"

    try:
        figures = [
            catalogue.three(spec, lambda level: catalogue.short(cost(level)[0])),
            catalogue.three(spec, lambda level: f"{cost(level)[1]:.3f}"),
            catalogue.three(spec, latency),
        ]
    except Exception as e:  # a user's block may fail at these sizes; `modules check` says how
        figures = [f"{type(e).__name__}", "?", "?"]
    return [spec.name, *figures, spec.paper.removeprefix("arXiv:"), catalogue.allowed(spec), spec.title.rstrip(".")]


def module(name: str, files: list[str]) -> None:
    """Print what one block computes, what may be set, what it costs, and what is known of it."""
    from nas import catalogue

    load_files(files)
    spec = named(name)
    console = Console(soft_wrap=True, highlight=False)
    console.print(Text(f"{spec.name}: {spec.source or spec.paper}", style="bold"))
    size = "grows with the square of its tokens" if spec.cost == "quadratic" else "linear in the map's size"
    console.print(f"family {spec.family}; cost {size}; stands {catalogue.allowed(spec)} at 640 px\n")
    console.print(Text(inspect.cleandoc(spec.block.__doc__ or "")))
    if spec.options:
        table = Table("option", "default", "allowed")
        for option, default in spec.options.items():
            chosen = "by the channels" if default is None else str(default)
            table.add_row(option, chosen, str(spec.ranges.get(option, "whatever its constructor takes")))
        console.print("\noptions")
        console.print(table)
    else:
        console.print("\noptions: none")
    measured = catalogue.latencies()
    table = Table("", "channels x side", "parameters", "GFLOPs", "latency", title_justify="left")
    for level in catalogue.LEVELS:
        site = catalogue.levels()[level]
        side = site.size(catalogue.IMGSZ)
        row = [level.upper(), f"{site.channels} x {side}"]
        if catalogue.stands(spec, level):
            params, flops = catalogue.costs(spec, level)
            found = measured.get((spec.name, level))
            latency = "not measured" if found is None else f"x{found.ratio:.3f} (+{found.block_ms:.2f} ms)"
            table.add_row(*row, f"{params:,}", f"{flops:.4f}", latency)
        else:
            table.add_row(*row, "", "", f"{spec.tokens(side, side):,} tokens: too many")
    one = next(iter(measured.values()))
    where = f"base {catalogue.base_range()} ms on {one.device}, {one.threads} threads"
    console.print(f"\nwhat it adds to YOLOv10n at 640 px ({where})")
    console.print(table)
    console.print("\nreferences")
    console.print(Text(f"  paper: {catalogue.address(spec.paper)}"))
    for other in (p for p in catalogue.parities() if p.name == spec.name):
        at = f" at {other.commit}" if other.commit else ""
        found_ = f"largest difference {other.max_abs_difference}"
        console.print(Text(f"  {other.repository}{at}, {other.file}: {found_}. {other.note}"))
    console.print("\nknown results of this project")
    known = [r for r in catalogue.results() if r.block == spec.name]
    for r in known:
        console.print(Text(f"  {r.placement}, {r.data}, {r.seeds} seeds: {r.gain} ({r.source})"))
    if not known:
        console.print("  none yet: no study of ours has measured it over several seeds")


def check(target: str, quick: bool = False) -> None:
    """Print the contract's findings for a file or a name; exit status 1 where one fails.

    Raises:
        RecipeError: No such file or block.
    """
    import modules as blocks
    from modules import contract
    from nas import plug_ins

    names: tuple[str, ...]
    if target.endswith(".py"):
        plug_ins.announce([target], print)
        try:
            names = blocks.load(target)
        except (ValueError, OSError, ImportError) as e:
            raise RecipeError(str(e)) from e
    else:
        names = (named(target).name,)
    failed = 0
    console = Console(soft_wrap=True)
    for name in names:
        report = contract.check(name, quick=quick)
        table = Table("rule", "", "detail", title=name, title_justify="left")
        for finding in report.findings:
            mark = Text("passed", "green") if finding.passed else Text("FAILED", "bold red")
            if finding.skipped:
                mark = Text("skipped", "yellow")
            table.add_row(finding.rule, mark, Text(finding.detail or ""))
            failed += not finding.passed
        console.print(table)
    if failed:
        console.print(f"{failed} rules failed", style="bold red", highlight=False)
        sys.exit(1)
