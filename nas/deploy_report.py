"""Goes in: the command `deploy`. Comes out: its table in a terminal, and the same figures as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
import ultralytics
from rich.console import Console
from rich.table import Table

from nas import agreement, deploy, plug_ins
from nas.deploy_rows import Order, Row, run
from nas.fit import load_modules
from nas.setting import pick_device

SHORT = {  # the table has 80 columns
    "mask mAP50-95": "mask mAP",
    "pose mAP50-95": "pose mAP",
    "OBB mAP50-95": "OBB mAP",
    "top-1 accuracy": "top-1",
}


def command(model: Path, device: str, to: Path | None, modules: list[str], **asked: object) -> None:
    """`deploy`: check, then export, validate and time each format, and show it.

    Raises:
        DeployError: A fault of the input, or no format could be done.
    """
    faults: list[str] = []
    plug_ins.announce(modules, print)
    load_modules(tuple(modules), faults)
    try:
        where = pick_device(device or None)
    except ValueError as e:
        faults.append(" ".join(str(e).split()))
    if faults:
        raise deploy.DeployError("\n".join(faults))
    order = Order(model=model, device=where, target=to or model.parent, **asked)  # type: ignore[arg-type]
    console = Console(file=sys.stdout)
    rows = run(order, lambda text: console.print(text, highlight=False, markup=False))
    write(order, rows)
    show(order, rows, console)


def report_file(order: Order) -> Path:
    """Where the figures are written."""
    return order.target / f"{order.model.stem}-deploy.json"


def write(order: Order, rows: list[Row]) -> None:
    """All figures as JSON."""
    asked = {k: str(v) if isinstance(v, Path | torch.device) else v for k, v in asdict(order).items()}
    versions = {"torch": torch.__version__, "ultralytics": ultralytics.__version__}
    versions |= dict(deploy.version(b).split(" ", 1) for b in deploy.BACKENDS[1:] if " " in deploy.version(b))
    card = {"order": asked, "versions": versions, "rows": [asdict(row) for row in rows]}
    order.target.mkdir(parents=True, exist_ok=True)
    report_file(order).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def show(order: Order, rows: list[Row], console: Console) -> None:
    """One table in 80 columns, and what it means."""
    title = f"{order.model.name} at {order.imgsz} px"
    table = Table(title=title, title_justify="left")
    table.add_column("format")
    metric = rows[0].metric or ""
    for column in ("runs in", "MB", SHORT.get(metric, metric), "ms", "x base", "box, px", "score"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.format, *cells(row))
    console.print(table)
    lines = [f"{row.format}: {row.missing}" for row in rows if row.missing]
    first, told = rows[0].latency, next((row.agreement for row in rows if row.agreement), None)
    assert first is not None
    lines.append(
        f"{metric}: val split of {order.data.name}, {first.head} head. ms: median of {first.runs} interleaved "
        f"pairs, {first.device}, {first.threads} thread(s), batch 1."
    )
    if told:
        lines.append(
            f"box, score: largest difference from torch (fp32) over the detections above {agreement.SURE} on "
            f"{told.images} images at {told.sizes[0]} and {told.sizes[1]} px."
        )
    for row in rows:
        if row.agreement and row.agreement.unmatched:
            lines.append(
                f"{row.format}: {row.agreement.unmatched} detections on one side only, beside "
                f"{row.agreement.detections} on both"
            )
        if row.latency and row.format == "openvino" and row.latency.dtype != "float32":
            lines.append(f"openvino: computes in {row.latency.dtype} by itself where the processor has it")
    console.print("\n".join(lines), highlight=False, markup=False)
    console.print(f"Written: {report_file(order)}", highlight=False, markup=False, soft_wrap=True)


def cells(row: Row) -> list[str]:
    """A row's figures as text."""
    if row.latency is None:
        return ["-"] * 7
    near = row.agreement
    return [
        row.latency.dtype,
        f"{row.megabytes:.1f}",
        f"{row.value:.4f}",
        f"{row.latency.ms:.2f}",
        "-" if row.ratio is None else f"{row.ratio:.3f}",
        "-" if near is None or near.box_px is None else f"{near.box_px:.2g}",
        "-" if near is None or near.score is None else f"{near.score:.1g}",
    ]
