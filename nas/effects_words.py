"""Goes in: a model of effects. Comes out: sentences: what the data carry, and whether a block or a site helps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nas import effects
from nas.effects import Model
from nas.recipe import near

Row = Mapping[Any, Any]  # of the frame of effects


def verdict(model: Model) -> list[str]:
    """What the data carry, most important first; the first says whether blocks are told apart at all."""
    check, data = model.check, model.data
    tau = f"tau {check.tau.value:.2f} ({check.tau.low:.2f} to {check.tau.high:.2f})"
    left_out = (
        f"Predicted without its own trainings, a placement's gain ranks as measured with {tau}, and "
        f"{check.explained:.0%} of its variance is explained beyond how many blocks there are."
    )
    (any_block,) = effects.frame(model).query("effect == 'any block'").to_dict("records")
    return [
        _told(model),
        left_out,
        f"A block changes the {data.metric} by {figure(any_block)}, on average over all that was tried.",
        _pairs(model),
    ]


def _told(model: Model) -> str:
    blocks, sites = model.check.blocks, model.check.sites
    ps = " and ".join(f"{what} {p_text(p)}" for what, p in (("blocks", blocks), ("sites", sites)) if p is not None)
    if not model.check.told:
        return (
            f"These data do not tell blocks apart, nor sites ({ps or 'one of each'}, by shuffling): their differences "
            f"drown in the noise of one training, {model.fit.noise:.4f}. Repeats or longer trainings are needed."
        )
    if blocks is not None and blocks >= effects.SURE:
        return f"These data do not tell blocks apart, but sites ({ps}, by shuffling): where matters, which is not seen."
    both = sites is not None and sites < effects.SURE
    return f"These data tell blocks {'and sites ' if both else ''}apart ({ps}, by shuffling)."


def _pairs(model: Model) -> str:
    check = model.check
    if check.pairs is None:
        return f"No pair of blocks was tried in {effects.LEAST_SEEN} placements: whether blocks add up cannot be said."
    facts = f"likelihood ratio {check.ratio:.1f}, {p_text(check.pairs)}"
    if "pair" in model.fit.sds:
        return f"Blocks do not just add up ({facts}): a pair is off their sum by {model.fit.sds['pair']:.4f} (sd)."
    return f"Blocks add up as far as these data show ({facts} for pairs)."


def answer(model: Model, block: str | None, site: str | None) -> list[str]:
    """Does the block help, and where; or which blocks help at the site; or this block at this site.

    Raises:
        EffectsError: It is not in the data.
    """
    found = select(effects.frame(model), block, site)
    kind = "block at site" if block and site else "block" if block else "site"
    doubt = "" if model.check.told else " (These data do not tell blocks apart.)"
    lines = []
    for row in found[found["effect"] == kind].to_dict("records"):
        column = kind.split()[0]
        inner = found[(found["effect"] == "block at site") & (found[column] == row[column])]
        lines.append(_sentence(row, kind, len(inner), model.data.metric) + doubt)
        if kind != "block at site":
            lines.append(_where(inner, "site" if block else "block"))
    return lines


def _sentence(row: Row, kind: str, over: int, metric: str) -> str:
    subject = {"block": row["block"], "site": f"A block at {row['site']}"}.get(kind, f"{row['block']} at {row['site']}")
    average = {
        "block": f" on average over the {over} sites where it was tried",
        "site": f" on average over the {over} blocks tried there",
    }
    verb = "helps" if row["low"] > 0 else "hurts" if row["high"] < 0 else None
    what = f"the {metric} changes by {figure(row)}{average.get(kind, '') if over > 1 else ''}"
    if verb is None:
        return f"Whether {subject[0].lower() + subject[1:]} helps is not told: {what}; {_rests(row)}."
    return f"{subject} {verb}: {what}; {_rests(row)}."


def _where(rows: pd.DataFrame, column: str) -> str:
    up, down = rows[rows["low"] > 0].sort_values("mean", ascending=False), rows[rows["high"] < 0].sort_values("mean")
    parts = [
        f"it {verb} with {', '.join(r[column] for r in some.to_dict('records'))}"
        if column == "block"
        else f"it {verb} at {', '.join(r[column] for r in some.to_dict('records'))}"
        for verb, some in (("helps", up), ("hurts", down))
        if len(some)
    ]
    rest = len(rows) - len(up) - len(down)
    if rest:
        words = {"site": ("site", "sites"), "block": ("block", "blocks")}[column]
        parts.append(f"for {'all ' if not parts else ''}{rest} {words[rest != 1]} the interval holds 0")
    return f"By {column}: {'; '.join(parts)}."


def _rests(row: Row) -> str:
    above = row["mean"] > 0
    sure = row["p_positive"] if above else 1 - row["p_positive"]
    return f"{sure:.0%} sure that it is {'above' if above else 'below'} 0, from {row['placements']} placements"


def select(found: pd.DataFrame, block: str | None, site: str | None) -> pd.DataFrame:
    """The rows of a block (by label, or by name whatever its options), of a site, or of both.

    Raises:
        EffectsError: It is not in the data.
    """
    for column, wanted in (("block", block), ("site", site)):
        if wanted is None:
            continue
        known = sorted(set(found[column].dropna()) - {""})
        labels = [x for x in known if x == wanted] or [x for x in known if x.partition("(")[0] == wanted]
        if not labels:
            raise effects.EffectsError(
                f"--{column} {wanted!r} is not in the data; there are: {', '.join(known)}{near(wanted, known)}"
            )
        paired = found["with_block" if column == "block" else "with_site"].isin(labels)
        found = found[found[column].isin(labels) | paired]
    return found


def figure(row: Row) -> str:
    """``+0.0120 (95% interval +0.0040 to +0.0200)``"""
    return f"{row['mean']:+.4f} (95% interval {row['low']:+.4f} to {row['high']:+.4f})"


def p_text(p: float) -> str:
    """``p = 0.21``, or ``p <= 0.001``."""
    return f"p = {p:.2f}" if p >= 0.01 else f"p = {p:.3f}" if p > 0.001 else "p <= 0.001"
