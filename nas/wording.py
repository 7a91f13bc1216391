"""Goes in: figures. Comes out: them as a report writes them. Gains are told in points of 0.01."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.interval import Interval

MINUS = "−"
SHIFTED = 0.0005  # from here on an interval is not symmetric and is told by its ends
UNITS = {"latency": "latency (x base)", "gflops": "GFLOPs"}
ROLES = {"base": "base", "candidate": "candidate", "random": "random placement", "convolution": "plain convolution"}


def signed(value: float | None, digits: int = 1) -> str:
    """``+12.1``, with a true minus; ``-`` for nothing and ``0.0`` without a sign."""
    if value is None or not math.isfinite(value):
        return "-"
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def points(gain: float | None, digits: int = 1) -> str:
    """0.121 -> ``+12.1``."""
    return signed(None if gain is None else 100 * gain, digits)


def half(interval: Interval) -> float:
    """Half its width."""
    return (interval.high - interval.low) / 2


def is_symmetric(interval: Interval) -> bool:
    """Whether value ± half says it all."""
    return abs(interval.high + interval.low - 2 * interval.value) < SHIFTED


def is_told(interval: Interval | None) -> bool:
    """Whether there are figures in it."""
    return interval is not None and all(map(math.isfinite, (interval.value, interval.low, interval.high)))


def gain(interval: Interval | None) -> str:
    """``+12.1 ± 0.8``, or ``+12.1 (+10.9 to +12.5)`` where it is not symmetric."""
    if interval is None:
        return "-"
    if not is_told(interval):
        return points(interval.value)
    if is_symmetric(interval):
        return f"{points(interval.value)} ± {100 * half(interval):.1f}"
    return f"{points(interval.value)} ({points(interval.low)} to {points(interval.high)})"


def ratio(interval: Interval | None) -> str:
    """``x1.29 ± 0.01``"""
    if interval is None:
        return "-"
    plus = f" ± {half(interval):.2f}" if is_told(interval) and half(interval) > 0 else ""
    return f"x{interval.value:.2f}{plus}"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with so many digits behind the point, or ``-``."""
    return "-" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def duration(seconds: float | None) -> str:
    """``12 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def count(n: int, one: str, many: str | None = None) -> str:
    """``1 seed``, ``5 seeds``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
