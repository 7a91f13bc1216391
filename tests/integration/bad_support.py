"""What a faulty input is: how it comes about, the command that meets it, and what the message must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HUGE = "x" * 100_000  # a name that nobody meant
SEARCH = ("search", "--recipe", "<tmp>/good.yaml")


@dataclass(frozen=True)
class Ready:
    """What a case may damage: a recipe that would run, and what it names, all in a folder of its own."""

    tmp: Path

    @property
    def recipe(self) -> Path:
        """The good recipe."""
        return self.tmp / "good.yaml"

    @property
    def data(self) -> Path:
        """data.yaml of a tiny dataset: 4 pictures to train on, 2 to validate, 2 to test."""
        return self.tmp / "own" / "data.yaml"

    @property
    def base(self) -> Path:
        """YAML of a tiny YOLOv10."""
        return self.tmp / "tiny.yaml"

    @property
    def space(self) -> Path:
        """A space for it."""
        return self.tmp / "small.yaml"

    @property
    def file(self) -> Path:
        """A file of the case's own: weights, a plug-in."""
        return self.tmp / "own.pt"

    def labels(self, split: str = "*") -> list[Path]:
        """The label files."""
        return sorted(self.data.parent.glob(f"labels/{split}/*.txt"))

    def images(self, split: str = "*") -> list[Path]:
        """The pictures."""
        return sorted(self.data.parent.glob(f"images/{split}/*.png"))


Damage = Callable[[Ready], object]


@dataclass(frozen=True)
class Case:
    """A faulty input.

    Args:
        name: Of the case.
        parts: What the message must hold.
        damage: Makes the fault.
        args: The command; ``<tmp>`` stands for the case's folder, ``<searched>`` for that of a finished search.
    """

    name: str
    parts: tuple[str, ...]
    damage: Damage
    args: tuple[str, ...] = SEARCH


def none(ready: Ready) -> None:
    """Nothing is damaged: the command itself is at fault."""


def edit(which: str, old: str, new: str) -> Damage:
    """Replace text in the ``recipe``, ``data``, ``base`` or ``space``."""

    def damage(ready: Ready) -> None:
        file: Path = getattr(ready, which)
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return damage


def put(which: str, content: str | bytes) -> Damage:
    """Write the whole file anew."""

    def damage(ready: Ready) -> None:
        file: Path = getattr(ready, which)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    return damage


def append(which: str, text: str) -> Damage:
    """Write more at the end of a file."""

    def damage(ready: Ready) -> None:
        file: Path = getattr(ready, which)
        file.write_text(file.read_text() + text)

    return damage


def folder(which: str) -> Damage:
    """A folder where a file is expected."""

    def damage(ready: Ready) -> None:
        file: Path = getattr(ready, which)
        file.unlink(missing_ok=True)
        file.mkdir()

    return damage


def each(kind: str, split: str, content: str | bytes) -> Damage:
    """Write every label file or picture of a split anew."""

    def damage(ready: Ready) -> None:
        for file in getattr(ready, kind)(split):
            file.write_bytes(content if isinstance(content, bytes) else content.encode())

    return damage


def bomb(key: str) -> str:
    """A YAML of 600 bytes with ten thousand million values below ``key``."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join([*lines, f"{key}: *a9"]) + "\n"
