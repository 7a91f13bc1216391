"""Goes in: a study. Comes out: its report, one HTML page that opens from disk without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import optuna
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from nas import charts, drawing, effects_table, export, history, model_card, outcome, page_facts, strips, wording
from nas.effects_table import Grid
from nas.outcome import Outcome
from nas.page_facts import Group, Times
from nas.points import Points
from nas.space_sites import Place, places
from search_spaces import Placement

ASSETS = Path(__file__).parent / "assets"
MOST_CANDIDATES = 20  # rows of the front where no finalists were trained
PRINTED = 60  # rows of the table of trials that paper shows
HEADLINES = {outcome.GAIN: "gain", outcome.NONE: "no gain shown", outcome.LOSS: "loss"}


@dataclass(frozen=True)
class Page:
    """All that the page shows, read from a study.

    Args:
        base: The model's name; ``data`` the dataset's.
        about: What the search was, in a sentence.
        outcome: The final comparison; None before it was made. ``span`` is how far its strips reach.
        best: The placement that the architecture is drawn with, ``best_is`` what makes it that.
        places: The sites of the space.
        graph: The architecture.
        grid: What each block does at each site.
        figures: Name -> plotly figure.
        drawn: How many learning curves there are.
        rows: Cells of the table of all trials, and whether the trial is on the front.
    """

    base: str
    data: str
    about: str
    points: Points
    outcome: Outcome | None
    span: float
    best: Placement
    best_is: str
    places: tuple[Place, ...]
    graph: Markup
    grid: Grid
    figures: Mapping[str, charts.Figure]
    drawn: int
    times: Times
    facts: tuple[Group, ...]
    rows: tuple[tuple[tuple[str, ...], bool], ...]


def collect(study: optuna.Study, found: Points) -> Page:
    """Read everything once."""
    told = outcome.of_study(study)
    best, best_is = chosen(found, told)
    sites = tuple(dict.fromkeys(k for t in study.get_trials(deepcopy=False) for k in history.params_of(t)))
    grid = effects_table.read(study)
    gains = [i for e in told.entries for i in (e.gain, e.over_random, e.over_convolution)] if told else []
    base_yaml, recipe = study.user_attrs["base_yaml"], study.user_attrs["recipe"]
    return Page(
        base=export.base_name(study),
        data=model_card.data_name(recipe),
        about=_about(found, recipe),
        points=found,
        outcome=told,
        span=strips.reach(gains),
        best=best,
        best_is=best_is,
        places=places(base_yaml, sites, best),
        graph=drawing.svg(base_yaml, best, sites),
        grid=grid,
        figures=figures(found, told),
        drawn=len(charts.chosen_curves(found)),
        times=page_facts.times(found, study),
        facts=page_facts.facts(study, found),
        rows=tuple((page_facts.row(p), p.front) for p in found.all),
    )


def chosen(found: Points, told: Outcome | None) -> tuple[Placement, str]:
    """The best candidate of the verdict, else the best of the front, and the words for it."""
    candidates = [e for e in told.of(outcome.CANDIDATE) if e.gain and e.placement] if told else []
    if told and (won := outcome.winner(told)):
        return Placement.from_json(won.placement), "the finalist that is shown to gain most"
    if candidates:
        best = max(candidates, key=lambda e: e.gain.value if e.gain else -1.0)
        return Placement.from_json(best.placement), "the best finalist, whose gain is not shown"
    on_front = [p for p in found.front if p.placement]
    if not on_front:
        return Placement(), "the untouched base: no placement stands above it"
    return Placement.from_json(on_front[0].placement), "the best of the front by one short training, no finding"


def figures(found: Points, told: Outcome | None) -> dict[str, charts.Figure]:
    """The page's charts by their names."""
    made = {f"search-{cost}": charts.search(found, cost) for cost in found.costs}
    if told:
        made |= {f"finalists-{cost}": charts.finalists(told, cost) for cost in found.costs}
    if (curves := charts.curves(found)) is not None:
        made["curves"] = curves
    return made | {"volume": charts.volume(found)}


def _about(found: Points, recipe: Mapping[str, Any]) -> str:
    done, paused = len(found.of("done")), len(found.of("paused"))
    stopped = f", {done} of them to the end" if paused else ""
    beyond = {"beyond a limit and not trained": len(found.of("refused")), "failed": len(found.of("dead"))}
    rest = "".join(f"; {n:,} {what}" for what, n in beyond.items() if n)
    return (
        f"{wording.count(done + paused, 'placement')} trained{stopped}, {wording.count(recipe['epochs'], 'epoch')} "
        f"each from the same base, seed {recipe['seed']}, the untouched base among them{rest}."
    )


def render(page: Page) -> str:
    """The page as HTML; everything from the study is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {
        "gain": wording.gain,
        "points": wording.points,
        "signed": wording.signed,
        "ratio": wording.ratio,
        "number": wording.number,
        "duration": wording.duration,
        "roles": lambda role: wording.ROLES.get(role, role),
        "parts": label_parts,
        "strip": lambda interval: strips.draw(interval, page.span),
    }
    return made.get_template("report.html").render(
        page=page,
        points=page.points,
        outcome=page.outcome,
        headline=HEADLINES.get(page.outcome.outcome, page.outcome.outcome) if page.outcome else "",
        candidates=[p for p in page.points.front if p.placement][:MOST_CANDIDATES],
        units=wording.UNITS,
        printed=PRINTED,
        count=wording.count,
        css=Markup((ASSETS / "report.css").read_text(encoding="utf-8")),
        js=Markup((ASSETS / "report.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        figures=Markup(script_json(page.figures)),
    )


def label_parts(label: str) -> Markup:
    """A placement's label that breaks between its blocks and, if it can, not within one."""
    parts = label.replace(" + ", "\u00a0+\n").split("\n")
    return Markup(" ").join(Markup('<span class="part">{}</span>').format(part) for part in parts)


def script_json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
