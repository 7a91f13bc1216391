"""Goes in: the words of a command, an error. Comes out: the words checked to be text, the error as lines to print.

A name of 100,000 characters is shortened, and what would move a terminal's cursor is written out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

LONGEST_WORD = 4096  # characters of an argument, or of a value in a recipe; the longest path there is
LINE, WORD, ALL = 700, 120, 1900  # characters of a line, of a word in a line that is too long, of all lines
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # control, invisible, half a character, private, line ends


def fault_of(text: str, multiline: bool = False) -> str | None:
    """Why a text is none that a file, a block or a study can be called by, or None."""
    if len(text) > LONGEST_WORD:
        return f"{len(text):,} characters, expected at most {LONGEST_WORD:,}: {text[:40]!r}..."
    bad = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs") and not (multiline and c in "\n\t")), None)
    if bad is None:
        return None
    what = "bytes that are no UTF-8 text" if unicodedata.category(bad) == "Cs" else f"the control character {bad!r}"
    return f"{text[:200]!r} holds {what}"


def faults_of(args: Iterable[str]) -> list[str]:
    """What is wrong with the words of a command, before any of them is looked at."""
    return [f"argument {number}: {fault}" for number, arg in enumerate(args, 1) if (fault := fault_of(arg))]


def lines(error: BaseException | str) -> list[str]:
    """A message as lines to print: those that are no part of the one before begin with ``error:``."""
    found: list[str] = []
    left, all_of_it = ALL, [shown(line) for line in str(error).split("\n") if line.strip()]
    for number, line in enumerate(all_of_it or ["no reason was given"]):
        told = line if line.startswith("  ") else f"error: {line}"
        left -= len(told) + 1
        if left < 0:
            return [*found, f"  ... and {len(all_of_it) - number} more lines"]
        found.append(told)
    return found


def shown(line: str) -> str:
    """A line with its hidden characters written out; where it is too long, its long words shortened, then itself."""
    line = "".join(_written(line)).rstrip()
    if len(line) > LINE:
        line = re.sub(rf"\S{{{WORD},}}", lambda word: shortened(word[0], WORD), line)
    return shortened(line, LINE)


def shortened(text: str, most: int) -> str:
    """Its beginning and its end, where it is longer."""
    half = (most - 5) // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def _written(line: str) -> Iterator[str]:
    for c in line:
        yield c.encode("unicode_escape").decode() if unicodedata.category(c) in HIDDEN else c
