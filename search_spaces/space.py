"""Goes in: a space as YAML. Comes out: for each site the blocks it may take, and placements sampled from them."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from search_spaces import yaml_file
from search_spaces.placement import NONE, Block, Placement

FOLDER = Path(__file__).parent
LONGEST_NAME = 80  # characters
KEYS = ("name", "about", "max_blocks", "max_tokens", "blocks", "sites")


class SpaceError(ValueError):
    """A search space that cannot be used: says what, got, allowed and the nearest match."""


class Trial(Protocol):
    """The one method of an Optuna trial that sampling needs."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any: ...


@dataclass(frozen=True)
class Site:
    """A named place in the base graph: the output of ``row``, ``channels`` wide, at ``stride`` input pixels."""

    name: str
    row: int
    stride: int
    channels: int

    def size(self, imgsz: int) -> int:
        """Side of the map in cells for a square image of ``imgsz`` pixels."""
        return imgsz // self.stride


@dataclass(frozen=True)
class SearchSpace:
    """What may stand where.

    Args:
        name: How messages and studies call it.
        sites: ``(site, blocks)`` pairs in file order; every site may also stay empty.
        max_blocks: At most so many sites of a placement are filled.
        max_tokens: A block whose attention matrix grows with the square of its tokens may stand only where it
            has at most so many.
        listed: Sites whose blocks are listed for themselves. Whatever cannot stand there is an error; a block
            of the common list that cannot stand at a site is left out of it with its reason.
        shipped: It came with the package and is for every base: a site that a model lacks is left out.
    """

    name: str
    sites: tuple[tuple[str, tuple[Block, ...]], ...]
    max_blocks: int
    max_tokens: int = 1600
    listed: frozenset[str] = frozenset()
    shipped: bool = False

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of all that decides which placements exist."""
        text = json.dumps(
            [[(s, [b.label for b in blocks]) for s, blocks in self.sites], self.max_blocks, self.max_tokens]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def blocks(self) -> dict[str, Block]:
        """Every block of the space by its label."""
        return {block.label: block for _, blocks in self.sites for block in blocks}

    @property
    def size(self) -> int:
        """Number of distinct placements, the empty one included."""
        ways = [1] + [0] * self.max_blocks  # ways[k]: placements of the sites so far with k blocks
        for _, blocks in self.sites:
            for k in range(self.max_blocks, 0, -1):
                ways[k] += ways[k - 1] * len(blocks)
        return sum(ways)

    def placements(self) -> Iterator[Placement]:
        """Every placement, the empty one first; see :attr:`size` before asking for all."""
        names = [s for s, _ in self.sites]
        of = dict(self.sites)
        for count in range(self.max_blocks + 1):
            for chosen in itertools.combinations(names, count):
                for blocks in itertools.product(*(of[s] for s in chosen)):
                    yield Placement.of(dict(zip(chosen, blocks, strict=True)))

    def neighbours(self, placement: Placement) -> Iterator[Placement]:
        """Placements that differ at one site: another block there, none, or one more."""
        here = dict(placement)
        for site, blocks in self.sites:
            for block in (None, *blocks):
                changed = {**here, site: block}
                if block != here.get(site) and sum(b is not None for b in changed.values()) <= self.max_blocks:
                    yield Placement.of(changed)

    def choices(self, site: str) -> tuple[str, ...]:
        """The categorical values at a site, ``none`` first."""
        return (NONE, *(block.label for block in dict(self.sites)[site]))

    def placement(self, params: Mapping[str, str]) -> Placement:
        """The placement that a trial's parameters name."""
        blocks = self.blocks
        return Placement.of({s: blocks[label] for s, label in params.items() if label != NONE})

    def params(self, placement: Placement) -> dict[str, str]:
        """The parameters of a trial that name ``placement``: every site, ``none`` where it is empty."""
        return {s: block.label if (block := placement.get(s)) else NONE for s, _ in self.sites}


def sample(space: SearchSpace, trial: Trial) -> Placement:
    """Suggest every site of ``space`` as one flat categorical, in every trial (GP needs each present)."""
    return space.placement({s: trial.suggest_categorical(s, space.choices(s)) for s, _ in space.sites})


def shipped() -> dict[str, Path]:
    """The spaces that come with the package, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def load(name_or_path: str | Path) -> SearchSpace:
    """Read a shipped space by its name, or any by its path.

    Raises:
        SpaceError: It does not exist, is no YAML, or says something a space cannot say.
    """
    known = shipped()
    path = known.get(str(name_or_path), Path(name_or_path))
    if not os.path.isfile(path):
        raise SpaceError(
            f"search space {str(name_or_path)!r} not found; shipped: {', '.join(known)}{_near(name_or_path, known)}; "
            "or give the path of a YAML file"
        )
    try:
        data = yaml_file.read(path)
    except yaml_file.Unreadable as e:
        raise SpaceError(f"search space {path}: {e}") from e
    return replace(parse(data, name=path.stem, where=str(path)), shipped=path in known.values())


def parse(data: Any, name: str = "space", where: str = "search space") -> SearchSpace:
    """Check a space's mapping and freeze it; all faults are told at once.

    Raises:
        SpaceError: With one line a fault.
    """
    if not isinstance(data, Mapping):
        raise SpaceError(f"{where}: expected a mapping with the keys {', '.join(KEYS)}, got {type(data).__name__}")
    faults = [f"unknown key {k!r}; allowed: {', '.join(KEYS)}{_near(k, KEYS)}" for k in data if k not in KEYS]
    common = _blocks(data.get("blocks"), "blocks", faults)
    raw, sites = data.get("sites"), {}
    if isinstance(raw, Mapping) and raw:
        for site, own in raw.items():
            sites[str(site)] = common if own is None else _blocks(own, f"sites.{site}", faults)
    elif isinstance(raw, list) and raw and all(isinstance(s, str) for s in raw):
        faults += [f"sites: {s!r} is named twice" for s in dict.fromkeys(raw) if raw.count(s) > 1]
        sites = dict.fromkeys(raw, common)
    else:
        faults.append(f"sites: expected a list of site names, or a mapping from site to blocks, got {raw!r}")
    faults += [f"sites.{s}: no block to choose from" for s, blocks in sites.items() if not blocks]
    title = data.get("name", name[:LONGEST_NAME])
    if not isinstance(title, str | int) or not str(title).isprintable() or not 0 < len(str(title)) <= LONGEST_NAME:
        faults.append(f"name: expected a text of up to {LONGEST_NAME} characters, got {str(title)[:100]!r}")
    max_blocks = _count(data, "max_blocks", len(sites) or 1, faults)
    max_tokens = _count(data, "max_tokens", 1600, faults)
    if faults:
        raise SpaceError("\n".join(f"{where}: {fault}" for fault in faults))
    listed = frozenset(s for s, own in raw.items() if own is not None) if isinstance(raw, Mapping) else frozenset()
    return SearchSpace(str(title), tuple(sites.items()), min(max_blocks, len(sites)), max_tokens, listed)


def without(space: SearchSpace, site: str, labels: Iterable[str]) -> SearchSpace:
    """The space with some blocks taken out of one site; a site left empty goes."""
    gone = set(labels)
    kept = [(s, tuple(b for b in bs if s != site or b.label not in gone)) for s, bs in space.sites]
    sites = tuple((s, bs) for s, bs in kept if bs)
    return replace(space, sites=sites, max_blocks=min(space.max_blocks, len(sites)))


def _blocks(items: Any, where: str, faults: list[str]) -> tuple[Block, ...]:
    if items is None:
        return ()
    if not isinstance(items, list):
        faults.append(f"{where}: expected a list of blocks, got {items!r}")
        return ()
    blocks = []
    for item in items:
        try:
            blocks.append(Block.parse(item))
        except ValueError as e:
            faults.append(f"{where}: {e}")
    for block in dict.fromkeys(blocks):
        if blocks.count(block) > 1:
            faults.append(f"{where}: {block.label!r} is listed twice")
        if block.name == NONE:
            faults.append(f"{where}: 'none' need not be listed; every site may stay empty")
    return tuple(blocks)


def _count(data: Mapping[str, Any], key: str, default: int, faults: list[str]) -> int:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        faults.append(f"{key}: expected a whole number of at least 1, got {value!r}")
        return default
    return value


def _near(name: Any, allowed: Iterable[str]) -> str:
    match = difflib.get_close_matches(str(name), list(allowed), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""
