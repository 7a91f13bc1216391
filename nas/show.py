"""Goes in: names of blocks, spaces, sites. Comes out: tables that a person reads in a terminal."""

from __future__ import annotations

import re
import sys
from typing import Any

import yaml
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

    load_files(files)
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


def named(name: str) -> Any:
    import modules as blocks

    try:
        return blocks.spec(name)
    except ValueError as e:
        raise RecipeError(str(e)) from e


def load_files(files: list[str]) -> None:
    from nas.fit import load_modules

    faults: list[str] = []
    load_modules(tuple(files), faults)
    if faults:
        raise RecipeError("\n".join(faults))
