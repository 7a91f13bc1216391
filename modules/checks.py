"""Ranges of hyperparameters, written into a block's signature: `kernel_size: Annotated[int, Odd(3)] = 7`.

The registry reads them off: `create` and `check_options` refuse a value outside, `modules show` prints them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Protocol


class Range(Protocol):
    """What an option may be; `str(range)` reads as in "allowed: an int >= 1"."""

    def holds(self, value: object) -> bool:
        """Whether the value is allowed."""


@dataclass(frozen=True)
class Int:
    """An int >= low (a bool is none)."""

    low: int = 1

    def holds(self, value: object) -> bool:
        """Whether the value is allowed."""
        return isinstance(value, int) and not isinstance(value, bool) and value >= self.low

    def __str__(self) -> str:
        return f"an int >= {self.low}"


@dataclass(frozen=True)
class Odd:
    """An odd int >= low."""

    low: int = 1

    def holds(self, value: object) -> bool:
        """Whether the value is allowed."""
        return Int(self.low).holds(value) and value % 2 == 1  # type: ignore[operator]

    def __str__(self) -> str:
        return f"an odd int >= {self.low}"


@dataclass(frozen=True)
class Ints:
    """A list of ints, each within `each`."""

    each: Int | Odd = Int()

    def holds(self, value: object) -> bool:
        """Whether the value is allowed."""
        return isinstance(value, (list, tuple)) and len(value) > 0 and all(self.each.holds(v) for v in value)

    def __str__(self) -> str:
        return f"a list, each {self.each}"


@dataclass(frozen=True)
class Positive:
    """A number > 0, and <= high where that is given."""

    high: float | None = None

    def holds(self, value: object) -> bool:
        """Whether the value is allowed."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return 0 < value <= (float("inf") if self.high is None else self.high) and value != float("inf")

    def __str__(self) -> str:
        return "a number > 0" + ("" if self.high is None else f" and <= {self.high:g}")


@dataclass(frozen=True, init=False)
class OneOf:
    """One of the values listed."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)

    def holds(self, value: object) -> bool:
        """Whether the value is allowed."""
        return any(type(value) is type(v) and value == v for v in self.values)

    def __str__(self) -> str:
        return ", ".join(repr(v) for v in self.values)


Count = Annotated[int, Int(1)]  # groups, heads, reduction, a width
Kernel = Annotated[int, Odd(3)]  # a convolution's side


def require(what: str, allowed: Range, value: Any) -> Any:
    """The value, or a ValueError that says what, got and allowed."""
    if not allowed.holds(value):
        raise ValueError(f"{what} is {value!r}, allowed: {allowed}")
    return value


def divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is <= limit: how groups and heads adapt to any channel count."""
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)
