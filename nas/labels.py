"""Goes in: the text of a label file. Comes out: the class of each row, or why Ultralytics cannot use the file."""

from __future__ import annotations

import math
from dataclasses import dataclass

TOLERANCE = 0.01  # how far a coordinate may leave the picture


class BadLabels(ValueError):
    """Ultralytics drops this file's image; the message says why."""


class WrongLabels(ValueError):
    """Labels of another task, with which Ultralytics refuses the whole dataset; the message says what they are."""


@dataclass(frozen=True)
class Layout:
    """What the rows of a dataset hold.

    Args:
        task: Ultralytics' task of the base.
        keypoints: Number of keypoints and values of each, where the dataset's YAML has `kpt_shape`.
    """

    task: str
    keypoints: tuple[int, int] | None = None

    @property
    def columns(self) -> int:
        """Columns of a row of keypoints: class, box, and the values."""
        return 5 + math.prod(self.keypoints) if self.keypoints else 5


def classes(text: str, layout: Layout) -> list[int]:
    """Class of every row; the rules are those of Ultralytics' `verify_image_label`.

    Raises:
        BadLabels: Ultralytics drops the image.
        WrongLabels: Boxes, where the task learns from polygons or oriented boxes.
    """
    words = [line.split() for line in text.splitlines() if line.strip()]
    if layout.task == "pose":
        return [_pose(_numbers(row), layout) for row in words]
    if layout.keypoints:  # for a task without keypoints Ultralytics keeps their box
        words = [row[:5] if len(row) == layout.columns else row for row in words]
    rows = [_numbers(row) for row in words]
    if any(len(row) > 6 for row in rows):
        if any(len(row) == 5 for row in rows):
            raise BadLabels("rows of boxes and rows of polygons in one file")
        return [_box([row[0], *_around(row)]) for row in rows]
    found = [_box(row) for row in rows]
    if rows and layout.task in ("segment", "obb"):
        want = "the four corners" if layout.task == "obb" else "at least three points"
        raise WrongLabels(f"rows of {len(rows[0])} columns, expected a class and {want} (x y x y ...)")
    return found


def corners(text: str) -> set[int]:
    """How many corners the polygons of a good label file have."""
    return {(len(line.split()) - 1) // 2 for line in text.splitlines() if line.strip()}


def _numbers(words: list[str]) -> list[float]:
    try:
        row = [float(v) for v in words]
    except ValueError as e:
        raise BadLabels(f"a row is not made of numbers: {' '.join(words)[:60]!r}") from e
    if not all(math.isfinite(v) for v in row):
        raise BadLabels(f"a value is not finite: {' '.join(words)[:60]!r}")
    return row


def _pose(row: list[float], layout: Layout) -> int:
    n, each = layout.keypoints or (0, 1)
    if len(row) != layout.columns:
        raise BadLabels(f"a row of {len(row)} columns, expected {layout.columns}: class, box, {n} x {each} values")
    return _checked(row, [*row[5::each], *row[6::each]])


def _box(row: list[float]) -> int:
    if len(row) != 5:
        raise BadLabels(f"a row of {len(row)} columns, expected 5: class x y w h")
    return _checked(row, row[1:])


def _around(row: list[float]) -> tuple[float, float, float, float]:
    """Box x y w h of a polygon row."""
    xs, ys = row[1::2], row[2::2]
    if len(row) < 7 or len(xs) != len(ys):
        raise BadLabels(f"a row of {len(row)} columns, expected a class and at least three points (x y x y ...)")
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _checked(row: list[float], points: list[float]) -> int:
    """The row's class, when its coordinates lie in the picture."""
    if max(points) > 1 + TOLERANCE:
        raise BadLabels(f"coordinate {max(points):g}, expected parts of the picture's size, 0 to 1")
    if min(row) < 0 and (min(row) < -TOLERANCE or min(row[3:5]) < 0):
        raise BadLabels(f"negative value {min(row):g}")
    if row[0] != int(row[0]):
        raise BadLabels(f"class {row[0]:g} is no whole number")
    return int(row[0])
