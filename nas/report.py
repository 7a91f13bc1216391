"""Goes in: a study. Comes out: trials.csv (pandas) and pareto.html (plotly)."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from plotly.subplots import make_subplots

from nas import history, outcome, progress, task, wording
from nas.export import directions, finished, front_trials, trained
from nas.progress import CAVEAT

INK, BASE, FRONT, OTHER = "#1f2937", "#111827", "#d1495b", "#9aa5b1"
BEYOND, PAUSED, WHOLE = "beyond a limit, not trained", "paused", "trained to the end"
ON_FRONT, UNTOUCHED = "Pareto front", "untouched base"
TITLE = 70  # letters in a line below the title
RIM = {"line": {"color": "white", "width": 1}}
_written: WeakKeyDictionary[BaseStorage, dict[int, dict[str, str]]] = WeakKeyDictionary()  # cells of ended trials
MARKERS: dict[str, dict[str, Any]] = {
    BEYOND: {"color": OTHER, "symbol": "x-thin-open", "size": 7},
    PAUSED: {"color": OTHER, "symbol": "circle-open", "size": 7},
    WHOLE: {"color": OTHER, "symbol": "circle", "size": 7} | RIM,
    ON_FRONT: {"color": FRONT, "symbol": "diamond", "size": 11} | RIM,
    UNTOUCHED: {"color": BASE, "symbol": "star", "size": 15} | RIM,
}


def trials_frame(study: optuna.Study) -> pd.DataFrame:
    """One row a trial of any state, in the order of their numbers; times in seconds, scores in [0, 1].

    The columns of the scores are named by the task: `map50_95`, `mask_map50_95`, ..., `top1_accuracy`.
    """
    trials = study.get_trials(deepcopy=False)
    on_front = {t.number for t in front_trials(study, trials)}
    columns, base = task.of(study.user_attrs["base_yaml"]).columns, progress.base_of(finished(study, trials))
    return pd.DataFrame(
        [_row(t, t.number in on_front, columns) | {f"{columns[0]}_over_base": progress.gain(t, base)} for t in trials]
    )


def _row(trial: FrozenTrial, on_front: bool, columns: tuple[str, str]) -> dict[str, Any]:
    attrs = trial.user_attrs
    score, cost = attrs.get("score", {}), attrs.get("cost", {})
    latency = cost.get("latency") or {}
    seconds = score.get("seconds", {})
    return {
        "trial": trial.number,
        "state": "paused" if history.paused(trial) else trial.state.name.lower(),
        "rung": attrs.get("rung"),
        "placement": attrs.get("label"),
        "placement_id": attrs.get("placement_id"),
        "front": on_front,
        columns[0]: score.get("value"),
        columns[1]: score.get("second"),
        f"nms_free_{columns[0]}": score.get("nms_free"),
        f"nms_free_{columns[1]}": score.get("nms_free_second"),
        "split": score.get("split"),
        "head": score.get("head"),
        "params": cost.get("params"),
        "gflops": cost.get("gflops"),
        "latency_ms": latency.get("ms"),
        "latency_iqr_ms": latency.get("iqr_ms"),
        "latency_base_ms": latency.get("base_ms"),
        "latency_ratio": latency.get("ratio"),
        "latency_backend": latency.get("backend", "torch") if latency else None,
        "device": latency.get("device"),
        "dtype": latency.get("dtype"),
        "threads": latency.get("threads"),
        "epochs": score.get("epochs"),
        "images_seen": score.get("images_seen"),
        "seed": score.get("seed"),
        "batches_sha": score.get("batches_sha"),
        "seconds": seconds.get("total"),
        "seconds_steps": seconds.get("steps"),
        "seconds_validation": seconds.get("validation"),
        "duplicate_of": attrs.get("duplicate_of"),
        "reason": attrs.get("error") or attrs.get("infeasible") or _lost(trial),
        "recipe": attrs.get("recipe"),
        **{f"version_{k}": v for k, v in attrs.get("versions", {}).items()},
        **{f"site_{k}": v for k, v in trial.params.items()},
    }


def _lost(trial: FrozenTrial) -> str | None:
    return "interrupted" if trial.state == TrialState.FAIL else None


def write_csv(study: optuna.Study, folder: Path) -> Path:
    """Write :func:`trials_frame` as ``trials.csv``, whole or not at all.

    This is done after every trial: what a trial that has ended says is written out once and kept.
    """
    path = folder / "trials.csv"
    part = path.with_suffix(f".{os.getpid()}.part")
    trials = study.get_trials(deepcopy=False)
    on_front = {t.number for t in front_trials(study, trials)}
    names, base = task.of(study.user_attrs["base_yaml"]).columns, progress.base_of(finished(study, trials))
    kept, over, lines = _written.setdefault(study._storage, {}), f"{names[0]}_over_base", []
    for t in trials:
        cells = kept.get(t._trial_id) or {k: _cell(v) for k, v in _row(t, False, names).items()}
        if t.state.is_finished():
            kept[t._trial_id] = cells
        lines.append(cells | {"front": str(t.number in on_front), over: _cell(progress.gain(t, base))})
    columns = list(dict.fromkeys(k for keys in dict.fromkeys(map(tuple, lines)) for k in keys))
    with part.open("w", encoding="utf-8", newline="") as file:
        for line in (dict(zip(columns, map(_cell, columns), strict=True)), *lines):
            file.write(",".join([line.get(k, "") for k in columns]) + "\n")
    part.replace(path)
    return path


def _cell(value: Any) -> str:
    """A value as the table's text; nothing for None and for no number."""
    if value is None or value != value:
        return ""
    text = f"{value:.8g}" if isinstance(value, float) else str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


def pareto_figure(study: optuna.Study) -> go.Figure:
    """Score over cost, one panel a cost: the front, the base, and every other trial, with its placement on hover.

    What is paused stands hollow at the score that it had; what is beyond a limit stands grey at the bottom edge.
    """
    names = study.metric_names or ["score", *(f"cost {i}" for i in range(1, len(study.directions)))]
    done, on_front, groups = finished(study), front_trials(study), _groups(study)
    count = sum(len(members) for label, members in groups.items() if label != BEYOND)
    heights = [t.user_attrs["score"]["value"] for label, members in groups.items() if label != BEYOND for t in members]
    edge = min(heights) - 0.05 * (float(np.ptp(heights)) or 1.0) if heights else 0.0
    columns = len(directions(study)) - 1
    figure = make_subplots(rows=1, cols=columns, shared_yaxes=True, horizontal_spacing=0.05)
    for column in range(1, columns + 1):
        if columns == 1:
            steps = sorted(on_front, key=lambda t: t.values[1])
            line = {"color": FRONT, "width": 1.5, "shape": "hv"}
            x, y = [t.values[1] for t in steps], [t.values[0] for t in steps]
            figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
        for label, members in groups.items():
            figure.add_scatter(
                x=[_cost(t, names[column]) for t in members],
                y=[edge if label == BEYOND else t.user_attrs["score"]["value"] for t in members],
                mode="markers",
                name=label,
                legendgroup=label,
                showlegend=column == 1,
                marker=MARKERS[label],
                text=[hover(t) for t in members],
                hovertemplate="%{text}<extra></extra>",
                row=1,
                col=column,
            )
        figure.update_xaxes(title=names[column], row=1, col=column)
    figure.update_yaxes(title=_score_name(names[0], done), row=1, col=1)
    title = _title(study, len(done), count)
    figure.update_layout(
        title={"text": title, "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 20}},
        template="plotly_white",
        font={"color": INK, "family": "system-ui, sans-serif"},
        legend={"orientation": "h", "y": -0.15, "yanchor": "top", "x": 0, "xanchor": "left"},
        margin={"t": 50 + 18 * title.count("<br>"), "r": 20},
        height=620,
    )
    return figure


def _groups(study: optuna.Study) -> dict[str, list[FrozenTrial]]:
    """The trials that are drawn, by what they are; what no trial is, is left out, but for the front."""
    done, on_front = finished(study), {t.number for t in front_trials(study)}
    refused = [t for t in study.get_trials(deepcopy=False) if "infeasible" in t.user_attrs]
    groups = {
        BEYOND: [t for t in refused if t.user_attrs.get("cost")],
        PAUSED: [t for t in trained(study) if history.paused(t)],
        WHOLE: [t for t in done if t.number not in on_front and not _is_base(t)],
        ON_FRONT: [t for t in done if t.number in on_front and not _is_base(t)],
        UNTOUCHED: [t for t in done if _is_base(t)],
    }
    return {label: members for label, members in groups.items() if members or label == ON_FRONT}


def _title(study: optuna.Study, whole: int, count: int) -> str:
    """How many placements, and what may be said of them."""
    found = outcome.of_study(study)
    said = found.sentences[0] if found and found.sentences else CAVEAT
    end = f", {whole} of them trained to the end" if count > whole else ""
    return f"{escape(study.study_name)}: {wording.count(count, 'placement')}{end}" + "".join(
        f"<br><sup>{escape(line)}</sup>" for line in textwrap.wrap(said, TITLE)
    )


def _score_name(metric: str, done: list[FrozenTrial]) -> str:
    """``mAP50-95 (one2many head, val)``: the axis names its head and its split."""
    scores = [t.user_attrs["score"] for t in done]
    heads = sorted({f"{s['head']} head" for s in scores if s["head"] != "single"})
    return f"{metric} ({', '.join([*heads, *sorted({s['split'] for s in scores} or {'val'})])})"


def _cost(trial: FrozenTrial, name: str) -> float | None:
    """A cost by the name of its objective, also of a trial without values."""
    cost = trial.user_attrs["cost"]
    if name == "GFLOPs":
        return cost.get("gflops")
    return (cost.get("latency") or {}).get("ratio")


def hover(trial: FrozenTrial) -> str:
    """What a point says: HTML-escaped, since names come from outside."""
    attrs = trial.user_attrs
    cost, score, latency = attrs["cost"], attrs.get("score"), attrs["cost"].get("latency")
    lines = [f"<b>trial {trial.number}</b>", *escape(attrs["label"]).split(" + ")]
    if "infeasible" in attrs:
        lines.append(f"beyond a limit, not trained: {escape(attrs['infeasible'])}")
    if score:
        lines.append(f"{score['metric']} {score['value']:.4f}, {score['second_metric']} {score['second']:.4f}")
        if score["nms_free"] is not None:
            lines.append(f"NMS-free head {score['nms_free']:.4f}")
    if history.paused(trial):
        lines.append(f"paused at rung {attrs.get('rung')} of {attrs.get('rungs')}")
    if latency:
        lines.append(f"latency x{latency['ratio']:.3f} ({latency['ms']:.2f} ms, {escape(where(latency))})")
    lines.append(f"{cost['gflops']:.3f} GFLOPs, {cost['params']:,} parameters")
    return "<br>".join(lines)


def trial_note(attrs: Mapping[str, Any]) -> str:
    """Markdown for the dashboard: one trial's placement, score and cost, or why it has none."""
    sites = [f"- {code(site)}: {code(block)}" for site, block in attrs.get("placement", {}).items()]
    parts = ["\n".join(sites) or "- the untouched base"]
    if why := attrs.get("infeasible"):
        parts.append(f"Beyond a limit, not trained: {plain(why)}")
    if why := attrs.get("error"):
        parts.append(f"Failed: {plain(why)}")
    score, cost = attrs.get("score"), attrs.get("cost")
    if score and cost:
        latency = cost["latency"]
        parts.append(
            f"{score['metric']} **{score['value']:.4f}** on {plain(score['split'])} ({score['head']} head); "
            f"{cost['params']:,} parameters, {cost['gflops']:.3f} GFLOPs, latency x{latency['ratio']:.3f} "
            f"of the base ({latency['ms']:.2f} ms, {plain(where(latency))}, {latency['dtype']})"
        )
        if attrs.get("rung", 1) < attrs.get("rungs", 1):
            parts.append(
                f"Paused at rung {attrs['rung']} of {attrs['rungs']}: the score after that part of its training."
            )
        parts.append(plain(attrs["transfer"]))
    return "\n\n".join(parts)


def plain(text: Any) -> str:
    """Text from outside as markdown shows it letter by letter, also in a table's cell."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&$])", r"\\\1", " ".join(str(text).split()))


def code(text: Any) -> str:
    """Text from outside as a span of code, whatever backticks it holds; not for a table."""
    one = " ".join(str(text).split())
    fence = "`" * (max(map(len, re.findall("`+", one)), default=0) + 1)
    pad = " " * ("`" in one)
    return f"{fence}{pad}{one}{pad}{fence}"


def where(latency: Mapping[str, Any]) -> str:
    """``onnxruntime, cpu``: runtime and device; studies from before the runtime was recorded measured in torch."""
    return f"{latency.get('backend', 'torch')}, {latency['device']}"


def write_html(study: optuna.Study, folder: Path) -> Path:
    """Write ``pareto.html``: one file that opens from disk without a network."""
    path = folder / "pareto.html"
    part = path.with_suffix(f".{os.getpid()}.part")
    pareto_figure(study).write_html(part, include_plotlyjs=True, full_html=True)
    part.replace(path)
    return path


def _is_base(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get("placement") == {}
