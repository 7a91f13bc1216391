"""Goes in: a Setting. Comes out: whether its short training ranks placements as a longer one does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nas import jobs, recipe, sampler, spread
from nas.setting import Setting
from search_spaces import Placement

SEEDS = (0, 1)
FEWEST, MOST, USUAL = 5, 40, 12  # placements, the base among them
TIMES = 4  # the long budget over the short
ENOUGH = 0.5  # Kendall's tau from which on a ranking is relied on: three pairs of four in the right order
APART = 1.0  # true spread over the noise of one paired difference, below which nothing can be told
OF_THE_SAMPLER = ("sampler", "startup", "objectives", "space", "space_hash", "seed", "latency_runs", "latency_runtime")
FILE = "correlation.json"


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
    kept = {k: v for k, v in setting.identity.items() if k not in OF_THE_SAMPLER and not k.startswith("max_")}
    return recipe.digest(kept)


def chosen(setting: Setting, count: int) -> list[Placement]:
    """The base and ``count - 1`` placements that go through the blocks of the space, within its limits."""
    return [Placement(), *sampler.sparse(setting.space, count - 1, setting.allowed, setting.recipe.seed)]


def planned(setting: Setting, placements: Sequence[Placement], times: int) -> list[jobs.Job]:
    """Every placement under both seeds.

    Where the learning rate does not depend on how long the training is, the short budgets are points of the long
    training; else they are trainings of their own.
    """
    e = setting.recipe.epochs
    lengths: dict[int, tuple[float, ...]] = {e: (), 2 * e: (), times * e: ()}
    if float(setting.recipe.train.get("lrf", 0.01)) == 1.0:
        lengths = {e * times: (1 / times, 2 / times)}
    return [jobs.Job(p, s, n, at) for s in SEEDS for p in placements for n, at in lengths.items()]


def run(setting: Setting, count: int, times: int, workers: int, threads: int) -> Iterator[list[dict[str, Any]]]:
    """Train what is missing; rows as they come, kept in the study's folder."""
    for length, of in _by_length(planned(setting, chosen(setting, count), times)).items():
        yield from jobs.run_all(setting.recipe, of, file_of(setting, length), workers, threads)


def measure(setting: Setting, count: int, times: int) -> Correlation:
    """Judge finished trainings."""
    them = planned(setting, chosen(setting, count), times)
    frames = [pd.read_csv(file_of(setting, length)) for length in _by_length(them)]
    rows = pd.concat(frames).dropna(subset=["map50_95"])
    rows = rows[rows.placement_id.isin({j.placement.id for j in them})]
    images = int(rows[rows.placement == "base"].images.max())
    e = setting.recipe.epochs
    short, double, long = (gains(rows, round(images * n / (times * e))) for n in (e, 2 * e, times * e))
    taus = [across(a, long) for a in (short, double)]
    at_long, at_short = (spread.spread(f.to_numpy(), images) for f in (long, short))
    verdict = judge(taus[0], taus[1], at_long.spread.value, at_long.noise.value)
    return Correlation(
        key=key(setting),
        metric=setting.task.metric,
        epochs=e,
        long=times * e,
        placements=len(long) + 1,
        tau=taus[0],
        tau_double=taus[1],
        noise=at_long.noise.value,
        spread=at_long.spread.value,
        short_noise=at_short.noise.value,
        short_spread=at_short.spread.value,
        verdict=verdict,
    )


def judge(tau: spread.Interval, double: spread.Interval, true: float, noise: float) -> str:
    """``noise``, ``rely``, ``double`` or ``longer``."""
    if not true > APART * noise:
        return "noise"
    for word, found in (("rely", tau), ("double", double)):
        if found.value >= ENOUGH and found.low > 0:
            return word
    return "longer"


def gains(rows: pd.DataFrame, images: int) -> pd.DataFrame:
    """[placement, seed] score over the base's under the same seed, at the budget nearest to ``images``."""
    budget = min(rows.images.unique(), key=lambda n: abs(n - images))
    wide = rows[rows.images == budget].pivot_table(index="placement", columns="seed", values="map50_95", sort=False)
    return wide.drop(index="base") - wide.loc["base"]


def across(one: pd.DataFrame, two: pd.DataFrame) -> spread.Interval:
    """Tau between one seed's gains of ``one`` and the other seed's of ``two``, mean over both ways."""
    both = [p for p in one.index if p in two.index and one.loc[p].notna().all() and two.loc[p].notna().all()]
    if len(both) < FEWEST - 1:
        return spread.Interval(*[float("nan")] * 3)
    a, b = one.loc[both].to_numpy(), two.loc[both].to_numpy()
    n = a.shape[1]
    return spread.mean_kendall([(a[:, i], b[:, j]) for i in range(n) for j in range(n) if i != j])


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


def _by_length(planned: Sequence[jobs.Job]) -> dict[int, list[jobs.Job]]:
    return {n: [j for j in planned if j.epochs == n] for n in dict.fromkeys(j.epochs for j in planned)}


def frame(setting: Setting, count: int, times: int) -> pd.DataFrame:
    """Gain over the base, mean of the seeds, at the short and at the long budget; best of the long first."""
    them = planned(setting, chosen(setting, count), times)
    rows = pd.concat([pd.read_csv(file_of(setting, length)) for length in _by_length(them)])
    rows = rows.dropna(subset=["map50_95"])
    images, e = int(rows.images.max()), setting.recipe.epochs
    short, long = gains(rows, round(images / times)), gains(rows, images)
    table = pd.DataFrame({f"{e} epochs": short.mean(axis=1), f"{times * e} epochs": long.mean(axis=1)})
    return table.sort_values(f"{times * e} epochs", ascending=False, key=lambda v: v.replace(np.nan, -1.0))
