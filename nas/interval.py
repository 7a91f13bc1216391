"""A figure and where it lies: what effects, verdicts and correlations tell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A figure and where it lies with 95%; NaN where the data do not carry it."""

    value: float
    low: float
    high: float
