"""Goes in: a Setting. Comes out: what its dataset's files looked like, and an error as soon as one looks otherwise.

Trials are compared because they see the same images. One that is edited, replaced or deleted under a search would end
that without a word.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ultralytics.data.utils import IMG_FORMATS, img2label_paths

from nas import data
from nas.dataset import SPLITS
from nas.quiet import quiet
from nas.setting import Setting

MOST = 20_000  # files looked at; of more, that many spread over all
Look = tuple[int, int] | None  # size in bytes and time of change in nanoseconds; None where there is no such file


class DatasetChanged(RuntimeError):
    """Images or labels are not what they were when the search began."""


class Stamp:
    """The files of a dataset as they were.

    Args:
        setting: Whose dataset.
    """

    def __init__(self, setting: Setting) -> None:
        files = list(files_of(setting))
        step = -(-len(files) // MOST) if files else 1
        self.path, self.files = setting.dataset.path, files[::step]
        self.looks = look(self.files)

    def check(self) -> None:
        """Compare with now.

        Raises:
            DatasetChanged: Says which files.
        """
        changed = [f for f, then, now in zip(self.files, self.looks, look(self.files), strict=True) if then != now]
        if changed:
            some = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
            raise DatasetChanged(
                f"the dataset changed under the search: {some}; what was trained before and after cannot be compared. "
                "Put it back as it was, or begin a study of another --name"
            )


def files_of(setting: Setting) -> Iterator[str]:
    """Images and label files of both splits that a trial uses."""
    if setting.task.name == "classify":
        found = sorted(Path(setting.dataset.path).rglob("*.*"))
        yield from (str(file) for file in found if file.suffix[1:].lower() in IMG_FORMATS)
        return
    with quiet():
        info = data.resolve(setting.dataset.path, setting.task.name)
    for split in SPLITS:
        images = data.images_of(info[split], setting.dataset.path, split)
        yield from images
        yield from img2label_paths(images)


def look(files: list[str]) -> list[Look]:
    """Size and time of change of each."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(_look, files, chunksize=256))


def _look(file: str) -> Look:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
