"""Goes in: points and an outcome. Comes out: the ablation table of a paper, in LaTeX or in markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas import wording
from nas.interval import Interval
from nas.outcome import BASE, CANDIDATE, CONVOLUTION, RANDOM, Outcome
from nas.points import Point, Points
from search_spaces import Placement

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "−": "$-$", "±": r"$\pm$", "×": r"$\times$",
}  # fmt: skip
MARKED = "\\`*_{}[]<>#|~$&"  # what markdown or its HTML would read as markup in the middle of a line
COLUMNS = ("block", "site", "params", "GFLOPs", "latency")


@dataclass(frozen=True)
class Line:
    """A row as plain text; ``group`` is what it is there for."""

    group: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Ablation:
    """The table: its columns, rows and the line that says what the figures are."""

    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    note: str


def of(points: Points, outcome: Outcome | None, recipe: Mapping[str, Any]) -> Ablation:
    """From the finalists where there are any, else from the search's front."""
    return _of_outcome(outcome) if outcome else _of_front(points, recipe)


def _of_outcome(outcome: Outcome) -> Ablation:
    lines = []
    for role in (BASE, CANDIDATE, CONVOLUTION, RANDOM):
        for e in outcome.of(role):
            blocks, sites = _where(e.placement, e.label)
            if role == BASE:
                score = f"{100 * statistics.fmean(e.scores):.1f}" if e.scores else "-"
            else:
                score = f"{wording.gain(e.gain)}" if e.gain else "failed"
            costs = (f"{e.params / 1e6:.2f} M", f"{e.gflops:.3f}", _ratio(e.latency))
            lines.append(Line(wording.ROLES[role], (blocks, sites, *costs, score)))
    return Ablation((*COLUMNS, outcome.metric), tuple(lines), _note(outcome))


def _note(outcome: Outcome) -> str:
    base = next(iter(outcome.of(BASE)), None)
    level = f" ({100 * statistics.fmean(base.scores):.1f})" if base and base.scores else ""
    head = "" if outcome.head == "single" else f", {outcome.head} head"
    measured, images = outcome.latency, wording.count(outcome.images, "image")
    facts = [str(measured[k]) for k in ("backend", "device", "dtype") if measured.get(k)]
    facts += [f"{measured['threads']} threads"] if measured.get("threads") else []
    facts += [f"{measured['imgsz']} px"] if measured.get("imgsz") else []
    return (
        f"{outcome.metric} in points of 0.01 on {outcome.split} ({images}){head}: of the "
        f"base its mean{level}, of all others the gain over it under the same seeds. "
        f"{wording.count(outcome.epochs, 'epoch')}, {wording.count(len(outcome.seeds), 'seed')}; ± is half a 95% "
        f"interval, simultaneous over all candidates. Latency over the base's ({', '.join(facts)}). "
        "GFLOPs and parameters as Ultralytics counts them."
    )


def _of_front(points: Points, recipe: Mapping[str, Any]) -> Ablation:
    shown = [*([points.base] if points.base else []), *(p for p in points.front if p.placement)]
    lines = [_front_line(p) for p in shown]
    head = "" if points.head == "single" else f", {points.head} head"
    note = (
        f"The front of a search: {points.metric} in points of 0.01 on {points.split}{head}, in brackets the gain over "
        f"the base. One training of {wording.count(recipe['epochs'], 'epoch')} with one seed each: candidates, no "
        f"findings, hence no intervals. `python -m nas finalists {points.study}` makes the verdict. Latency over the "
        "base's."
    )
    return Ablation((*COLUMNS, points.metric), tuple(lines), note)


def _front_line(p: Point) -> Line:
    blocks, sites = _where(p.placement, p.label)
    score = "-" if p.value is None else f"{100 * p.value:.1f}"
    score += f" ({wording.points(p.gain)})" if p.placement and p.gain is not None else ""
    params = f"{p.params / 1e6:.2f} M" if p.params else "-"
    latency = _ratio(Interval(p.ratio, p.ratio, p.ratio) if p.ratio else None)
    return Line(
        "candidate" if p.placement else "base", (blocks, sites, params, wording.number(p.gflops), latency, score)
    )


def _where(placement: Mapping[str, Any], label: str) -> tuple[str, str]:
    """``cot + eca`` and ``neck.p3 + neck.p4``."""
    try:
        found = Placement.from_json(placement) if placement else Placement.from_label(label)
    except ValueError:
        return label, ""
    return " + ".join(b.label for _, b in found) or "none (base)", " + ".join(s for s, _ in found)


def _ratio(latency: Interval | None) -> str:
    return wording.ratio(latency).replace("x", "×", 1)


def markdown(table: Ablation, title: str) -> str:
    """A markdown table with its note; groups are told in a column of their own."""
    rows = [("", *table.columns), ("---", "---", "---", *["---:"] * (len(table.columns) - 2))]
    lines = ["| " + " | ".join(_marked(c) if i != 1 else c for c in row) + " |" for i, row in enumerate(rows)]
    for line in table.lines:
        lines.append("| " + " | ".join(map(_marked, (line.group, *line.cells))) + " |")
    return f"**{_marked(title)}**\n\n" + "\n".join(lines) + f"\n\n{_marked(table.note)}\n"


def _marked(text: str) -> str:
    """Text that markdown shows as it is."""
    return "".join(f"\\{c}" if c in MARKED else c for c in " ".join(text.split()))


def latex(table: Ablation, title: str) -> str:
    """A LaTeX table in booktabs: a rule between groups."""
    columns = "ll" + "r" * (len(table.columns) - 2)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escaped(title)}. {escaped(table.note.replace('`', ''))}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        " & ".join(map(escaped, table.columns)) + r" \\",
    ]
    before = None
    for line in table.lines:
        if line.group != before:
            lines.append("\\midrule" + (f" % {escaped(line.group)}" if line.group else ""))
        before = line.group
        lines.append(" & ".join(map(escaped, line.cells)) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(SPECIAL.get(c, c) for c in " ".join(text.split()))
