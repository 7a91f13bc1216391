"""Goes in: a study. Comes out: trials.csv (pandas) and pareto.html (plotly)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.trial import FrozenTrial, TrialState
from plotly.subplots import make_subplots

from nas import history, task
from nas.export import directions, finished, front_trials, gain

INK, BASE, FRONT, OTHER = "#1f2937", "#111827", "#d1495b", "#9aa5b1"


def trials_frame(study: optuna.Study) -> pd.DataFrame:
    """One row a trial of any state, in the order of their numbers; times in seconds, scores in [0, 1].

    The columns of the scores are named by the task: `map50_95`, `mask_map50_95`, ..., `top1_accuracy`.
    """
    on_front = {t.number for t in front_trials(study)}
    columns = task.of(study.user_attrs["base_yaml"]).columns
    return pd.DataFrame(
        [
            _row(t, t.number in on_front, columns) | {f"{columns[0]}_over_base": gain(study, t)}
            for t in study.get_trials(deepcopy=False)
        ]
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
    """Write ``trials.csv``, whole or not at all."""
    path = folder / "trials.csv"
    part = path.with_suffix(f".{os.getpid()}.part")
    trials_frame(study).to_csv(part, index=False, float_format="%.8g")
    part.replace(path)
    return path


def pareto_figure(study: optuna.Study) -> go.Figure:
    """Score over cost, one panel a cost: the front, the base, and every other trial, with its placement on hover."""
    names = study.metric_names or ["score", *(f"cost {i}" for i in range(1, len(study.directions)))]
    done, on_front = finished(study), {t.number for t in front_trials(study)}
    groups = {
        "other trials": ([t for t in done if t.number not in on_front and not _is_base(t)], OTHER, "circle", 7),
        "Pareto front": ([t for t in done if t.number in on_front and not _is_base(t)], FRONT, "diamond", 11),
        "untouched base": ([t for t in done if _is_base(t)], BASE, "star", 15),
    }
    columns = len(directions(study)) - 1
    figure = make_subplots(rows=1, cols=columns, shared_yaxes=True, horizontal_spacing=0.05)
    for column in range(1, columns + 1):
        steps = sorted((t for t in done if t.number in on_front), key=lambda t: t.values[column])
        if columns == 1:
            line = {"color": FRONT, "width": 1.5, "shape": "hv"}
            x, y = [t.values[column] for t in steps], [t.values[0] for t in steps]
            figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
        for label, (trials, color, symbol, size) in groups.items():
            figure.add_scatter(
                x=[t.values[column] for t in trials],
                y=[t.values[0] for t in trials],
                mode="markers",
                name=label,
                legendgroup=label,
                showlegend=column == 1,
                marker={"color": color, "symbol": symbol, "size": size, "line": {"color": "white", "width": 1}},
                text=[hover(t) for t in trials],
                hovertemplate="%{text}<extra></extra>",
                row=1,
                col=column,
            )
        figure.update_xaxes(title=names[column], row=1, col=column)
    heads = sorted({f"{t.user_attrs['score']['head']}, " for t in done} - {"single, "})
    figure.update_yaxes(title=f"{names[0]} ({''.join(heads)}val)", row=1, col=1)
    best = "one short training each, one seed: candidates, no findings"
    figure.update_layout(
        title={"text": f"{study.study_name}: {len(done)} placements<br><sup>{best}</sup>"},
        template="plotly_white",
        font={"color": INK, "family": "system-ui, sans-serif"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        margin={"t": 90},
        height=620,
    )
    return figure


def hover(trial: FrozenTrial) -> str:
    """What a point says: HTML-escaped, since names come from outside."""
    cost, score = trial.user_attrs["cost"], trial.user_attrs["score"]
    latency = cost["latency"]
    lines = [f"<b>trial {trial.number}</b>", *escape(trial.user_attrs["label"]).split(" + ")]
    lines.append(f"{score['metric']} {score['value']:.4f}, {score['second_metric']} {score['second']:.4f}")
    if score["nms_free"] is not None:
        lines.append(f"NMS-free head {score['nms_free']:.4f}")
    lines.append(f"latency x{latency['ratio']:.3f} ({latency['ms']:.2f} ms, {escape(where(latency))})")
    lines.append(f"{cost['gflops']:.3f} GFLOPs, {cost['params']:,} parameters")
    return "<br>".join(lines)


def trial_note(attrs: Mapping[str, Any]) -> str:
    """Markdown for the dashboard: one trial's placement, score and cost."""
    score, cost = attrs["score"], attrs["cost"]
    sites = "\n".join(f"- `{site}`: `{block}`" for site, block in attrs["placement"].items()) or "- the untouched base"
    latency = cost["latency"]
    return (
        f"{sites}\n\n{score['metric']} **{score['value']:.4f}** on {score['split']} ({score['head']} head); "
        f"{cost['params']:,} parameters, {cost['gflops']:.3f} GFLOPs, latency x{latency['ratio']:.3f} "
        f"of the base ({latency['ms']:.2f} ms, {where(latency)}, {latency['dtype']})\n\n{attrs['transfer']}"
    )


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
