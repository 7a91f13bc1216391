"""Goes in: a search space, a model's sites, an image size. Comes out: the space that fits, and why the rest cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import modules
from modules.attend import Attend
from nas import graph
from nas.errors import InputError
from search_spaces import Block, SearchSpace, Site, SpaceError
from search_spaces.space import without

T = TypeVar("T")


def load_modules(paths: tuple[str, ...], faults: list[str]) -> None:
    """Register blocks of installed plug-ins and of the user's own files."""
    attempt(modules.load_entry_points, faults)
    for path in paths:
        attempt(lambda p=path: modules.load(p), faults)  # type: ignore[misc]


def fit(
    space: SearchSpace,
    found: tuple[Site, ...],
    imgsz: int,
    wire: str,
    faults: list[str],
    notes: list[str],
) -> SearchSpace:
    """Hold a space against a model's sites and the registry.

    A block of the common list that cannot stand at a site is left out there with a note; whatever a site lists
    for itself must fit. A shipped space is for every base: a site that the model lacks is left out with a note.
    """
    known: dict[str, str | None] = {label: _fault_of(block) for label, block in space.blocks.items()}
    faults += [fault for fault in known.values() if fault]
    for name, blocks in space.sites:
        try:
            site = graph.pick(found, name)
        except graph.GraphError as e:
            if space.shipped:
                notes.append(f"left out: {name}, which this model does not have")
                space = without(space, name, [block.label for block in blocks])
            else:
                faults.append(str(e))
            continue
        for block in blocks:
            reason = None if known[block.label] else refusal(block, site, imgsz, space.max_tokens, wire)
            if reason and name in space.listed:
                faults.append(reason)
            elif reason:
                notes.append(f"left out: {reason}")
                space = without(space, name, [block.label])
    if not space.sites:
        why = "".join(f"; {note}" for note in notes[-3:])
        faults.append(f"search space {space.name}: no block can stand at any of its sites{why}")
    return space


def refusal(block: Block, site: Site, imgsz: int, max_tokens: int, wire: str) -> str | None:
    """Why ``block`` cannot stand at ``site``, or None."""
    size = site.size(imgsz)
    tokens = modules.spec(block.name).tokens(size, size)
    if tokens is not None and tokens > max_tokens:
        return (
            f"{block.label} at {site.name}: its cost grows with the square of its tokens, {tokens:,} on the "
            f"{size}x{size} map at {imgsz} px; the space's max_tokens is {max_tokens:,}"
        )
    try:
        Attend(site.channels, block.name, dict(block.options), wire)
    except Exception as e:
        return f"{block.label} at {site.name} ({site.channels} channels): {e}"
    return None


def _fault_of(block: Block) -> str | None:
    try:
        modules.check_options(block.name, dict(block.options))
    except ValueError as e:
        unknown = block.name not in modules.names()
        return f"{e}" + ("; a block of your own comes in by --modules FILE" if unknown else "")
    return None


def attempt(step: Callable[[], T], faults: list[str]) -> T | None:
    """Run one check; its error becomes a fault, and the checks after it go on."""
    try:
        return step()
    except (InputError, SpaceError) as e:
        faults.append(str(e))
    except (ValueError, OSError, ImportError, RuntimeError) as e:
        faults.append(" ".join(str(e).split()))
    return None
