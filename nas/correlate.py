"""Goes in: a Setting. Comes out: whether its short training ranks placements as a longer one does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nas import jobs, recipe, sampler, spread
from nas.errors import InputError
from nas.setting import Setting
from nas.warm import WarmBase
from search_spaces import Placement

SEEDS = (0, 1)
FEWEST, MOST = 5, 40  # placements, the base among them
ENOUGH = 0.5  # Kendall's tau from which on a ranking is relied on: three pairs of four in the right order
APART = 1.0  # true spread over the noise of one paired difference, below which nothing can be told
FILE = "correlation.json"


class CorrelateError(InputError):
    """Trainings that nothing can be concluded from."""


@dataclass(frozen=True)
class Correlation:
    """What a short training is worth on one dataset with one recipe.

    Args:
        key: Of all that decides it, see :func:`key`.
        epochs: The short budget; ``long`` the long one.
        placements: How many, the base among them.
        tau: Kendall's tau of the short budget under one seed with the long one under the other, mean of both ways,
            with a 95% interval over placements.
        tau_double: The same of twice the short budget.
        noise, spread: Standard deviation at the long budget of one paired difference to the base, and of the true
            differences between placements; in the score's unit.
        short_noise, short_spread: The same at the short budget.
        verdict: ``rely``, ``double``, ``longer`` or ``noise``.
    """

    key: str
    metric: str
    epochs: int
    long: int
    placements: int
    tau: spread.Interval
    tau_double: spread.Interval
    noise: float
    spread: float
    short_noise: float
    short_spread: float
    verdict: str

    @property
    def sentence(self) -> str:
        """What to do, in one sentence."""
        e, long = self.epochs, self.long
        told = f"(tau {self.tau.value:.2f} with {long} epochs, 95% {self.tau.low:.2f} to {self.tau.high:.2f})"
        if self.verdict == "noise":
            return (
                f"The differences are below the noise: even after {long} epochs placements differ by {self.spread:.4f} "
                f"{self.metric} and chance by {self.noise:.4f}; do not choose a block by such a search."
            )
        if self.verdict == "rely":
            return f"Rely on it: {e} epochs rank placements as {long} do {told}."
        if self.verdict == "double":
            return (
                f"Double the budget: {e} epochs do not rank placements as {long} do {told}, "
                f"{2 * e} do (tau {self.tau_double.value:.2f}); epochs={2 * e}."
            )
        return f"Train longer: neither {e} nor {2 * e} epochs rank placements as {long} do {told}."


def key(setting: Setting) -> str:
    """Twelve hexadecimal digits of what decides how trainings go: the recipe without what only the sampler reads."""
    return recipe.digest({k: v for k, v in setting.identity.items() if k not in jobs.OF_THE_SEARCH})


def chosen(setting: Setting, count: int) -> list[Placement]:
    """The base and ``count - 1`` placements that go through the blocks of the space, within its limits."""
    return [Placement(), *sampler.sparse(setting.space, count - 1, setting.allowed, setting.recipe.seed)]


def planned(setting: Setting, count: int, times: int) -> list[jobs.Job]:
    """Every placement under both seeds.

    Where nothing depends on how long the training is, the short budgets are points of the long training; else they are
    trainings of their own.
    """
    e = setting.recipe.epochs
    lengths: dict[int, tuple[float, ...]] = {e: (), 2 * e: (), times * e: ()}
    if same_at_any_length(setting.recipe.train):
        lengths = {e * times: (1 / times, 2 / times)}
    placements = chosen(setting, count)
    return [jobs.Job(p, s, n, at) for s in SEEDS for p in placements for n, at in lengths.items()]


def same_at_any_length(train: Mapping[str, Any]) -> bool:
    """Whether a training is, at any of its epochs, what a training of so many epochs ends with."""
    closes = float(train.get("mosaic", 1.0)) > 0 and int(train.get("close_mosaic", 10)) > 0
    warms = float(train.get("warmup_epochs", 3.0)) > 0
    return float(train.get("lrf", 0.01)) == 1.0 and not closes and not warms and train.get("optimizer") != "auto"


def run(
    setting: Setting, warm: WarmBase, count: int, times: int, workers: int, threads: int
) -> Iterator[list[dict[str, Any]]]:
    """Train what is missing; rows as they come, kept in the study's folder."""
    for length, of in by_length(planned(setting, count, times)).items():
        yield from jobs.run_all(setting, warm, of, file_of(setting, length), workers, threads)


@dataclass(frozen=True)
class Gains:
    """Scores over the base of the same seed, [placement, seed], after the short, the double and the long budget."""

    short: pd.DataFrame
    double: pd.DataFrame
    long: pd.DataFrame
    images: int


def read(setting: Setting, count: int, times: int) -> Gains:
    """What the trainings reached.

    Raises:
        CorrelateError: The base or too many placements failed; says why.
    """
    lengths = by_length(planned(setting, count, times))
    score, e = setting.task.columns[0], setting.recipe.epochs
    frames = {n: pd.read_csv(file_of(setting, n)) for n in lengths}
    known = {j.placement.id for of in lengths.values() for j in of}
    frames = {n: f[f.placement_id.isin(known)] for n, f in frames.items()}
    reasons = pd.concat([f.reason.dropna() for f in frames.values()])
    frames = {n: f.dropna(subset=[score]) for n, f in frames.items()}
    for length, rows in frames.items():
        gone = set(SEEDS) - set(rows[rows.placement == "base"].seed)
        if gone:
            raise CorrelateError(
                f"the base could not be trained for {length} epochs under seed {', '.join(map(str, sorted(gone)))}: "
                f"{_last(reasons)}; see {setting.log}"
            )
    images = int(frames[times * e].images.max())
    short, double, long = (
        spread.gains(frames.get(n, frames[times * e]), score, round(images * n / (times * e)))
        for n in (e, 2 * e, times * e)
    )
    whole = set.intersection(*(set(f.dropna().index) for f in (short, double, long)))
    if len(whole) < FEWEST - 1:
        raise CorrelateError(
            f"only {len(whole)} placements were trained under both seeds, too few to rank: {_last(reasons)}; "
            f"see {setting.log}"
        )
    keep = [p for p in long.index if p in whole]
    return Gains(short.loc[keep], double.loc[keep], long.loc[keep], images)


def _last(reasons: pd.Series) -> str:
    return str(reasons.iloc[-1]) if len(reasons) else "it was not trained"


def measure(setting: Setting, found: Gains, times: int) -> Correlation:
    """Judge finished trainings."""
    taus = [spread.across(a, found.long) for a in (found.short, found.double)]
    at_long, at_short = (spread.spread(f.to_numpy(), found.images) for f in (found.long, found.short))
    e = setting.recipe.epochs
    return Correlation(
        key=key(setting),
        metric=setting.task.metric,
        epochs=e,
        long=times * e,
        placements=len(found.long) + 1,
        tau=taus[0],
        tau_double=taus[1],
        noise=at_long.noise.value,
        spread=at_long.spread.value,
        short_noise=at_short.noise.value,
        short_spread=at_short.spread.value,
        verdict=judge(taus[0], taus[1], at_long.spread.value, at_long.noise.value),
    )


def judge(tau: spread.Interval, double: spread.Interval, true: float, noise: float) -> str:
    """``noise``, ``rely``, ``double`` or ``longer``."""
    if not true > APART * noise:
        return "noise"
    for word, found in (("rely", tau), ("double", double)):
        if found.value >= ENOUGH and found.low > 0:
            return word
    return "longer"


def save(found: Correlation, folder: Path) -> Path:
    """Write ``correlation.json``."""
    path = folder / FILE
    path.write_text(json.dumps(asdict(found), indent=2, default=float) + "\n", encoding="utf-8")
    return path


def stored(setting: Setting) -> Correlation | None:
    """What `correlate` found in this study's folder with this very recipe, or None."""
    try:
        data = json.loads((setting.folder / FILE).read_text(encoding="utf-8"))
        found = Correlation(**data | {k: spread.Interval(**data[k]) for k in ("tau", "tau_double")})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if found.key == key(setting) else None


def file_of(setting: Setting, epochs: int) -> Path:
    """Where the trainings of a length are kept: those of another recipe in another file."""
    return setting.folder / f"correlate-{key(setting)}-{epochs}.csv"


def by_length(of: Sequence[jobs.Job]) -> dict[int, list[jobs.Job]]:
    """Jobs by their epochs."""
    return {n: [j for j in of if j.epochs == n] for n in dict.fromkeys(j.epochs for j in of)}
