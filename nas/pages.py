"""Goes in: the catalogue. Comes out: its pages and the two spaces made from it, as text.

`scripts/catalogue.py` writes them; a test holds the written files against this.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Iterable, Mapping, Sequence

from modules.registry import FAMILIES, Spec
from nas import catalogue

GENERATED = "# Written by scripts/catalogue.py from the registry and modules/latency.csv; edit neither.\n"


def link(paper: str) -> str:
    """The paper as a markdown link where it has a number at arXiv."""
    number = paper.removeprefix("arXiv:")
    return f"[{number}]({catalogue.address(paper)})" if number != paper else paper


def light() -> str:
    """search_spaces/light.yaml: at each level the blocks whose measured latency is under 2 % of the base's."""
    measured = catalogue.latencies()
    levels_of = {site: catalogue.level_of(site) for site in _all_sites()}
    lines = [
        GENERATED,
        "about: blocks that each cost under 2% of YOLOv10n's latency where they stand\n",
        "max_blocks: 3\n",
        "sites:\n",
    ]
    for site, level in levels_of.items():
        names = [
            s.name
            for s in catalogue.builtin()
            if s.cost == "linear" and (s.name, level) in measured and measured[s.name, level].ratio < catalogue.LIGHT
        ]
        lines.append(f"  {site}: [{', '.join(sorted(names))}]\n")
    return "".join(lines)


def full() -> str:
    """search_spaces/full.yaml: every block at every site; what cannot stand on a map is left out by max_tokens."""
    names = sorted(s.name for s in catalogue.builtin())
    return "".join(
        [
            GENERATED,
            f"about: all {len(names)} blocks, wherever they may stand\n",
            "max_blocks: 3\n",
            f"max_tokens: {catalogue.MAX_TOKENS}\n",
            "blocks:\n",
            *(f"  - {name}\n" for name in names),
            "sites:\n",
            *(f"  - {site}\n" for site in _all_sites()),
        ]
    )


def page() -> str:
    """modules/README.md: the catalogue."""
    measured = catalogue.latencies()
    one = next(iter(measured.values()))
    where = {"base_ms": catalogue.base_range(), "device": one.device, "threads": one.threads}
    lines = [PAGE.format(count=len(catalogue.builtin()), **where)]
    for family in FAMILIES:
        specs = [s for s in catalogue.builtin() if s.family == family]
        lines.append(f"\n## {family} ({len(specs)})\n\n{_about(family)}\n\n")
        rows = [
            [f"`{s.name}`", s.title.rstrip("."), link(s.paper), *_cells(s, measured), catalogue.allowed(s)]
            for s in specs
        ]
        lines.append(table(["name", "", "paper", "parameters", "GFLOPs", "latency", "stands"], rows))
    return "".join(lines)


def parity_page() -> str:
    """modules/PARITY.md: every comparison with code that is not ours."""
    rows = [
        [f"`{p.name}`", p.repository, f"`{p.commit}`" if p.commit else "", p.file, p.max_abs_difference, p.note]
        for p in sorted(catalogue.parities(), key=lambda p: p.name)
    ]
    head = ["block", "repository", "commit", "file", "largest difference", "what differs, and why"]
    missing = sorted({s.name for s in catalogue.builtin()} - {p.name for p in catalogue.parities()})
    without = f"\nNo other implementation was run for: {', '.join(missing)}.\n" if missing else ""
    bugs = table(["code", "what shows it"], [[bug["code"], bug["proof"]] for bug in catalogue.read("bugs.csv")])
    return f"{PARITY}{bugs}\n## Comparisons\n\n{table(head, rows)}{without}"


def speed_page() -> str:
    """modules/SPEED.md: each block beside its usual implementation, from the record of scripts/bench_modules.py."""
    rows = catalogue.read("speed.csv")
    notes = {row["block"]: row["note"] for row in catalogue.read("speed_notes.csv")}
    names = sorted({row["block"] for row in rows}, key=lambda name: _ratio(rows, name))
    overall = statistics.median(_ratio(rows, name) for name in names)
    memory = statistics.median(_ratio(rows, name, "memory_ratio") for name in names)
    lines = []
    for name in names:
        cells = [
            " / ".join(_cell(rows, name, scale, level, mode) for level in ("p3", "p4", "p5"))
            for mode in ("forward", "train")
            for scale in ("n", "s")
        ]
        total = f"**{_ratio(rows, name):.2f}**"
        lines.append([f"`{name}`", total, *cells, f"{_ratio(rows, name, 'memory_ratio'):.2f}", notes.get(name, "")])
    head = ["block", "time", "forward n", "forward s", "train n", "train s", "memory", ""]
    text = SPEED.format(
        median=overall,
        memory=memory,
        blocks=len(names),
        device=rows[0]["device"],
        threads=rows[0]["threads"],
        cells=sum(float(row["low"]) > 1 for row in rows),
        all=len(rows),
        worst=max(float(row["time_ratio"]) for row in rows),
        slower=", ".join(n for n in names if _ratio(rows, n, "low") > 1) or "none",
    )
    return text + table(head, lines)


def _ratio(rows: Iterable[Mapping[str, str]], name: str, column: str = "time_ratio") -> float:
    return statistics.median(float(row[column]) for row in rows if row["block"] == name)


def _cell(rows: Iterable[Mapping[str, str]], name: str, scale: str, level: str, mode: str) -> str:
    where = {"block": name, "scale": scale, "level": level, "mode": mode}
    found = [row["time_ratio"] for row in rows if where.items() <= row.items()]
    return f"{float(found[0]):.2f}" if found else "-"


def files() -> dict[str, str]:
    """What scripts/catalogue.py writes: path -> text."""
    return {
        "modules/README.md": page(),
        "modules/PARITY.md": parity_page(),
        "modules/SPEED.md": speed_page(),
        "search_spaces/light.yaml": light(),
        "search_spaces/full.yaml": full(),
    }


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(spec: Spec, measured: Mapping[tuple[str, str], catalogue.Measured]) -> list[str]:
    def latency(level: str) -> str:
        found = measured.get((spec.name, level))
        return "?" if found is None else f"{found.ratio:.3f}"

    return [
        catalogue.three(spec, lambda level: catalogue.short(catalogue.costs(spec, level)[0])),
        catalogue.three(spec, lambda level: f"{catalogue.costs(spec, level)[1]:.3f}"),
        catalogue.three(spec, latency),
    ]


def _about(family: str) -> str:
    return (importlib.import_module(f"modules.{family}").__doc__ or "").strip()


def _all_sites() -> list[str]:
    from search_spaces import load

    return [name for name, _ in load("article").sites]


PAGE = """<!-- Written by scripts/catalogue.py; the tables come from the registry and the records beside this file. -->

# The blocks

{count} attention blocks, [B, C, H, W] in and out, each in a file of its own with its paper and formula. `python -m nas
modules show NAME` prints a block's formula, options and references; [PARITY.md](PARITY.md) says what each was compared
with, [SPEED.md](SPEED.md) how it stands beside the code that people paste, [GUIDE.md](GUIDE.md) how to write your own.

Figures are for P3 / P4 / P5 of YOLOv10n at 640 pixels (64 x 80 x 80, 128 x 40 x 40, 256 x 20 x 20), the block wired
as `Attend` wires it. Parameters and GFLOPs are what the block adds (YOLOv10n: 2.8M with both heads, 8.8). Latency is
that of the detector with the block over that without, (base + block) / base, in deploy form, batch 1: base
{base_ms} ms on {device}, {threads} threads, each block in turn with it; differences under half a per cent are noise.
Your device will differ: `python -m nas cost neck.p3=NAME` measures it
there. A block whose cost grows with the square of its tokens stands only on maps of at most 1,600 of them.

![Latency by family](cost.png)
"""

PARITY = """<!-- Written by scripts/catalogue.py from parity.csv and bugs.csv. -->

# What each block was compared with

In the test suite every block is held against a float64 NumPy version written from its paper's formula by another hand
(`tests/unit/modules/references*.py`), and against timm, torchvision or Ultralytics where their class equals the paper.
Beyond that, once and by hand, against the published code: our weights in their class, float64, evaluation mode. The
second table has the largest absolute difference of the outputs.

## Bugs found in published code

Each was run at the commit of the second table; the class is the one named there.

"""

SPEED = """<!-- Written by scripts/catalogue.py from speed.csv, which scripts/bench_modules.py measured. -->

# Each block beside its usual implementation

Time of ours over that of the code people paste (`scripts/usual/`: the published code's shape of computation, written
anew, or timm's class where that is what people use): medians over pairs run in turn in one process, contiguous fp32
maps of P3 / P4 / P5 of YOLOv10 n and s at 640 pixels. Forward: batch 1, eval mode, ours in deploy form. Train: forward
and backward, batch 2. The bold figure is the median over all of a block's cells; memory likewise, as the peak of what
the pass allocates. Device: {device}, {threads} threads. Nothing was measured on a GPU.

Over {blocks} blocks: median time ratio **{median:.2f}**, median memory ratio {memory:.2f}. Blocks that are slower in
three quarters of their pairs over half of their cells: {slower}. Single cells of which that is true: {cells} of {all},
the worst x{worst:.2f}. The last column says what bounds a block that gains little.

![Time ratios](speed.png)

"""
