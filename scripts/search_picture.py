"""Goes in: hypervolume by training images for each search. Comes out: one picture of all of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

FIRST = {"ehvi, 2 rungs": "#1f5fa8", "stock": "#b35900", "random": "#666666"}  # drawn strong; the others thin
STYLES = ("-", "--", ":", "-.")


def draw(curves: pd.DataFrame, file: Path, title: str) -> None:
    """Columns search, trainings, mean, se; one line a search, its standard error as a band where it is drawn strong."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 4.4))
    last = curves.trainings.max()
    for n, (name, rows) in enumerate(curves.groupby("search", sort=False)):
        strong = name in FIRST
        colour = FIRST.get(str(name), f"C{n % 10}")
        axis.plot(
            rows.trainings, rows["mean"], color=colour, linewidth=2.2 if strong else 1.0,
            linestyle="-" if strong else STYLES[n % len(STYLES)], zorder=3 if strong else 2, label=str(name),
        )  # fmt: skip
        if strong:
            axis.fill_between(rows.trainings, rows["mean"] - rows.se, rows["mean"] + rows.se, color=colour, alpha=0.15)
    axis.axhline(1.0, color="#b35900", linewidth=0.6, linestyle="--")
    axis.set_xlim(0, last)
    axis.set_ylim(0, 1.05)
    axis.set_xlabel("training images, in whole trainings")
    axis.set_ylabel("noise-free hypervolume over stock's at the end")
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False, loc="lower right")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    plt.close(figure)
