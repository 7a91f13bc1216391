"""Goes in: a study. Comes out: blocks x sites with intervals as a page shows them, or why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import optuna
import pandas as pd
from markupsafe import Markup

from nas import effects, effects_words, strips, trainings, wording
from nas.interval import Interval

MOST_PAIRS = 150  # pairs of blocks beyond which the page leaves the question of pairs to `effects`
MEAN = "mean"


@dataclass(frozen=True)
class Cell:
    """An effect: ``side`` is ``up`` or ``down`` where its interval excludes 0, else ``open``."""

    text: str
    side: str
    strip: Markup
    about: str


@dataclass(frozen=True)
class Grid:
    """Effects on the score.

    Args:
        sentences: What the data carry, most important first.
        sites: The columns, the mean first.
        rows: (block, column -> cell), the best block first, the mean over all last.
    """

    sentences: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    rows: tuple[tuple[str, Mapping[str, Cell]], ...] = ()
    refused: str = ""


def read(study: optuna.Study) -> Grid:
    """Fit the effects of a study; where its trainings do not carry that, the reason."""
    try:
        data = trainings.from_study(study)
        asked = len(effects.carried_pairs(data)) <= MOST_PAIRS
        model = effects.fit(data, pairs=asked)
    except trainings.EffectsError as e:
        return Grid(refused=str(e))
    found = effects.frame(model)
    sentences = effects_words.verdict(model)
    if not asked:
        sentences[-1] = (
            "Whether blocks add up was not asked here, for time's sake: the many pairs of these placements count as "
            f"noise. python -m nas effects {study.study_name} asks."
        )
    return grid(found, tuple(sentences))


def grid(found: pd.DataFrame, sentences: tuple[str, ...]) -> Grid:
    """Effects as cells; those of pairs are left out."""
    keys = {"any block": (MEAN, MEAN), "block": (None, MEAN), "site": (MEAN, None), "block at site": (None, None)}
    of: dict[tuple[str, str], Interval] = {}
    about: dict[tuple[str, str], str] = {}
    for row in found[found["effect"].isin(keys)].to_dict("records"):
        block, site = keys[row["effect"]]
        key = (block or row["block"], site or row["site"])
        of[key] = Interval(row["mean"], row["low"], row["high"])
        about[key] = f"probability above 0: {row['p_positive']:.2f}; {wording.count(row['placements'], 'placement')}"
    span = strips.reach(of.values())
    cells = {key: _cell(interval, span, about[key]) for key, interval in of.items()}
    blocks = sorted({b for b, _ in of} - {MEAN}, key=lambda b: -of[b, MEAN].value if (b, MEAN) in of else 0.0)
    sites = (MEAN, *sorted({s for _, s in of} - {MEAN}))
    rows = tuple((b, {s: cells[b, s] for s in sites if (b, s) in cells}) for b in (*blocks, MEAN))
    return Grid(sentences, sites, rows)


def _cell(interval: Interval, span: float, about: str) -> Cell:
    side = "up" if interval.low > 0 else "down" if interval.high < 0 else "open"
    return Cell(wording.gain(interval), side, strips.draw(interval, span, 76, 12), about)
