"""Goes in: a table or a finished study. Comes out: Trainings, the scores that effects are read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas import table
from nas.errors import InputError
from search_spaces import Placement

if TYPE_CHECKING:
    import optuna


class EffectsError(InputError):
    """Data that no effect can be read from, or a question about what is not in them."""


@dataclass(frozen=True)
class Trainings:
    """Scores to explain, one a training; the untouched base is the empty placement.

    Args:
        name: Of the study or table.
        metric: What ``values`` are, in [0, 1].
        images: Training images of each, or None where unknown.
        placements, seeds, values: One entry a training.
    """

    name: str
    metric: str
    images: int | None
    placements: tuple[Placement, ...]
    seeds: tuple[int, ...]
    values: np.ndarray


def from_table(source: table.Table, images: int | None = None) -> Trainings:
    """A table's trainings at one budget, the largest by default.

    Raises:
        TableError: No such budget.
    """
    images = table.check_budget(source, images)
    rows = source.trials[source.trials["images"] == images]
    placements = tuple(Placement.from_label(label) for label in rows["placement"])
    values = rows["map50_95"].to_numpy(float)
    return Trainings(source.name, "mAP50-95", images, placements, tuple(int(s) for s in rows["seed"]), values)


def from_study(study: optuna.Study, images: int | None = None) -> Trainings:
    """A study's finished trials, at the end of their training or where their curves have ``images``.

    Raises:
        EffectsError: No finished trial, or none with that budget.
    """
    done = [t.user_attrs for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    done = [a for a in done if "value" in a.get("score", {}) and "duplicate_of" not in a]
    if not done:
        raise EffectsError(f"study {study.study_name!r} has no finished trial with a score")
    values = [_at(a["score"], images) for a in done]
    if all(v is None for v in values):
        points = {p["images"] for a in done for p in [*a["score"].get("curve", ()), _end(a["score"])]}
        there = ", ".join(str(p) for p in sorted(points))
        raise EffectsError(f"study {study.study_name!r} has no score at {images} images; it has them at {there}")
    kept = [(a, v) for a, v in zip(done, values, strict=True) if v is not None]
    placements = tuple(Placement.from_json(a["placement"]) for a, _ in kept)
    score = kept[0][0]["score"]
    seeds = tuple(int(a["score"]["seed"]) for a, _ in kept)
    budget = images or score.get("images_seen")
    return Trainings(study.study_name, score["metric"], budget, placements, seeds, np.array([v for _, v in kept]))


def _at(score: Mapping[str, Any], images: int | None) -> float | None:
    points = [*score.get("curve", ()), _end(score)]
    return next((float(p["value"]) for p in reversed(points) if images in (None, p["images"])), None)


def _end(score: Mapping[str, Any]) -> dict[str, Any]:
    return {"images": score.get("images_seen"), "value": score["value"]}
