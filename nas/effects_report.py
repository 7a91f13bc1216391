"""Goes in: the name of a study or a table. Comes out: effects in the terminal, as a picture and as a CSV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas import dashboard, effects, effects_words, table, trainings
from nas.effects import Model
from nas.effects_words import Row
from nas.recipe import RecipeError
from nas.report import FRONT, INK, OTHER

GOOD, BAD = "#2a6f97", FRONT  # of effects whose interval lies above or below 0
MOST_ROWS = 24  # blocks that a terminal shows; the best and the worst
FOLLOWED = 5  # best and worst placements


def find(which: str, images: int | None, storage: str | None, output: str = "runs") -> trainings.Trainings:
    """The trainings of a table's folder, of a study, or of a table of the checkout, in this order.

    Raises:
        InputError: There is none of that name; says which there are.
    """
    if table.is_table(which):
        return trainings.from_table(table.read(which), images)
    try:
        return trainings.from_study(dashboard.find(which, storage, output)[0], images)
    except RecipeError as e:
        if storage is not None or os.path.isfile(Path(output) / which / "study.db"):
            raise
        if which in table.names():
            return trainings.from_table(table.read(which), images)
        raise RecipeError(f"{e}; tables: {', '.join(table.names()) or 'none'}") from e


def command(
    which: str,
    block: str | None,
    site: str | None,
    images: int | None,
    to: Path | None,
    csv: Path | None,
    storage: str | None,
    output: str = "runs",
) -> None:
    """`effects`: print them, and write the picture and the CSV where asked.

    Raises:
        InputError: No such study, block, site or budget; too few placements; a place that cannot be written.
    """
    for path in (to, csv):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise RecipeError(f"{path}: expected a file in a folder that is there")
    console, data = Console(highlight=False), find(which, images, storage, output)
    model = effects.fit(data)
    found = effects.frame(model)
    if block or site:
        for line in effects_words.answer(model, block, site):
            console.print(Text(line))
        console.print(listed(effects_words.select(found, block, site), data.metric))
    else:
        overview(console, model, found)
    if csv is not None:
        found.to_csv(csv, index=False, float_format="%.6g")
        console.print(Text(f"Written: {csv}"), soft_wrap=True)
    if to is not None:
        part = to.with_suffix(f".{os.getpid()}.part")
        figure(model, found).write_html(part, include_plotlyjs=True, full_html=True)
        part.replace(to)
        console.print(Text(f"Written: {to}"), soft_wrap=True)


def overview(console: Console, model: Model, found: pd.DataFrame) -> None:
    """What the data carry, blocks x sites, and the best and worst placements."""
    console.print(Text(title(model), style="bold"))
    for line in effects_words.verdict(model):
        console.print(Text(line))
    console.print()
    metric = model.data.metric
    console.print(Text(f"a block alone at a site: change of {metric} in points of 0.01, ± for 95%", style="bold"))
    blocks = found[found["effect"] == "block"].sort_values("mean", ascending=False)["block"].tolist()
    half = MOST_ROWS // 2
    shown = blocks if len(blocks) <= MOST_ROWS else [*blocks[:half], *blocks[-half:]]
    for columns in _fitting(found, shown, console.width):
        console.print(grid(found, shown, columns))
        console.print()
    if len(blocks) > len(shown):
        console.print(f"{len(blocks) - len(shown)} blocks in between are left out here; --csv has all\n")
    console.print(Text(f"best and worst placements: gain in {metric} as the model has it, noise taken off", "bold"))
    console.print(followed(model))


def title(model: Model) -> str:
    """``NAME: 480 trainings of 400 placements, 3 seeds, at 4,000 images, scored on val``"""
    data = model.data
    others, seeds = len({p for p in data.placements if len(p)}), len(set(data.seeds))
    at = f", at {data.images:,} images" if data.images else ""
    return (
        f"{data.name}: {len(data.values)} trainings of {others} placements and the base, "
        f"{seeds} seed{'s' * (seeds > 1)}{at}, scored on {data.split}"
    )


def cell(row: Row) -> Text:
    """``+1.2±0.4``, coloured where the interval does not hold 0."""
    style = f"bold {GOOD}" if row["low"] > 0 else f"bold {BAD}" if row["high"] < 0 else "dim"
    return Text(f"{row['mean'] * 100:+.1f}±{(row['high'] - row['mean']) * 100:.1f}", style=style)


def _cells(found: pd.DataFrame) -> dict[tuple[str, str], Text]:
    """(block, site) -> cell; the mean of a block is at site "mean", that of a site at block "mean"."""
    kinds: dict[str, tuple[str | None, str | None]] = {
        "any block": (None, None),
        "block": ("block", None),
        "site": (None, "site"),
        "block at site": ("block", "site"),
    }
    rows = found[found["effect"].isin(kinds)].to_dict("records")
    return {tuple(r[k] if k else "mean" for k in kinds[r["effect"]]): cell(r) for r in rows}  # type: ignore[misc]


def _fitting(found: pd.DataFrame, blocks: Sequence[str], width: int) -> list[list[str]]:
    """Sites in groups whose columns fit side by side; the mean over all stands first."""
    cells, groups = _cells(found), [["mean"]]
    left = first = width - max(map(len, [*blocks, "mean"])) - 12
    for site in sorted(found.loc[found["effect"] == "site", "site"]):
        widths = [len(cells[b, site]) for b in [*blocks, "mean"] if (b, site) in cells]
        need = 1 + max(*map(len, site.replace(".", " .").split()), *widths)
        if need > left and groups[-1]:
            groups.append([])
            left = first + 11
        groups[-1].append(site)
        left -= need
    return groups


def grid(found: pd.DataFrame, blocks: Sequence[str], sites: Sequence[str]) -> Table:
    """Blocks x sites."""
    cells = _cells(found)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    grid.add_column("", no_wrap=True)
    for site in sites:
        grid.add_column(site.replace(".", "\n."), justify="right", no_wrap=True)
    for block in [*blocks, "mean"]:
        grid.add_row(Text(block), *(cells.get((block, site), Text("")) for site in sites))
    return grid


def listed(found: pd.DataFrame, metric: str) -> Table:
    """The effects that were asked for, one a line, best first within their kind."""
    lines = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    lines.add_column("effect")
    for column in (metric, "95% interval", "P(>0)", "placements"):
        lines.add_column(column, justify="right", no_wrap=True)
    kinds = found["effect"].map({"block": 0, "site": 0, "block at site": 1, "pair": 2})
    for row in found.assign(kind=kinds).sort_values(["kind", "mean"], ascending=[True, False]).to_dict("records"):
        lines.add_row(
            Text(name(row)),
            f"{row['mean']:+.4f}",
            f"{row['low']:+.4f} to {row['high']:+.4f}",
            f"{row['p_positive']:.2f}",
            str(row["placements"]),
        )
    return lines


def name(row: Row) -> str:
    """``eca at neck.p3``; of pairs both."""
    return {
        "any block": "any block",
        "block": f"{row['block']}, all its sites",
        "site": f"{row['site']}, all its blocks",
        "block at site": f"{row['block']} at {row['site']}",
        "pair": f"{row['block']} at {row['site']} with {row['with_block']} at {row['with_site']}",
    }[row["effect"]]


def followed(model: Model) -> Table:
    """The placements of the data with the best and the worst posterior."""
    tried = list(dict.fromkeys(p for p in model.data.placements if len(p)))
    mean, sd = effects.predict(model, tried)
    order = np.argsort(-mean)
    few = len(order) <= 2 * FOLLOWED
    lines = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    lines.add_column("gain", justify="right", no_wrap=True)
    lines.add_column("95% interval", justify="right", no_wrap=True)
    lines.add_column("placement")
    for i in order if few else [*order[:FOLLOWED], *order[-FOLLOWED:]]:
        half = effects.Z95 * sd[i]
        lines.add_row(f"{mean[i]:+.4f}", f"{mean[i] - half:+.4f} to {mean[i] + half:+.4f}", Text(tried[i].label))
        if not few and i == order[FOLLOWED - 1]:
            lines.add_section()
    return lines


def figure(model: Model, found: pd.DataFrame) -> go.Figure:
    """A heat map of blocks x sites above every block at every site with its interval."""
    spots = found[found["effect"] == "block at site"].sort_values("mean")
    blocks = found[found["effect"] == "block"].sort_values("mean")["block"].tolist()
    sites = sorted(found.loc[found["effect"] == "site", "site"])
    heights = [22 * len(blocks) + 60, 17 * len(spots) + 40]
    total = sum(heights) + 260
    picture = make_subplots(rows=2, cols=1, row_heights=heights, vertical_spacing=50 / total)
    picture.add_trace(heat(spots, blocks, sites), row=1, col=1)
    for trace in forest(spots):
        picture.add_trace(trace, row=2, col=1)
    picture.add_vline(x=0, line={"color": INK, "width": 1}, row=2, col=1)  # type: ignore[arg-type]
    picture.update_xaxes(side="top", row=1, col=1)
    picture.update_yaxes(range=[-1, len(spots)], row=2, col=1)
    metric = model.data.metric
    picture.update_xaxes(title=f"change of {metric} over the base, with 95% interval", row=2, col=1)
    lines = "<br>".join(escape(line) for line in effects_words.verdict(model))
    picture.update_layout(
        title={"text": f"{escape(title(model))}<br><sup>{lines}</sup>", "y": 1 - 20 / total, "yanchor": "top"},
        template="plotly_white",
        font={"color": INK, "family": "system-ui, sans-serif"},
        margin={"t": 150, "l": 190},
        height=total,
        showlegend=False,
    )
    return picture


def heat(spots: pd.DataFrame, blocks: list[str], sites: list[str]) -> go.Heatmap:
    """Effect by colour and in points; bold where the interval does not hold 0; the interval on hover."""

    def matrix(values: pd.Series) -> pd.DataFrame:
        wide = spots.assign(shown=values).pivot(index="block", columns="site", values="shown")
        return wide.reindex(index=blocks, columns=sites)

    sure = (spots["low"] > 0) | (spots["high"] < 0)
    text = (spots["mean"] * 100).map(lambda points: f"{points:+.1f}")
    most = float(spots["mean"].abs().max()) or 1.0
    return go.Heatmap(
        z=matrix(spots["mean"]).to_numpy(),
        x=sites,
        y=blocks,
        text=matrix(text.where(~sure, "<b>" + text + "</b>")).fillna("").to_numpy(),
        texttemplate="%{text}",
        hovertext=matrix(pd.Series([hover(r) for r in spots.to_dict("records")], spots.index)).fillna("").to_numpy(),
        hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False,
        colorscale="RdBu",
        zmid=0,
        zmin=-most,
        zmax=most,
        xgap=1,
        ygap=1,
        showscale=False,
    )


def forest(spots: pd.DataFrame) -> list[go.Scatter]:
    """One point a block at a site with its interval; coloured where it does not hold 0."""
    groups = {GOOD: spots["low"] > 0, BAD: spots["high"] < 0, OTHER: (spots["low"] <= 0) & (spots["high"] >= 0)}
    order = [name(r) for r in spots.to_dict("records")]
    frame = go.Scatter(x=[None] * len(order), y=order, hoverinfo="skip")  # fixes the order of the axis
    return [frame] + [
        go.Scatter(
            x=some["mean"],
            y=[name(r) for r in some.to_dict("records")],
            error_x={"type": "data", "array": some["high"] - some["mean"], "thickness": 1.5, "width": 0},
            mode="markers",
            marker={"color": color, "size": 7},
            text=[hover(r) for r in some.to_dict("records")],
            hovertemplate="%{text}<extra></extra>",
        )
        for color, some in ((c, spots[mask]) for c, mask in groups.items())
        if len(some)
    ]


def hover(row: Row) -> str:
    """What a cell says: HTML-escaped, since names come from outside."""
    return (
        f"<b>{escape(name(row))}</b><br>{effects_words.figure(row)}<br>P(>0) {row['p_positive']:.2f}, "
        f"from {row['placements']} placements"
    )
