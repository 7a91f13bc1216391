"""Goes in: names of blocks, spaces, sites. Comes out: tables that a person reads in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas.recipe import RecipeError, imgsz_fault
from search_spaces import load, shipped


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
    from nas import grafting, graph

    load_files(files)
    chosen, model = grafting.parse(items), model_of(base)
    grafting.check(chosen, model, wire)
    graft = graph.insert(model, chosen, wire)
    old = {new: row for row, new in graft.moved.items()}
    at = {row: site for site, row in graft.added.items()}
    names = {site.row: site.name for site in graph.sites(model)}
    table = Table(title=f"{base}: {chosen.label}", title_justify="left")
    for column in ("row", "was", "from", "n", "module", "arguments", "site"):
        table.add_column(column)
    for i, (source, repeats, module, args) in enumerate(graph.rows(graft.yaml)):
        new = i in at
        was, site = ("new", at[i]) if new else (str(old[i]), names.get(old[i], ""))
        row = [str(i), was, str(source), str(repeats), module, str(args), site]
        table.add_row(*(Text(cell) for cell in row), style="bold green" if new else None)
    Console().print(table)


def cost(items: list[str], base: str, imgsz: int, device: str, runs: int, files: list[str], backend: str) -> None:
    """Print what a placement costs beside the base."""
    if fault := imgsz_fault(imgsz):
        raise RecipeError(fault)
    from nas import cost as costs
    from nas import deploy, grafting, graph, weights
    from nas.setting import pick_device

    load_files(files)
    chosen, model = grafting.parse(items), model_of(base)
    grafting.check(chosen, model, imgsz=imgsz)
    found = graph.sites(model)
    try:
        where = pick_device(device)
    except ValueError as e:
        raise RecipeError(" ".join(str(e).split())) from e
    deploy.check_backend(backend, where)
    names = {i: str(i) for i in range(int(model.get("nc", 80)))}
    plain = weights.build(model, names)
    edited = weights.build(graph.insert(model, chosen).yaml, names)
    ours, theirs = (deploy.runner(net, backend, imgsz, where) for net in (edited, plain))
    measured = costs.latency(ours, theirs, imgsz, runs)
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
        f"{measured.backend}, {measured.device}, {measured.dtype}, {measured.threads} threads, batch 1, fused, "
        f"{measured.head} head\n"
        f"GFLOPs: {costs.CONVENTION}",
        highlight=False,
        soft_wrap=True,
    )


def graft(
    base: str, items: list[str], output: str, wire: str, seed: int, files: list[str], overwrite: bool, imgsz: int
) -> None:
    """Insert blocks into a trained model, write it, and say what became of its tensors."""
    from nas import cost as costs
    from nas import grafting, graph, task, weights

    load_files(files)
    chosen = grafting.parse(items)
    if not len(chosen):
        raise RecipeError(
            "graft needs at least one SITE=BLOCK, for instance neck.p3=eca; `show --base` lists the sites"
        )
    if fault := imgsz_fault(imgsz):
        raise RecipeError(fault)
    path = grafting.check_output(base, output, overwrite)
    if path.suffix in grafting.YAML:
        plain = model_of(base)
        grafting.write_yaml(plain, chosen, path, wire)
        print(f"{path}: {chosen.label}, without weights\n{_train(files, task.name_of(plain), path)}")
        return
    model = weights.open_model(weights.find(base))
    done = grafting.graft_model(model, chosen, wire, seed)
    grafting.write(done, model, path)
    found, table = graph.sites(model.yaml), Table(title=f"{path}: {chosen.label}", title_justify="left")
    for column in ("", "row", "map", "parameters", f"GFLOPs at {imgsz}"):
        table.add_column(column, justify="right")
    table.add_row(base, "", "", f"{costs.params(model):,}", f"{costs.gflops(model, imgsz):.3f}")
    for site, block in chosen:
        place = graph.pick(found, site)
        params, flops = costs.block_cost(block, place.channels, place.size(imgsz), wire)
        shape = f"{place.channels}x{place.size(imgsz)}x{place.size(imgsz)}"
        table.add_row(
            Text(f"+ {site}={block.label}"), str(done.graft.added[site]), shape, f"{params:+,}", f"{flops:+.3f}"
        )
    Console().print(table)
    same = "the same as before, to the bit" if wire == "residual" else "not those of before (wire plain)"
    for note in grafting.doubts(chosen, model.yaml, imgsz):
        print(f"note: {note}")
    print(f"{done.transfer}\npredictions: {same}\n{_train(files, task.name_of(model.yaml), path)}")


def _train(files: list[str], word: str, model: Path) -> str:
    """How to train a model: by ours where a file of the user's own blocks has to be read first."""
    own = " ".join(f"--modules {file}" for file in files)
    command = f"python -m nas train {own}" if own else f"yolo {word} train"
    return f"Train it:  {command} model={model} data=... epochs=..."


def model_of(base: str) -> dict[str, Any]:
    """A model's YAML: a file, Ultralytics' own of that name, or that of a checkpoint.

    Raises:
        InputError: There is none, or it is none.
    """
    from nas import grafting, rows

    return grafting.load_yaml(base) if base.endswith(".pt") else rows.read(base)


def named(name: str) -> Any:
    import modules as blocks

    try:
        return blocks.spec(name)
    except ValueError as e:
        raise RecipeError(str(e)) from e


def load_files(files: list[str]) -> None:
    from nas import plug_ins
    from nas.fit import load_modules

    faults: list[str] = []
    plug_ins.announce(files, print)
    load_modules(tuple(files), faults)
    if faults:
        raise RecipeError("\n".join(faults))
