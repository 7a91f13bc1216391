"""Goes in: image files. Comes out: those that Ultralytics would leave out, and why; no pixel is decoded.

The head of every file is read, and where a PNG should end, whether it does. A JPEG that was cut off is read as
far as it goes, by Ultralytics too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ultralytics.utils.patches import _image_open  # Pillow's own; what Ultralytics put in its place installs packages

from nas.dataset import DataError

THREADS, PORTION = 8, 64
LEAST = 10  # pixels of a side, below which Ultralytics leaves an image out
LATER = (".heic", ".heif", ".avif", ".dng", ".pfm")  # what Pillow may need a plug-in for
GOOD: set[tuple[int, ...]] = set()  # device, number, size and time of files that this process has found good
END = b"IEND\xaeB`\x82"  # of a PNG


def readable(files: Sequence[str], path: str | Path, split: str, warnings: list[str]) -> dict[str, str]:
    """The images of a split that cannot be opened, and why; a warning where there are some.

    Raises:
        DataError: None can.
    """
    broken = unreadable(files)
    if broken:
        first, why = next(iter(broken.items()))
        if len(broken) == len(files):
            raise DataError(
                f"dataset {path}: {split} has {len(files)} images and not one that can be opened; first: {first}: {why}"
            )
        warnings.append(
            f"{split}: {len(broken)} of {len(files)} images cannot be opened and are ignored by Ultralytics "
            f"(first: {first}: {why})"
        )
    return broken


def unreadable(files: Sequence[str]) -> dict[str, str]:
    """File -> why it cannot be opened; without those that can."""
    portions = [files[i : i + PORTION] for i in range(0, len(files), PORTION)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda part: [(file, fault(file)) for file in part], portions)
        return {file: why for part in found for file, why in part if why}


def fault(file: str) -> str | None:
    """Why an image cannot be opened, or None."""
    if file.lower().endswith(LATER):
        return None if os.path.isfile(file) else "no such file"
    try:
        of = os.stat(file)
        key = (of.st_dev, of.st_ino, of.st_size, of.st_mtime_ns)
        if key in GOOD:
            return None
        with _image_open(file) as image:
            width, height = image.size
            if min(width, height) < LEAST:
                return f"{width} x {height} pixels, expected at least {LEAST} of each"
            if image.format == "PNG" and not _ends(file):
                image.verify()  # something may stand behind its end
    except FileNotFoundError:
        return "no such file"
    except OSError as e:  # not an image as well
        return "an empty file" if _is_empty(file) else "no image, or cut off" if e.errno is None else e.strerror
    except Exception as e:  # Pillow's plug-ins raise anything
        return f"{type(e).__name__}: {' '.join(str(e).split())[:80]}"
    GOOD.add(key)
    return None


def _ends(file: str) -> bool:
    with open(file, "rb") as f:
        f.seek(-min(len(END), os.fstat(f.fileno()).st_size), os.SEEK_END)
        return f.read() == END


def _is_empty(file: str) -> bool:
    return os.path.isfile(file) and os.path.getsize(file) == 0
