"""Checks of a block's hyperparameters: the value comes back, or a ValueError says what, got and allowed."""

from __future__ import annotations


def integer(what: str, value: object, low: int = 1) -> int:
    """An int >= low (a bool is none)."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{what} is {value!r}, allowed: an int >= {low}")
    return value


def odd(what: str, value: object, low: int = 1) -> int:
    """An odd int >= low."""
    if integer(what, value, low) % 2 == 0:  # type: ignore[operator]
        raise ValueError(f"{what} is {value!r}, allowed: an odd int >= {low}")
    return value  # type: ignore[return-value]


def positive(what: str, value: object) -> float:
    """A number > 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{what} is {value!r}, allowed: a number > 0")
    return float(value)


def divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is <= limit: how groups and heads adapt to any channel count."""
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)
