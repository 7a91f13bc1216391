"""Goes in: names of blocks, spaces, sites. Comes out: tables that a person reads in a terminal."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas.recipe import RecipeError
from search_spaces import Block, Placement, load, shipped

ITEM = re.compile(r"^(?P<site>[\w.]+)=(?P<block>\w+)(?:\((?P<options>.*)\))?$")


def parse_placement(items: list[str]) -> Placement:
    """``["neck.p3=eca", "backbone.p4=cot(kernel_size=5)"]`` -> Placement.

    Raises:
        RecipeError: Another form, or a site named twice.
    """
    blocks: dict[str, Block] = {}
    for item in items:
        found = ITEM.match(item.strip())
        if found is None:
            raise RecipeError(f"{item!r}: expected SITE=BLOCK or 'SITE=BLOCK(option=value)', for instance neck.p3=eca")
        if found["site"] in blocks:
            raise RecipeError(f"{item!r}: {found['site']} is named twice")
        options = {}
        for part in filter(None, (found["options"] or "").split(",")):
            key, equals, value = part.partition("=")
            if not equals:
                raise RecipeError(f"{item!r}: an option is written name=value, got {part.strip()!r}")
            try:
                options[key.strip()] = yaml.safe_load(value)
            except yaml.YAMLError as e:
                raise RecipeError(f"{item!r}: {value!r} is no value") from e
        try:
            blocks[found["site"]] = Block.parse({found["block"]: options or None})
        except ValueError as e:
            raise RecipeError(f"{item!r}: {e}") from e
    return Placement.of(blocks)


def spaces(name: str | None) -> None:
    """List the shipped spaces, or one space's sites and blocks."""
    console = Console(soft_wrap=True)
    if name is None:
        table = Table("space", "sites", "blocks", "at most", "placements", "about")
        for known, path in shipped().items():
            space = load(known)
            about = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("about", "")
            count = f"{len(space.blocks)}"
            table.add_row(known, f"{len(space.sites)}", count, f"{space.max_blocks}", f"{space.size:,}", about)
        console.print(table)
        return
    space = load(name)
    table = Table("site", "blocks")
    for site, blocks in space.sites:
        table.add_row(site, Text(", ".join(b.label for b in blocks)))
    console.print(table)
    console.print(
        f"{space.size:,} placements of at most {space.max_blocks} blocks; a block quadratic in its tokens stands only "
        f"where a map has at most {space.max_tokens:,} of them",
        highlight=False,
    )


def placement(items: list[str], base: str, wire: str, files: list[str]) -> None:
    """Print the rows of a model with a placement in it."""
    from nas import graph

    chosen, model = _checked(items, base, files), _model(base)
    if wire not in ("residual", "plain"):
        raise RecipeError(f"--wire {wire!r}: expected residual or plain")
    graft = graph.insert(model, chosen, wire)
    old = {new: row for row, new in graft.moved.items()}
    at = {row: site for site, row in graft.added.items()}
    found = graph.sites(model)
    _refuse(chosen, found, wire)
    names = {site.row: site.name for site in found}
    table = Table(title=f"{base}: {chosen.label}", title_justify="left")
    for column in ("row", "was", "from", "n", "module", "arguments", "site"):
        table.add_column(column)
    for i, (source, repeats, module, args) in enumerate(graph.rows(graft.yaml)):
        new = i in at
        was, site = ("new", at[i]) if new else (str(old[i]), names.get(old[i], ""))
        row = [str(i), was, str(source), str(repeats), module, str(args), site]
        table.add_row(*(Text(cell) for cell in row), style="bold green" if new else None)
    Console().print(table)


def cost(items: list[str], base: str, imgsz: int, device: str, runs: int, files: list[str]) -> None:
    """Print what a placement costs beside the base."""
    if imgsz < 32 or imgsz % 32:
        raise RecipeError(
            f"--imgsz {imgsz}: expected a multiple of 32 (for instance {max(32, round(imgsz / 32) * 32)})"
        )
    from nas import cost as costs
    from nas import graph, weights
    from nas.setting import pick_device

    chosen, model = _checked(items, base, files), _model(base)
    found = graph.sites(model)
    _refuse(chosen, found, "residual", imgsz)
    try:
        where = pick_device(device)
    except ValueError as e:
        raise RecipeError(" ".join(str(e).split())) from e
    names = {i: str(i) for i in range(int(model.get("nc", 80)))}
    plain = weights.build(model, names)
    edited = weights.build(graph.insert(model, chosen).yaml, names)
    measured = costs.latency(costs.deployed(edited, where), costs.deployed(plain, where), imgsz, where, runs)
    table = Table(title=f"{base} at {imgsz} px: {chosen.label}", title_justify="left")
    for column in ("", "parameters", "GFLOPs", "latency"):
        table.add_column(column, justify="right")
    table.add_row("base", f"{costs.params(plain):,}", f"{costs.gflops(plain, imgsz):.3f}", f"{measured.base_ms:.2f} ms")
    for site, block in chosen:
        place = graph.pick(found, site)
        params, flops = costs.block_cost(block, place.channels, place.size(imgsz))
        table.add_row(Text(f"+ {site}={block.label}"), f"{params:+,}", f"{flops:+.3f}", "")
    total = f"{measured.ms:.2f} ms (IQR {measured.iqr_ms:.2f})"
    table.add_row("with it", f"{costs.params(edited):,}", f"{costs.gflops(edited, imgsz):.3f}", total, style="bold")
    console = Console()
    console.print(table)
    console.print(
        f"latency x{measured.ratio:.3f} of the base: median ratio of {measured.runs} interleaved pairs, "
        f"{measured.device}, {measured.dtype}, {measured.threads} threads, batch 1, fused, {measured.head} head\n"
        f"GFLOPs: {costs.CONVENTION}",
        highlight=False,
        soft_wrap=True,
    )


def modules(files: list[str], family: str | None, scale: str) -> None:
    """Print the catalogue of blocks."""
    import modules as blocks
    from nas import catalogue

    _load(files)
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

    _load(files)
    spec = _spec(name)
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

    names: tuple[str, ...]
    if target.endswith(".py"):
        try:
            names = blocks.load(target)
        except (ValueError, OSError, ImportError) as e:
            raise RecipeError(str(e)) from e
    else:
        names = (_spec(target).name,)
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


def _refuse(chosen: Placement, found: tuple[Any, ...], wire: str, imgsz: int = 640) -> None:
    """Raise with the first block that cannot be built where it is to stand."""
    from nas import graph
    from nas.fit import refusal

    for site, block in chosen:
        reason = refusal(block, graph.pick(found, site), imgsz, sys.maxsize, wire)
        if reason:
            raise RecipeError(reason)


def _checked(items: list[str], base: str, files: list[str]) -> Placement:
    import modules as blocks
    from nas import graph

    _load(files)
    chosen, faults = parse_placement(items), []
    found = graph.sites(_model(base))
    for site, block in chosen:
        try:
            graph.pick(found, site)
            blocks.check_options(block.name, dict(block.options))
        except ValueError as e:
            faults.append(f"{site}={block.label}: {e}")
    if faults:
        raise RecipeError("\n".join(faults))
    return chosen


def _model(base: str) -> dict[str, Any]:
    from ultralytics.nn.tasks import yaml_model_load

    try:
        return dict(yaml_model_load(base))
    except (OSError, TypeError) as e:
        raise RecipeError(f"--base {base}: no such model YAML (for instance yolov10n.yaml)") from e


def _spec(name: str) -> Any:
    import modules as blocks

    try:
        return blocks.spec(name)
    except ValueError as e:
        raise RecipeError(str(e)) from e


def _load(files: list[str]) -> None:
    from nas.fit import load_modules

    faults: list[str] = []
    load_modules(tuple(files), faults)
    if faults:
        raise RecipeError("\n".join(faults))
