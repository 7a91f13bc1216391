"""Goes in: a YAML file. Comes out: plain data, or one line on why it cannot be used: nothing in it is run or lost.

Beside what YAML itself refuses: text that is not UTF-8, a key that stands twice (PyYAML keeps the last without a word),
anchors that hold themselves or swell into a bomb, tags that name Python's objects, and files beyond any use.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 2_000_000
MOST_NODES = 200_000  # with every alias written out
DEEPEST = 50  # levels of lists and mappings


class Unreadable(ValueError):
    """A file that is no YAML which can be used; the message says why, without naming the file."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, that refuses a key which stands twice in a mapping."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """As PyYAML has it; keys that `<<` merges in may be written again."""
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise Unreadable(f"line {key_node.start_mark.line + 1}: the key {str(key)[:80]!r} stands there twice")
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def read(path: str | Path) -> Any:
    """The data of a file.

    Raises:
        Unreadable: Says why, in one line.
    """
    if os.path.isdir(path):
        raise Unreadable("a folder, expected a YAML file")
    try:
        if (size := os.path.getsize(path)) > MOST_BYTES:
            raise Unreadable(f"{size:,} bytes, which is no YAML written for this (at most {MOST_BYTES:,})")
        raw = Path(path).read_bytes()
    except OSError as e:
        raise Unreadable(f"cannot be read: {e.strerror or e}") from e
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        what = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else f"the byte 0x{raw[e.start]:02x} at {e.start}"
        raise Unreadable(f"not a YAML file: expected text in UTF-8, got {what}; save it as UTF-8") from e
    return parse(text)


def parse(text: str) -> Any:
    """The data of a text.

    Raises:
        Unreadable: Says why, in one line.
    """
    try:
        _measure(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _size(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except Unreadable:
        raise
    except yaml.MarkedYAMLError as e:
        line = f"line {e.problem_mark.line + 1}: " if e.problem_mark else ""
        what = " ".join(str(e.problem or e.context).split())[:200]
        tab = " (a tab? YAML is indented by spaces)" if "cannot start any token" in what else ""
        raise Unreadable(f"not a YAML file: {line}{what}{tab}") from e
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as e:  # the last are of values: 2024-99-99
        raise Unreadable(f"not a YAML file: {' '.join(str(e).split())[:200]}") from e
    except RecursionError as e:
        raise Unreadable("not a YAML file: nested too deep") from e


def _measure(text: str) -> None:
    """Refuse what is nested too deep, before anything walks down there."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            line = f" (line {event.start_mark.line + 1})" if event.start_mark else ""
            raise Unreadable(f"nested deeper than {DEEPEST} levels{line}")


def _size(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Nodes under ``node`` with every alias written out."""
    if not isinstance(node.value, list):
        return 1
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise Unreadable(f"line {node.start_mark.line + 1}: an anchor that holds itself")
        return found
    known[id(node)] = None
    total = 1
    for item in node.value:
        total += sum(_size(n, known) for n in (item if isinstance(item, tuple) else (item,)))
    if total > MOST_NODES:
        raise Unreadable(f"its aliases swell it to more than {MOST_NODES:,} values")
    known[id(node)] = total
    return total
