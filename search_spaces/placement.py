"""Goes in: which block at which site. Comes out: a frozen value with a short stable id, JSON both ways."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

NONE = "none"
LABEL = re.compile(r"(?P<name>\w+)(?:\((?P<options>.+)\))?")
PLUS = re.compile(r" \+ (?=[\w.]+=)")


@dataclass(frozen=True, order=True)
class Block:
    """A registered block's name and the hyperparameters that differ from its defaults.

    Args:
        name: Name in the registry, e.g. ``eca``.
        options: Sorted ``(keyword, value)`` pairs; values are JSON scalars.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @staticmethod
    def parse(item: Any) -> Block:
        """Read ``eca``, ``{eca: {kernel_size: 3}}`` or ``{eca: null}``.

        Raises:
            ValueError: Any other form.
        """
        if isinstance(item, Block):
            return item
        if isinstance(item, str):
            return Block(item)
        if isinstance(item, Mapping) and len(item) == 1:
            ((name, options),) = item.items()
            if isinstance(name, str) and (options is None or isinstance(options, Mapping)):
                for key, value in (options or {}).items():
                    plain = isinstance(key, str) and isinstance(value, str | int | float | None)
                    if not plain or (isinstance(value, float) and not math.isfinite(value)):
                        raise ValueError(
                            f"{name}: option {key!r} is {value!r}; allowed: finite number, text, true, false, null"
                        )
                return Block(name, tuple(sorted((options or {}).items())))
        raise ValueError(f"a block is written `name` or `name: {{option: value}}`, got {item!r}")

    @cached_property
    def label(self) -> str:
        """``eca`` or ``eca(kernel_size=3)``: the categorical value that a study stores."""
        if not self.options:
            return self.name
        return f"{self.name}({', '.join(f'{k}={json.dumps(v)}' for k, v in self.options)})"

    @staticmethod
    def from_label(text: str) -> Block:
        """The inverse of :attr:`label`.

        Raises:
            ValueError: It is no label.
        """
        found = LABEL.fullmatch(text)
        options, rest = {}, (found["options"] or "") if found else ""
        try:
            while rest:
                key, _, rest = rest.partition("=")
                options[key], end = json.JSONDecoder().raw_decode(rest)
                rest = rest[end:].removeprefix(", ")
        except ValueError:
            found = None
        block = Block(found["name"], tuple(sorted(options.items()))) if found else None
        if block is None or block.label != text:
            raise ValueError(f"{text!r} is no block's label; one reads eca or eca(kernel_size=3)")
        return block

    def to_json(self) -> Any:
        """The form that :meth:`parse` reads back."""
        return {self.name: dict(self.options)} if self.options else self.name


@dataclass(frozen=True)
class Placement:
    """A frozen mapping site -> Block; a site without a block is absent. The empty placement is the base.

    Args:
        blocks: ``(site, Block)`` pairs sorted by site.
    """

    blocks: tuple[tuple[str, Block], ...] = ()

    @staticmethod
    def of(blocks: Mapping[str, Any]) -> Placement:
        """Build from a mapping; ``none`` and ``None`` are left out."""
        kept = {site: Block.parse(item) for site, item in blocks.items() if item not in (None, NONE)}
        return Placement(tuple(sorted(kept.items())))

    @cached_property
    def id(self) -> str:
        """Ten hexadecimal digits that depend on the active content alone."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def label(self) -> str:
        """``neck.p3=eca + neck.p4=cot``, or ``base`` for the empty placement."""
        return " + ".join(f"{site}={block.label}" for site, block in self.blocks) or "base"

    @staticmethod
    def from_label(text: str) -> Placement:
        """The inverse of :attr:`label`.

        Raises:
            ValueError: It is no label.
        """
        if text == "base":
            return Placement()
        pairs = [part.partition("=") for part in PLUS.split(text)]
        if len({site for site, _, _ in pairs}) < len(pairs):
            raise ValueError(f"{text!r} names a site twice")
        return Placement(tuple(sorted((site, Block.from_label(block)) for site, _, block in pairs)))

    def to_json(self) -> dict[str, Any]:
        """A JSON object, site -> block."""
        return {site: block.to_json() for site, block in self.blocks}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Placement:
        """The inverse of :meth:`to_json`."""
        return Placement.of(data)

    def __iter__(self) -> Iterator[tuple[str, Block]]:
        return iter(self.blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    def get(self, site: str) -> Block | None:
        """The block at ``site``, or None."""
        return dict(self.blocks).get(site)
