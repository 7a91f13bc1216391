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


LEAST_PLACEMENTS = 6  # beside the base


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
        split: The images that they were scored on, in words.
    """

    name: str
    metric: str
    images: int | None
    placements: tuple[Placement, ...]
    seeds: tuple[int, ...]
    values: np.ndarray
    split: str = "val"


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
    """A study's placements at the end of their training or, also those that were not trained so far, at ``images``.

    Raises:
        EffectsError: No trial with a score, none with that budget, or too few trained to the end.
    """
    done, part = _scored(study)
    if not done and not part:
        raise EffectsError(f"study {study.study_name!r} has no finished trial with a score")
    if images is None and len(done) <= LEAST_PLACEMENTS and part:
        at = max(a["score"]["images_seen"] for a in part)
        raise EffectsError(
            f"study {study.study_name!r}: effects need {LEAST_PLACEMENTS} placements beside the base; {len(done)} with "
            f"the base were trained to the end, {len(part)} more in part: --budget {at} reads all of them at that rung"
        )
    done += part if images is not None else []
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
    found, split = np.array([v for _, v in kept]), str(score.get("split", "val"))
    return Trainings(study.study_name, score["metric"], budget, placements, seeds, found, split)


def _scored(study: optuna.Study) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is recorded of placements trained to the end, and of those that were trained in part."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for trial in study.get_trials(deepcopy=False):
        attrs = trial.user_attrs
        if (
            trial.state.name in ("COMPLETE", "PRUNED")
            and "value" in attrs.get("score", {})
            and "duplicate_of" not in attrs
        ):
            found[attrs.get("placement_id", str(trial.number))] = (trial.state.name, attrs)
    return [a for s, a in found.values() if s == "COMPLETE"], [a for s, a in found.values() if s == "PRUNED"]


def _at(score: Mapping[str, Any], images: int | None) -> float | None:
    points = [*score.get("curve", ()), _end(score)]
    return next((float(p["value"]) for p in reversed(points) if images in (None, p["images"])), None)


def _end(score: Mapping[str, Any]) -> dict[str, Any]:
    return {"images": score.get("images_seen"), "value": score["value"]}
