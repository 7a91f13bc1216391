"""Goes in: the values of `report`. Comes out: report.html and its pictures, or the ablation table on the terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import optuna

from nas import ablation, export, outcome, page, pictures, points, status
from nas.errors import InputError


class ReportError(InputError):
    """A report that cannot be made: nothing to tell, or no place for it."""


def command(study: str, to: Path | None, latex: bool, markdown: bool, storage: str | None, output: str) -> None:
    """`report`: write the page and its pictures, or print the table.

    Raises:
        InputError: No such study, no trained trial, both kinds of table, or a folder that cannot be written.
    """
    if latex and markdown:
        raise ReportError("--latex and --markdown: expected one of them")
    if to is not None and (latex or markdown):
        raise ReportError(
            f"--to {to}: a table is printed, not written; redirect it: > table.{'tex' if latex else 'md'}"
        )
    opened, folder = status.find(study, storage, output)
    found = points.read(opened)
    if not found.of("done", "paused"):
        raise ReportError(f"study {opened.study_name!r} has no trained trial yet: nothing to report")
    if latex or markdown:
        table = ablation.of(found, outcome.of_study(opened), opened.user_attrs["recipe"])
        title = f"Attention blocks in {export.base_name(opened)}, study {opened.study_name}"
        sys.stdout.write((ablation.latex if latex else ablation.markdown)(table, title))
        return
    print("\n".join(f"Written: {path}" for path in make(opened, found, to or folder)))


def make(study: optuna.Study, found: points.Points, target: Path) -> list[Path]:
    """Write the page and its pictures.

    Raises:
        ReportError: The folder cannot be written.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        shown = page.collect(study, found)
        return [write(page.render(shown), target), *pictures.write(found, shown.outcome, target)]
    except OSError as e:
        raise ReportError(f"{target}: cannot be written: {e.strerror or e}") from e


def write(text: str, folder: Path) -> Path:
    """``report.html``, whole or not at all."""
    path = folder / "report.html"
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path
