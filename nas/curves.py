"""Goes in: trained trials. Comes out: their training curves as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial


def curve(score: Mapping[str, Any]) -> str:
    """CSV: training images seen, and the score there."""
    return _csv(["images", "value"], [[p["images"], p["value"]] for p in points(score)])


def curves(trials: Sequence[FrozenTrial]) -> str:
    """CSV of all training curves, a placement's once."""
    told = [(t.number, t.user_attrs["label"], points(t.user_attrs["score"])) for t in trials]
    rows = [[number, label, p["images"], p["value"]] for number, label, along in told for p in along]
    return _csv(["trial", "placement", "images", "value"], rows)


def points(score: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The points of a training's curve; its end where none was recorded."""
    return score.get("curve") or [{"images": score["images_seen"], "value": score["value"]}]


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()
