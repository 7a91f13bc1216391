"""Goes in: a study and what it shares. Comes out: the trainings and latencies that its verdict is read from.

The front's candidates, the untouched base, as many random placements, and plain convolutions of the candidates' cost
at their sites: all trained alike, under the same seeds, none of which the search has used, and scored on images that it
never saw. Their latencies are measured in nas/passes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial

from nas import cost, export, front, jobs
from nas.errors import InputError
from nas.outcome import BASE, CANDIDATE, CONVOLUTION, RANDOM
from nas.setting import Setting
from nas.warm import WarmBase
from search_spaces import Block, Placement, SearchSpace

RESAMPLES = 100  # other draws of the reported images
SEED_APART = 1  # a finalist's seeds begin so far after the search's own
CONV = "plain_conv"


class FinalistsError(InputError):
    """Nothing to compare, or trainings that nothing can be said of."""


@dataclass(frozen=True)
class Contender:
    """A placement in the final comparison; see :class:`nas.outcome.Entry`."""

    role: str
    placement: Placement
    trial: int | None = None
    stands_for: str | None = None


def contenders(study: optuna.Study, setting: Setting) -> list[Contender]:
    """The base, the candidates with their convolutions, random placements; each placement once.

    Raises:
        FinalistsError: No placement has been trained to the end.
    """
    chosen = candidates(study, setting.recipe.finalists)
    if not chosen:
        raise FinalistsError(
            f"study {study.study_name!r}: no placement but the base was trained to the end; search further"
        )
    found = [Contender(BASE, Placement())]
    for t in chosen:
        found.append(Contender(CANDIDATE, Placement.from_json(t.user_attrs["placement"]), t.number))
    taken = {c.placement.id for c in found}
    for one in drawn(setting.space, len(chosen), setting.allowed, taken, setting.recipe.seed):
        found.append(Contender(RANDOM, one))
    for c in found[1 : 1 + len(chosen)]:
        plain = convolutions(c.placement, setting)
        if plain.id not in {x.placement.id for x in found}:
            found.append(Contender(CONVOLUTION, plain, stands_for=c.placement.id))
    return found


def candidates(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """At most ``count`` of the front without the base: the best score, then those that widen the front most.

    Where nothing but the base is on the front: the best of the rest, so that there is something to say of them.
    """
    known = [t for t in export.front_trials(study) if t.user_attrs["placement"]]
    if not known:
        rest = [t for t in export.finished(study) if t.user_attrs["placement"]]
        return sorted(rest, key=lambda t: -t.values[0])[:count]
    ways = export.directions(study)
    points = front.losses([t.values for t in known], ways)
    low, high = points.min(0), points.max(0)
    corner = high + 0.1 * np.where(high > low, high - low, 1.0)  # beyond the front's ends, so that these count too
    same = ["minimize"] * len(ways)
    chosen = [0]
    while len(chosen) < min(count, len(known)):
        left = [i for i in range(len(known)) if i not in chosen]
        chosen.append(max(left, key=lambda i: front.hypervolume(points[[*chosen, i]].tolist(), same, corner.tolist())))
    return [known[i] for i in sorted(chosen)]


def drawn(
    space: SearchSpace, count: int, allowed: Callable[[Placement], bool], taken: set[str], seed: int
) -> list[Placement]:
    """Random placements of one to ``max_blocks`` blocks, as many as there are up to ``count``."""
    rng = np.random.default_rng(seed + 1_000_003)
    found: dict[str, Placement] = {}
    for _ in range(200 * count):
        if len(found) == count:
            break
        many = int(rng.integers(1, min(space.max_blocks, len(space.sites)) + 1))
        sites = [space.sites[i] for i in rng.choice(len(space.sites), many, replace=False)]
        one = Placement.of({site: blocks[rng.integers(len(blocks))] for site, blocks in sites if blocks})
        if len(one) and one.id not in taken and allowed(one):
            found.setdefault(one.id, one)
    return list(found.values())


def convolutions(placement: Placement, setting: Setting) -> Placement:
    """A plain convolution in place of each block, as wide as its GFLOPs allow, one channel at least."""
    found = {}
    for name, block in placement:
        site, r = setting.sites[name], setting.recipe
        costs = [
            cost.block_cost(b, site.channels, site.size(r.imgsz), r.wire)[1]
            for b in (block, convolution(1), convolution(2))
        ]
        wider = costs[2] - costs[1]  # what each more channel costs; the wiring's own share is in both
        found[name] = convolution(max(1, 1 + round((costs[0] - costs[1]) / wider)))
    return Placement.of(found)


def convolution(width: int) -> Block:
    """The plain convolution that many channels wide."""
    return Block(CONV, (("width", width),))


def seeds(setting: Setting) -> tuple[int, ...]:
    """Of every contender: others than the search's, whose luck has chosen the candidates."""
    first = setting.recipe.seed + SEED_APART
    return tuple(range(first, first + setting.recipe.finalist_seeds))


def planned(setting: Setting, of: Sequence[Contender]) -> list[jobs.Job]:
    """Every contender under every seed, seed by seed; of base and candidates the first seed's weights are kept."""
    epochs, first = setting.recipe.long_epochs, seeds(setting)[0]
    return [
        jobs.Job(
            c.placement,
            seed,
            epochs,
            resamples=RESAMPLES,
            keep=str(checkpoint(setting, c)) if seed == first and c.role in (BASE, CANDIDATE) else None,
        )
        for seed in seeds(setting)
        for c in of
    ]


def checkpoint(setting: Setting, one: Contender) -> Path:
    """Where the weights of a contender's first seed are kept: a longer training's do not replace a shorter one's."""
    name = f"trial-{one.trial}-{one.placement.id}" if one.trial is not None else one.role
    return (setting.folder / "finalists" / f"{name}-{setting.recipe.long_epochs}-epochs.pt").resolve()


def there(setting: Setting, of: Sequence[Contender]) -> int:
    """How many seeds, from the first on, all contenders have been trained under."""
    if not trainings(setting).is_file():
        return 0
    rows = pd.read_csv(trainings(setting), dtype={"reason": str})
    have = set(zip(rows.placement_id[rows.reason.isna()], rows.seed[rows.reason.isna()], strict=True))
    first, count = setting.recipe.seed + SEED_APART, 0
    while all((c.placement.id, first + count) in have for c in of):
        count += 1
    return count


def trainings(setting: Setting) -> Path:
    """The file of all trainings of this length."""
    return setting.folder / "finalists" / f"trainings-{setting.recipe.long_epochs}.csv"


def train(
    setting: Setting, warm: WarmBase, plan: Sequence[jobs.Job], workers: int, threads: int
) -> Iterator[list[dict[str, str]]]:
    """Run what is missing; rows as they come.

    Raises:
        JobsError: The file has trainings of another recipe.
    """
    yield from jobs.run_all(setting.reporting(), warm, plan, trainings(setting), workers, threads)


def scores(setting: Setting, of: Sequence[Contender]) -> tuple[np.ndarray, np.ndarray, list[str | None]]:
    """[contenders, seeds], NaN where a training failed; [contenders, draws of images], mean of seeds; and reasons."""
    rows = pd.read_csv(trainings(setting), dtype={"reason": str}).fillna({"reason": ""})
    score = setting.task.columns[0]
    found = np.full((len(of), len(seeds(setting))), np.nan)
    resampled = np.full((len(of), RESAMPLES), np.nan)
    reasons: list[str | None] = []
    for i, c in enumerate(of):
        mine = rows[(rows.placement_id == c.placement.id) & rows.seed.isin(seeds(setting))]
        good = mine[mine[score].notna()].drop_duplicates("seed", keep="last").set_index("seed")
        for j, seed in enumerate(seeds(setting)):
            found[i, j] = good[score].get(seed, np.nan)
        if len(good):
            draws = [np.array(text.split(), float) for text in good[f"{score}_of_other_images"]]
            resampled[i] = np.mean(draws, 0)
        bad = mine[~mine.seed.isin(good.index)]
        reasons.append(None if len(good) == found.shape[1] else str([*bad.reason, "it was not trained"][0]))
    return found, resampled, reasons
