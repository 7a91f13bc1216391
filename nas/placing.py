"""Goes in: a placement as people write it. Comes out: it read, and what of it cannot be, or is doubtful, in a model."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import yaml as pyyaml

import modules
from nas import graph
from nas.errors import InputError
from nas.fit import refusal
from search_spaces import Block, Placement

ITEM = re.compile(r"(?P<site>[\w.]+)=(?P<block>\w+)(?:\((?P<options>.*)\))?$")
SPLIT = re.compile(r"[\s+]+(?=[\w.]+=\w+)(?![^()]*\))")  # between items, not inside parentheses
YAML = (".yaml", ".yml")
MANY = 1600  # tokens, above which a block that costs their square is worth a word; the spaces' limit


class GraftError(InputError):
    """A placement that does not fit a model, or a file that is not to be written."""


def read(placement: Mapping[str, Any] | str) -> Placement:
    """A placement as people write it in Python.

    Raises:
        GraftError: A block in another form than ``"eca"`` or ``{"eca": {"kernel_size": 3}}``.
    """
    try:
        if isinstance(placement, str):
            return parse(SPLIT.split(placement.strip()))
        written = {site: block for site, block in placement.items() if isinstance(block, str) and "(" in block}
        parsed = dict(parse([f"{site}={block}" for site, block in written.items()]))
        return Placement.of({**placement, **parsed})
    except ValueError as e:
        raise GraftError(str(e)) from e


def parse(items: list[str]) -> Placement:
    """``["neck.p3=eca", "backbone.p4=cot(kernel_size=5)"]`` -> Placement.

    Raises:
        GraftError: Another form, or a site named twice.
    """
    blocks: dict[str, Block] = {}
    for item in items:
        found = ITEM.match(item.strip())
        if found is None and item.endswith((".pt", *YAML)):
            raise GraftError(f"{item!r}: a model goes behind --base; expected SITE=BLOCK, for instance neck.p3=eca")
        if found is None:
            raise GraftError(f"{item!r}: expected SITE=BLOCK or 'SITE=BLOCK(option=value)', for instance neck.p3=eca")
        if found["site"] in blocks:
            raise GraftError(f"{item!r}: {found['site']} is named twice")
        options = {}
        for part in filter(None, (found["options"] or "").split(",")):
            key, equals, value = part.partition("=")
            if not equals:
                raise GraftError(f"{item!r}: an option is written name=value, got {part.strip()!r}")
            try:
                options[key.strip()] = pyyaml.safe_load(value)
            except pyyaml.YAMLError as e:
                raise GraftError(f"{item!r}: {value!r} is no value") from e
        try:
            blocks[found["site"]] = Block.parse({found["block"]: options or None})
        except ValueError as e:
            raise GraftError(f"{item!r}: {e}") from e
    return Placement.of(blocks)


def check(
    placement: Placement,
    base: Mapping[str, Any],
    wire: str = "residual",
    imgsz: int = 640,
    max_tokens: int = sys.maxsize,
) -> None:
    """Hold a placement against a model's sites and the registry.

    Raises:
        GraftError: Every fault, one a line.
    """
    if wire not in ("residual", "plain"):
        raise GraftError(f"wire {wire!r}: expected residual or plain")
    found, faults = graph.sites(base), []
    for site, block in placement:
        try:
            modules.check_options(block.name, dict(block.options))
            reason = refusal(block, graph.pick(found, site), imgsz, max_tokens, wire)
        except ValueError as e:
            reason = f"{site}={block.label}: {e}"
        if reason:
            faults.append(reason)
    if faults:
        raise GraftError("\n".join(faults))


def doubts(placement: Placement, base: Mapping[str, Any], imgsz: int) -> list[str]:
    """What may not be meant, in words: a second block at a site, or one that is dear there."""
    found, everything = graph.sites(base), graph.rows(base)
    notes = []
    for name, block in placement:
        site = graph.pick(found, name)
        if everything[site.row][2] == "Attend":
            notes.append(f"{name} has a block already, {everything[site.row][3][1]}; {block.label} stands after it")
        size = site.size(imgsz)
        tokens = modules.spec(block.name).tokens(size, size)
        if tokens is not None and tokens > MANY:
            notes.append(
                f"{block.label} at {name}: its cost grows with the square of its tokens, {tokens:,} at {imgsz} px"
            )
    return notes
