"""Goes in: the registry, the records modules/*.csv. Comes out: what each block costs, where it may stand."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable
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
    rows = read("latency.csv")
    found = [Measured(**{k: types.get(k, str)(v) for k, v in row.items()}) for row in rows]  # type: ignore[arg-type]
    return {(m.block, m.level): m for m in found}


def base_range() -> str:
    """The base's latencies in the record, in ms: lowest to highest."""
    found = [m.base_ms for m in latencies().values()]
    return f"{min(found):.0f} to {max(found):.0f}"


def parities() -> list[Parity]:
    """The comparisons with other implementations."""
    return [Parity(**row) for row in read("parity.csv")]


def results() -> list[Result]:
    """What is known of the blocks' gains, from studies/."""
    return [Result(**{**row, "seeds": int(row["seeds"])}) for row in read("results.csv")]  # type: ignore[arg-type]


def builtin() -> list[Spec]:
    """This package's blocks, by family and name."""
    specs = [modules.spec(name) for name in modules.names()]
    return sorted((s for s in specs if s.builtin), key=lambda s: (FAMILIES.index(s.family), s.name))


def allowed(spec: Spec) -> str:
    """Where the block may stand at 640 pixels, in words."""
    where = [level for level in LEVELS if stands(spec, level)]
    return "anywhere" if len(where) == len(LEVELS) else ", ".join(level.upper() for level in where)


def address(paper: str) -> str:
    """Where the paper is."""
    number = paper.removeprefix("arXiv:")
    return f"https://arxiv.org/abs/{number}" if number != paper else paper


def level_of(site: str) -> str:
    """The level, p2 to p5, of a site's name."""
    return "p5" if site == "backbone.psa" else site.split(".")[1].split("_")[0]


def three(spec: Spec, cell: Callable[[str], str]) -> str:
    """`cell(level)` at P3/P4/P5; - where the block may not stand."""
    return "/".join(cell(level) if stands(spec, level) else "-" for level in ("p3", "p4", "p5"))


def short(number: int) -> str:
    """A count as a person writes it: 68, 1.1k, 24k, 1.6M."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}" if number < 10 * size else f"{number / size:.0f}{unit}"
    return str(number)


def read(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
