"""Goes in: a folder with trials.csv and placements.csv. Comes out: a Table: trainings by placement, seed and budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nas import spread
from nas.errors import InputError
from nas.recipe import near
from nas.spread import Interval, Spread
from search_spaces import Placement

BASE = "base"
KEY = ["placement", "seed", "images"]
TRIALS = {  # column -> whether it may be empty
    "placement_id": False,
    "placement": False,
    "seed": False,
    "images": False,
    "map50_95": False,
    "nms_free_map50_95": True,
    "val_loss": True,
    "batches_sha": True,
    "seconds": True,
}
PLACEMENTS = {"placement_id": False, "placement": False, "params": False, "gflops": False, "latency_ratio": True}
SHOWN = 5  # faults of one kind that are told one by one


class TableError(InputError):
    """A table that cannot be read, or a question that it has no row for."""


@dataclass(frozen=True)
class Table:
    """Real trainings that a search can be replayed on.

    Args:
        name: Of the table's folder.
        trials: One row a placement, seed and budget, as in ``trials.csv``; scores in [0, 1].
        placements: One row a placement, as in ``placements.csv``: its id, label and costs. A column ``drawn``, where
            it is there, is 1 for placements whose seeds were decided before any score was seen.
    """

    name: str
    trials: pd.DataFrame
    placements: pd.DataFrame

    @property
    def budgets(self) -> tuple[int, ...]:
        """Training images at which placements were scored, ascending."""
        return tuple(sorted(int(b) for b in self.trials["images"].unique()))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds, ascending."""
        return tuple(sorted(int(s) for s in self.trials["seed"].unique()))

    @property
    def drawn(self) -> frozenset[str]:
        """Placements that may tell the noise: not those that got further seeds for a high score under the first."""
        rows = self.placements
        return frozenset(rows.loc[rows["drawn"] == 1, "placement"] if "drawn" in rows else rows["placement"])


def read(path: str | Path) -> Table:
    """Read a table from its folder, or by its name from ``studies/tables`` of a checkout.

    Raises:
        TableError: No such table, or every fault of its files, one a line.
    """
    folder = find(path)
    faults: list[str] = []
    trials = _read(folder / "trials.csv", TRIALS, faults)
    placements = _read(folder / "placements.csv", PLACEMENTS, faults)
    if not faults:
        faults += [*_faults_of_placements(placements), *_faults_of_trials(trials, placements)]
    if faults:
        raise TableError("\n".join(f"table {folder.name}: {fault}" for fault in faults))
    trials = trials.astype({"seed": int, "images": int}).sort_values(KEY, kind="stable").reset_index(drop=True)
    return Table(folder.name, trials, placements)


def is_table(folder: str | Path) -> bool:
    """Whether a folder holds a table's two files."""
    return all((Path(folder) / name).is_file() for name in ("trials.csv", "placements.csv"))


def shelf() -> Path:
    """Where a checkout keeps its tables."""
    return Path(__file__).resolve().parents[1] / "studies" / "tables"


def names() -> list[str]:
    """The checkout's tables; none where only the package is installed."""
    return sorted(folder.name for folder in shelf().glob("*") if is_table(folder))


def find(path: str | Path) -> Path:
    """The folder of a table, given as such or by its name.

    Raises:
        TableError: There is none; says which there are.
    """
    for folder in (Path(path), shelf() / path):
        if is_table(folder):
            return folder.resolve()
    raise TableError(
        f"table {str(path)!r}: no folder with trials.csv and placements.csv, and none of the shipped tables: "
        f"{', '.join(names()) or 'there are none here'}{near(str(path), names())}"
    )


def _read(file: Path, columns: dict[str, bool], faults: list[str]) -> pd.DataFrame:
    """A CSV whose columns are there and full; what is not goes to ``faults``."""
    try:
        frame = pd.read_csv(file, dtype={"placement_id": str, "placement": str}, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as e:
        faults.append(f"{file.name}: cannot be read: {e}")
        return pd.DataFrame(columns=list(columns))
    if "reason" in frame:  # of a training that gave no number
        frame = frame[frame["reason"].isna()].reset_index(drop=True)
    if missing := [c for c in columns if c not in frame]:
        faults.append(f"{file.name}: no column {', '.join(missing)}; it has {', '.join(frame.columns)}")
        return frame
    if not len(frame):
        faults.append(f"{file.name}: no rows")
    for column, may_be_empty in columns.items():
        values = frame[column]
        if column not in ("placement_id", "placement", "batches_sha"):
            numbers = pd.to_numeric(values, errors="coerce")
            wrong = ~np.isfinite(numbers.to_numpy(float)) & ~(values.isna() & may_be_empty).to_numpy()
            what, frame[column] = "is no finite number", numbers
        else:
            wrong, what = (values.isna() & (not may_be_empty)).to_numpy(), "is empty"
        faults += _rows(f"{file.name}: {column} {what}", frame.index[wrong])
    return frame


def _rows(what: str, index: pd.Index) -> list[str]:
    """One fault for all rows that have it; line numbers as an editor shows them."""
    lines = ", ".join(str(int(i) + 2) for i in index[:SHOWN]) + (", ..." if len(index) > SHOWN else "")
    return [f"{what} in {len(index)} rows, line {lines}"] if len(index) else []


def _faults_of_placements(placements: pd.DataFrame) -> list[str]:
    faults = _rows("placements.csv: a placement a second time", placements.index[placements["placement"].duplicated()])
    for label, given in placements[["placement", "placement_id"]].itertuples(index=False):
        try:
            read_as = Placement.from_label(label)
        except ValueError as e:
            faults.append(f"placements.csv: {e}")
            continue
        if (read_as.id, read_as.label) != (given, label):
            faults.append(f"placements.csv: {label!r} has the id {given!r}; expected {read_as.label!r}, {read_as.id!r}")
    return faults if len(faults) <= 2 * SHOWN else [*faults[:SHOWN], f"placements.csv: {len(faults) - SHOWN} more"]


def _faults_of_trials(trials: pd.DataFrame, placements: pd.DataFrame) -> list[str]:
    known = dict(zip(placements["placement"], placements["placement_id"], strict=True))
    same = [known.get(label) == given for label, given in trials[["placement", "placement_id"]].itertuples(index=False)]
    unknown = trials[~np.array(same, dtype=bool)]
    faults = []
    for label in unknown["placement"].unique()[:SHOWN]:
        why = "has another placement_id" if label in known else f"is not in placements.csv{near(label, known)}"
        faults.append(f"trials.csv: placement {label!r} {why}")
    faults += _rows("trials.csv: placement, seed and images a second time", trials.index[trials.duplicated(KEY)])
    for column, least, most in (("map50_95", 0.0, 1.0), ("seed", 0, np.inf), ("images", 1, np.inf)):
        faults += _rows(
            f"trials.csv: {column} outside [{least}, {most}]", trials.index[~trials[column].between(least, most)]
        )
    for column in ("seed", "images"):
        faults += _rows(f"trials.csv: {column} is no whole number", trials.index[trials[column] % 1 != 0])
    based = trials[trials["placement"] == BASE].set_index(["seed", "images"]).index
    alone = trials.index[~trials.set_index(["seed", "images"]).index.isin(based)]
    return faults + _rows("trials.csv: no base under the same seed and images", alone)


def curve(table: Table, placement: str, seed: int) -> dict[int, float]:
    """Images -> mAP50-95 of one training.

    Raises:
        TableError: It is not in the table.
    """
    rows = table.trials[(table.trials["placement"] == placement) & (table.trials["seed"] == seed)]
    if not len(rows):
        seeds = table.trials.loc[table.trials["placement"] == placement, "seed"].unique()
        has = f"; it has seeds {', '.join(map(str, seeds))}"
        hint = has if len(seeds) else near(placement, table.placements["placement"])
        raise TableError(f"table {table.name}: no training of {placement!r} with seed {seed}{hint}")
    return {int(i): float(v) for i, v in zip(rows["images"], rows["map50_95"], strict=True)}


def value(table: Table, placement: str, seed: int, images: int) -> float:
    """MAP50-95 of one training at one budget.

    Raises:
        TableError: It is not in the table.
    """
    there = curve(table, placement, seed)
    if images not in there:
        scored = ", ".join(map(str, there))
        raise TableError(
            f"table {table.name}: {placement!r}, seed {seed}, is scored at {scored} images, not at {images}"
        )
    return there[images]


def check_budget(table: Table, images: int | None) -> int:
    """A budget of the table, the largest by default.

    Raises:
        TableError: There is no such budget.
    """
    if images is None:
        return table.budgets[-1]
    if images not in table.budgets:
        raise TableError(
            f"table {table.name}: no budget of {images} images; it has {', '.join(map(str, table.budgets))}"
        )
    return images


def gains(table: Table, images: int) -> pd.DataFrame:
    """Placement over base under the same seed, one row a placement and one column a seed; NaN where it was not run."""
    wide = table.trials[table.trials["images"] == images].pivot(index="placement", columns="seed", values="map50_95")
    return wide.drop(index=BASE) - wide.loc[BASE]


def signal(table: Table, images: int) -> Spread:
    """Paired noise, true spread and their ratio at a budget.

    Of placements that were trained again because they scored high, only the first seed counts: their luck under it
    would pass for noise, and their noise for that of all.
    """
    found = gains(table, images)
    found.loc[~found.index.isin(table.drawn), found.columns[1:]] = np.nan
    return spread.spread(found.to_numpy(), images)


def luck(table: Table, images: int) -> tuple[int, float, float]:
    """What choosing the best by one seed over-reports: how many were, their mean gain under it, and under others."""
    found = gains(table, images)
    best = found[~found.index.isin(table.drawn)].dropna()
    return len(best), float(best.iloc[:, 0].mean()), float(best.iloc[:, 1:].to_numpy().mean())


def agreement(table: Table, short: int, long: int) -> Interval:
    """Kendall's tau between two budgets, gains averaged over the seeds that both have."""
    one, two = gains(table, short), gains(table, long)
    rows, seeds = one.index.intersection(two.index), one.columns.intersection(two.columns)
    one, two = one.loc[rows, seeds], two.loc[rows, seeds]
    both = one.notna() & two.notna()
    return spread.kendall(one.where(both).mean(axis=1).to_numpy(), two.where(both).mean(axis=1).to_numpy())


def agreement_across_seeds(table: Table, short: int, long: int) -> Interval:
    """Kendall's tau of the short budget under one seed with the long one under another, mean over all such pairs.

    A seed's luck at the short budget is still there at the long one; across seeds it cannot flatter the agreement. Over
    the placements that have every seed of those with several and were not chosen by score.
    """
    one, two = (found[found.index.isin(table.drawn)] for found in (gains(table, short), gains(table, long)))
    repeated = one.index[one.notna().sum(axis=1) > 1].intersection(two.index)
    seeds = [s for s in one.columns.intersection(two.columns) if one.loc[repeated, s].notna().any()]
    rows = [p for p in repeated if one.loc[p, seeds].notna().all() and two.loc[p, seeds].notna().all()]
    if len(rows) < 3 or len(seeds) < 2:
        return Interval(*[float("nan")] * 3)
    a, b = one.loc[rows, seeds].to_numpy(), two.loc[rows, seeds].to_numpy()
    return spread.mean_kendall([(a[:, i], b[:, j]) for i in range(len(seeds)) for j in range(len(seeds)) if i != j])
