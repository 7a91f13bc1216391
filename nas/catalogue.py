"""Goes in: the registry, the records modules/*.csv. Comes out: each block's costs, the catalogue's pages, two spaces.

`scripts/catalogue.py` writes what this file words; a test holds the written files against it.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import modules
from modules.registry import FAMILIES, Spec
from nas import graph
from nas.cost import block_cost
from search_spaces import Block, Site

FOLDER = Path(modules.__file__).parent
IMGSZ = 640
MAX_TOKENS = 1600
LIGHT = 1.02  # a light block's latency together with the base, over the base's
LEVELS = {"p2": "backbone.p2", "p3": "neck.p3", "p4": "neck.p4", "p5": "neck.p5"}
SCALES = ("n", "s", "m", "b", "l", "x")
GENERATED = "# Written by scripts/catalogue.py from the registry and modules/latency.csv; edit neither.\n"


@dataclass(frozen=True)
class Measured:
    """Latency of YOLOv10n with the block at one level, over that of YOLOv10n: (base + block) / base."""

    block: str
    level: str
    ratio: float
    block_ms: float
    base_ms: float
    device: str
    threads: int
    torch: str


@dataclass(frozen=True)
class Parity:
    """One comparison with an implementation that is not ours, made by hand."""

    name: str
    repository: str
    commit: str
    file: str
    max_abs_difference: str
    note: str


@dataclass(frozen=True)
class Result:
    """What a study of this project found of a block."""

    block: str
    placement: str
    data: str
    gain: str
    seeds: int
    source: str


@functools.cache
def levels(scale: str = "n") -> dict[str, Site]:
    """p2, p3, p4, p5 -> a site of that level of YOLOv10, with its channels.

    Raises:
        ValueError: No such scale.
    """
    from ultralytics.nn.tasks import yaml_model_load

    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}, allowed: {', '.join(SCALES)}")
    found = graph.sites(yaml_model_load(f"yolov10{scale}.yaml"))
    return {level: graph.pick(found, name) for level, name in LEVELS.items()}


def stands(spec: Spec, level: str) -> bool:
    """Whether the block may stand on the maps of that level at 640 pixels."""
    side = levels()[level].size(IMGSZ)
    return (spec.tokens(side, side) or 0) <= MAX_TOKENS


def costs(spec: Spec, level: str, scale: str = "n") -> tuple[int, float]:
    """Parameters and GFLOPs of the wired block at a level, at 640 pixels."""
    site = levels(scale)[level]
    return block_cost(Block(spec.name), site.channels, site.size(IMGSZ))


def latencies() -> dict[tuple[str, str], Measured]:
    """The measured latencies, by block and level."""
    types: dict[str, Callable[[str], object]] = {"ratio": float, "block_ms": float, "base_ms": float, "threads": int}
    rows = _read("latency.csv")
    found = [Measured(**{k: types.get(k, str)(v) for k, v in row.items()}) for row in rows]  # type: ignore[arg-type]
    return {(m.block, m.level): m for m in found}


def parities() -> list[Parity]:
    """The comparisons with other implementations."""
    return [Parity(**row) for row in _read("parity.csv")]


def results() -> list[Result]:
    """What is known of the blocks' gains, from studies/."""
    return [Result(**{**row, "seeds": int(row["seeds"])}) for row in _read("results.csv")]  # type: ignore[arg-type]


def builtin() -> list[Spec]:
    """This package's blocks, by family and name."""
    specs = [modules.spec(name) for name in modules.names()]
    return sorted((s for s in specs if s.builtin), key=lambda s: (FAMILIES.index(s.family), s.name))


def allowed(spec: Spec) -> str:
    """Where the block may stand at 640 pixels, in words."""
    where = [level for level in LEVELS if stands(spec, level)]
    return "anywhere" if len(where) == len(LEVELS) else ", ".join(level.upper() for level in where)


def link(paper: str) -> str:
    """The paper as a markdown link where it has a number at arXiv."""
    number = paper.removeprefix("arXiv:")
    return f"[{number}]({address(paper)})" if number != paper else paper


def address(paper: str) -> str:
    """Where the paper is."""
    number = paper.removeprefix("arXiv:")
    return f"https://arxiv.org/abs/{number}" if number != paper else paper


def light() -> str:
    """search_spaces/light.yaml: at each level the blocks whose measured latency is under 2 % of the base's."""
    measured = latencies()
    levels_of = {site: level_of(site) for site in _all_sites()}
    lines = [
        GENERATED,
        "about: blocks that each cost under 2% of YOLOv10n's latency where they stand\n",
        "max_blocks: 3\n",
        "sites:\n",
    ]
    for site, level in levels_of.items():
        names = [
            s.name
            for s in builtin()
            if s.cost == "linear" and (s.name, level) in measured and measured[s.name, level].ratio < LIGHT
        ]
        lines.append(f"  {site}: [{', '.join(sorted(names))}]\n")
    return "".join(lines)


def full() -> str:
    """search_spaces/full.yaml: every block at every site; what cannot stand on a map is left out by max_tokens."""
    names = sorted(s.name for s in builtin())
    return "".join(
        [
            GENERATED,
            f"about: all {len(names)} blocks, wherever they may stand\n",
            "max_blocks: 3\n",
            f"max_tokens: {MAX_TOKENS}\n",
            "blocks:\n",
            *(f"  - {name}\n" for name in names),
            "sites:\n",
            *(f"  - {site}\n" for site in _all_sites()),
        ]
    )


def page() -> str:
    """modules/README.md: the catalogue."""
    measured = latencies()
    one = next(iter(measured.values()))
    lines = [PAGE.format(count=len(builtin()), base_ms=one.base_ms, device=one.device, threads=one.threads)]
    for family in FAMILIES:
        specs = [s for s in builtin() if s.family == family]
        lines.append(f"\n## {family} ({len(specs)})\n\n{_about(family)}\n\n")
        rows = [[f"`{s.name}`", s.title.rstrip("."), link(s.paper), *_cells(s, measured), allowed(s)] for s in specs]
        lines.append(table(["name", "", "paper", "parameters", "GFLOPs", "latency", "stands"], rows))
    return "".join(lines)


def parity_page() -> str:
    """modules/PARITY.md: every comparison with code that is not ours."""
    rows = [
        [f"`{p.name}`", p.repository, f"`{p.commit}`" if p.commit else "", p.file, p.max_abs_difference, p.note]
        for p in sorted(parities(), key=lambda p: p.name)
    ]
    head = ["block", "repository", "commit", "file", "largest difference", "what differs, and why"]
    missing = sorted({s.name for s in builtin()} - {p.name for p in parities()})
    without = f"\nNo other implementation was run for: {', '.join(missing)}.\n" if missing else ""
    return PARITY + table(head, rows) + without


def files() -> dict[str, str]:
    """What scripts/catalogue.py writes: path -> text."""
    return {
        "modules/README.md": page(),
        "modules/PARITY.md": parity_page(),
        "search_spaces/light.yaml": light(),
        "search_spaces/full.yaml": full(),
    }


def level_of(site: str) -> str:
    """The level, p2 to p5, of a site's name."""
    return "p5" if site == "backbone.psa" else site.split(".")[1].split("_")[0]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def three(spec: Spec, cell: Callable[[str], str]) -> str:
    """`cell(level)` at P3/P4/P5; - where the block may not stand."""
    return "/".join(cell(level) if stands(spec, level) else "-" for level in ("p3", "p4", "p5"))


def short(number: int) -> str:
    """A count as a person writes it: 68, 1.1k, 24k, 1.6M."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}" if number < 10 * size else f"{number / size:.0f}{unit}"
    return str(number)


def _cells(spec: Spec, measured: Mapping[tuple[str, str], Measured]) -> list[str]:
    def latency(level: str) -> str:
        found = measured.get((spec.name, level))
        return "?" if found is None else f"{found.ratio:.3f}"

    return [
        three(spec, lambda level: short(costs(spec, level)[0])),
        three(spec, lambda level: f"{costs(spec, level)[1]:.3f}"),
        three(spec, latency),
    ]


def _about(family: str) -> str:
    return (__import__(f"modules.{family}", fromlist=["_"]).__doc__ or "").strip()


def _all_sites() -> list[str]:
    from search_spaces import load

    return [name for name, _ in load("article").sites]


def _read(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


PAGE = """<!-- Written by scripts/catalogue.py; the tables come from the registry and the records beside this file. -->

# The blocks

{count} attention blocks, [B, C, H, W] in and out, each in a file of its own with its paper and formula. `python -m nas
modules show NAME` prints a block's formula, options and references; [PARITY.md](PARITY.md) says what each was compared
with, [SPEED.md](SPEED.md) how it stands beside the code that people paste, [GUIDE.md](GUIDE.md) how to write your own.

Figures are for P3 / P4 / P5 of YOLOv10n at 640 pixels (64 x 80 x 80, 128 x 40 x 40, 256 x 20 x 20), the block wired
as `Attend` wires it. Parameters and GFLOPs are what the block adds (YOLOv10n: 2.8M with both heads, 8.8). Latency is
that of the detector with the block over that without, (base + block) / base, in deploy form, batch 1: base
{base_ms:.0f} ms on {device}, {threads} thread. Your device will differ: `python -m nas cost neck.p3=NAME` measures
there. A block whose cost grows with the square of its tokens stands only on maps of at most 1,600 of them.

![Latency against parameters, a colour a family](cost.png)
"""

PARITY = """<!-- Written by scripts/catalogue.py from parity.csv. -->

# What each block was compared with

In the test suite every block is held against a float64 NumPy version written from its paper's formula by another hand
(`tests/unit/modules/references*.py`), and against timm, torchvision or Ultralytics where their class equals the paper.
Beyond that, once and by hand, against the published code: our weights in their class, float64, evaluation mode. Below
is the largest absolute difference of the outputs.

"""
